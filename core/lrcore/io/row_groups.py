"""Rows of a table that agree in all their columns: optics groups are such."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lrcore.arrays import Rows


def group_identical_rows(columns: Iterable[npt.NDArray[Any]]) -> tuple[Rows, Rows]:
    """columns: (n,) or (n, m) of numbers, n > 0. First row of every group (m,), and each row's group (n,).

    Groups are in the order of their values, the first column before the second. Unlike `np.unique(axis=0)` this
    sorts no rows, and no column whose values are all the same.
    """
    group: Rows | None = None
    for column in columns:
        n = len(column)
        group = np.zeros(n, np.int64) if group is None else group
        for values in np.asarray(column).reshape(n, -1).T:
            if (values != values[0]).any():
                known, which = np.unique(values, return_inverse=True)
                group = np.unique(group * len(known) + which, return_inverse=True)[1]
    assert group is not None
    return np.unique(group, return_index=True)[1], group


def factorize_text(column: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Rows]:
    """Text (n,) of a .cs as its distinct values, sorted, and each row's number among them; by hash, not by order."""
    found = pa.array(np.ascontiguousarray(column))
    found = (found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found).dictionary_encode()
    known, which = np.unique(np.array(found.dictionary.to_pylist(), column.dtype), return_inverse=True)
    return known, which[found.indices.to_numpy()]
