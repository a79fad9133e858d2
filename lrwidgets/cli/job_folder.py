"""A job folder in place of a particle file: what is found in it, said in a line each and put into the arguments."""

from argparse import Namespace
from pathlib import Path

from lrcore.io import job_folders
from lrwidgets.cli.printer import Printer


def print_job_folder(printer: Printer, folder: Path, found: job_folders.JobFiles) -> None:
    """A line for each part of a folder."""
    fields = {"particles": found.particles, "half_maps": found.half_maps, "mask": found.mask}
    told = {part: fields[part] for part in found.notes}
    printer.report("\n".join(found.notes.values()), "found", folder=folder, **told)


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run of ours."""
    return (path / "zarr.json").exists()


def fill_refinement_inputs(arguments: Namespace, printer: Printer) -> None:
    """Replace a folder among the arguments of a refinement by its particles, and fill in half maps and mask.

    What is given beside it stands. A run that goes on has both, and half sets that are split anew have no half maps.
    """
    parts = {"half_maps": not (arguments.resplit or arguments.resume), "mask": not arguments.resume}
    fill_from_job_folder(arguments, printer, *(part for part, open_ in parts.items() if open_))


def fill_from_job_folder(arguments: Namespace, printer: Printer, *parts: str) -> None:
    """Replace a job folder among the arguments by its particles, and fill in those of `parts` that are not given.

    parts: half_maps, mask. Nothing is done about a file, or a run of ours. Raises InputError for any other folder.
    """
    folder = arguments.particles
    if not folder.is_dir() or is_run(folder):
        return
    found = job_folders.find_job_files(folder, [part for part in parts if not getattr(arguments, part)])
    print_job_folder(printer, folder, found)
    arguments.particles = found.particles
    if found.half_maps:
        arguments.half_maps = list(found.half_maps)
    if found.mask:
        arguments.mask = found.mask
