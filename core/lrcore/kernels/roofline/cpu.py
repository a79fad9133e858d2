"""Implement the roofline loops in Numba, with threads over images; a row of neighbours is read at once."""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.kernels.backproject.cpu import add_scaled
from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.project.cpu import as_real_pairs
from lrcore.kernels.roofline import CHAIN
from lrcore.kernels.simd import constant, fma, load, multiply, pair_sums

F = np.float32
CONTRACT_OPTIONS = {**NUMBA_OPTIONS, "fastmath": {"contract"}}
"""Multiply and add may become one instruction; nothing else may be rearranged."""


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def copy(source, target):  # type: ignore[no-untyped-def]
    """Copy float32 values; see `lrcore.kernels.roofline`."""
    for i in numba.prange(source.shape[0]):
        target[i] = source[i]


@numba.njit(inline="always", **NUMBA_OPTIONS)
def _plus(a, b):  # type: ignore[no-untyped-def]
    return fma(a, F(1), b)


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _gather(flat, at, row, plane, width, out):  # type: ignore[no-untyped-def]
    for b in numba.prange(at.shape[0]):
        keep = constant((1, 1, 1, 1, 0, 0, 0, 0)) if width == 2 else constant((1, 1, 1, 1, 1, 1, 0, 0))
        low, middle, high = multiply(keep, F(0)), multiply(keep, F(0)), multiply(keep, F(0))
        if width == 2:
            for s in range(at.shape[1]):
                i = np.int64(2 * at[b, s])
                low = _plus(_plus(load(flat, i), load(flat, i + row)), low)
                high = _plus(_plus(load(flat, i + plane), load(flat, i + plane + row)), high)
        else:
            for s in range(at.shape[1]):
                i = np.int64(2 * at[b, s])
                low = _plus(_plus(load(flat, i), load(flat, i + row)), _plus(load(flat, i + 2 * row), low))
                i += plane
                middle = _plus(_plus(load(flat, i), load(flat, i + row)), _plus(load(flat, i + 2 * row), middle))
                i += plane
                high = _plus(_plus(load(flat, i), load(flat, i + row)), _plus(load(flat, i + 2 * row), high))
        out[b, 0], out[b, 1] = pair_sums(multiply(keep, _plus(low, _plus(middle, high))))


def gather(data: npt.NDArray[np.complex64], at: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.complex64]:
    """Sum the voxels about each sample; see `lrcore.kernels.roofline`."""
    out = np.empty(len(at), np.complex64)
    row, plane = 2 * data.shape[2], 2 * data.shape[1] * data.shape[2]
    _gather(as_real_pairs(data).reshape(-1), at, row, plane, width, as_real_pairs(out))
    return out


@numba.njit(**NUMBA_OPTIONS)
def _scatter(flat, weight, at, row, plane):  # type: ignore[no-untyped-def]
    both, one = (F(1), F(1)), F(1)
    for b in range(at.shape[0]):
        for s in range(at.shape[1]):
            for step in (0, row, plane, plane + row):
                i = np.int64(at[b, s]) + step
                add_scaled(flat, 2 * i, (F(1), F(0), F(1), F(0)), one)
                add_scaled(weight, i, both, one)


def scatter(data: npt.NDArray[np.complex64], weight: Float32, at: npt.NDArray[np.int32]) -> None:
    """Add 1 to the voxels about each sample; see `lrcore.kernels.roofline`."""
    row, plane = data.shape[2], data.shape[1] * data.shape[2]
    _scatter(as_real_pairs(data).reshape(-1), weight.reshape(-1), at, row, plane)


@numba.njit(parallel=True, **CONTRACT_OPTIONS)
def _multiply_add(values, a, b, rounds):  # type: ignore[no-untyped-def]
    for n in numba.prange(values.shape[0]):
        line = values[n]
        for _ in range(rounds):
            for i in range(line.shape[0]):
                x = line[i]
                for _step in range(CHAIN):
                    x = x * a + b
                line[i] = x


def multiply_add(values: Float32, a: float, b: float, rounds: int) -> None:
    """Apply x → a x + b repeatedly; see `lrcore.kernels.roofline`."""
    _multiply_add(values, F(a), F(b), rounds)
