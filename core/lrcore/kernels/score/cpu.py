"""`score` in Numba: a thread takes an image; all shifts of a rotation by a separable DFT over rows then columns."""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.fourier import PADDING, FourierVolume
from lrcore.grids import Samples
from lrcore.kernels.slice.cpu import OPTIONS, locate, pairs

Array = npt.NDArray[np.floating]


@numba.njit(**OPTIONS)
def _cross(data, turn, lever_phase, kx, ky, W, w, out_re, out_im):  # type: ignore[no-untyped-def]
    """Fill conj(W) S e^{−i lever_phase·k} for every sample; returns Σ w |S|²."""
    centre = np.float32(data.shape[0] // 2)
    power = np.float32(0)
    for s in range(len(out_re)):
        x, y, z, fx, fy, fz, sign = locate(turn, np.float32(kx[s]), np.float32(ky[s]), centre)
        gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
        w00, w01, w10, w11 = gz * gy, gz * fy, fz * gy, fz * fy
        re = gx * (
            w00 * data[z, y, x, 0]
            + w01 * data[z, y + 1, x, 0]
            + w10 * data[z + 1, y, x, 0]
            + w11 * data[z + 1, y + 1, x, 0]
        ) + fx * (
            w00 * data[z, y, x + 1, 0]
            + w01 * data[z, y + 1, x + 1, 0]
            + w10 * data[z + 1, y, x + 1, 0]
            + w11 * data[z + 1, y + 1, x + 1, 0]
        )
        im = gx * (
            w00 * data[z, y, x, 1]
            + w01 * data[z, y + 1, x, 1]
            + w10 * data[z + 1, y, x, 1]
            + w11 * data[z + 1, y + 1, x, 1]
        ) + fx * (
            w00 * data[z, y, x + 1, 1]
            + w01 * data[z, y + 1, x + 1, 1]
            + w10 * data[z + 1, y, x + 1, 1]
            + w11 * data[z + 1, y + 1, x + 1, 1]
        )
        im *= sign
        power += w[s] * (re * re + im * im)
        out_re[s] = W[s, 0] * re + W[s, 1] * im
        out_im[s] = W[s, 0] * im - W[s, 1] * re
    for s in range(len(out_re)):
        angle = lever_phase[0] * kx[s] + lever_phase[1] * ky[s]
        c, d = np.cos(angle), np.sin(angle)
        re, im = out_re[s], out_im[s]
        out_re[s] = re * c + im * d
        out_im[s] = im * c - re * d
    return power


@numba.njit(**OPTIONS)
def _best_shift(re, im, kx, rows, row_ky, cos_x, sin_x, cos_y, sin_y, penalty, plane):  # type: ignore[no-untyped-def]
    """Minimum over the shift grid of penalty − 2 Re Σ cross e^{−2πi k·t / D}; returns value and flat position."""
    grid = penalty.shape[0]
    plane[:] = 0
    for r in range(len(row_ky)):
        begin, end = rows[r], rows[r + 1]
        for tx in range(grid):
            fr = np.float32(0)
            fi = np.float32(0)
            base = kx[begin]
            for s in range(begin, end):
                c, d = cos_x[tx, base + s - begin], sin_x[tx, base + s - begin]
                fr += re[s] * c + im[s] * d
                fi += im[s] * c - re[s] * d
            for ty in range(grid):
                plane[tx, ty] += fr * cos_y[r, ty] + fi * sin_y[r, ty]
    best = np.float32(np.inf)
    where = 0
    for ty in range(grid):
        for tx in range(grid):
            value = penalty[ty, tx] - 2 * plane[tx, ty]
            if value < best:
                best = value
                where = ty * grid + tx
    return best, where


@numba.njit(parallel=True, **OPTIONS)
def _score(data, W, w, kx, ky, rows, row_ky, centres, lattice, lever, tables, penalty, step, best, where):  # type: ignore[no-untyped-def]
    cos_x, sin_x, cos_y, sin_y = tables
    for b in numba.prange(W.shape[0]):
        re = np.empty(len(kx), np.float32)
        im = np.empty(len(kx), np.float32)
        plane = np.empty((penalty.shape[0], penalty.shape[0]), np.float32)
        turn = np.empty((3, 3), np.float32)
        phase = np.empty(2, np.float32)
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
            power = _cross(data, turn, phase, kx, ky, W[b], w[b], re, im)
            value, position = _best_shift(re, im, kx, rows, row_ky, cos_x, sin_x, cos_y, sin_y, penalty, plane)
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
    angle_x = step * np.outer(shifts, np.arange(kx.max() + 1))
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
