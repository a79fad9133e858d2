"""Bring columns of CryoSPARC tables that other programs saved in another type back to CryoSPARC's types.

Scripts that filter a table with pandas or NumPy save integers in another width or as floats, truth values as integers,
numbers as text, and text as Unicode. Values are never rounded: what a type of CryoSPARC cannot hold is refused.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import UInt64
from lrcore.errors import InputError

TEXT = "SU"
EXACT_IN_FLOAT64 = 2**53
"""Smallest positive integer after which float64 skips integers."""


def to_uid(path: Path, column: npt.NDArray[Any]) -> UInt64:
    """Convert a uid column (n,) of any type that holds it exactly to uint64; negative int64 are read as uint64.

    Raises InputError that names the type, or the row of a value that is not a whole number.
    """
    kind = column.dtype.kind
    if column.ndim != 1 or kind not in "iufSU":
        raise InputError(f"{path}: uid has type {_type(column)}: save it as uint64")
    if kind in "iu":
        return column.astype(np.uint64)
    if kind == "f" and (column.astype(np.float64) >= EXACT_IN_FLOAT64).any():
        raise InputError(f"{path}: uid has type {column.dtype.name}, which rounds CryoSPARC's uid: save it as uint64")
    return _integers(path, "uid", column).astype(np.uint64)


def to_field_type(
    path: Path, name: str, column: npt.NDArray[Any], kinds: str, shape: tuple[int, ...] | None
) -> npt.NDArray[Any]:
    """Convert a column to one of the dtype kinds, and drop axes of length 1 that `shape` (of one row) lacks.

    Parameters
    ----------
    path : the file, for messages
    name : the field, for messages
    column : (n, ...) as read
    kinds : allowed dtype kinds
    shape : shape per row; None for any

    Returns
    -------
    (n, ...) array
        The column itself if nothing is to be converted, or nothing can be.

    Raises
    ------
    InputError
        If text is not a number, or a number that must be whole is not; names the row.
    """
    if shape is not None and column.shape[1:] != shape and tuple(k for k in column.shape[1:] if k != 1) == shape:
        column = column.reshape(len(column), *shape)
    kind = column.dtype.kind
    if kind == "U" and "S" in kinds:
        return _encoded(path, name, column)
    if kind in kinds or "i" not in kinds or kind not in "bfSU":
        return column
    if "f" not in kinds:
        numbers = _integers(path, name, column)
        return numbers.astype(np.uint32) if numbers.min() >= 0 and numbers.max() < 2**32 else numbers.astype(np.int64)
    return column.astype(np.uint8) if kind == "b" else _floats(path, name, column)


def _encoded(path: Path, name: str, column: npt.NDArray[Any]) -> npt.NDArray[np.bytes_]:
    try:
        return np.char.encode(column, "utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: {name} is text that is not UTF-8: rename the file or item that it names") from error


def _integers(path: Path, name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return whole numbers, as int64 or uint64."""
    if column.dtype.kind in TEXT:
        try:
            return np.array([int(value) for value in column.reshape(-1)], np.uint64).reshape(column.shape)
        except (ValueError, OverflowError):  # such as 3.0
            column = _floats(path, name, column)
    numbers = column.astype(np.float64)
    bad = ~((numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**63)).reshape(len(column), -1).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{path}: row {row + 1}: {name} is {column[row]}, not a whole number: correct it")
    return numbers.astype(np.int64)


def _floats(path: Path, name: str, column: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return numbers that were saved as text."""
    out = np.empty(column.size)
    for number, value in enumerate(column.reshape(-1)):
        try:
            out[number] = float(value)
        except ValueError as error:
            row = number * len(column) // column.size + 1
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            raise InputError(f"{path}: row {row}: {name} is '{text}', not a number: correct it") from error
    return out.reshape(column.shape)


def _type(column: npt.NDArray[Any]) -> str:
    return f"{column.dtype.name} {column.shape[1:] or ''}".strip()
