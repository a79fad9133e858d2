"""Implement `whiten_images` and `whiten_windows` in Numba, with threads over images.

Cropping an image between two Fourier transforms is a product of two real matrices with its spectrum, R_y X R_xᵀ, since
the symmetric crop has a real transform. Only the samples of the D-grid up to the radius of the search are needed, so
that this takes a fifth of the time of the transforms. With the sums and differences of k and −k, a cosine and a sine
matrix of a quarter of the size are sufficient:

    c = cosine[κ, k] = 1/n Σ_x h(x) cos(2πκx/D) cos(2πkx/n), s = sine[κ, k] likewise, h = 1 inside, ½ at the edges
    U±(κ_y) = c (X(k_y) + X(−k_y)) ± s (X(k_y) − X(−k_y)), k_y ≥ 0

and along x in the same way, where X(−k) = X*(k) gives the other half. All products are composed of one small product,
`_block`, whose rows of 32 numbers the compiler keeps in registers.
"""

from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.numba_options import EXACT_OPTIONS, NUMBA_OPTIONS
from lrcore.kernels.project.cpu import as_real_pairs

F = np.float32

TILE = 32
"""Columns of a block of a product; matrices are stored in tiles of this many columns."""
BLOCK_ROWS = 4
"""Rows and terms of a block: sizes are padded to multiples of it."""


@numba.njit(**NUMBA_OPTIONS)
def _block(left, a, row, right, out):  # type: ignore[no-untyped-def]
    """Add left (4 × 4, at a, rows `row` apart) times right (4 × 32) to out (4 × 32)."""
    p0, p1, p2, p3 = left[a], left[a + 1], left[a + 2], left[a + 3]
    a += row
    q0, q1, q2, q3 = left[a], left[a + 1], left[a + 2], left[a + 3]
    a += row
    r0, r1, r2, r3 = left[a], left[a + 1], left[a + 2], left[a + 3]
    a += row
    s0, s1, s2, s3 = left[a], left[a + 1], left[a + 2], left[a + 3]
    for x in range(32):
        e0, e1, e2, e3 = right[x], right[32 + x], right[64 + x], right[96 + x]
        out[x] += p0 * e0 + p1 * e1 + p2 * e2 + p3 * e3
        out[32 + x] += q0 * e0 + q1 * e1 + q2 * e2 + q3 * e3
        out[64 + x] += r0 * e0 + r1 * e1 + r2 * e2 + r3 * e3
        out[96 + x] += s0 * e0 + s1 * e1 + s2 * e2 + s3 * e3


@numba.njit(**NUMBA_OPTIONS)
def _along_y(matrix, rows, terms, tiles, right, out):  # type: ignore[no-untyped-def]
    """Compute matrix (rows, terms) × right (terms, tiles · 32) into `out`; right and out are in tiles."""
    out[:] = F(0)
    for t in range(tiles):
        for q in range(0, rows, 4):
            at = (t * rows + q) * 32
            target = out[at : at + 128]
            for k in range(0, terms, 4):
                b = (t * terms + k) * 32
                _block(matrix, q * terms + k, terms, right[b : b + 128], target)


