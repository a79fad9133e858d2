"""A job folder in place of a particle file: what is found in it, said in a line each and put into the arguments."""

from argparse import Namespace
from pathlib import Path

from lrcore.io import folders
from lrwidgets.table import Printer


def say(printer: Printer, folder: Path, found: folders.Found) -> None:
    """A line for each part of a folder."""
    fields = {"particles": found.particles, "half_maps": found.half_maps, "mask": found.mask}
    told = {part: fields[part] for part in found.notes}
    printer.tell("\n".join(found.notes.values()), "found", folder=folder, **told)


def resolve(arguments: Namespace, printer: Printer) -> None:
    """Replace a folder among the arguments of a refinement by its particles, and fill in half maps and mask.

    What is given beside it stands. A run that goes on has both, and half sets that are split anew have no half maps.
    """
    folder = arguments.particles
    if not folder.is_dir():
        return
    wanted = {
        "half_maps": not (arguments.half_maps or arguments.resplit or arguments.resume),
        "mask": not (arguments.mask or arguments.resume),
    }
    found = folders.find(folder, [part for part, open_ in wanted.items() if open_])
    say(printer, folder, found)
    arguments.particles = found.particles
    arguments.half_maps = list(found.half_maps) or arguments.half_maps
    arguments.mask = found.mask or arguments.mask
