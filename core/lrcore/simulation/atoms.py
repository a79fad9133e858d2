"""Compute the Fourier transform and the map of point atoms, in two or three dimensions.

It shares no code with the slice kernels, so that images made with it test them independently.
"""

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Float32, Float64
from lrcore.imaging.grids import ift, index_grid

OVERSAMPLING = 3
"""Oversampling of the grid on which the points are spread; the error is at most 0.5 %, at the Nyquist limit."""

POINTS_PER_BATCH = 4096
"""Points that are spread at a time, so that their weights stay in the cache."""


def points_ft(points: Float64, n: int) -> npt.NDArray[np.complex128]:
    """Return the FT Σ exp(−2πi k·x) of points.

    Points outside the box wrap around. For even n the Nyquist lines, which have no Friedel mate, are 0. The points are
    spread by a cubic B-spline β³ on a finer grid, and the FT is divided by that of β³, sinc⁴.

    Parameters
    ----------
    points : (m, d)
        (x, y) or (x, y, z) in pixels from the box centre.
    n
        Box in pixels.

    Returns
    -------
    (n, ..., n // 2 + 1) complex128, of d axes.
    """
    ndim, fine = points.shape[1], OVERSAMPLING * n
    shape = (fine,) * ndim
    grid = np.zeros(fine**ndim)
    for start in range(0, len(points), POINTS_PER_BATCH):
        grid += _splat_on_grid(points[start : start + POINTS_PER_BATCH] * OVERSAMPLING, fine)
    spectrum = scipy.fft.rfftn(grid.reshape(shape), axes=range(ndim))
    rows = np.fft.fftfreq(n, 1.0 / n).round().astype(np.int64)
    spectrum = spectrum[np.ix_(*[rows] * (ndim - 1), np.arange(n // 2 + 1))]
    for k in index_grid(n, ndim):
        spectrum *= np.where(2 * np.abs(k) < n, np.sinc(k / fine) ** -4.0, 0.0)
    return spectrum


def _splat_on_grid(points: Float64, size: int) -> Float64:
    """Sum the cubic B-spline weights of points (m, d) on a periodic grid with its origin at index 0: (size^d,)."""
    axes = np.ascontiguousarray(points.T)
    base = np.floor(axes).astype(np.int64)
    right = axes - base
    left = 1.0 - right
    weights = np.stack([left**2 * left, _cubic_bspline_core(right), _cubic_bspline_core(left), right**2 * right]) / 6.0
    places = np.stack([base % size + step for step in (-1, 0, 1, 2)])
    places = np.where(places < 0, places + size, np.where(places >= size, places - size, places))
    index, weight = places[:, -1], weights[:, -1]
    for axis in reversed(range(len(axes) - 1)):
        index = index[..., None, :] * size + places[:, axis]
        weight = weight[..., None, :] * weights[:, axis]
    return np.asarray(np.bincount(index.ravel(), weight.ravel(), minlength=size ** len(axes)), np.float64)


def _cubic_bspline_core(t: Float64) -> Float64:
    """Return the inner part of 6 β³ at the distance 0 ≤ t ≤ 1 from its maximum."""
    return 4.0 - t**2 * (6.0 - 3.0 * t)


def bfactor_envelope(n: int, pixel_size_A: float, bfactor_A2: float, ndim: int) -> Float64:
    """Return the form factor exp(−B k² / 4) of an atom on the half-complex grid: (n, ..., n // 2 + 1)."""
    squares = np.asarray(sum((k / (n * pixel_size_A)) ** 2 for k in index_grid(n, ndim)))
    return np.exp(-0.25 * bfactor_A2 * squares)


def density_of_atoms(points_A: Float64, n: int, pixel_size_A: float, bfactor_A2: float) -> Float32:
    """Return the map of atoms; its central slices are the FTs of their images.

    Parameters
    ----------
    points_A : (m, 3)
        (x, y, z) in Å from the box centre.
    n
        Box in voxels.
    pixel_size_A
        Voxel size in Å.
    bfactor_A2
        B-factor of the atoms in Å².

    Returns
    -------
    (n, n, n) float32, zyx.
    """
    spectrum = points_ft(points_A / pixel_size_A, n) * bfactor_envelope(n, pixel_size_A, bfactor_A2, 3)
    return ift(spectrum, n, 3).astype(np.float32)


def distance_to_atoms_A(points_A: Float64, n: int, pixel_size_A: float) -> Float32:
    """Return the distance in Å of each voxel from the nearest voxel with an atom: (n, n, n).

    Parameters
    ----------
    points_A, n, pixel_size_A
        See `density_of_atoms`.
    """
    from scipy.ndimage import distance_transform_edt

    empty = np.ones((n,) * 3, bool)
    index = np.rint(points_A / pixel_size_A).astype(np.int64) + n // 2
    inside = ((index >= 0) & (index < n)).all(axis=1)
    x, y, z = index[inside].T
    empty[z, y, x] = False
    return (distance_transform_edt(empty) * pixel_size_A).astype(np.float32)
