"""Files ⇄ records: particles (STAR, CryoSPARC), maps and image stacks (MRC). All checks are here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.io import cs_particles, star_particles
from lrcore.io.checks import warn_implausible_optics
from lrcore.io.cs_particles import read_half_maps
from lrcore.io.cs_table import CsSource
from lrcore.io.derived_particles import lrw_columns, text_column
from lrcore.io.file_info import describe_file
from lrcore.io.image_stacks import StackReader, check_stacks
from lrcore.io.mrc_maps import read_volume, write_volume
from lrcore.io.replaced_images import SUBTRACTED_COLUMN
from lrcore.records import Particles, Poses

__all__ = [
    "StackReader",
    "check_stacks",
    "describe_file",
    "read_half_maps",
    "read_particles",
    "read_volume",
    "write_particles",
    "write_volume",
]


def read_particles(path: str | Path, images_dir: str | Path | None = None, split: bool = True) -> Particles:
    """Read particles from a .star, .cs or .csg file and check their stacks. Raises InputError in one line.

    split: False for particles that need no half sets, since they will be split anew; all are then in set 1.
    """
    path = Path(path)
    folder = None if images_dir is None else Path(images_dir)
    read = cs_particles.read_particles if _is_cryosparc(path) else star_particles.read_particles
    particles = read(path, folder, split)
    check_stacks(particles)
    warn_implausible_optics(particles)
    return replace(particles, subtracted=text_column(particles, SUBTRACTED_COLUMN) is not None)


def write_particles(
    path: str | Path, particles: Particles, poses: Poses, extra: dict[str, npt.NDArray[Any]] | None = None
) -> None:
    """Write particles with new poses as .star, or as .cs with its .csg. Raises InputError if that fails.

    Of the columns of a file of the other kind, those of our own (lrw…) are written too.
    """
    path = Path(path)
    writers = {".star": star_particles.write_particles, ".cs": cs_particles.write_particles}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"{path}: particles are written as .star or .cs: choose a name that ends so")
    if isinstance(particles.source, CsSource) == (path.suffix.lower() == ".star"):
        extra = lrw_columns(particles) | (extra or {})
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
