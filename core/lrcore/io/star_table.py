"""Read particle STAR files as text, so that values are kept as written; convert columns to numbers on demand."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lrcore.arrays import Float64, Int64
from lrcore.errors import InputError
from lrcore.io.star_text import read_blocks, to_arrow, to_series

IMAGE = "rlnImageName"
TOMOGRAPHY = ("rlnTomo", "rlnCtfImage")
"""Beginnings of the columns that only tables of subtomograms and tilt series have."""
DIMENSIONALITY = "rlnImageDimensionality"
STACK_SUFFIX = ":mrcs"
"""RELION reads `1@a.mrc:mrcs` as a stack, whereas `.mrc` alone denotes a map."""


@dataclass(frozen=True)
class StarSource:
    """Particle STAR file as read, all values text.

    Attributes
    ----------
    path : the file
    blocks : table name → table, in the order of the file
    particles : name of the particle table
    optics : name of the optics table, None in RELION 3.0
    uid : (n,) identifiers of the rows of the particle table
    """

    path: Path
    blocks: dict[str, pd.DataFrame]
    particles: str
    optics: str | None
    uid: npt.NDArray[np.uint64]

    @property
    def table(self) -> pd.DataFrame:
        """Return the particle table."""
        return self.blocks[self.particles]


def read_source(path: Path) -> StarSource:
    """Read a particle STAR file.

    Parameters
    ----------
    path : STAR file

    Returns
    -------
    StarSource

    Raises
    ------
    InputError
        If the file is not a STAR file, has no particles, or lists subtomograms.
    """
    blocks = read_blocks(path)
    _refuse_subtomograms(path, blocks)
    particles = next((name for name, block in blocks.items() if IMAGE in block.columns), None)
    if particles is None:
        raise InputError(
            f"{path}: no table has a column {IMAGE}, so it lists no particles: give the particle file (_data.star)"
        )
    if blocks[particles].empty:
        raise InputError(f"{path}: table data_{particles} has no rows: give a STAR file with particles")
    optics = "optics" if "optics" in blocks else None
    index, name = parse_image_names(path, blocks[particles])
    return StarSource(path, blocks, particles, optics, _unique_ids(index, name))


def _refuse_subtomograms(path: Path, blocks: dict[str, pd.DataFrame]) -> None:
    """Raise InputError for a table of subtomograms or tilt series, whose image names lead to other images."""
    columns = [str(column) for block in blocks.values() for column in block.columns]
    found = next((column for column in columns if column.startswith(TOMOGRAPHY)), None)
    for block in blocks.values():
        if DIMENSIONALITY in block.columns and "3" in {text.partition(".")[0] for text in block[DIMENSIONALITY]}:
            found = f"{DIMENSIONALITY} 3"
        without_slice = IMAGE in block.columns and len(block) and "@" not in str(block[IMAGE].iloc[0])
        if without_slice and "rlnCoordinateZ" in block.columns:
            found = found or "rlnCoordinateZ"
    if found:
        raise InputError(
            f"{path}: lists subtomograms or tilt series ({found}), which are not supported: give a table of "
            "single-particle images (one 2D image per row)"
        )


def float_column(path: Path, table: pd.DataFrame, column: str) -> Float64:
    """Return a column as (n,) float64. Raises InputError naming the first row without a finite number."""
    if column not in table.columns:
        raise InputError(f"{path}: no column {column}: add it")
    values = _as_float(to_arrow(table[column]))
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}: row {row + 1}: {column} is '{table[column].iloc[row]}', not a finite number: correct it"
        )
    return values


def integer_column(path: Path, table: pd.DataFrame, column: str, least: int = 0) -> Int64:
    """Return a column of integers ≥ `least` as (n,) int64. Raises InputError naming the first row without one."""
    values = float_column(path, table, column)
    bad = (values != np.floor(values)) | (values < least) | (values >= 2**31)
    if bad.any():
        row = int(np.argmax(bad))
        value = table[column].iloc[row]
        raise InputError(
            f"{path}: row {row + 1}: {column} is '{value}', not a whole number of at least {least}: correct it"
        )
    return values.astype(np.int64)


def parse_image_names(path: Path, table: pd.DataFrame) -> tuple[Int64, "pd.Series[str]"]:
    """Split each row's `slice@stack`: slice (n,), 0-based, and stack name (n,), categorical.

    Raises InputError naming the first row with another form.
    """
    text = to_arrow(table[IMAGE])
    parts = pc.split_pattern(text, "@", max_splits=1)
    two = pc.equal(pc.list_value_length(parts), 2)
    parts = parts if pc.all(two).as_py() else pc.if_else(two, parts, pa.scalar(["0", ""], parts.type))
    index = _as_float(pc.list_element(parts, 0))
    name = pc.list_element(parts, 1).dictionary_encode()
    stacks = pd.Index(name.dictionary.to_pylist(), dtype=object)
    codes = name.indices.to_numpy()
    good = (stacks != "")[codes] & (index >= 1) & (index == np.floor(index)) & (index < 2**53)
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(f"{path}: row {row + 1}: {IMAGE} is '{text[row]}': it must be like 000001@stack.mrcs")
    distinct, number = np.unique([stack.removesuffix(STACK_SUFFIX) for stack in stacks], return_inverse=True)
    return index.astype(np.int64) - 1, pd.Series(
        pd.Categorical.from_codes(number[codes].astype(np.int64), pd.Index(distinct))
    )


def relion_stack_name(name: str) -> str:
    """Return the name by which RELION reads a stack: `.mrc:mrcs` for `.mrc`, which would denote a map."""
    return name + STACK_SUFFIX if name.endswith(".mrc") else name


def _as_float(text: pa.Array) -> Float64:
    """Convert text to numbers, NaN where that fails."""
    try:
        return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return pd.to_numeric(to_series(text), errors="coerce").to_numpy(dtype=np.float64)


def _unique_ids(index: Int64, name: "pd.Series[str]") -> npt.NDArray[np.uint64]:
    """Hash each image name into a stable (n,) uint64; the hash of a repeated name includes the repetition number."""
    keys = [f"{number}@{stack}" for number, stack in zip((index + 1).tolist(), name.tolist(), strict=True)]
    image = pd.Series(index * len(name.cat.categories) + name.cat.codes.to_numpy())
    if image.duplicated().any():
        repeat = image.groupby(image).cumcount().tolist()
        keys = [f"{key}#{count}" if count else key for key, count in zip(keys, repeat, strict=True)]
    digests = b"".join([hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys])
    return np.frombuffer(digests, "<u8").astype(np.uint64)
