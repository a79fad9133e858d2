"""Replace a job folder among the arguments by the files found in it, and print which these are."""

from argparse import Namespace
from pathlib import Path

from lrcore.io import job_folders
from lrwidgets.cli.printer import Printer


def print_job_folder(printer: Printer, folder: Path, files: job_folders.JobFiles) -> None:
    """Print one line per part of a job folder."""
    paths = {"particles": files.particles, "half_maps": files.half_maps, "mask": files.mask}
    found = {part: paths[part] for part in files.notes}
    printer.report("\n".join(files.notes.values()), "found", folder=folder, **found)


def is_run(path: Path) -> bool:
    """Return True if a path is the folder of a run."""
    return (path / "zarr.json").exists()


def fill_refinement_inputs(arguments: Namespace, printer: Printer) -> None:
    """Replace a job folder among the arguments of a refinement by its particles, and fill in half maps and mask.

    Files that are given take precedence. A resumed run has both already; new half sets need new half maps.
    """
    missing = {"half_maps": not (arguments.resplit or arguments.resume), "mask": not arguments.resume}
    fill_from_job_folder(arguments, printer, *(part for part, is_missing in missing.items() if is_missing))


def fill_from_job_folder(arguments: Namespace, printer: Printer, *parts: str) -> None:
    """Replace a job folder among the arguments by its particles, and fill in those of `parts` that are not given.

    Parameters
    ----------
    arguments : arguments of a command, with `particles`; a file or a run is left as it is
    printer : prints which files were found
    *parts : "half_maps", "mask", or both

    Raises
    ------
    InputError
        If the folder is neither a run nor a job folder.
    """
    folder = arguments.particles
    if not folder.is_dir() or is_run(folder):
        return
    files = job_folders.find_job_files(folder, [part for part in parts if not getattr(arguments, part)])
    print_job_folder(printer, folder, files)
    arguments.particles = files.particles
    if files.half_maps:
        arguments.half_maps = list(files.half_maps)
    if files.mask:
        arguments.mask = files.mask
