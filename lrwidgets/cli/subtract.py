"""`lrwidgets subtract`: subtract the density outside a mask from the images, or restore the original images."""

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
from lrwidgets.cli.option_types import is_table
from lrwidgets.cli.printer import Printer
from lrwidgets.session.loading import Source, load_job, table_suffix
from lrwidgets.session.session import Session
from lrwidgets.text.parameters import DEFAULT_SPEC


@dataclass(frozen=True)
class _SubtractionInput:
    """Particles to subtract from.

    Attributes
    ----------
    job : inputs of the refinement
    steps : first and last step of a run, or None
    poses : poses to write
    """

    job: Job
    steps: tuple[Step, Step] | None
    poses: Poses


def subtract(arguments: Namespace) -> None:
    """Write a stack of the subtracted images and its table; with --back, restore the original images."""
    printer = Printer(arguments.json)
    fill_from_job_folder(arguments, printer, *(() if arguments.back else ("half_maps",)))
    if arguments.back:
        _restore(arguments, printer)
        return
    data = _from_run(arguments) if arguments.particles.is_dir() else _from_files(arguments)
    particles = data.job.particles
    with _table(arguments.out, table_suffix(particles), [".mrcs"], arguments.overwrite) as table:
        first = _write_subtracted(table, data, arguments, printer)
    kept = power_share_in_mask(first, data.job.mask)
    printer.report_file(
        table,
        f"{len(particles)} particles; {kept:.0%} of the density's power is inside the mask and kept, the rest is "
        "subtracted",
        particles=len(particles),
        kept=kept,
    )


def _write_subtracted(table: Path, data: _SubtractionInput, arguments: Namespace, printer: Printer) -> Step:
    """Write the images and then the table; return step 0, whose maps were subtracted."""
    particles = data.job.particles
    out = with_subtracted_images(particles, table, table.with_suffix(".mrcs"))
    backend = get_backend(arguments.backend, arguments.threads)
    try:
        first, last = data.steps or _start_steps(data.job, backend, printer)
        images = _with_progress(subtracted_images(data.job, first, last, backend), len(particles), printer)
        stack, float16 = table.with_suffix(".mrcs"), is_float16(particles.images)
        write_image_stack(stack, len(out), out.box, out.pixel_size_A, images, float16)
    finally:
        printer.close()
    io.write_particles(table, out, data.poses)
    return first


def _from_files(arguments: Namespace) -> _SubtractionInput:
    """Read particles, mask and half maps."""
    a = arguments
    if a.mask is None:
        raise InputError("--mask is missing: give the soft mask of the region to keep")
    job = load_job(Source.from_paths(a.particles, a.mask, tuple(a.half_maps), a.images, apix=a.apix), DEFAULT_SPEC)
    return _SubtractionInput(job, None, job.particles.poses)


def _from_run(arguments: Namespace) -> _SubtractionInput:
    """Read a run: its first step defines what is subtracted, the poses of its last step are written."""
    a = arguments
    if a.mask or a.half_maps:
        raise InputError(f"{a.particles}: a run has its own half maps and mask: leave out --mask and --half-maps")
    with Session.open(a.particles, images=a.images, write=False) as session:
        path = session.path()
        if not path:
            raise InputError(f"{a.particles}: has no complete step yet: continue it with lrwidgets refine ... --resume")
        steps = session.load_step(path[0].id)[1], session.load_step(path[-1].id)[1]
        return _SubtractionInput(session.job, steps, steps[1].expectation.poses)


def _start_steps(job: Job, backend: Backend, printer: Printer) -> tuple[Step, Step]:
    """Return step 0 of a refinement twice: its half maps are on the scale of the images."""
    for event in start(job, backend):
        if isinstance(event, Progress):
            printer.show_progress(event)
        else:
            first = event
    return first, first


def _with_progress(images: Iterator[Float32], total: int, printer: Printer) -> Iterator[Float32]:
    """Yield the images and print the progress."""
    done = 0
    for batch in images:
        yield batch
        done += len(batch)
        printer.show_progress(Progress(0, "subtract", done, total))


def _restore(arguments: Namespace, printer: Printer) -> None:
    """Write the particles with their original images."""
    a = arguments
    if a.mask or a.half_maps:
        raise InputError("--back restores the original images: leave out --mask and --half-maps")
    particles = _particles_at_last_poses(a.particles) if a.particles.is_dir() else io.read_particles(a.particles)
    with _table(a.out, table_suffix(particles), [], a.overwrite) as table:
        out = restore_original_images(particles, table, a.images)
        io.write_particles(table, out, out.poses)
    printer.report_file(table, f"{len(out)} particles with their original images", particles=len(out))


def _particles_at_last_poses(run: Path) -> Particles:
    """Return the particles of a run at the poses of its last step."""
    with Session.open(run, write=False) as session:
        return replace(session.job.particles, poses=session.load_step()[1].expectation.poses)


@contextlib.contextmanager
def _table(out: Path, suffix: str, other_suffixes: list[str], overwrite: bool) -> Iterator[Path]:
    """Yield the absolute path of the table to write: `out`, or a file in the folder `out`; remove it after a failure.

    Raises InputError unless `overwrite` if it exists, or a file of the same name with one of the other suffixes.
    """
    folder, name = (out.parent, out.name) if is_table(out) else (out, f"particles{suffix}")
    others = [Path(name).with_suffix(other).name for other in other_suffixes]
    with create_files_or_clean_up(folder, [name, *others], overwrite) as created:
        yield created / name
