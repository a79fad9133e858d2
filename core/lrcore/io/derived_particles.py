"""Derive particles from others: repeat or omit rows, set uid, add columns, and keep every column of the file."""

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
    """Select rows of the particles, which may repeat, and give them new uid and additional columns.

    Parameters
    ----------
    particles : n particles
    rows : (m,) rows to take
    uid : (m,) new identifiers
    columns : column name → (m,) numbers or text
        Added to the table that the particles were read from, and so to every export: `lrwName` in STAR, `lrw/Name` in
        .cs. A column (in .cs: field) of any other name replaces that of the table. Particles that were not read from a
        file keep no columns.

    Returns
    -------
    Particles
        The m derived particles.
    """
    chosen = replace(particles.select(rows), uid=uid)
    source = particles.source
    if isinstance(source, StarSource):
        table_rows = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))[rows]
        table = source.table.iloc[table_rows].reset_index(drop=True)
        for name, column in columns.items():
            table[name] = _as_text(column)
        blocks = {**source.blocks, source.particles: table}
        return replace(chosen, source=replace(source, blocks=blocks, uid=uid))
    if isinstance(source, CsSource):
        selected = source.table[find_rows(source.table["uid"], particles.uid)[rows]]
        fields = {_field(name): np.asarray(column) for name, column in columns.items()}
        fields = {name: _as_bytes(column) for name, column in fields.items()}
        return replace(chosen, source=replace(source, table=with_columns(selected, {"uid": uid, **fields})))
    return chosen


def with_half_sets(particles: Particles, half: npt.NDArray[np.int8]) -> Particles:
    """Assign the particles to half sets, also in the table that they were read from.

    Parameters
    ----------
    particles : n particles
    half : (n,) 1 or 2

    Returns
    -------
    Particles
    """
    column: Columns = {"alignments3D/split": (half - 1).astype(np.uint32)}
    if isinstance(particles.source, StarSource):
        column = {"rlnRandomSubset": half}
    return replace(derive_particles(particles, np.arange(len(half)), particles.uid, column), half=half)


def rows_in_table(particles: Particles) -> npt.NDArray[np.int64]:
    """Return the 0-based row of each particle in the table that it was read from.

    Parameters
    ----------
    particles : n particles

    Returns
    -------
    (n,) int64
        Rows; 0 … n − 1 for particles that were not read from a file.
    """
    source = particles.source
    if isinstance(source, StarSource):
        return pd.Index(source.uid).get_indexer(pd.Index(particles.uid)).astype(np.int64)
    if isinstance(source, CsSource):
        return find_rows(source.table["uid"], particles.uid)
    return np.arange(len(particles))


def text_column(particles: Particles, name: str) -> list[str] | None:
    """Return a column of the table that the particles were read from, as text.

    Parameters
    ----------
    particles : n particles
    name : lrwName, any column of a STAR file, or any field of a .cs

    Returns
    -------
    list of n texts, or None
        None if the table lacks the column.
    """
    source = particles.source
    if isinstance(source, StarSource) and name in source.table.columns:
        rows = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))
        return [str(value) for value in source.table[name].iloc[rows]]
    if isinstance(source, CsSource) and _field(name) in source.fields:
        column = source.table[_field(name)][find_rows(source.table["uid"], particles.uid)]
        return decode_text(column) if column.dtype.kind in "SU" else [str(value) for value in column.tolist()]
    return None


def number_column(particles: Particles, name: str) -> npt.NDArray[np.float64] | None:
    """Return a column of the table that the particles were read from, as numbers.

    Parameters
    ----------
    particles, name : see `text_column`

    Returns
    -------
    (n,) float64, or None
        None if the table lacks the column.

    Raises
    ------
    InputError
        If a value is not a finite number; names its row.
    """
    column = text_column(particles, name)
    return None if column is None else float_column(particles.path, pd.DataFrame({name: column}), name)


def lrw_columns(particles: Particles) -> Columns:
    """Return the columns `lrwName` (in .cs: `lrw/Name`) of the particles, as numbers where they are."""
    source = particles.source
    if isinstance(source, StarSource):
        names = [str(name) for name in source.table.columns if str(name).startswith(PREFIX) and "/" not in str(name)]
    elif isinstance(source, CsSource):
        names = [PREFIX + name.partition("/")[2] for name in source.fields if name.startswith(f"{PREFIX}/")]
    else:
        names = []
    texts = {name: text_column(particles, name) for name in sorted(names)}
    return {name: _as_numbers(column) for name, column in texts.items() if column is not None}


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
