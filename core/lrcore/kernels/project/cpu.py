"""Implement `project_slices` in Numba, with threads over images.

Samples are processed in chunks and in two passes: the first computes where they are read, the second reads them.
Scratch arrays are flat, with column c of a chunk at c · CHUNK: the compiler vectorises loops over known distances.
"""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.simd import constant, fma, load, multiply, pair_sums

CHUNK = 256
LOCATION_COLUMNS, VALUE_COLUMNS = 6, 2
"""Number of columns of the two scratch arrays: where samples are, and what was read there."""
C = np.uint64(CHUNK)
PREFETCH_DISTANCE = 8
"""Samples between the prefetch of memory and its use, in the kernels that prefetch."""
F, I32 = np.float32, np.int32


@numba.njit(**NUMBA_OPTIONS)
def allocate_scratch():  # type: ignore[no-untyped-def]
    """Return scratch arrays for a chunk: (corner, where, found)."""
    return (
        np.empty(CHUNK, np.int32),
        np.empty(LOCATION_COLUMNS * CHUNK, np.float32),
        np.empty(VALUE_COLUMNS * CHUNK, np.float32),
    )


@numba.njit(**NUMBA_OPTIONS)
def locate_samples(shape, turn, kx, ky, begin, end, corner, where, bend=None):  # type: ignore[no-untyped-def]
    """Pass 1: compute where samples begin … end are read; `corner` receives the index of the first of 8 neighbours.

    `corner` counts floats. Columns of `where`: −1 where the mate is read, else 1 (0), the offset along x (1), the
    weights of the four rows (2 … 5). bend: k_z = bend · k²; for None, code without k_z is compiled.
    """
    row, plane, centre = I32(shape[2]), I32(shape[1] * shape[2]), F(shape[0] // 2)
    t00, t01, t02 = turn[0, 0], turn[0, 1], turn[0, 2]
    t10, t11, t12 = turn[1, 0], turn[1, 1], turn[1, 2]
    t20, t21, t22 = turn[2, 0], turn[2, 1], turn[2, 2]
    kx, ky = kx[begin:end], ky[begin:end]
    for j in range(end - begin):
        i = np.uint64(j)
        u, v = F(kx[j]), F(ky[j])
        qx, qy, qz = t00 * u + t10 * v, t01 * u + t11 * v, t02 * u + t12 * v
        if bend is not None:
            w = bend * (u * u + v * v)
            qx, qy, qz = qx + t20 * w, qy + t21 * w, qz + t22 * w
        sign = F(-1) if qx < F(0) else F(1)
        qx *= sign
        qy, qz = qy * sign + centre, qz * sign + centre
        x, y, z = I32(qx), I32(qy), I32(qz)
        # Numba computes products of int32 as int64, which is slower.
        corner[i] = I32(2) * I32(I32(z * plane) + I32(y * row) + x + I32(1))
        fy, fz = qy - F(y), qz - F(z)
        where[i], where[C + i] = sign, qx - F(x)
        where[2 * C + i], where[3 * C + i] = (F(1) - fy) * (F(1) - fz), fy * (F(1) - fz)
        where[4 * C + i], where[5 * C + i] = (F(1) - fy) * fz, fy * fz


@numba.njit(**NUMBA_OPTIONS)
def read_trilinear(data, shape, count, corner, where, found):  # type: ignore[no-untyped-def]
    """Pass 2: read the trilinear values (re, im) of `count` located samples into the two columns of `found`."""
    # Weights along x, of (re, im) pairs, for an offset f: w0 + f w1.
    w0 = constant((1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    w1 = constant((-1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    step, leap = 2 * np.int64(shape[2]), 2 * np.int64(shape[1] * shape[2])
    for j in range(count):
        i = np.uint64(j)
        at = np.int64(corner[i])
        low = fma(load(data, at + step), where[3 * C + i], multiply(load(data, at), where[2 * C + i]))
        at += leap
        both = fma(load(data, at + step), where[5 * C + i], fma(load(data, at), where[4 * C + i], low))
        re, im = pair_sums(multiply(both, fma(w1, where[C + i], w0)))
        found[i], found[C + i] = re, where[i] * im


@numba.njit(**NUMBA_OPTIONS)
def _project_slice(data, turn, kx, ky, work, out):  # type: ignore[no-untyped-def]
    corner, where, found = work
    flat = data.reshape(-1)
    for begin in range(0, len(kx), CHUNK):
        end = min(begin + CHUNK, len(kx))
        locate_samples(data.shape, turn, kx, ky, begin, end, corner, where)
        read_trilinear(flat, data.shape, end - begin, corner, where, found)
        for j in range(end - begin):
            out[begin + j, 0], out[begin + j, 1] = found[np.uint64(j)], found[C + np.uint64(j)]


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _project_slices(data, turns, kx, ky, out):  # type: ignore[no-untyped-def]
    for b in numba.prange(turns.shape[0]):
        _project_slice(data, turns[b], kx, ky, allocate_scratch(), out[b])


def project_slices(
    volume: FourierVolume, rotations: npt.NDArray[np.floating], samples: FourierSamples
) -> npt.NDArray[np.complex64]:
    """Read central slices of a Fourier volume; see `lrcore.kernels.project`."""
    out = np.empty((len(rotations), len(samples.kx)), np.complex64)
    turns = (PADDING * rotations).astype(np.float32)
    _project_slices(as_real_pairs(volume.data), turns, samples.kx, samples.ky, as_real_pairs(out))
    return out


def as_real_pairs(array: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    """View a complex64 array as float32 with a last axis (re, im)."""
    return array.view(np.float32).reshape(*array.shape, 2)
