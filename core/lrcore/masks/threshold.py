"""From a map to the voxels that are particle: low-pass, threshold, and a threshold that is found."""

import numpy as np

from lrcore.arrays import Bool, Float32
from lrcore.errors import InputError
from lrcore.imaging.filters import butterworth
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import shell_frequency

BINS = 1024
NOISE_SDS = 3.0
WEAK = 0.5
"""Share of the density of a compact body that still counts: a mobile part is weaker than the rest."""


def lowpass(data: Float32, pixel_size_A: float, resolution_A: float, workers: int = 1) -> Float32:
    """The map (n, n, n) without what is finer than `resolution_A`, by the Butterworth filter.

    It is steep, and has hardly any ripples, which a threshold would turn into shells.
    One beyond the Nyquist limit (or 0) leaves the map as it is.
    """
    if resolution_A <= 2 * pixel_size_A:
        return data
    frequency = shell_frequency(data.shape[-1], pixel_size_A)
    return filter_map(data, butterworth(frequency, 1 / resolution_A), workers)


def automatic_threshold(data: Float32) -> float:
    """A threshold for a low-passed map (n, n, n) that holds weak parts of the particle and no noise outside it.

    Half of Otsu's, but above 3 SD of the noise, and never above Otsu's. Otsu's (1979, over the voxels > 0) parts the
    density of a compact body from the solvent, and so lies near half of that density; half of it again keeps what is
    mobile or partly there. The noise is read in the corners of the box: a mask or padding that has emptied
    them asks for no more than Otsu's. Raises InputError if no voxel is above 0.
    """
    otsu = _otsu(data)
    return min(otsu, max(WEAK * otsu, NOISE_SDS * _noise_sd(data)))


def voxels_above_threshold(data: Float32, threshold: float) -> Bool:
    """Voxels above the threshold. Raises InputError if there are none, or if none is left out."""
    inside = data > threshold
    low, high = float(data.min()), float(data.max())
    if not high > threshold:
        raise InputError(f"threshold {threshold:g}: no voxel of the map is above it (highest {high:.4g}): lower it")
    if low > threshold:
        raise InputError(f"threshold {threshold:g}: all voxels of the map are above it (lowest {low:.4g}): raise it")
    return inside


def _otsu(data: Float32) -> float:
    """The threshold with the largest variance between the two classes of voxels > 0."""
    highest = float(data.max())
    if not highest > 0:
        raise InputError("the map has no voxel above 0, so no threshold can be found: give one, or invert the map")
    level = (data[data > 0] * np.float32((BINS - 1) / highest)).astype(np.int32)
    count = np.bincount(level, minlength=BINS).astype(np.float64)
    weight, moment = np.cumsum(count), np.cumsum(count * np.arange(BINS))
    below = weight[:-1]
    over = weight[-1] - below
    spread = (moment[:-1] * weight[-1] - moment[-1] * below) ** 2 / np.maximum(below * over, 1.0)
    return (int(spread.argmax()) + 1) * highest / (BINS - 1)


def _noise_sd(data: Float32) -> float:
    """SD in the corners: eight cubes of n // 5 voxels, all of them outside the inscribed sphere."""
    n = data.shape[-1]
    side = max(n // 5, 1)
    ends = np.r_[0:side, n - side : n]
    return float(data[np.ix_(ends, ends, ends)].std(dtype=np.float64))
