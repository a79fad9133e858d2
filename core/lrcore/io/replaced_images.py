"""Particles whose images are replaced by others of another box: their table says so in all its columns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import IntArray
from lrcore.errors import InputError
from lrcore.io.cs_table import CsSource, find_rows
from lrcore.io.derived_particles import Columns, derive_particles, text_column
from lrcore.io.micrograph_coordinates import COORDINATES, read_micrograph_coordinates
from lrcore.io.paths import find_stacks, missing_stack_message, stack_name_from_folder
from lrcore.io.star_optics import SIZE
from lrcore.io.star_table import IMAGE, STACK_SUFFIX, StarSource, relion_stack_name
from lrcore.records import ImageSource, Particles

SUBTRACTED_COLUMN = "lrwSubtractedImage"
"""The column of the images from before a subtraction: particles that have it are subtracted."""
SUBTRACTED_RECENTRED_COLUMN = "lrwSubtractedRecentred"
"""1 where they had been recentred before that, which is then to be undone after it."""
ORIGINAL_NAME = "rlnImageOriginalName"
LOCATION = ("location/center_x_frac", "location/center_y_frac", "location/micrograph_shape")


def format_image_names(images: ImageSource, folder: Path, known_as: list[str] | None) -> list[str]:
    """(n,) `slice@stack` of images, slice from 1, the stack as it is found from `folder`.

    known_as: (n,) the names that they have had, kept where they still lead there.
    """
    _, first = np.unique(images.stack, return_index=True)
    rows = dict(zip(images.stack[first].tolist(), first.tolist(), strict=True))
    names = {stack: known_as[row].partition("@")[2] if known_as else "" for stack, row in rows.items()}
    leads = {
        stack: relion_stack_name(stack_name_from_folder(folder, images.stacks[stack], name.removesuffix(STACK_SUFFIX)))
        for stack, name in names.items()
    }
    numbers = zip(images.index.tolist(), images.stack.tolist(), strict=True)
    return [f"{index + 1:06d}@{leads[stack]}" for index, stack in numbers]


def image_names_in_table(particles: Particles) -> list[str] | None:
    """(n,) `slice@stack` as the table has it; None without a table."""
    if isinstance(particles.source, CsSource):
        paths = text_column(particles, "blob/path") or []
        return [f"{index + 1:06d}@{path}" for index, path in zip(particles.images.index, paths, strict=True)]
    return text_column(particles, IMAGE)


def images_from_column(particles: Particles, column: str, images_dir: Path | None) -> ImageSource:
    """The images that a column names as `image_names` does. Raises InputError naming the row whose stack is gone."""
    names = text_column(particles, column)
    assert names is not None  # whoever asks has seen the column
    parts = pd.Series(names).str.partition("@")
    stack, stacks = pd.factorize(parts[2].str.removesuffix(STACK_SUFFIX))
    found = find_stacks([str(one) for one in stacks], particles.path.parent, images_dir)
    if None in found:
        number = found.index(None)
        row = int(np.argmax(stack == number)) + 1
        raise InputError(
            f"{particles.path}: row {row}: {missing_stack_message(str(stacks[number]))}, as it was before: "
            "give its folder by --images DIR"
        )
    index = parts[0].to_numpy().astype(np.int64) - 1
    known = tuple(one for one in found if one is not None)
    return ImageSource(known, stack.astype(np.int32), index, particles.images.sign)


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
    """The particles with other images of `box` pixels, for a table at `path`; poses are left to the caller.

    names: (n,) of the images, see `image_names`. moved: (n, 2) whole pixels (x, y) from the old image's centre to that
    of the new one; coordinates in the micrograph follow. columns are added (see `derived`), those named in `drop` are
    taken away.
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
        gone = {f"lrw/{name.removeprefix('lrw')}" for name in drop}
        kept = [name for name in source.table.dtype.names or () if name not in gone]
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
    """Coordinates in the micrograph that follow the images' centres, where the table has any."""
    where = read_micrograph_coordinates(particles)
    if where is None or not moved.any():
        return {}
    pixel = moved * (particles.pixel_size_A / where.pixel_size_A)[:, None]
    if isinstance(particles.source, StarSource):
        return dict(zip(COORDINATES, (where.centre_px + pixel).T, strict=True))
    # CryoSPARC counts y from the bottom of the micrograph.
    x, y, shape = (_field(particles, name) for name in LOCATION)
    return {LOCATION[0]: x + pixel[:, 0] / shape[:, 1], LOCATION[1]: y - pixel[:, 1] / shape[:, 0]}


def _field(particles: Particles, name: str) -> npt.NDArray[np.float64]:
    table = particles.source.table
    return np.asarray(table[name][find_rows(table["uid"], particles.uid)], dtype=np.float64)
