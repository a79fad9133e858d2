"""Read a Fourier volume by quadratic B-splines, with gradients, a chunk of samples at a time, inside Numba.

Scratch arrays are flat, with column c of a chunk at c · CHUNK: the compiler vectorises loops over known distances.
"""

import numba
import numpy as np

from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.project.cpu import CHUNK, I32, PREFETCH_DISTANCE, C, F
from lrcore.kernels.simd import constant, fma, load, multiply, pair_sums, prefetch_line
from lrcore.kernels.sincos import cos_sin

LOCATION_COLUMNS, VALUE_COLUMNS = 17, 10
"""Number of columns of the two scratch arrays: where samples are, and what was read there."""


@numba.njit(**NUMBA_OPTIONS)
def allocate_scratch():  # type: ignore[no-untyped-def]
    """Return scratch arrays for a chunk: (corner, where, found)."""
    return (
        np.empty(CHUNK, np.int32),
        np.empty(LOCATION_COLUMNS * CHUNK, np.float32),
        np.empty(VALUE_COLUMNS * CHUNK, np.float32),
    )


@numba.njit(inline="always", **NUMBA_OPTIONS)
def _spline_weights(t):  # type: ignore[no-untyped-def]
    """Return weights and slopes of the quadratic B-spline at nodes −1, 0, 1, for an offset t in [−½, ½]."""
    low, high = F(0.5) - t, F(0.5) + t
    return F(0.5) * low * low, F(0.75) - t * t, F(0.5) * high * high, -low, F(-2) * t, high


