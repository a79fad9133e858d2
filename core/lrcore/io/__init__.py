"""Files ⇄ records: particles (STAR, CryoSPARC), maps and image stacks (MRC). All checks are here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.io import cryosparc, mrc, stack, star
from lrcore.io.checks import question
from lrcore.io.cryosparc import read_half_maps
from lrcore.io.cs_table import CsSource
from lrcore.io.derive import own_columns, text_column
from lrcore.io.facts import info
from lrcore.io.mrc import read_volume, write_volume
from lrcore.io.reframe import SUBTRACTED
from lrcore.io.stack import StackReader, check_stacks
from lrcore.records import Particles, Poses

__all__ = [
    "StackReader",
    "check_stacks",
    "cryosparc",
    "info",
    "mrc",
    "read_half_maps",
    "read_particles",
    "read_volume",
    "stack",
    "star",
    "write_particles",
    "write_volume",
]


def read_particles(path: str | Path, images_dir: str | Path | None = None, split: bool = True) -> Particles:
    """Read particles from a .star, .cs or .csg file and check their stacks. Raises InputError in one line.

    split: False for particles that need no half sets, since they will be split anew; all are then in set 1.
    """
    path = Path(path)
    folder = None if images_dir is None else Path(images_dir)
    read = cryosparc.read_particles if _is_cryosparc(path) else star.read_particles
    particles = read(path, folder, split)
    check_stacks(particles)
    question(particles)
    return replace(particles, subtracted=text_column(particles, SUBTRACTED) is not None)


def write_particles(
    path: str | Path, particles: Particles, poses: Poses, extra: dict[str, npt.NDArray[Any]] | None = None
) -> None:
    """Write particles with new poses as .star, or as .cs with its .csg. Raises InputError if that fails.

    Of the columns of a file of the other kind, those of our own (lrw…) are written too.
    """
    path = Path(path)
    writers = {".star": star.write_particles, ".cs": cryosparc.write_particles}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"{path}: particles are written as .star or .cs: choose a name that ends so")
    if isinstance(particles.source, CsSource) == (path.suffix.lower() == ".star"):
        extra = own_columns(particles) | (extra or {})
    writer(path, particles, poses, extra)


def _is_cryosparc(path: Path) -> bool:
    """By extension; any other name by what the file begins with."""
    suffix = path.suffix.lower()
    if suffix in (".cs", ".csg", ".star"):
        return suffix != ".star"
    try:
        with path.open("rb") as file:
            return file.read(6) == b"\x93NUMPY"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
