"""Read, check and write particles (STAR, CryoSPARC), maps and image stacks (MRC)."""

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
from lrcore.io.file_type import is_cryosparc_particle_file
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
    """Read particles from a .star, .cs or .csg file and check their image stacks.

    Parameters
    ----------
    path : particle file
        Files with another extension are read as .cs if they begin as a NumPy file, as STAR if they have a table.
    images_dir : folder in which image stacks are searched first
        None searches the folder of the file and the folders above it only.
    split : require half sets
        False for particles that will be split again; all are then in half set 1.

    Returns
    -------
    Particles
        Metadata of the particles; the images stay on disk.

    Raises
    ------
    InputError
        If the file or a stack is missing, damaged or incomplete, or a value is impossible; one line that names file,
        field and row.
    """
    path = Path(path)
    folder = None if images_dir is None else Path(images_dir)
    read = cs_particles.read_particles if is_cryosparc_particle_file(path) else star_particles.read_particles
    particles = read(path, folder, split)
    check_stacks(particles)
    warn_implausible_optics(particles)
    return replace(particles, subtracted=text_column(particles, SUBTRACTED_COLUMN) is not None)


def write_particles(
    path: str | Path, particles: Particles, poses: Poses, extra: dict[str, npt.NDArray[Any]] | None = None
) -> None:
    """Write particles with new poses as .star, or as .cs with its .csg.

    All columns of the original file are kept if it is of the same format; of a file of the other format, only the
    columns that this package added (lrw…) are written.

    Parameters
    ----------
    path : file to write, .star or .cs
    particles : n particles
    poses : their n new poses
    extra : column name (lrw…) → (n,) values of additional columns

    Raises
    ------
    InputError
        If the extension is another one, the file is the input itself, or it cannot be written.
    """
    path = Path(path)
    writers = {".star": star_particles.write_particles, ".cs": cs_particles.write_particles}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"{path}: particles are written as .star or .cs: choose a name with one of these extensions")
    if isinstance(particles.source, CsSource) == (path.suffix.lower() == ".star"):
        extra = lrw_columns(particles) | (extra or {})
    writer(path, particles, poses, extra)