@numba.njit(**NUMBA_OPTIONS)
def locate_spline_samples(shape, turn, kx, ky, begin, end, corner, where):  # type: ignore[no-untyped-def]
    """Pass 1: compute where samples begin … end are read; `corner` receives the index of the first of 27 neighbours.

    `corner` counts floats. Columns of `where`: −1 where the mate is read, else 1 (0), q (1 … 3), the offset along x
    (4), weights and slopes along y (5 … 10) and z (11 … 16).
    """
    row, plane, centre = I32(shape[2]), I32(shape[1] * shape[2]), F(shape[0] // 2)
    t00, t01, t02 = turn[0, 0], turn[0, 1], turn[0, 2]
    t10, t11, t12 = turn[1, 0], turn[1, 1], turn[1, 2]
    half = F(0.5)
    for j in range(end - begin):
        i, s = np.uint64(j), np.uint64(begin + j)
        u, v = F(kx[s]), F(ky[s])
        qx = t00 * u + t10 * v
        sign = F(1) if qx >= F(0) else F(-1)
        qx *= sign
        qy = (t01 * u + t11 * v) * sign
        qz = (t02 * u + t12 * v) * sign
        ix, iy, iz = I32(qx + half), I32(qy + centre + half), I32(qz + centre + half)
        # Numba computes products of int32 as int64, which is slower.
        corner[i] = I32(2) * I32(I32(I32(iz - I32(1)) * plane) + I32(I32(iy - I32(1)) * row) + ix)
        where[i], where[C + i], where[2 * C + i], where[3 * C + i] = sign, qx, qy, qz
        where[4 * C + i] = qx - F(ix)
        y, z = _spline_weights(qy + centre - F(iy)), _spline_weights(qz + centre - F(iz))
        where[5 * C + i], where[6 * C + i], where[7 * C + i] = y[0], y[1], y[2]
        where[8 * C + i], where[9 * C + i], where[10 * C + i] = y[3], y[4], y[5]
        where[11 * C + i], where[12 * C + i], where[13 * C + i] = z[0], z[1], z[2]
        where[14 * C + i], where[15 * C + i], where[16 * C + i] = z[3], z[4], z[5]


@numba.njit(inline="always", **NUMBA_OPTIONS)
def _prefetch(data, at, step, leap):  # type: ignore[no-untyped-def]
    """Prefetch the nine rows of a sample that is read soon."""
    for _ in range(3):
        prefetch_line(data, at)
        prefetch_line(data, at + step)
        prefetch_line(data, at + step + step)
        at += leap


@numba.njit(inline="always", **NUMBA_OPTIONS)
def _sheet(data, at, step, where, i):  # type: ignore[no-untyped-def]
    """Sum three rows of four complex neighbours, with the weights and with the slopes along y."""
    a, b, c = load(data, at), load(data, at + step), load(data, at + step + step)
    value = fma(c, where[7 * C + i], fma(b, where[6 * C + i], multiply(a, where[5 * C + i])))
    slope = fma(c, where[10 * C + i], fma(b, where[9 * C + i], multiply(a, where[8 * C + i])))
    return value, slope


@numba.njit(**NUMBA_OPTIONS)
def read_spline(data, shape, count, corner, where, found):  # type: ignore[no-untyped-def]
    """Pass 2: read value, ∂/∂x, ∂/∂y, ∂/∂z of `count` located samples, each (re, im), into columns of `found`."""
    # Weights along x, of (re, im) pairs, as polynomials of the offset t: w = w0 + w1 t + w2 t², slope = w1 + 2 w2 t.
    w0 = constant((0.125, 0.125, 0.75, 0.75, 0.125, 0.125, 0.0, 0.0))
    w1 = constant((-0.5, -0.5, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0))
    w2 = constant((0.5, 0.5, -1.0, -1.0, 0.5, 0.5, 0.0, 0.0))
    step, leap = 2 * np.int64(shape[2]), 2 * np.int64(shape[1] * shape[2])
    for j in range(count):
        i = np.uint64(j)
        _prefetch(data, np.int64(corner[min(j + PREFETCH_DISTANCE, count - 1)]), step, leap)
        at = np.int64(corner[i])
        a, da = _sheet(data, at, step, where, i)
        b, db = _sheet(data, at + leap, step, where, i)
        c, dc = _sheet(data, at + leap + leap, step, where, i)
        z0, z1, z2 = where[11 * C + i], where[12 * C + i], where[13 * C + i]
        value = fma(c, z2, fma(b, z1, multiply(a, z0)))
        along_y = fma(dc, z2, fma(db, z1, multiply(da, z0)))
        along_z = fma(c, where[16 * C + i], fma(b, where[15 * C + i], multiply(a, where[14 * C + i])))
        t = where[4 * C + i]
        x = fma(fma(w2, t, w1), t, w0)
        found[i], found[C + i] = pair_sums(multiply(value, x))
        found[2 * C + i], found[3 * C + i] = pair_sums(multiply(value, fma(multiply(w2, F(2)), t, w1)))
        found[4 * C + i], found[5 * C + i] = pair_sums(multiply(along_y, x))
        found[6 * C + i], found[7 * C + i] = pair_sums(multiply(along_z, x))


@numba.njit(inline="always", **NUMBA_OPTIONS)
def _plain_sheet(data, at, step, where, i):  # type: ignore[no-untyped-def]
    """Sum three rows of four complex neighbours with the weights along y."""
    low = fma(load(data, at + step), where[6 * C + i], multiply(load(data, at), where[5 * C + i]))
    return fma(load(data, at + step + step), where[7 * C + i], low)


@numba.njit(**NUMBA_OPTIONS)
def read_spline_values(data, shape, count, corner, where, found):  # type: ignore[no-untyped-def]
    """Pass 2 without slopes: read (re, im) of `count` located samples, conjugated for mates, into columns 0 and 1."""
    w0 = constant((0.125, 0.125, 0.75, 0.75, 0.125, 0.125, 0.0, 0.0))
    w1 = constant((-0.5, -0.5, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0))
    w2 = constant((0.5, 0.5, -1.0, -1.0, 0.5, 0.5, 0.0, 0.0))
    step, leap = 2 * np.int64(shape[2]), 2 * np.int64(shape[1] * shape[2])
    for j in range(count):
        i = np.uint64(j)
        _prefetch(data, np.int64(corner[min(j + PREFETCH_DISTANCE, count - 1)]), step, leap)
        at = np.int64(corner[i])
        value = multiply(_plain_sheet(data, at, step, where, i), where[11 * C + i])
        value = fma(_plain_sheet(data, at + leap, step, where, i), where[12 * C + i], value)
        value = fma(_plain_sheet(data, at + leap + leap, step, where, i), where[13 * C + i], value)
        t = where[4 * C + i]
        re, im = pair_sums(multiply(value, fma(fma(w2, t, w1), t, w0)))
        found[i], found[C + i] = re, where[i] * im


@numba.njit(**NUMBA_OPTIONS)
def gradient_over_rotation(count, where, found):  # type: ignore[no-untyped-def]
    """Pass 3: turn columns 2 … 7 of `found` from ∇S into ∇S × q, and conjugate samples that were read at −q."""
    for j in range(count):
        i = np.uint64(j)
        sign, qx, qy, qz = where[i], where[C + i], where[2 * C + i], where[3 * C + i]
        xr, yr, zr = found[2 * C + i], found[4 * C + i], found[6 * C + i]
        xi, yi, zi = sign * found[3 * C + i], sign * found[5 * C + i], sign * found[7 * C + i]
        found[C + i] *= sign
        found[2 * C + i], found[3 * C + i] = yr * qz - zr * qy, yi * qz - zi * qy
        found[4 * C + i], found[5 * C + i] = zr * qx - xr * qz, zi * qx - xi * qz
        found[6 * C + i], found[7 * C + i] = xr * qy - yr * qx, xi * qy - yi * qx


@numba.njit(**NUMBA_OPTIONS)
def shift_phases(shift, size, kx, ky, begin, end, found):  # type: ignore[no-untyped-def]
    """Pass 4: compute cos and sin of 2π k·shift / size of samples begin … end into columns 8 and 9 of `found`."""
    x, y = F(shift[0] / size), F(shift[1] / size)
    kx, ky = kx[begin:end], ky[begin:end]
    for j in range(end - begin):
        c, s = cos_sin(F(kx[j]) * x + F(ky[j]) * y)
        found[8 * C + np.uint64(j)], found[9 * C + np.uint64(j)] = c, s
