"""Replace the images of particles by others, of any box, and update all columns of their table that depend on them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import IntArray
from lrcore.io.cs_table import CsSource, find_rows
from lrcore.io.derived_particles import Columns, derive_particles, text_column
from lrcore.io.micrograph_coordinates import COORDINATES, read_micrograph_coordinates
from lrcore.io.paths import require_stacks, stack_name_from_folder
from lrcore.io.star_optics import SIZE
from lrcore.io.star_table import IMAGE, STACK_SUFFIX, StarSource, relion_stack_name
from lrcore.records import ImageSource, Particles

SUBTRACTED_COLUMN = "lrwSubtractedImage"
"""Column with the images before subtraction; its presence marks the particles as subtracted."""
SUBTRACTED_RECENTRED_COLUMN = "lrwSubtractedRecentred"
"""Column that is 1 if the particles were recentred before the subtraction: undo the subtraction first, then that."""
ORIGINAL_NAME = "rlnImageOriginalName"
LOCATION = ("location/center_x_frac", "location/center_y_frac", "location/micrograph_shape")


def format_image_names(images: ImageSource, folder: Path, known_as: list[str] | None) -> list[str]:
    """Format image names as in a particle table.

    Parameters
    ----------
    images : n images
    folder : folder of the table
    known_as : (n,) previous names, or None; their stack part is kept if it still leads to the stack from `folder`

    Returns
    -------
    list of n texts
        `slice@stack`, slice from 1, the stack as found from `folder`.
    """
    _, first = np.unique(images.stack, return_index=True)
    rows = dict(zip(images.stack[first].tolist(), first.tolist(), strict=True))
    names = {stack: known_as[row].partition("@")[2] if known_as else "" for stack, row in rows.items()}
    stack_names = {
        stack: relion_stack_name(stack_name_from_folder(folder, images.stacks[stack], name.removesuffix(STACK_SUFFIX)))
        for stack, name in names.items()
    }
    numbers = zip(images.index.tolist(), images.stack.tolist(), strict=True)
    return [f"{index + 1:06d}@{stack_names[stack]}" for index, stack in numbers]


def image_names_in_table(particles: Particles) -> list[str] | None:
    """Return the image names of the particles as written in their table.

    Parameters
    ----------
    particles : n particles

    Returns
    -------
    list of n texts, or None
        `slice@stack`; None if the particles were not read from a file.
    """
    if isinstance(particles.source, CsSource):
        paths = text_column(particles, "blob/path") or []
        return [f"{index + 1:06d}@{path}" for index, path in zip(particles.images.index, paths, strict=True)]
    return text_column(particles, IMAGE)


def images_from_column(particles: Particles, column: str, images_dir: Path | None) -> ImageSource:
    """Find the images that a column names as `slice@stack`.

    Parameters
    ----------
    particles : n particles whose table has the column
    column : name of the column
    images_dir : folder in which stacks are searched first, or None

    Returns
    -------
    ImageSource

    Raises
    ------
    InputError
        If a stack does not exist; names the row.
    """
    names = text_column(particles, column)
    assert names is not None  # callers check that the column exists
    parts = pd.Series(names).str.partition("@")
    stack, stacks = pd.factorize(parts[2].str.removesuffix(STACK_SUFFIX))
    existing = require_stacks(particles.path, [str(name) for name in stacks], stack, images_dir, column=column)
    index = parts[0].to_numpy().astype(np.int64) - 1
    return ImageSource(existing, stack.astype(np.int32), index, particles.images.sign)


def replace_images(
    particles: Particles,
    images: ImageSource,
    names: list[str],
    box: int,
    moved: IntArray,
    path: Path,
    columns: Columns,
    drop: tuple[str, ...] = (),
) -> Particles:
    """Replace the images of particles and update box, image names and micrograph coordinates; poses stay unchanged.

    Parameters
    ----------
    particles : n particles
    images : n new images
    names : (n,) their names, as `format_image_names` returns them
    box : pixels, of the new images
    moved : (n, 2) whole pixels (x, y) from the centre of the old image to that of the new one
    path : file to which the table will be written
    columns : column name → (n,) values to add, as in `derive_particles`
    drop : names of columns to remove

    Returns
    -------
    Particles
        Their poses are those of the old images; the caller updates them.
    """
    optics = tuple(replace(group, box=box) for group in particles.optics)
    out = replace(particles, images=images, optics=optics, path=path)
    columns = columns | _image_columns(out, names) | _coordinates(particles, moved)
    out = derive_particles(out, np.arange(len(out)), out.uid, columns)
    source = out.source
    if isinstance(source, StarSource):
        blocks = {**source.blocks, source.particles: source.table.drop(columns=list(drop), errors="ignore")}
        if source.optics is not None and SIZE in blocks[source.optics].columns:
            blocks[source.optics] = blocks[source.optics].assign(**{SIZE: str(box)})
        out = replace(out, source=replace(source, blocks=blocks))
    elif isinstance(source, CsSource):
        dropped = {f"lrw/{name.removeprefix('lrw')}" for name in drop}
        kept = [name for name in source.table.dtype.names or () if name not in dropped]
        out = replace(out, source=replace(source, table=source.table[kept].copy()))
    return out


def _image_columns(particles: Particles, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    if isinstance(particles.source, StarSource):
        return {IMAGE: np.array(names)}
    if isinstance(particles.source, CsSource):
        paths = [">" + name.partition("@")[2].removesuffix(STACK_SUFFIX) for name in names]
        shape = np.full((len(names), 2), particles.box, np.uint32)
        index = particles.images.index.astype(np.uint32)
        return {"blob/path": np.array(paths), "blob/idx": index, "blob/shape": shape}
    return {}


def _coordinates(particles: Particles, moved: IntArray) -> dict[str, npt.NDArray[Any]]:
    """Compute the micrograph coordinates of the new image centres, if the table has coordinates."""
    coordinates = read_micrograph_coordinates(particles)
    if coordinates is None or not moved.any():
        return {}
    pixel = moved * (particles.pixel_size_A / coordinates.pixel_size_A)[:, None]
    if isinstance(particles.source, StarSource):
        return dict(zip(COORDINATES, (coordinates.centre_px + pixel).T, strict=True))
    # CryoSPARC counts y from the bottom of the micrograph.
    x, y, shape = (_field(particles, name) for name in LOCATION)
    return {LOCATION[0]: x + pixel[:, 0] / shape[:, 1], LOCATION[1]: y - pixel[:, 1] / shape[:, 0]}


def _field(particles: Particles, name: str) -> npt.NDArray[np.float64]:
    table = particles.source.table
    return np.asarray(table[name][find_rows(table["uid"], particles.uid)], dtype=np.float64)
