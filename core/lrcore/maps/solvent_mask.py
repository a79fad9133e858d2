"""Make loose and tight masks for the FSC from the half maps alone, by fixed rules."""

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Float32
from lrcore.imaging.grids import crop_ft, ft, ift, index_grid, interpolate_linear, radius_grid
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.masks import cosine_edge

LOWPASS_A = 20.0
"""Low-pass of the mean of the half maps, whatever its resolution, so that noise does not affect the outline."""
OUTLINE_LEVEL = 0.25
"""Density of the outline: 0 is that of the solvent, 1 that of the interior."""
INTERIOR_QUANTILE = 0.998
"""Quantile of the density in the inscribed sphere that represents the interior; the median represents the solvent."""
MIN_PIECE_SHARE = 0.1
"""Pieces smaller than this fraction of the largest one are removed."""
LOOSE_A = (25.0, 40.0)
TIGHT_A = (6.0, 18.0)
"""Distances from the outline at which a mask starts to fall and where it is 0."""
VOXELS = 5
"""Voxels per `LOWPASS_A` of the coarse grid on which outline and distances are computed."""


def outline_distance_A(first: Float32, second: Float32, pixel_size_A: float, workers: int = 1) -> Float32:
    """Return the distance of each voxel of two half maps from the particle, 0 inside it.

    On a coarse grid, the mean of the half maps is low-passed, thresholded at OUTLINE_LEVEL, and small pieces are
    removed. The particle may be brighter or darker than the solvent.

    Parameters
    ----------
    first, second : (n, n, n)
        Half maps.
    pixel_size_A
        Voxel size in Å.
    workers
        Threads of the FFT.

    Returns
    -------
    (n, n, n) Å.
    """
    coarse = coarse_mean(first, second, pixel_size_A, workers)
    return outline_distance_on_grid(coarse, first.shape[-1] * pixel_size_A, first.shape[-1])


def outline_distance_on_grid(coarse: Float32, extent_A: float, n: int) -> Float32:
    """Return the distance from the particle, as `outline_distance_A`, on a grid of any size.

    Parameters
    ----------
    coarse : (m, m, m)
        Mean of the half maps, of `coarse_mean` or `coarse_mean_of_spectra`.
    extent_A
        Edge of the box in Å.
    n
        Size of the grid.

    Returns
    -------
    (n, n, n) Å.
    """
    from scipy.ndimage import distance_transform_edt, label

    m = len(coarse)
    dark, bright = density_tails(coarse)
    coarse = coarse - np.median(coarse[_ball(m)])
    inside = (coarse >= OUTLINE_LEVEL * bright if bright >= dark else coarse <= -OUTLINE_LEVEL * dark) & _ball(m)
    pieces, _ = label(inside)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept = (sizes >= MIN_PIECE_SHARE * sizes.max())[pieces] & inside
    distance = distance_transform_edt(~kept) * (extent_A / m)
    at = np.clip((np.arange(n) - n // 2) * (m / n) + m // 2, 0, m - 1)
    return interpolate_linear(distance.astype(np.float32), at)


def cosine_falloff(distance_A: Float32, edge_A: tuple[float, float]) -> Float32:
    """Make a mask that is 1 up to the first distance and falls by a raised cosine to 0 at the second; any shape."""
    return cosine_edge(distance_A, edge_A[0], edge_A[1] - edge_A[0])


def coarse_mean(first: Float32, second: Float32, pixel_size_A: float, workers: int = 1) -> Float32:
    """Return the mean of two maps, low-passed by exp(−(k LOWPASS_A)² / 2) and cropped to `VOXELS` per `LOWPASS_A`.

    Parameters
    ----------
    first, second : (n, n, n)
    pixel_size_A : voxel size in Å
    workers : threads of the FFT

    Returns
    -------
    (m, m, m), twice the mean.
    """
    return _lowpassed(ft(first + second, 3, workers), pixel_size_A, workers)


def coarse_mean_of_spectra(spectra: HalfMapSpectra, pixel_size_A: float, workers: int = 1) -> Float32:
    """Return `coarse_mean` of two maps from their FTs.

    Parameters
    ----------
    spectra : FTs of the maps
    pixel_size_A : voxel size in Å
    workers : threads of the FFT
    """
    n, m = spectra.first.size, _coarse_size(spectra.first.size, pixel_size_A)
    first, second = (crop_ft(spectrum.data, n, m) for spectrum in spectra.both)
    # The map of a cropped FT is (n / m)³ stronger; the same holds for `_lowpassed`.
    return _lowpassed(first + second, pixel_size_A * n / m, workers)


def _lowpassed(spectrum: npt.NDArray[np.complexfloating], pixel_size_A: float, workers: int) -> Float32:
    """Return the low-passed map of an FT (n, n, n // 2 + 1) on the coarse grid."""
    n = len(spectrum)
    m = _coarse_size(n, pixel_size_A)
    squares = np.asarray(sum((k / (n * pixel_size_A)) ** 2 for k in index_grid(m, 3)))
    return ift(crop_ft(spectrum, n, m) * np.exp(-0.5 * LOWPASS_A**2 * squares), m, 3, workers).astype(np.float32)


def _coarse_size(n: int, pixel_size_A: float) -> int:
    return min(n, scipy.fft.next_fast_len(int(np.ceil(VOXELS * n * pixel_size_A / LOWPASS_A - 1e-6)), real=True))


def density_tails(coarse: Float32) -> tuple[float, float]:
    """Return how far the densities of a low-passed map reach below and above that of the solvent, the median.

    Parameters
    ----------
    coarse : (m, m, m), of `coarse_mean`

    Returns
    -------
    (below, above), both 0 or more. The longer one is that of the particle.
    """
    lowest, solvent, highest = np.quantile(coarse[_ball(len(coarse))], (1 - INTERIOR_QUANTILE, 0.5, INTERIOR_QUANTILE))
    return float(solvent - lowest), float(highest - solvent)


def _ball(m: int) -> npt.NDArray[np.bool_]:
    return np.asarray(radius_grid(m, 3) < 0.5 * m)
