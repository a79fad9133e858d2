"""The command subtract: the images without what lies outside a mask, and the particles as they were before that."""

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lrcore import io
from lrcore.backend import Backend, pick
from lrcore.errors import InputError
from lrcore.grids import Float32
from lrcore.io.files import new_files
from lrcore.io.stack import in_float16
from lrcore.io.stack_writer import write_batches
from lrcore.records import Particles, Poses, Progress, Step
from lrcore.refine import Job, start
from lrcore.subtract import brought_back, kept_share, rewritten, subtracted_images
from lrwidgets.finding import fill
from lrwidgets.loading import Source, load_job, suffix_of
from lrwidgets.params import DEFAULTS
from lrwidgets.session import Session
from lrwidgets.table import Printer


@dataclass(frozen=True)
class _Input:
    """What is to be subtracted from. steps: the first and last of a run, or None. poses: those to be written."""

    job: Job
    steps: tuple[Step, Step] | None
    poses: Poses


def subtract(arguments: Namespace) -> None:
    """Write a stack of the images without what lies outside the mask, and its table; or undo that."""
    printer = Printer(arguments.json)
    fill(arguments, printer, *(() if arguments.back else ("half_maps",)))
    if arguments.back:
        _back(arguments, printer)
        return
    given = _from_run(arguments) if arguments.particles.is_dir() else _from_files(arguments)
    particles = given.job.particles
    with _table(arguments.out, suffix_of(particles), [".mrcs"]) as table:
        first = _written(table, given, arguments, printer)
    kept = kept_share(first, given.job.mask)
    printer.tell(
        f"wrote {table} ({len(particles)} particles; {kept:.0%} of the density's power is inside the mask and kept, "
        "the rest is subtracted)",
        "written",
        path=table,
        particles=len(particles),
        kept=kept,
    )


def _written(table: Path, given: _Input, arguments: Namespace, printer: Printer) -> Step:
    """Write the images and then the table; the first step, whose maps were subtracted."""
    particles = given.job.particles
    out = rewritten(particles, table, table.with_suffix(".mrcs"))
    backend = pick(arguments.backend, arguments.threads)
    try:
        first, last = given.steps or _begun(given.job, backend, printer)
        images = _told(subtracted_images(given.job, first, last, backend), len(particles), printer)
        stack, float16 = table.with_suffix(".mrcs"), in_float16(particles.images)
        write_batches(stack, len(out), out.box, out.pixel_size_A, images, float16)
    finally:
        printer.close()
    io.write_particles(table, out, given.poses)
    return first


def _from_files(arguments: Namespace) -> _Input:
    a = arguments
    if a.mask is None:
        raise InputError("--mask is missing: give the soft mask of what is kept")
    job = load_job(Source.of(a.particles, a.mask, tuple(a.half_maps), a.images, apix=a.apix), DEFAULTS)
    return _Input(job, None, job.particles.poses)


def _from_run(arguments: Namespace) -> _Input:
    """What a run has subtracted, from its input poses; the poses that it found last are written."""
    a = arguments
    if a.mask or a.half_maps:
        raise InputError(f"{a.particles}: a run has its own half maps and mask: leave out --mask and --half-maps")
    with Session.open(a.particles, images=a.images, write=False) as session:
        path = session.path()
        if not path:
            raise InputError(f"{a.particles}: has no whole step yet: go on with it by lrwidgets refine ... --resume")
        steps = session.load_step(path[0].id)[1], session.load_step(path[-1].id)[1]
        return _Input(session.job, steps, steps[1].expectation.poses)


def _begun(job: Job, backend: Backend, printer: Printer) -> tuple[Step, Step]:
    """The start of a refinement, twice: half maps on the scale of the images."""
    for event in start(job, backend):
        if isinstance(event, Progress):
            printer.progress(event)
        else:
            first = event
    return first, first


def _told(images: Iterator[Float32], total: int, printer: Printer) -> Iterator[Float32]:
    """The images, with a word on how far they are."""
    done = 0
    for batch in images:
        yield batch
        done += len(batch)
        printer.progress(Progress(0, "subtract", done, total))


def _back(arguments: Namespace, printer: Printer) -> None:
    a = arguments
    if a.mask or a.half_maps:
        raise InputError("--back leads to the images from before: leave out --mask and --half-maps")
    particles = _at_poses(a.particles) if a.particles.is_dir() else io.read_particles(a.particles)
    with _table(a.out, suffix_of(particles), []) as table:
        out = brought_back(particles, table, a.images)
        io.write_particles(table, out, out.poses)
    printer.tell(
        f"wrote {table} ({len(out)} particles with their images from before)", "written", path=table, particles=len(out)
    )


def _at_poses(run: Path) -> Particles:
    """The particles of a run at the poses that it found last."""
    with Session.open(run, write=False) as session:
        return replace(session.job.particles, poses=session.load_step()[1].expectation.poses)


@contextlib.contextmanager
def _table(out: Path, suffix: str, beside: list[str]) -> Iterator[Path]:
    """The table to write, absolute: `out` itself, or in the folder `out`; a failure leaves nothing new.

    Raises InputError if it is there, or a file beside it with one of these other endings.
    """
    named = out.suffix.lower() in (".star", ".cs")
    folder, name = (out.parent, out.name) if named else (out, f"particles{suffix}")
    with new_files(folder, [name, *(Path(name).with_suffix(one).name for one in beside)]) as made:
        yield made / name
