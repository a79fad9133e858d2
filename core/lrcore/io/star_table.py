"""STAR tables as text: every value kept as it was written, columns turned into numbers only where they are needed."""

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
STACK_SUFFIX = ":mrcs"
"""RELION reads `1@a.mrc:mrcs` as a stack, although `.mrc` alone means a map to it."""


@dataclass(frozen=True)
class StarSource:
    """A particle STAR file as it was read, all values text.

    blocks: its tables by name, in order. particles: the name of the table with the images. optics: the name of the
    table of optics groups, None in RELION 3.0. uid: (n,) uint64 of the rows of the particle table.
    """

    path: Path
    blocks: dict[str, pd.DataFrame]
    particles: str
    optics: str | None
    uid: npt.NDArray[np.uint64]

    @property
    def table(self) -> pd.DataFrame:
        """The table of the particles."""
        return self.blocks[self.particles]


def read_source(path: Path) -> StarSource:
    """Read a particle STAR file. Raises InputError if it is no STAR file or has no particles."""
    blocks = read_blocks(path)
    particles = next((name for name, block in blocks.items() if IMAGE in block.columns), None)
    if particles is None:
        raise InputError(f"{path}: no table has {IMAGE}, so it lists no particles: give the particles' (_data) STAR")
    if blocks[particles].empty:
        raise InputError(f"{path}: the table data_{particles} has no rows: give a STAR file with particles")
    optics = "optics" if "optics" in blocks else None
    index, name = parse_image_names(path, blocks[particles])
    return StarSource(path, blocks, particles, optics, _unique_ids(index, name))


def float_column(path: Path, table: pd.DataFrame, column: str) -> Float64:
    """A column as (n,) float64. Raises InputError naming the row of the first value that is no finite number."""
    if column not in table.columns:
        raise InputError(f"{path}: no column {column}: add it")
    values = _as_float(to_arrow(table[column]))
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{path}: row {row + 1}: {column} is '{table[column].iloc[row]}', not a number: correct it")
    return values


def integer_column(path: Path, table: pd.DataFrame, column: str, least: int = 0) -> Int64:
    """A column of whole numbers from `least` on as (n,) int64. Raises InputError naming the first row that has none."""
    values = float_column(path, table, column)
    bad = (values != np.floor(values)) | (values < least) | (values >= 2**31)
    if bad.any():
        row = int(np.argmax(bad))
        said = f"{column} is '{table[column].iloc[row]}', not a whole number from {least} on"
        raise InputError(f"{path}: row {row + 1}: {said}: correct it")
    return values.astype(np.int64)


def parse_image_names(path: Path, table: pd.DataFrame) -> tuple[Int64, "pd.Series[str]"]:
    """Slice (n,), 0-based, and stack name (n,), categories, of each row's `slice@stack`.

    Raises InputError naming the row.
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
    known, which = np.unique([one.removesuffix(STACK_SUFFIX) for one in stacks], return_inverse=True)
    return index.astype(np.int64) - 1, pd.Series(
        pd.Categorical.from_codes(which[codes].astype(np.int64), pd.Index(known))
    )


def relion_stack_name(name: str) -> str:
    """The name by which RELION reads a stack: `.mrc` alone would be a map to it."""
    return name + STACK_SUFFIX if name.endswith(".mrc") else name


def _as_float(text: pa.Array) -> Float64:
    """Numbers, NaN for what is none."""
    try:
        return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return pd.to_numeric(to_series(text), errors="coerce").to_numpy(dtype=np.float64)


def _unique_ids(index: Int64, name: "pd.Series[str]") -> npt.NDArray[np.uint64]:
    """A stable hash of each image name: (n,) uint64. A name that comes again counts its repetitions."""
    keys = [f"{number}@{stack}" for number, stack in zip((index + 1).tolist(), name.tolist(), strict=True)]
    image = pd.Series(index * len(name.cat.categories) + name.cat.codes.to_numpy())
    if image.duplicated().any():
        repeat = image.groupby(image).cumcount().tolist()
        keys = [f"{key}#{count}" if count else key for key, count in zip(keys, repeat, strict=True)]
    digests = b"".join([hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys])
    return np.frombuffer(digests, "<u8").astype(np.uint64)
