"""The command subtract: the images without what lies outside a mask, and the particles as they were before that."""

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lrcore import io
from lrcore.arrays import Float32
from lrcore.compute.backend import Backend, get_backend
from lrcore.errors import InputError
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.io.image_stacks import is_float16
from lrcore.io.paths import create_files_or_clean_up
from lrcore.records import Particles, Poses, Progress, Step
from lrcore.refinement.job import Job
from lrcore.refinement.start import start
from lrcore.refinement.subtraction import (
    power_share_in_mask,
    restore_original_images,
    subtracted_images,
    with_subtracted_images,
)
from lrwidgets.cli.job_folder import fill_from_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.session.loading import Source, load_job, table_suffix
from lrwidgets.session.session import Session
from lrwidgets.text.parameters import DEFAULT_SPEC


@dataclass(frozen=True)
class _SubtractionInput:
    """What is to be subtracted from. steps: the first and last of a run, or None. poses: those to be written."""

    job: Job
    steps: tuple[Step, Step] | None
    poses: Poses


def subtract(arguments: Namespace) -> None:
    """Write a stack of the images without what lies outside the mask, and its table; or undo that."""
    printer = Printer(arguments.json)
    fill_from_job_folder(arguments, printer, *(() if arguments.back else ("half_maps",)))
    if arguments.back:
        _restore(arguments, printer)
        return
    given = _from_run(arguments) if arguments.particles.is_dir() else _from_files(arguments)
    particles = given.job.particles
    with _table(arguments.out, table_suffix(particles), [".mrcs"]) as table:
        first = _write_subtracted(table, given, arguments, printer)
    kept = power_share_in_mask(first, given.job.mask)
    printer.report(
        f"wrote {table} ({len(particles)} particles; {kept:.0%} of the density's power is inside the mask and kept, "
        "the rest is subtracted)",
        "written",
        path=table,
        particles=len(particles),
        kept=kept,
    )


def _write_subtracted(table: Path, given: _SubtractionInput, arguments: Namespace, printer: Printer) -> Step:
    """Write the images and then the table; the first step, whose maps were subtracted."""
    particles = given.job.particles
    out = with_subtracted_images(particles, table, table.with_suffix(".mrcs"))
    backend = get_backend(arguments.backend, arguments.threads)
    try:
        first, last = given.steps or _start_steps(given.job, backend, printer)
        images = _with_progress(subtracted_images(given.job, first, last, backend), len(particles), printer)
        stack, float16 = table.with_suffix(".mrcs"), is_float16(particles.images)
        write_image_stack(stack, len(out), out.box, out.pixel_size_A, images, float16)
    finally:
        printer.close()
    io.write_particles(table, out, given.poses)
    return first


def _from_files(arguments: Namespace) -> _SubtractionInput:
    a = arguments
    if a.mask is None:
        raise InputError("--mask is missing: give the soft mask of what is kept")
    job = load_job(Source.from_paths(a.particles, a.mask, tuple(a.half_maps), a.images, apix=a.apix), DEFAULT_SPEC)
    return _SubtractionInput(job, None, job.particles.poses)


def _from_run(arguments: Namespace) -> _SubtractionInput:
    """What a run has subtracted, from its input poses; the poses that it found last are written."""
    a = arguments
    if a.mask or a.half_maps:
        raise InputError(f"{a.particles}: a run has its own half maps and mask: leave out --mask and --half-maps")
    with Session.open(a.particles, images=a.images, write=False) as session:
        path = session.path()
        if not path:
            raise InputError(f"{a.particles}: has no whole step yet: go on with it by lrwidgets refine ... --resume")
        steps = session.load_step(path[0].id)[1], session.load_step(path[-1].id)[1]
        return _SubtractionInput(session.job, steps, steps[1].expectation.poses)


def _start_steps(job: Job, backend: Backend, printer: Printer) -> tuple[Step, Step]:
    """The start of a refinement, twice: half maps on the scale of the images."""
    for event in start(job, backend):
        if isinstance(event, Progress):
            printer.show_progress(event)
        else:
            first = event
    return first, first


def _with_progress(images: Iterator[Float32], total: int, printer: Printer) -> Iterator[Float32]:
    """The images, with a word on how far they are."""
    done = 0
    for batch in images:
        yield batch
        done += len(batch)
        printer.show_progress(Progress(0, "subtract", done, total))


def _restore(arguments: Namespace, printer: Printer) -> None:
    a = arguments
    if a.mask or a.half_maps:
        raise InputError("--back leads to the images from before: leave out --mask and --half-maps")
    particles = _particles_at_last_poses(a.particles) if a.particles.is_dir() else io.read_particles(a.particles)
    with _table(a.out, table_suffix(particles), []) as table:
        out = restore_original_images(particles, table, a.images)
        io.write_particles(table, out, out.poses)
    printer.report(
        f"wrote {table} ({len(out)} particles with their images from before)", "written", path=table, particles=len(out)
    )


def _particles_at_last_poses(run: Path) -> Particles:
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
    with create_files_or_clean_up(folder, [name, *(Path(name).with_suffix(one).name for one in beside)]) as made:
        yield made / name
