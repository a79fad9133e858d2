"""`insert` in Numba: the volume is cut into slabs along z, and a thread adds only what falls into its slab.

Even slabs go first, then odd ones, since a trilinear write reaches one plane into the next slab. Within a slab the
images come in their order, so the sums do not depend on the number of threads. Along a row of samples q_z is linear
in kx, so the part of a row that falls into a slab is an interval, found without looking at the others.
"""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.fourier import PADDING
from lrcore.kernels.slice.cpu import OPTIONS, locate, pairs

SLAB = 6
"""Planes in a slab."""


@numba.njit(**OPTIONS)
def _interval(start, slope, low, high, first, last):  # type: ignore[no-untyped-def]
    """Where low ≤ start + slope · k < high may hold among integers first ≤ k < last; one wider each side."""
    if abs(slope) < 1e-6:
        return first, last
    a, b = (low - start) / slope, (high - start) / slope
    if a > b:
        a, b = b, a
    return max(first, int(np.floor(a)) - 1), min(last, int(np.ceil(b)) + 2)


@numba.njit(**OPTIONS)
def _add_row(num, den, turn, ky, begin, end, first, last, tables, data, weight, centre):  # type: ignore[no-untyped-def]
    """Add samples begin … end of row ky whose lower z plane lies in [first, last)."""
    cos_x, sin_x, cos_y, sin_y = tables
    row = ky if ky >= 0 else data.shape[0] + ky
    cy, sy = cos_y[row], sin_y[row]
    for kx in range(begin, end):
        x, y, z, fx, fy, fz, sign = locate(turn, np.float32(kx), np.float32(ky), centre)
        if z < first or z >= last:
            continue
        share = np.float32(0.5) if kx == 0 and ky == 0 else np.float32(1.0)
        c = share * (cos_x[kx] * cy - sin_x[kx] * sy)
        s = share * (sin_x[kx] * cy + cos_x[kx] * sy)
        re = data[row, kx, 0] * c + data[row, kx, 1] * s
        im = sign * (data[row, kx, 1] * c - data[row, kx, 0] * s)
        w = share * weight[row, kx]
        for dz in range(2):
            wz = fz if dz else np.float32(1) - fz
            for dy in range(2):
                wy = wz * (fy if dy else np.float32(1) - fy)
                wx = wy * (np.float32(1) - fx)
                num[z + dz, y + dy, x, 0] += wx * re
                num[z + dz, y + dy, x, 1] += wx * im
                den[z + dz, y + dy, x] += wx * w
                wx = wy * fx
                num[z + dz, y + dy, x + 1, 0] += wx * re
                num[z + dz, y + dy, x + 1, 1] += wx * im
                den[z + dz, y + dy, x + 1] += wx * w


@numba.njit(**OPTIONS)
def _slab(num, den, turns, tables, data, weight, limit, first, last):  # type: ignore[no-untyped-def]
    """Add every image's samples whose lower z plane lies in [first, last)."""
    centre = np.float32(den.shape[0] // 2)
    for b in range(turns.shape[0]):
        turn = turns[b]
        table = (tables[0][b], tables[1][b], tables[2][b], tables[3][b])
        for ky in range(-limit, limit + 1):
            span = int(np.sqrt(np.float64(limit * limit - ky * ky))) + 1
            begin = 0 if ky >= 0 else 1
            # Where q_x ≥ 0 the plane is centre + q_z, where the mate is taken centre − q_z.
            start, slope = turn[1, 2] * ky, turn[0, 2]
            low, high = np.float32(first) - centre, np.float32(last) - centre
            a0, a1 = _interval(start, slope, low, high, begin, span)
            b0, b1 = _interval(-start, -slope, low, high, begin, span)
            if a0 < a1 and b0 < b1 and a0 <= b1 and b0 <= a1:
                a0, a1, b0, b1 = min(a0, b0), max(a1, b1), 0, 0
            if a0 < a1:
                _add_row(num, den, turn, ky, a0, a1, first, last, table, data[b], weight[b], centre)
            if b0 < b1:
                _add_row(num, den, turn, ky, b0, b1, first, last, table, data[b], weight[b], centre)


@numba.njit(parallel=True, **OPTIONS)
def _insert(num, den, turns, tables, data, weight, limit):  # type: ignore[no-untyped-def]
    planes = den.shape[0]
    slabs = (planes + SLAB - 1) // SLAB
    for parity in range(2):
        count = (slabs - parity + 1) // 2
        for i in numba.prange(count):
            first = (2 * i + parity) * SLAB
            _slab(num, den, turns, tables, data, weight, limit, first, min(first + SLAB, planes))


def insert(
    numerator: npt.NDArray[np.complex64],
    denominator: npt.NDArray[np.float32],
    rotations: npt.NDArray[np.floating],
    shifts: npt.NDArray[np.floating],
    data: npt.NDArray[np.complex64],
    weight: npt.NDArray[np.float32],
    limit: int,
) -> None:
    """See the contract."""
    n = data.shape[1]
    turns = (PADDING * rotations).astype(np.float32)
    angle_x = 2 * np.pi / n * shifts[:, :1] * np.arange(n // 2 + 1)
    angle_y = 2 * np.pi / n * shifts[:, 1:] * np.fft.fftfreq(n, 1.0 / n)
    tables = tuple(f(a).astype(np.float32) for a in (angle_x, angle_y) for f in (np.cos, np.sin))
    _insert(pairs(numerator), denominator, turns, tables, pairs(np.ascontiguousarray(data)), weight, limit)