@numba.njit(**NUMBA_OPTIONS)
def _along_x(left, first, rows, terms, matrix, tiles, out):  # type: ignore[no-untyped-def]
    """Compute columns first … of left × matrix (terms, tiles · 32) into `out` (rows, tiles · 32), all in tiles."""
    out[:] = F(0)
    for t in range(tiles):
        for q in range(0, rows, 4):
            at = (t * rows + q) * 32
            target = out[at : at + 128]
            for k in range(0, terms, 4):
                a = ((first + k) // 32 * rows + q) * 32 + (first + k) % 32
                b = (t * terms + k) * 32
                _block(left, a, 32, matrix[b : b + 128], target)


# Short loops over few arrays each: the compiler vectorises a loop only when it can check that no array that is written
# overlaps one that is read, and it gives up at more than eight pairs of arrays.


@numba.njit(**NUMBA_OPTIONS)
def _by_shell(values, shell, out):  # type: ignore[no-untyped-def]
    for k in range(len(shell)):
        out[k] = values[shell[k]]


@numba.njit(**EXACT_OPTIONS)
def _weights(ctf, sigma, error, weight):  # type: ignore[no-untyped-def]
    for k in range(len(weight)):
        weight[k] = ctf[k] / (sigma[k] + ctf[k] * ctf[k] * error[k])


@numba.njit(**NUMBA_OPTIONS)
def _multiply(first, second, out):  # type: ignore[no-untyped-def]
    for k in range(len(out)):
        out[k] = first[k] * second[k]


@numba.njit(**NUMBA_OPTIONS)
def _weight_and_shift(spectrum, weight, turn, c, s, re, im):  # type: ignore[no-untyped-def]
    """Compute re, im = weight · spectrum · turn · (c + i s)."""
    for k in range(len(re)):
        x, y = spectrum[k, 0] * weight[k], spectrum[k, 1] * weight[k]
        turn_c, turn_s = c * turn[k, 0] - s * turn[k, 1], s * turn[k, 0] + c * turn[k, 1]
        re[k] = x * turn_c - y * turn_s
        im[k] = x * turn_s + y * turn_c


@numba.njit(**NUMBA_OPTIONS)
def _row(spectrum, ctf, sigma, error, turn, c, s, weight, line):  # type: ignore[no-untyped-def]
    """Compute a row of C X / (σ² + C² v) with its phase, re and im, and of C² / (σ² + C² v), joined in `line`."""
    width = len(weight)
    step = (width + 3) // 4 * 4
    _weights(ctf, sigma, error, weight)
    _weight_and_shift(spectrum, weight, turn, c, s, line[:width], line[step : step + width])
    _multiply(weight, ctf, line[2 * step : 2 * step + width])


@numba.njit(**NUMBA_OPTIONS)
def _tile_row(first, second, sign, ky, terms, out):  # type: ignore[no-untyped-def]
    """Compute row ky of `out`, in tiles: first + sign · second."""
    for t in range(len(first) // 32):
        at = (t * terms + ky) * 32
        a, b, target = first[t * 32 : t * 32 + 32], second[t * 32 : t * 32 + 32], out[at : at + 32]
        for x in range(32):
            target[x] = a[x] + sign * b[x]


@numba.njit(**NUMBA_OPTIONS)
def _fold_rows(spectrum, ctf, sigma, error, shells, point, terms, even, odd):  # type: ignore[no-untyped-def]
    """Compute sums and differences of rows k_y and −k_y of the weighted image and its norm: re, im, norm joined."""
    n, width = ctf.shape
    length = len(even) // terms
    plus, minus, none = np.zeros(length, F), np.zeros(length, F), np.zeros(length, F)
    turn, weight = np.empty((width, 2), F), np.empty(width, F)
    noise, blur = np.empty(width, F), np.empty(width, F)
    for k in range(width):
        turn[k, 0], turn[k, 1] = np.cos(point[0] * k), np.sin(point[0] * k)
    for ky in range(n // 2 + 1):
        # The row with index n / 2 is that of k_y = −n / 2.
        angle = point[1] * (ky if 2 * ky != n else -ky)
        c, s = F(np.cos(angle)), F(np.sin(angle))
        _by_shell(sigma, shells[ky], noise)
        _by_shell(error, shells[ky], blur)
        _row(spectrum[ky], ctf[ky], noise, blur, turn, c, s, weight, plus)
        if ky == 0 or 2 * ky == n:
            _tile_row(plus, none, F(1), ky, terms, even)
            _tile_row(none, none, F(1), ky, terms, odd)
        else:
            _row(spectrum[n - ky], ctf[n - ky], noise, blur, turn, c, -s, weight, minus)
            _tile_row(plus, minus, F(1), ky, terms, even)
            _tile_row(plus, minus, F(-1), ky, terms, odd)


@numba.njit(**NUMBA_OPTIONS)
def _gather(products, rows, kx, ky, W, w):  # type: ignore[no-untyped-def]
    """Compute the samples of W and w from the six products of re, im and norm, even and odd."""
    re_even, im_odd, re_odd, im_even, norm_even, norm_odd = products
    for s in range(len(kx)):
        x, y = kx[s], ky[s]
        at = (x // 32 * rows + abs(y)) * 32 + x % 32
        sign = F(1) if y >= 0 else F(-1)
        W[s, 0] = re_even[at] + sign * re_odd[at]
        W[s, 1] = sign * im_odd[at] + im_even[at]
        w[s] = norm_even[at] + sign * norm_odd[at]


@numba.njit(**NUMBA_OPTIONS)
def _whiten_window_run(first, last, spectrum, ctf, sigma, error, group, shells, points, matrices, sizes, kx, ky, W, w):  # type: ignore[no-untyped-def]
    """Process images first … last one after the other, with the same scratch arrays."""
    cosine, sine, cosine_x, sine_x = matrices
    rows, terms, tiles, tiles_x = sizes
    step = (ctf.shape[2] + 3) // 4 * 4
    even, odd = np.zeros(tiles * terms * 32, F), np.zeros(tiles * terms * 32, F)
    up, down = np.empty(tiles * rows * 32, F), np.empty(tiles * rows * 32, F)
    out = np.empty((6, tiles_x * rows * 32), F)
    for b in range(first, last):
        _fold_rows(spectrum[b], ctf[b], sigma[group[b]], error, shells, points[b], terms, even, odd)
        _along_y(cosine, rows, terms, tiles, even, up)
        _along_y(sine, rows, terms, tiles, odd, down)
        _along_x(up, 0, rows, terms, cosine_x, tiles_x, out[0])
        _along_x(down, step, rows, terms, cosine_x, tiles_x, out[1])
        _along_x(down, 0, rows, terms, sine_x, tiles_x, out[2])
        _along_x(up, step, rows, terms, sine_x, tiles_x, out[3])
        _along_x(up, 2 * step, rows, terms, cosine_x, tiles_x, out[4])
        _along_x(down, 2 * step, rows, terms, sine_x, tiles_x, out[5])
        _gather((out[0], out[1], out[2], out[3], out[4], out[5]), rows, kx, ky, W[b], w[b])


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _whiten_windows(chunk, spectrum, ctf, sigma, error, group, shells, points, matrices, sizes, kx, ky, W, w):  # type: ignore[no-untyped-def]
    for i in numba.prange((len(ctf) + chunk - 1) // chunk):
        last = min((i + 1) * chunk, len(ctf))
        _whiten_window_run(
            i * chunk, last, spectrum, ctf, sigma, error, group, shells, points, matrices, sizes, kx, ky, W, w
        )


CHUNK = 8
"""Images that share scratch arrays."""


def whiten_windows(
    spectrum: npt.NDArray[np.complex64],
    ctf: Float32,
    noise: Float64,
    group: npt.NDArray[np.integer],
    variance: Float64,
    points: Float64,
    samples: FourierSamples,
) -> tuple[npt.NDArray[np.complex64], Float32]:
    """Divide images by their noise and crop them to a window; see `lrcore.kernels.whiten`."""
    n = spectrum.shape[1]
    reach = int(max(samples.kx.max(), np.abs(samples.ky).max()))
    W = np.empty((len(spectrum), len(samples.kx)), np.complex64)
    w = np.empty(W.shape, np.float32)
    shells = shell_table(n)
    sigma, error = (extend_to_corner(values, shells) for values in (noise, variance))
    _whiten_windows(
        CHUNK,
        as_real_pairs(spectrum),
        ctf,
        sigma,
        error,
        group.astype(np.int64),
        shells,
        np.ascontiguousarray(2 * np.pi / n * points),
        *dft_matrices(n, samples.size, reach),
        samples.kx,
        samples.ky,
        as_real_pairs(W),
        w,
    )
    return W, w


@numba.njit(**NUMBA_OPTIONS)
def _scale(spectrum, weight, out):  # type: ignore[no-untyped-def]
    for k in range(len(weight)):
        out[k, 0] = weight[k] * spectrum[k, 0]
        out[k, 1] = weight[k] * spectrum[k, 1]


@numba.njit(**NUMBA_OPTIONS)
def _whiten_image(spectrum, ctf, sigma, shells, data, weight):  # type: ignore[no-untyped-def]
    n, width = ctf.shape
    noise, none, ratio = np.empty(width, F), np.zeros(width, F), np.empty(width, F)
    for row in range(n):
        _by_shell(sigma, shells[row if row < (n + 1) // 2 else n - row], noise)
        _weights(ctf[row], noise, none, ratio)
        _scale(spectrum[row], ratio, data[row])
        _multiply(ratio, ctf[row], weight[row])


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _whiten_images(spectrum, ctf, sigma, group, shells, data, weight):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(ctf)):
        _whiten_image(spectrum[b], ctf[b], sigma[group[b]], shells, data[b], weight[b])


def whiten_images(
    spectrum: npt.NDArray[np.complex64], ctf: Float32, noise: Float64, group: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.complex64], Float32]:
    """Divide images by their noise; see `lrcore.kernels.whiten`."""
    data, weight = np.empty_like(spectrum), np.empty_like(ctf)
    shells = shell_table(spectrum.shape[1])
    _whiten_images(
        as_real_pairs(spectrum),
        ctf,
        extend_to_corner(noise, shells),
        group.astype(np.int64),
        shells,
        as_real_pairs(data),
        weight,
    )
    return data, weight


@lru_cache(maxsize=4)
def shell_table(n: int) -> npt.NDArray[np.uint32]:
    """Return the shell round(|k|) at |ky|, kx: (n // 2 + 1, n // 2 + 1)."""
    axis = np.arange(n // 2 + 1)
    return np.rint(np.hypot(axis[:, None], axis)).astype(np.uint32)


def extend_to_corner(values: Float64, shells: npt.NDArray[np.uint32]) -> Float32:
    """Return values (..., N) of shells with the last one repeated up to the corner of the image."""
    count = int(shells[-1, -1]) + 1
    return np.ascontiguousarray(values[..., np.minimum(np.arange(count), values.shape[-1] - 1)], dtype=np.float32)


Matrices = tuple[Float32, Float32, Float32, Float32]
Sizes = tuple[int, int, int, int]


@lru_cache(maxsize=8)
def dft_matrices(n: int, size: int, reach: int) -> tuple[Matrices, Sizes]:
    """Return the cosine and sine matrices along y, row by row, and along x, transposed in tiles; and the padded sizes.

    κ = 0 … reach by k = 0 … n // 2. Those along x contain the factor (n / D)², and 2 for pairs of k and −k.
    """
    half = size // 2
    x = np.arange(-half, half + 1)
    edge = np.where((np.abs(x) == half) & (size % 2 == 0), 0.5, 1.0)
    k, kappa = np.arange(n // 2 + 1), np.arange(reach + 1)
    at_k, at_kappa = 2 * np.pi / n * np.outer(x, k), 2 * np.pi / size * np.outer(kappa, x)
    cosine, sine = (f(at_kappa) * edge @ f(at_k) / n for f in (np.cos, np.sin))
    rows, terms = round_up(reach + 1, BLOCK_ROWS), round_up(n // 2 + 1, BLOCK_ROWS)
    tiles, tiles_x = round_up(3 * terms, TILE) // TILE, round_up(reach + 1, TILE) // TILE
    twice = (n / size) ** 2 * np.where((k == 0) | (2 * k == n), 1.0, 2.0)
    along_y = [pad_matrix(matrix, rows, terms) for matrix in (cosine, sine)]
    along_x = [pad_matrix((matrix * twice).T, terms, tiles_x * TILE) for matrix in (cosine, sine)]
    tiled = [m.reshape(terms, tiles_x, TILE).transpose(1, 0, 2).copy().ravel() for m in along_x]
    return (along_y[0].ravel(), along_y[1].ravel(), tiled[0], tiled[1]), (rows, terms, tiles, tiles_x)


def round_up(size: int, step: int) -> int:
    """Round up to a multiple of `step`."""
    return -(-size // step) * step


def pad_matrix(matrix: Float64, rows: int, columns: int) -> Float32:
    """Return the matrix as float32, padded with zeros."""
    out = np.zeros((rows, columns), np.float32)
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out
