"""Low-pass and threshold a map, and find a threshold automatically."""

import numpy as np

from lrcore.arrays import Bool, Float32
from lrcore.errors import InputError
from lrcore.imaging.filters import butterworth
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import shell_frequency

OTSU_BINS = 1024
"""Bins of the histogram for Otsu's threshold."""
NOISE_SDS = 3.0
"""Threshold in SDs of the noise, at least."""
OTSU_FRACTION = 0.5
"""Threshold as a fraction of Otsu's, so that mobile parts, which are weaker than the rest, are kept."""


def lowpass(data: Float32, pixel_size_A: float, resolution_A: float, workers: int = 1) -> Float32:
    """Low-pass a map with the Butterworth filter.

    It is steep and hardly ripples; a threshold would turn ripples into shells.

    Parameters
    ----------
    data, pixel_size_A
        The map to threshold, (n, n, n), and its voxel size in Å.
    resolution_A
        Cut-off in Å; at the Nyquist limit or beyond it (or 0) the map is returned unchanged.
    workers
        Threads of the FFT.
    """
    if resolution_A <= 2 * pixel_size_A:
        return data
    frequency = shell_frequency(data.shape[-1], pixel_size_A)
    return filter_map(data, butterworth(frequency, 1 / resolution_A), workers)


def automatic_threshold(data: Float32) -> float:
    """Return a threshold for a low-passed map that keeps weak parts of the particle and no noise outside of it.

    The threshold is half of Otsu's, but above 3 SDs of the noise, and never above Otsu's. Otsu's threshold (over the
    voxels above 0) separates the density of a compact body from the solvent, and so lies near half of that density;
    half of it again keeps mobile or partially occupied parts. The noise is measured in the corners of the box; if a
    mask or padding has set them to 0, only the rule of half of Otsu's counts.

    Parameters
    ----------
    data : (n, n, n)
        The low-passed map.

    Raises
    ------
    InputError
        If no voxel is above 0.

    References
    ----------
    Otsu 1979, IEEE Trans. Syst. Man Cybern. 9:62.
    """
    otsu = _otsu(data)
    return min(otsu, max(OTSU_FRACTION * otsu, NOISE_SDS * _noise_sd(data)))


def voxels_above_threshold(data: Float32, threshold: float) -> Bool:
    """Return the voxels above a threshold.

    Parameters
    ----------
    data : (n, n, n)
        The map, low-passed.
    threshold
        A value between the lowest and the highest of the map.

    Raises
    ------
    InputError
        If no voxel is above the threshold, or all are.
    """
    inside = data > threshold
    low, high = float(data.min()), float(data.max())
    if not high > threshold:
        raise InputError(f"threshold {threshold:g}: no voxel of the map is above it (highest {high:.4g}): lower it")
    if low > threshold:
        raise InputError(f"threshold {threshold:g}: all voxels of the map are above it (lowest {low:.4g}): raise it")
    return inside


def _otsu(data: Float32) -> float:
    """Return Otsu's threshold: the largest variance between the two classes of voxels > 0."""
    highest = float(data.max())
    if not highest > 0:
        raise InputError("the map has no voxel above 0, so no threshold can be found: give one, or invert the map")
    level = (data[data > 0] * np.float32((OTSU_BINS - 1) / highest)).astype(np.int32)
    count = np.bincount(level, minlength=OTSU_BINS).astype(np.float64)
    weight, moment = np.cumsum(count), np.cumsum(count * np.arange(OTSU_BINS))
    below = weight[:-1]
    over = weight[-1] - below
    spread = (moment[:-1] * weight[-1] - moment[-1] * below) ** 2 / np.maximum(below * over, 1.0)
    return (int(spread.argmax()) + 1) * highest / (OTSU_BINS - 1)


def _noise_sd(data: Float32) -> float:
    """Return the SD in the corners of the box: eight cubes of n // 5 voxels, all outside the inscribed sphere."""
    n = data.shape[-1]
    side = max(n // 5, 1)
    ends = np.r_[0:side, n - side : n]
    return float(data[np.ix_(ends, ends, ends)].std(dtype=np.float64))
