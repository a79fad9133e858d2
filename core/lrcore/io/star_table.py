"""STAR tables as text: every value kept as it was written, columns turned into numbers only where they are needed."""

import hashlib
import linecache
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import starfile

from lrcore.errors import InputError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

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
    index, name = image_names(path, blocks[particles])
    return StarSource(path, blocks, particles, optics, _unique_ids(index, name))


def read_blocks(path: Path) -> dict[str, pd.DataFrame]:
    """Every table of a STAR file by name, all values text; a block without a loop is a table of one row."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no STAR file (it is not text): give the particles' STAR file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the name") from error
    lines = text.splitlines()
    if not any(line.startswith("data_") for line in lines):
        raise InputError(f"{path}: is no STAR file (no line begins with data_): give the particles' STAR file")
    labels = sorted({line.split()[0][1:] for line in lines if line.lstrip().startswith("_")})
    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=labels)
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path}: a table has no rows: give a STAR file with particles") from error
    except (ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is no readable STAR file ({reason}): check that it is complete") from error
    finally:
        linecache.clearcache()  # starfile leaves the lines of a file that it could not parse, to be read again
    tables = {
        name: block if isinstance(block, pd.DataFrame) else pd.DataFrame([block]) for name, block in blocks.items()
    }
    if '""' not in text:
        _require_whole_rows(path, tables)
    return {name: table.fillna("nan") for name, table in tables.items()}


def _require_whole_rows(path: Path, tables: dict[str, pd.DataFrame]) -> None:
    """A row cut short ends in empty text, which a file without `""` cannot hold otherwise."""
    for name, table in tables.items():
        short = (table.iloc[:, -1] == "").to_numpy() if table.size else np.zeros(1, bool)
        if short.any():
            row = int(np.argmax(short)) + 1
            raise InputError(f"{path}: row {row} of data_{name} has too few values: check that the file is complete")


def numbers(path: Path, table: pd.DataFrame, column: str) -> Float64:
    """A column as (n,) float64. Raises InputError naming the row of the first value that is no finite number."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{path}: row {row + 1}: {column} is '{table[column].iloc[row]}', not a number: correct it")
    return values


def image_names(path: Path, table: pd.DataFrame) -> tuple[Int64, "pd.Series[str]"]:
    """Slice (n,), 0-based, and stack name (n,) of each row's `slice@stack`. Raises InputError naming the row."""
    parts = table[IMAGE].str.partition("@")
    index = pd.to_numeric(parts[0], errors="coerce").to_numpy(dtype=np.float64)
    good = (parts[2] != "").to_numpy() & (index >= 1) & (index == np.floor(index))
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"{path}: row {row + 1}: {IMAGE} is '{table[IMAGE].iloc[row]}': it must be like 000001@stack.mrcs"
        )
    return index.astype(np.int64) - 1, parts[2].str.removesuffix(STACK_SUFFIX)


def as_stack(name: str) -> str:
    """The name by which RELION reads a stack: `.mrc` alone would be a map to it."""
    return name + STACK_SUFFIX if name.endswith(".mrc") else name


def _unique_ids(index: Int64, name: "pd.Series[str]") -> npt.NDArray[np.uint64]:
    """A stable hash of each image name: (n,) uint64. A name that comes again counts its repetitions."""
    keys = pd.Series(index + 1).astype(str) + "@" + name.reset_index(drop=True)
    repeat = keys.groupby(keys).cumcount().to_numpy()
    texts = (f"{key}#{count}" if count else key for key, count in zip(keys, repeat, strict=True))
    hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest, "little") for digest in hashes), np.uint64, len(keys))
