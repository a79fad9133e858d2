"""`ctf` in Numba: a row of kx at a time, by vector; the envelope is a product of one along x and one along y."""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.kernels.slice.cpu import OPTIONS
from lrcore.kernels.turns import cos_sin


@numba.njit(**OPTIONS)
def _row(wave, ky, decay, height, out):  # type: ignore[no-untyped-def]
    """One row of one image; decay: of the envelope along x. height: the envelope along y."""
    yy, quartic = np.float64(ky * ky), wave[3]
    start, slope, bend = wave[1] * yy + wave[4], wave[2] * ky, wave[0]
    for k in range(len(out)):
        kx = np.float64(k)
        squared = kx * kx + yy
        turns = start + kx * (slope + bend * kx) + quartic * squared * squared
        part = np.float32(turns - np.rint(turns))
        out[k] = height * decay[k] * cos_sin(part)[1]


@numba.njit(**OPTIONS)
def _image(wave, out):  # type: ignore[no-untyped-def]
    n, width = out.shape
    decay = np.empty(width, np.float32)
    for k in range(width):
        decay[k] = np.exp(-wave[5] * k * k)
    for row in range(n):
        ky = row if row < (n + 1) // 2 else row - n
        height = np.float32(wave[6] * np.exp(-wave[5] * ky * ky))
        _row(wave, ky, decay, height, out[row])


@numba.njit(parallel=True, **OPTIONS)
def _images(waves, out):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(out)):
        _image(waves[b], out[b])


def ctf(waves: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float32]:
    """See the contract."""
    out = np.empty((len(waves), n, n // 2 + 1), np.float32)
    _images(np.ascontiguousarray(waves), out)
    return out
