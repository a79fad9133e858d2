"""Particles made from others: rows repeated or left out, uid and columns added, and no column of their file lost."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import IntArray
from lrcore.io.cs_table import CsSource, decode_text, find_rows, with_columns
from lrcore.io.star_table import StarSource, float_column
from lrcore.records import Particles

Columns = dict[str, npt.NDArray[Any]]
PREFIX = "lrw"
FLOAT_FORMAT = "%.6f"


def derive_particles(particles: Particles, rows: IntArray, uid: npt.NDArray[np.uint64], columns: Columns) -> Particles:
    """The particles of the given rows (m,), which may repeat, as particles of their own: uid (m,) and more columns.

    columns: lrwName → (m,) numbers or text, kept by the tables that the particles came from and so by every export:
    `lrwName` in STAR, `lrw/Name` in .cs. Columns of other names replace those of the table (in .cs: fields).
    Particles from no file keep none.
    """
    chosen = replace(particles.select(rows), uid=uid)
    source = particles.source
    if isinstance(source, StarSource):
        places = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))[rows]
        table = source.table.iloc[places].reset_index(drop=True)
        for name, column in columns.items():
            table[name] = _as_text(column)
        blocks = {**source.blocks, source.particles: table}
        return replace(chosen, source=replace(source, blocks=blocks, uid=uid))
    if isinstance(source, CsSource):
        whole = source.table[find_rows(source.table["uid"], particles.uid)[rows]]
        fields = {_field(name): np.asarray(column) for name, column in columns.items()}
        fields = {name: _as_bytes(column) for name, column in fields.items()}
        return replace(chosen, source=replace(source, table=with_columns(whole, {"uid": uid, **fields})))
    return chosen


def with_half_sets(particles: Particles, half: npt.NDArray[np.int8]) -> Particles:
    """The particles in other half sets, (n,) 1 or 2, which the tables that they came from are told, too."""
    column: Columns = {"alignments3D/split": (half - 1).astype(np.uint32)}
    if isinstance(particles.source, StarSource):
        column = {"rlnRandomSubset": half}
    return replace(derive_particles(particles, np.arange(len(half)), particles.uid, column), half=half)


def rows_in_table(particles: Particles) -> npt.NDArray[np.int64]:
    """(n,) 0-based row of each particle in the table that it came from; in the particles where there is none."""
    source = particles.source
    if isinstance(source, StarSource):
        return pd.Index(source.uid).get_indexer(pd.Index(particles.uid)).astype(np.int64)
    if isinstance(source, CsSource):
        return find_rows(source.table["uid"], particles.uid)
    return np.arange(len(particles))


def text_column(particles: Particles, name: str) -> list[str] | None:
    """A column `lrwName` (or any of a STAR file, any field of a .cs) of these particles as text; None without it."""
    source = particles.source
    if isinstance(source, StarSource) and name in source.table.columns:
        places = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))
        return [str(value) for value in source.table[name].iloc[places]]
    if isinstance(source, CsSource) and _field(name) in source.fields:
        column = source.table[_field(name)][find_rows(source.table["uid"], particles.uid)]
        return decode_text(column) if column.dtype.kind in "SU" else [str(value) for value in column.tolist()]
    return None


def number_column(particles: Particles, name: str) -> npt.NDArray[np.float64] | None:
    """The same as float64 (n,). Raises InputError naming the row of what is no number."""
    column = text_column(particles, name)
    return None if column is None else float_column(particles.path, pd.DataFrame({name: column}), name)


def lrw_columns(particles: Particles) -> Columns:
    """The columns `lrwName` (in .cs: `lrw/Name`) of these particles, for a file of the other kind; numbers as such."""
    source = particles.source
    if isinstance(source, StarSource):
        names = [str(name) for name in source.table.columns if str(name).startswith(PREFIX) and "/" not in str(name)]
    elif isinstance(source, CsSource):
        names = [PREFIX + name.partition("/")[2] for name in source.fields if name.startswith(f"{PREFIX}/")]
    else:
        names = []
    found = {name: text_column(particles, name) for name in sorted(names)}
    return {name: _as_numbers(column) for name, column in found.items() if column is not None}


def _as_numbers(column: list[str]) -> npt.NDArray[Any]:
    try:
        return pd.to_numeric(pd.Series(column)).to_numpy()
    except ValueError:
        return np.array(column)


def _field(name: str) -> str:
    return f"{PREFIX}/{name.removeprefix(PREFIX)}" if name.startswith(PREFIX) and "/" not in name else name


def _as_text(column: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    values = np.asarray(column)
    return np.char.mod(FLOAT_FORMAT, values) if values.dtype.kind == "f" else values.astype(str)


def _as_bytes(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.char.encode(column) if column.dtype.kind == "U" else column
