"""Loose and tight masks for the FSC, made from the half maps alone: the same maps always give the same masks."""

import numpy as np
import scipy.fft

from lrcore.arrays import Float32
from lrcore.imaging.grids import crop_ft, ft, ift, index_grid, interpolate_linear, radius_grid
from lrcore.masks import cosine_edge

LOWPASS_A = 20.0
"""The mean of the half maps is low-passed here, whatever its resolution: noise leaves no mark on the outline."""
OUTLINE_LEVEL = 0.25
"""The outline lies at this fraction of the way from the solvent's density to that of the interior."""
INTERIOR_QUANTILE = 0.998
"""Quantile of the density, within the inscribed sphere, that stands for the interior; the median is the solvent."""
MIN_PIECE_SHARE = 0.1
"""Pieces smaller than this fraction of the largest one are left out."""
LOOSE_A = (25.0, 40.0)
TIGHT_A = (6.0, 18.0)
"""How far from the outline a mask begins to fall, and where it is 0."""
VOXELS = 5
"""Voxels in `LOWPASS_A` of the coarse grid on which outline and distances are found."""


def outline_distance_A(first: Float32, second: Float32, pixel_size_A: float, workers: int = 1) -> Float32:
    """Distance in Å of each voxel of two (n, n, n) half maps from their particle, 0 inside it: (n, n, n).

    The mean is low-passed, thresholded half way down (see LEVEL), and freed of small pieces, on a coarse grid.
    """
    from scipy.ndimage import distance_transform_edt, label

    n = first.shape[-1]
    m = min(n, scipy.fft.next_fast_len(int(np.ceil(VOXELS * n * pixel_size_A / LOWPASS_A)), real=True))
    coarse = _coarse_mean(first, second, m, pixel_size_A, workers)
    ball = radius_grid(m, 3) < 0.5 * m
    solvent, interior = np.quantile(coarse[ball], (0.5, INTERIOR_QUANTILE))
    inside = (coarse >= solvent + OUTLINE_LEVEL * (interior - solvent)) & ball
    pieces, _ = label(inside)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept = (sizes >= MIN_PIECE_SHARE * sizes.max())[pieces] & inside
    distance = distance_transform_edt(~kept) * (n * pixel_size_A / m)
    at = np.clip((np.arange(n) - n // 2) * (m / n) + m // 2, 0, m - 1)
    return interpolate_linear(distance.astype(np.float32), at)


def cosine_falloff(distance_A: Float32, edge_A: tuple[float, float]) -> Float32:
    """A mask that is 1 up to the first distance and falls by a cosine to 0 at the second; any shape."""
    return cosine_edge(distance_A, edge_A[0], edge_A[1] - edge_A[0])


def _coarse_mean(first: Float32, second: Float32, m: int, pixel_size_A: float, workers: int) -> Float32:
    """The mean of two maps, low-passed by exp(−(k LOWPASS_A)² / 2) and cropped in Fourier space to m³ voxels."""
    n = first.shape[-1]
    spectrum = crop_ft(ft(first + second, 3, workers), n, m)
    squares = np.asarray(sum((k / (n * pixel_size_A)) ** 2 for k in index_grid(m, 3)))
    return ift(spectrum * np.exp(-0.5 * LOWPASS_A**2 * squares), m, 3, workers).astype(np.float32)
