"""Implement `subtract_model` and `correlate_with_model` in Numba, with threads over images.

The phase of a sample is a product of one along x and one along y. Samples come in runs along kx, which are adjacent in
an image: the loop over a run is vectorised.
"""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.project.cpu import as_real_pairs

F = np.float32


@numba.njit(**NUMBA_OPTIONS)
def _phases(shift, n):  # type: ignore[no-untyped-def]
    """Return (cos, sin) of 2π k shift / n along x and y, the latter in FFT order: (n // 2 + 1, 2), (n, 2)."""
    along_x, along_y = np.empty((n // 2 + 1, 2), F), np.empty((n, 2), F)
    for k in range(n // 2 + 1):
        angle = 2 * np.pi / n * shift[0] * k
        along_x[k, 0], along_x[k, 1] = np.cos(angle), np.sin(angle)
        angle = 2 * np.pi / n * shift[1] * k
        along_y[k, 0], along_y[k, 1] = np.cos(angle), np.sin(angle)
        along_y[(n - k) % n, 0], along_y[(n - k) % n, 1] = np.cos(angle), -np.sin(angle)
    return along_x, along_y


@numba.njit(inline="always", **NUMBA_OPTIONS)
def _model(value, plane, along_x, along_y):  # type: ignore[no-untyped-def]
    """Return (re, im) of C S times its phase."""
    c = along_x[0] * along_y[0] - along_x[1] * along_y[1]
    s = along_x[0] * along_y[1] + along_x[1] * along_y[0]
    return value * (plane[0] * c - plane[1] * s), value * (plane[0] * s + plane[1] * c)


@numba.njit(**NUMBA_OPTIONS)
def _subtract_run(spectrum, ctf, plane, along_x, c, s):  # type: ignore[no-untyped-def]
    for k in range(len(ctf)):
        cos = along_x[k, 0] * c - along_x[k, 1] * s
        sin = along_x[k, 0] * s + along_x[k, 1] * c
        spectrum[k, 0] -= ctf[k] * (plane[k, 0] * cos - plane[k, 1] * sin)
        spectrum[k, 1] -= ctf[k] * (plane[k, 0] * sin + plane[k, 1] * cos)


@numba.njit(**NUMBA_OPTIONS)
def _subtract_one(spectrum, ctf, plane, shift, kx, ky, runs):  # type: ignore[no-untyped-def]
    n = len(ctf)
    along_x, along_y = _phases(shift, n)
    for r in range(len(runs) - 1):
        first, last = runs[r], runs[r + 1]
        start, end = kx[first], kx[first] + last - first
        row = ky[first] if ky[first] >= 0 else ky[first] + n
        _subtract_run(
            spectrum[row, start:end], ctf[row, start:end], plane[first:last], along_x[start:end], along_y[row, 0],
            along_y[row, 1],
        )  # fmt: skip
        if start == 0:
            spectrum[n - row, 0, 0] = spectrum[row, 0, 0]
            spectrum[n - row, 0, 1] = -spectrum[row, 0, 1]


@numba.njit(**NUMBA_OPTIONS)
def _compare_one(spectrum, ctf, plane, shift, kx, ky, shell, out):  # type: ignore[no-untyped-def]
    n = len(ctf)
    along_x, along_y = _phases(shift, n)
    for s in range(len(kx)):
        x, row = kx[s], ky[s] if ky[s] >= 0 else ky[s] + n
        re, im = _model(ctf[row, x], plane[s], along_x[x], along_y[row])
        a, b = spectrum[row, x, 0], spectrum[row, x, 1]
        out[0, shell[s]] += a * re + b * im
        out[1, shell[s]] += re * re + im * im
        out[2, shell[s]] += a * a + b * b


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _subtract_model(spectra, ctf, planes, shifts, kx, ky, runs):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(ctf)):
        _subtract_one(spectra[b], ctf[b], planes[b], shifts[b], kx, ky, runs)


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _correlate_with_model(spectra, ctf, planes, shifts, kx, ky, shell, out):  # type: ignore[no-untyped-def]
    for b in numba.prange(len(ctf)):
        _compare_one(spectra[b], ctf[b], planes[b], shifts[b], kx, ky, shell, out[b])


def subtract_model(
    spectra: Complex64, ctf: Float32, planes: Complex64, shifts: Float64, samples: FourierSamples
) -> None:
    """Subtract model images from spectra; see `lrcore.kernels.model_images`."""
    planes, shifts = np.ascontiguousarray(planes), np.ascontiguousarray(shifts)
    broken = np.nonzero((np.diff(samples.ky) != 0) | (np.diff(samples.kx) != 1))[0] + 1
    runs = np.concatenate([[0], broken, [len(samples.kx)]])
    _subtract_model(as_real_pairs(spectra), ctf, as_real_pairs(planes), shifts, samples.kx, samples.ky, runs)


def correlate_with_model(
    spectra: Complex64, ctf: Float32, planes: Complex64, shifts: Float64, samples: FourierSamples
) -> Float32:
    """Correlate images with their models by shell; see `lrcore.kernels.model_images`."""
    planes, shifts = np.ascontiguousarray(planes), np.ascontiguousarray(shifts)
    out = np.zeros((len(spectra), 3, samples.size // 2 + 1), np.float32)
    shell: npt.NDArray[np.int32] = samples.shell.astype(np.int32)
    _correlate_with_model(
        as_real_pairs(spectra), ctf, as_real_pairs(planes), shifts, samples.kx, samples.ky, shell, out
    )
    return out
