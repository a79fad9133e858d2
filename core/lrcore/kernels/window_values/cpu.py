"""Implement `pack_windows`, `unpack_windows` and `search_samples` in Numba, with threads over images."""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64, IntArray
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.project.cpu import as_real_pairs
from lrcore.kernels.window_values.reference import LARGEST

F = np.float32


@numba.njit(**NUMBA_OPTIONS)
def _pack_one(W, w, codes, steps):  # type: ignore[no-untyped-def]
    top, top_weight = F(1e-30), F(1e-30)
    for s in range(len(w)):
        top = max(top, abs(W[s, 0]), abs(W[s, 1]))
        top_weight = max(top_weight, abs(w[s]))
    steps[0], steps[1] = top / F(LARGEST), top_weight / F(LARGEST)
    for s in range(len(w)):
        codes[s, 0] = np.int16(np.rint(W[s, 0] / steps[0]))
        codes[s, 1] = np.int16(np.rint(W[s, 1] / steps[0]))
        codes[s, 2] = np.int16(np.rint(w[s] / steps[1]))


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _pack_windows(W, w, codes, steps):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(w)):
        _pack_one(W[b], w[b], codes[b], steps[b])


def pack_windows(W: Complex64, w: Float32) -> tuple[npt.NDArray[np.int16], Float32]:
    """Round windows to 16 bits; see `lrcore.kernels.window_values`."""
    codes, steps = np.empty((*w.shape, 3), np.int16), np.empty((len(w), 2), np.float32)
    _pack_windows(as_real_pairs(np.ascontiguousarray(W)), np.ascontiguousarray(w), codes, steps)
    return codes, steps


@numba.njit(**NUMBA_OPTIONS)
def _unpack_one(codes, steps, factors, kx, ky, data, weight):  # type: ignore[no-untyped-def]
    size = len(data)
    data[:], weight[:] = F(0), F(0)
    for s in range(len(kx)):
        x, row = kx[s], ky[s] if ky[s] >= 0 else ky[s] + size
        value = steps[0] * factors[0, s]
        data[row, x, 0], data[row, x, 1] = codes[s, 0] * value, codes[s, 1] * value
        weight[row, x] = codes[s, 2] * (steps[1] * factors[1, s])
        if x == 0 and row > 0:
            data[size - row, 0, 0], data[size - row, 0, 1] = data[row, 0, 0], -data[row, 0, 1]
            weight[size - row, 0] = weight[row, 0]


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _unpack_windows(codes, steps, factors, group, kx, ky, data, weight):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(codes)):
        _unpack_one(codes[b], steps[b], factors[group[b]], kx, ky, data[b], weight[b])


def unpack_windows(
    codes: npt.NDArray[np.int16], steps: Float32, factors: Float64, group: IntArray, samples: FourierSamples
) -> tuple[Complex64, Float32]:
    """Return windows in full precision on the half plane; see `lrcore.kernels.window_values`."""
    data = np.empty((len(codes), samples.size, samples.size // 2 + 1), np.complex64)
    weight = np.empty(data.shape, np.float32)
    _unpack_windows(
        codes,
        np.ascontiguousarray(steps, np.float32),
        np.ascontiguousarray(factors, np.float32),
        group.astype(np.int64),
        samples.kx,
        samples.ky,
        as_real_pairs(data),
        weight,
    )
    return data, weight


@numba.njit(**NUMBA_OPTIONS)
def _search_one(data, weight, noise, shift, kx, ky, W, w):  # type: ignore[no-untyped-def]
    size = len(data)
    moved = shift[0] != 0 or shift[1] != 0
    for s in range(len(kx)):
        x, row = kx[s], ky[s] if ky[s] >= 0 else ky[s] + size
        share = F(1) / (F(1) + weight[row, x] * noise[s])
        re, im = data[row, x, 0] * share, data[row, x, 1] * share
        if moved:
            angle = 2 * np.pi / size * (shift[0] * x + shift[1] * ky[s])
            c, i = F(np.cos(angle)), F(np.sin(angle))
            re, im = re * c - im * i, re * i + im * c
        W[s, 0], W[s, 1] = re, im
        w[s] = weight[row, x] * share


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _search_samples(data, weight, noise, shifts, kx, ky, W, w):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(weight)):
        _search_one(data[b], weight[b], noise, shifts[b], kx, ky, W[b], w[b])


def search_samples(
    data: Complex64, weight: Float32, variance: Float64, shifts: Float64, samples: FourierSamples
) -> tuple[Complex64, Float32]:
    """Return the samples that a search reads; see `lrcore.kernels.window_values`."""
    W = np.empty((len(weight), len(samples.kx)), np.complex64)
    w = np.empty(W.shape, np.float32)
    shell = np.minimum(samples.shell, len(variance) - 1)
    _search_samples(
        as_real_pairs(data),
        weight,
        variance[shell].astype(np.float32),
        np.ascontiguousarray(shifts, np.float64),
        samples.kx,
        samples.ky,
        as_real_pairs(W),
        w,
    )
    return W, w
