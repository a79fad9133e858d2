"""Group the rows of a table that are equal in all columns, such as those of an optics group."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lrcore.arrays import Rows


def group_identical_rows(columns: Iterable[npt.NDArray[Any]]) -> tuple[Rows, Rows]:
    """Group equal rows of numeric columns (n,) or (n, k), n > 0: first row (m,) of each group, group (n,) of each row.

    Groups are in the order of their values, the first column before the second. Unlike `np.unique(axis=0)` this
    sorts no rows, and no column whose values are all the same.
    """
    group: Rows | None = None
    for column in columns:
        n = len(column)
        group = np.zeros(n, np.int64) if group is None else group
        for values in np.asarray(column).reshape(n, -1).T:
            if (values != values[0]).any():
                distinct, code = np.unique(values, return_inverse=True)
                group = np.unique(group * len(distinct) + code, return_inverse=True)[1]
    assert group is not None
    return np.unique(group, return_index=True)[1], group


def factorize_text(column: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Rows]:
    """Return the sorted distinct values of a text column (n,) and the number (n,) of each row's value, by hashing."""
    encoded = pa.array(np.ascontiguousarray(column))
    encoded = (encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded).dictionary_encode()
    distinct, number = np.unique(np.array(encoded.dictionary.to_pylist(), column.dtype), return_inverse=True)
    return distinct, number[encoded.indices.to_numpy()]
