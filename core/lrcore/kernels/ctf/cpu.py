"""Implement `compute_ctf` in Numba, with threads over images.

A row along kx is computed at a time, in vectorised loops; the envelope is a product of one along x and one along y.
"""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.sincos import cos_sin


@numba.njit(**NUMBA_OPTIONS)
def _row(wave, ky, decay, height, table, out):  # type: ignore[no-untyped-def]
    """Compute one row of an image. decay: envelope along x. height: envelope along y. table: turns, or empty."""
    yy, quartic = np.float64(ky * ky), wave[3]
    start, slope, bend = wave[1] * yy + wave[4], wave[2] * ky, wave[0]
    for k in range(len(out)):
        kx = np.float64(k)
        squared = kx * kx + yy
        turns = start + kx * (slope + bend * kx) + quartic * squared * squared
        out[k] = np.float32(turns - np.rint(turns))
    for k in range(len(table)):
        out[k] += table[k]
    for k in range(len(out)):
        out[k] = height * decay[k] * cos_sin(out[k] - np.rint(out[k]))[1]


@numba.njit(**NUMBA_OPTIONS)
def _image(wave, table, out):  # type: ignore[no-untyped-def]
    n, width = out.shape
    decay = np.empty(width, np.float32)
    for k in range(width):
        decay[k] = np.exp(-wave[5] * k * k)
    for row in range(n):
        ky = row if row < (n + 1) // 2 else row - n
        height = np.float32(wave[6] * np.exp(-wave[5] * ky * ky))
        _row(wave, ky, decay, height, table[row] if len(table) else table[:0, 0], out[row])


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _images(waves, offsets, which, out):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(out)):
        _image(waves[b], offsets[which[b]] if which[b] >= 0 else offsets[0, :0], out[b])


def compute_ctf(
    waves: npt.NDArray[np.float64],
    n: int,
    offsets: npt.NDArray[np.float32] | None = None,
    which: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.float32]:
    """Compute the contrast transfer functions of images; see `lrcore.kernels.ctf`."""
    out = np.empty((len(waves), n, n // 2 + 1), np.float32)
    if offsets is None or which is None:
        offsets, which = np.empty((1, 0, 1), np.float32), np.full(len(waves), -1)
    _images(np.ascontiguousarray(waves), np.ascontiguousarray(offsets), which.astype(np.int64), out)
    return out
