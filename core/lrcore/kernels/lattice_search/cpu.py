"""Implement `search_lattice` in Numba, with threads over images.

All shifts of a rotation are evaluated by a separable DFT, over rows and then over columns. The grid of shifts is
symmetric, so ±t share their products: Σ a cos ± Σ b sin. Along x, eight shifts form a vector.
"""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.arrays import FloatArray
from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.project.cpu import CHUNK, C, allocate_scratch, as_real_pairs, locate_samples, read_trilinear
from lrcore.kernels.simd import LANES, fma, load, multiply, store
from lrcore.kernels.sincos import cos_sin

F = np.float32


@numba.njit(**NUMBA_OPTIONS)
def _cross(data, turn, kx, ky, W, w, shift, work, re, im):  # type: ignore[no-untyped-def]
    """Compute conj(W) S e^{−2πi k·shift} of every sample into re, im; returns Σ w |S|². W: flat (re, im, re, …)."""
    corner, where, found = work
    flat = data.reshape(-1)
    x, y = F(shift[0]), F(shift[1])
    power = F(0)
    for begin in range(0, len(re), CHUNK):
        end = min(begin + CHUNK, len(re))
        locate_samples(data.shape, turn, kx, ky, begin, end, corner, where)
        read_trilinear(flat, data.shape, end - begin, corner, where, found)
        # Indexed from 0, the loop reads contiguous memory; from `begin` the compiler would gather.
        cut_W, cut_w, cut_x, cut_y = W[2 * begin : 2 * end], w[begin:end], kx[begin:end], ky[begin:end]
        cut_re, cut_im = re[begin:end], im[begin:end]
        for j in range(end - begin):
            a, b = found[np.uint64(j)], found[C + np.uint64(j)]
            power += cut_w[j] * (a * a + b * b)
            c, s = cos_sin(F(cut_x[j]) * x + F(cut_y[j]) * y)
            wr, wi = cut_W[2 * j], cut_W[2 * j + 1]
            u, v = wr * a + wi * b, wr * b - wi * a
            cut_re[j] = u * c + v * s
            cut_im[j] = v * c - u * s
    return power


@numba.njit(**NUMBA_OPTIONS)
def _along_x(re, im, kx, rows, cos_x, sin_x, width, lines):  # type: ignore[no-untyped-def]
    """Sum cross e^{−2πi kx t / D} over each row, at shifts ±t, into lines: re at t, im at t, re at −t, im at −t."""
    for r in range(len(rows) - 1):
        for t in range(0, width, LANES):
            even_re = even_im = odd_re = odd_im = multiply(F(0), F(0))
            for i in range(rows[r], rows[r + 1]):
                k = kx[i] * width + t
                c, s = load(cos_x, k), load(sin_x, k)
                even_re, odd_re = fma(c, re[i], even_re), fma(s, im[i], odd_re)
                even_im, odd_im = fma(c, im[i], even_im), fma(s, re[i], odd_im)
            at = 4 * r * width + t
            store(lines, at, fma(odd_re, F(1), even_re))
            store(lines, at + width, fma(odd_im, F(-1), even_im))
            store(lines, at + 2 * width, fma(odd_re, F(-1), even_re))
            store(lines, at + 3 * width, fma(odd_im, F(1), even_im))


@numba.njit(**NUMBA_OPTIONS)
def _along_y(lines, cos_y, sin_y, half, width, plane):  # type: ignore[no-untyped-def]
    """Compute Re Σ over rows of line e^{−2πi ky t / D} into plane: rows t_y = −half … half; t_x ≥ 0, then ≤ 0."""
    rows = cos_y.shape[0]
    for ty in range(half + 1):
        for side in range(2):
            for t in range(0, width, LANES):
                even = odd = multiply(F(0), F(0))
                at = 2 * side * width + t
                for r in range(rows):
                    even = fma(load(lines, at), cos_y[r, ty], even)
                    odd = fma(load(lines, at + width), sin_y[r, ty], odd)
                    at += 4 * width
                store(plane, ((half + ty) * 2 + side) * width + t, fma(odd, F(1), even))
                store(plane, ((half - ty) * 2 + side) * width + t, fma(odd, F(-1), even))


@numba.njit(**NUMBA_OPTIONS)
def _lowest(plane, penalty):  # type: ignore[no-untyped-def]
    """Return the minimum of penalty − 2 plane, and its index."""
    best = F(np.inf)
    for t in range(len(penalty)):
        value = penalty[t] - F(2) * plane[t]
        plane[t] = value
        best = min(best, value)
    at = 0
    while at < len(penalty) - 1 and plane[at] > best:
        at += 1
    return best, at


