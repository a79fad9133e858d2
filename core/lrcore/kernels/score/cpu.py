"""`score` in Numba: a thread takes an image; all shifts of a rotation by a separable DFT over rows then columns."""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.fourier import PADDING, FourierVolume
from lrcore.grids import Samples
from lrcore.kernels.slice.cpu import OPTIONS, locate, pairs

Array = npt.NDArray[np.floating]
F = np.float32
VECTOR = 16
"""Shifts along x are padded to a multiple of this."""


@numba.njit(inline="always", **OPTIONS)
def _blend(data, z, y, x, part, fx, fy, fz):  # type: ignore[no-untyped-def]
    """Trilinear value of the real (0) or imaginary (1) part."""
    gx, gy = F(1) - fx, F(1) - fy
    low = gy * (gx * data[z, y, x, part] + fx * data[z, y, x + 1, part])
    low += fy * (gx * data[z, y + 1, x, part] + fx * data[z, y + 1, x + 1, part])
    high = gy * (gx * data[z + 1, y, x, part] + fx * data[z + 1, y, x + 1, part])
    high += fy * (gx * data[z + 1, y + 1, x, part] + fx * data[z + 1, y + 1, x + 1, part])
    return low + fz * (high - low)


@numba.njit(**OPTIONS)
def _cross(data, turn, kx, ky, W, w, re, im):  # type: ignore[no-untyped-def]
    """Fill conj(W) S for every sample; returns Σ w |S|²."""
    centre = F(data.shape[0] // 2)
    power = F(0)
    for s in range(len(re)):
        x, y, z, fx, fy, fz, sign = locate(turn, F(kx[s]), F(ky[s]), centre)
        a = _blend(data, z, y, x, 0, fx, fy, fz)
        b = _blend(data, z, y, x, 1, fx, fy, fz) * sign
        power += w[s] * (a * a + b * b)
        re[s] = W[s, 0] * a + W[s, 1] * b
        im[s] = W[s, 0] * b - W[s, 1] * a
    return power


@numba.njit(**OPTIONS)
def _sway(re, im, kx, rows, row_ky, phase):  # type: ignore[no-untyped-def]
    """Multiply by e^{−i phase·k} what the lever moved: by angle addition along each row."""
    step_c, step_s = F(np.cos(phase[0])), F(np.sin(phase[0]))
    for r in range(len(row_ky)):
        angle = phase[0] * kx[rows[r]] + phase[1] * row_ky[r]
        c, s = F(np.cos(angle)), F(np.sin(angle))
        for i in range(rows[r], rows[r + 1]):
            a, b = re[i], im[i]
            re[i] = a * c + b * s
            im[i] = b * c - a * s
            c, s = c * step_c - s * step_s, s * step_c + c * step_s


@numba.njit(**OPTIONS)
def _best_shift(re, im, kx, rows, row_ky, cos_x, sin_x, cos_y, sin_y, penalty, plane, line):  # type: ignore[no-untyped-def]
    """Minimum over the shift grid of penalty − 2 Re Σ cross e^{−2πi k·t / D}; returns value and flat position.

    The inner loops run along the shifts in x, which are padded to whole vectors.
    """
    grid, width = penalty.shape[0], plane.shape[1]
    plane[:] = 0
    for r in range(len(row_ky)):
        line[:] = 0
        for i in range(rows[r], rows[r + 1]):
            a, b, k = re[i], im[i], kx[i]
            for t in range(width):
                line[0, t] += a * cos_x[k, t] + b * sin_x[k, t]
                line[1, t] += b * cos_x[k, t] - a * sin_x[k, t]
        for ty in range(grid):
            c, s = cos_y[r, ty], sin_y[r, ty]
            for t in range(width):
                plane[ty, t] += line[0, t] * c + line[1, t] * s
    best, where = F(np.inf), 0
    for ty in range(grid):
        for tx in range(grid):
            value = penalty[ty, tx] - F(2) * plane[ty, tx]
            if value < best:
                best, where = value, ty * grid + tx
    return best, where


@numba.njit(parallel=True, **OPTIONS)
def _score(data, W, w, kx, ky, rows, row_ky, centres, lattice, lever, tables, penalty, step, best, where):  # type: ignore[no-untyped-def]
    cos_x, sin_x, cos_y, sin_y = tables
    for b in numba.prange(W.shape[0]):
        re = np.empty(len(kx), np.float32)
        im = np.empty(len(kx), np.float32)
        plane = np.empty((penalty.shape[0], cos_x.shape[1]), np.float32)
        line = np.empty((2, cos_x.shape[1]), np.float32)
        turn = np.empty((3, 3), np.float32)
        phase = np.empty(2)
        for j in range(lattice.shape[0]):
            for r in range(2):
                sway = 0.0
                for c in range(3):
                    value = 0.0
                    for m in range(3):
                        value += centres[b, r, m] * lattice[j, m, c]
                    turn[r, c] = PADDING * value
                    sway += (value - centres[b, r, c]) * lever[c]
                phase[r] = step * sway
            power = _cross(data, turn, kx, ky, W[b], w[b], re, im)
            if phase[0] != 0 or phase[1] != 0:
                _sway(re, im, kx, rows, row_ky, phase)
            value, position = _best_shift(re, im, kx, rows, row_ky, cos_x, sin_x, cos_y, sin_y, penalty, plane, line)
            best[b, j] = value + power
            where[b, j] = position


def score(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: Samples,
    centres: Array,
    lattice: Array,
    lever: Array,
    shifts: Array,
    penalty_shift: Array,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """See the contract."""
    count = samples.ends[0]
    kx, ky = samples.kx[:count], samples.ky[:count]
    starts = np.concatenate([[0], np.nonzero(np.diff(ky))[0] + 1])
    step = 2 * np.pi / samples.size
    padded = np.zeros(-(-len(shifts) // VECTOR) * VECTOR)
    padded[: len(shifts)] = shifts
    angle_x = step * np.outer(np.arange(kx.max() + 1), padded)
    angle_y = step * np.outer(ky[starts], shifts)
    tables = tuple(f(a).astype(np.float32) for a in (angle_x, angle_y) for f in (np.cos, np.sin))
    best = np.empty((len(W), len(lattice)), np.float32)
    where = np.empty(best.shape, np.int32)
    _score(
        pairs(volume.data),
        pairs(np.ascontiguousarray(W[:, :count])),
        np.ascontiguousarray(w[:, :count]),
        kx,
        ky,
        np.append(starts, count).astype(np.int64),
        ky[starts],
        np.asarray(centres, np.float64),
        np.asarray(lattice, np.float64),
        np.asarray(lever, np.float64),
        tables,
        np.asarray(penalty_shift, np.float32),
        step,
        best,
        where,
    )
    return best, where
