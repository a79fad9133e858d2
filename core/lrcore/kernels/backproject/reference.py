"""Define the results of `backproject_images` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.project.reference import trilinear_corners

CURVATURE_MARGIN = 0.1
"""How far a curved slice may reach beyond the limit, in samples of the unpadded box; the volume has room for it."""


def max_curvature(curvature: npt.NDArray[np.floating] | None) -> float:
    """Return the largest |curvature| of a call; 0 for None."""
    return 0.0 if curvature is None else float(np.abs(curvature).max(initial=0.0))


def half_plane_samples(n: int, limit: int, steepness: float = 0.0) -> tuple[FourierSamples, npt.NDArray[np.floating]]:
    """Return the samples of the half plane with its origin, and their weights: ½ at the origin, else 1.

    steepness: the largest |curvature| of a call; see `max_curvature`.
    """
    ky, kx = np.mgrid[-limit : limit + 1, 0 : limit + 1]
    squares = kx**2 + ky**2
    inside = (squares <= limit**2) & (np.hypot(np.sqrt(squares), steepness * squares) <= limit + CURVATURE_MARGIN)
    keep = inside & ((kx > 0) | (ky >= 0))
    kx, ky = kx[keep].astype(np.int32), ky[keep].astype(np.int32)
    return FourierSamples(kx, ky, (len(kx),), n), np.where((kx == 0) & (ky == 0), 0.5, 1.0)


def backproject_images(
    numerator: npt.NDArray[np.complex64],
    denominator: npt.NDArray[np.float32],
    rotations: npt.NDArray[np.floating],
    shifts: npt.NDArray[np.floating],
    data: npt.NDArray[np.complex64],
    weight: npt.NDArray[np.float32],
    limit: int,
    image: npt.NDArray[np.integer] | None = None,
    share: npt.NDArray[np.floating] | None = None,
    curvature: npt.NDArray[np.floating] | None = None,
) -> None:
    """Add images to a Fourier volume; see `lrcore.kernels.backproject`."""
    n = data.shape[1]
    if image is not None:
        data, weight = data[image], weight[image]
    samples, each = half_plane_samples(n, limit, max_curvature(curvature))
    if share is not None:
        each = each * share[:, None]
    low, fraction, mate = trilinear_corners(rotations, samples, curvature)
    turn = -2j * np.pi / n * (shifts[:, :1] * samples.kx + shifts[:, 1:] * samples.ky)
    values = data[:, samples.ky, samples.kx] * np.exp(turn) * each
    values = np.where(mate, values.conj(), values)
    weights = weight[:, samples.ky, samples.kx] * each
    centre = numerator.shape[0] // 2
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (low[..., a] + corner[a] for a in range(3))
        part = np.prod([np.abs(1 - corner[a] - fraction[..., a]) for a in range(3)], axis=0)
        np.add.at(numerator, (z + centre, y + centre, x + 1), part * values)
        np.add.at(denominator, (z + centre, y + centre, x + 1), part * weights)
