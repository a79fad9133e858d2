"""Filter maps: low-pass, high-pass, and low-pass with a cut-off for each voxel."""

from collections.abc import Callable

import numpy as np
import scipy.fft

from lrcore.arrays import Float32, Float64
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import multiply_shells

ORDER = 8
"""Order of the Butterworth filter."""
COSINE_WIDTH = 0.2
"""Width of the edge of the cosine filter as a fraction of its cut-off."""
CUTOFF_RATIO = 1.1
"""Ratio of neighbouring cut-offs in a ladder of filters."""


def butterworth(frequency: Float64, cutoff: float) -> Float64:
    """Return the gain 1 / √(1 + (k / cutoff)¹⁶) of the Butterworth low-pass of order 8; 0.71 at the cut-off.

    Parameters
    ----------
    frequency
        k in 1/Å; any shape.
    cutoff
        Cut-off in 1/Å.
    """
    return np.asarray(1.0 / np.sqrt(1.0 + (frequency / cutoff) ** (2 * ORDER)))


def cosine_lowpass(frequency: Float64, cutoff: float) -> Float64:
    """Return the gain of a low-pass that falls from 1 to 0 by a raised cosine; one half at the cut-off.

    The gain is exactly 0 beyond the edge, as a sharpened map needs it.

    Parameters
    ----------
    frequency, cutoff
        See `butterworth`.
    """
    phase = np.clip((frequency / cutoff - 1) / COSINE_WIDTH + 0.5, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * phase))


def lowpass(data: Float32, pixel_size_A: float, resolution_A: float, workers: int = 1) -> Float32:
    """Low-pass a map with the cosine filter.

    Parameters
    ----------
    data : (n, n, n)
        The map to filter.
    pixel_size_A
        Voxel size in Å.
    resolution_A
        Cut-off in Å.
    workers
        Threads of the FFT.
    """
    return filter_map(
        data, cosine_lowpass(shell_frequencies_to_corner(data.shape[-1], pixel_size_A), 1 / resolution_A), workers
    )


def highpass(data: Float32, pixel_size_A: float, resolution_A: float, workers: int = 1) -> Float32:
    """Remove from a map everything coarser than a resolution, its mean included, with the cosine filter.

    Parameters
    ----------
    data, pixel_size_A, resolution_A, workers
        See `lowpass`.
    """
    return filter_map(
        data, 1 - cosine_lowpass(shell_frequencies_to_corner(data.shape[-1], pixel_size_A), 1 / resolution_A), workers
    )


def shell_frequencies_to_corner(n: int, pixel_size_A: float) -> Float64:
    """Return the frequency in 1/Å of the shells of an n³ box, up to its corners: (n,)."""
    return np.arange(n) / (n * pixel_size_A)


def cutoff_ladder(finest_A: float, coarsest_A: float, step: float = CUTOFF_RATIO) -> Float64:
    """Return cut-offs from coarse to fine in equal ratios, both ends included.

    Parameters
    ----------
    finest_A, coarsest_A
        Ends of the ladder in Å.
    step
        Largest ratio of neighbouring cut-offs.

    Returns
    -------
    (r,) Å.
    """
    count = max(1, int(np.ceil(np.log(coarsest_A / finest_A) / np.log(step) - 1e-9)))
    return np.geomspace(coarsest_A, finest_A, count + 1)


def local_lowpass(
    maps: tuple[Float32, ...],
    pixel_size_A: float,
    cutoff_A: Float32,
    workers: int = 1,
    shape: Callable[[Float64, float], Float64] = cosine_lowpass,
) -> tuple[Float32, ...]:
    """Low-pass each voxel of maps at its own cut-off, interpolating linearly between filters of a ladder of cut-offs.

    Parameters
    ----------
    maps : (n, n, n) each
        The maps.
    pixel_size_A
        Voxel size in Å.
    cutoff_A : (n, n, n)
        Cut-off of each voxel in Å. A voxel whose cut-off is at the Nyquist limit or finer is not filtered.
    workers
        Threads of the FFT.
    shape
        Shape of the filters: `cosine_lowpass` or `butterworth`.

    Returns
    -------
    The filtered maps, (n, n, n) each.
    """
    nyquist = 2 * pixel_size_A
    n = cutoff_A.shape[-1]
    coarsest = min(float(cutoff_A.max()), n * pixel_size_A)
    finest = min(max(float(cutoff_A.min()), nyquist), coarsest)
    rungs = cutoff_ladder(finest, coarsest) if coarsest > finest else np.array([finest])
    place = np.log(coarsest / np.clip(cutoff_A, finest, coarsest))
    if len(rungs) > 1:
        place *= (len(rungs) - 1) / np.log(coarsest / finest)
    spectra = [scipy.fft.rfftn(data, workers=workers) for data in maps]
    out = tuple(np.zeros_like(data) for data in maps)
    frequency = shell_frequencies_to_corner(n, pixel_size_A)
    for i, rung in enumerate(rungs):
        weight = np.maximum(1 - np.abs(place - np.float32(i)), 0)
        if not weight.any():
            continue
        gain = shape(frequency, 1 / rung) if rung > 1.001 * nyquist else np.ones(n)
        for total, spectrum in zip(out, spectra, strict=True):
            part = spectrum.copy()
            multiply_shells(part, gain, n)
            total += weight * scipy.fft.irfftn(part, total.shape, workers=workers, overwrite_x=True)
    return out