@numba.njit(**NUMBA_OPTIONS)
def _image(data, W, w, kx, ky, rows, centre, lattice, lever, tables, half, penalty, cells, step, best, where):  # type: ignore[no-untyped-def]
    """Evaluate all rotations of one image into best and where, (L,)."""
    cos_x, sin_x, cos_y, sin_y = tables
    width = len(penalty) // (2 * (2 * half + 1))
    re, im = np.empty(len(kx), np.float32), np.empty(len(kx), np.float32)
    lines, plane = np.empty(4 * width * (len(rows) - 1), np.float32), np.empty(len(penalty), np.float32)
    turn, shift, work = np.empty((3, 3), np.float32), np.empty(2), allocate_scratch()
    for j in range(lattice.shape[0]):
        for r in range(2):
            shift[r] = 0.0
            for c in range(3):
                value = 0.0
                for m in range(3):
                    value += centre[r, m] * lattice[j, m, c]
                turn[r, c] = PADDING * value
                shift[r] += step * (value - centre[r, c]) * lever[c]
        power = _cross(data, turn, kx, ky, W, w, shift, work, re, im)
        _along_x(re, im, kx, rows, cos_x, sin_x, width, lines)
        _along_y(lines, cos_y, sin_y, half, width, plane)
        value, at = _lowest(plane, penalty)
        best[j] = value + power
        where[j] = cells[at]


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _search_lattice(data, W, w, kx, ky, rows, centres, lattice, lever, tables, half, penalty, cells, step, best, where):  # type: ignore[no-untyped-def]
    for b in numba.prange(W.shape[0]):
        _image(
            data, W[b].reshape(-1), w[b], kx, ky, rows, centres[b], lattice, lever, tables, half, penalty, cells, step,
            best[b], where[b],
        )  # fmt: skip


def search_lattice(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: FourierSamples,
    centres: FloatArray,
    lattice: FloatArray,
    lever: FloatArray,
    shifts: FloatArray,
    penalty_shift: FloatArray,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Evaluate the likelihood on a lattice of rotations; see `lrcore.kernels.lattice_search`."""
    count = samples.ends[0]
    kx, ky = samples.kx[:count], samples.ky[:count]
    starts = np.concatenate([[0], np.nonzero(np.diff(ky))[0] + 1])
    step = 2 * np.pi / samples.size
    half = len(shifts) // 2
    along = np.zeros(-(-(half + 1) // LANES) * LANES)
    along[: half + 1] = shifts[half:]
    angle_x = step * np.outer(np.arange(kx.max() + 1), along)
    angle_y = step * np.outer(ky[starts], shifts[half:])
    tables = tuple(f(a).astype(np.float32) for a in (angle_x, angle_y) for f in (np.cos, np.sin))
    penalty, cells = _fold_penalty(np.asarray(penalty_shift, np.float32), half, len(along))
    best = np.empty((len(W), len(lattice)), np.float32)
    where = np.empty(best.shape, np.int32)
    _search_lattice(
        as_real_pairs(volume.data),
        as_real_pairs(np.ascontiguousarray(W[:, :count])),
        np.ascontiguousarray(w[:, :count]),
        kx,
        ky,
        np.append(starts, count).astype(np.int64),
        np.asarray(centres, np.float64),
        np.asarray(lattice, np.float64),
        np.asarray(lever, np.float64),
        (tables[0].ravel(), tables[1].ravel(), tables[2], tables[3]),
        half,
        penalty,
        cells,
        1 / samples.size,
        best,
        where,
    )
    return best, where


def _fold_penalty(penalty: FloatArray, half: int, width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Return the penalties in the order of the plane of `_along_y`, and the index of its entries in the shift grid."""
    grid = 2 * half + 1
    out = np.full((grid, 2, width), np.inf, np.float32)
    cells = np.zeros(out.shape, np.int32)
    place = np.arange(grid * grid, dtype=np.int32).reshape(grid, grid)
    out[:, 0, : half + 1], cells[:, 0, : half + 1] = penalty[:, half:], place[:, half:]
    out[:, 1, : half + 1], cells[:, 1, : half + 1] = penalty[:, half::-1], place[:, half::-1]
    return out.ravel(), cells.ravel()
