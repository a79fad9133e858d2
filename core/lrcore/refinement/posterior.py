"""Approximate the posterior of a pose by Gaussians at its modes, and by a few points for the reconstruction.

At a mode k with the curvature H of −log likelihood and the precision P of the prior (Laplace's approximation),

    covariance Σ_k = (H + P)⁻¹,  log evidence_k = −value_k + ½ log det Σ_k,  weight_k ∝ evidence_k

In the M-step a mode is represented by four rotations A exp(L v_p), with L Lᵀ = Σ_ωω and v_p the corners of a
tetrahedron (mean 0, covariance I), each with the shift that is most probable for it, t = Σ_tω Σ_ωω⁻¹ ω.

Differs from RELION, which inserts each image at all orientations and translations of its grid, by their weights.
"""

from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float64
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.rotations import rotation_exp
from lrcore.kernels.local_search import PosteriorModes, SearchLimits
from lrcore.records import Poses, WeightedPoses

NARROW_MODE = 0.25
"""A mode whose widest rotation SD moves the finest sample by less than this, in padded FT samples, is one point."""
MIN_CURVATURE = 1e-3
"""Least curvature of a direction, in units of 1 / extent²."""
MIN_MODE_SHARE = 0.02
"""Modes less probable than this are not inserted into the map."""
TETRAHEDRON = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
"""Corners of a tetrahedron with mean 0 and covariance I: the fewest points with the first two moments of a Gaussian."""


@dataclass(frozen=True)
class Posterior:
    """Laplace approximation at K modes of B images, best first.

    Attributes
    ----------
    covariance : (B, K, 5, 5) of (δ, t), rad and px, where R → R exp(δ)
    weight : (B, K), of sum 1
    """

    covariance: Float64
    weight: Float64

    @property
    def ess(self) -> Float64:
        """Effective number of modes, 1 / Σ weight²: (B,)."""
        return np.asarray(1 / (self.weight**2).sum(axis=1), dtype=np.float64)


def laplace_posterior(modes: PosteriorModes, limits: SearchLimits, views: Float64) -> Posterior:
    """Return covariance and probability of each mode.

        Σ = (H + P)⁻¹,  log evidence = −value + ½ log det Σ

    views: (B, 3, 3), rotations by which the map is seen at the centres of the search, for `SearchLimits.precision`.
    """
    curvature = modes.hessian + limits.precision(views)[:, None]
    # A direction without information from data or prior keeps a width of about the extent.
    extent = np.array([max(limits.rotation, 1e-6)] * 3 + [max(limits.shift, 1e-6)] * 2)
    curvature = _limit_curvature(curvature + np.diag(MIN_CURVATURE / extent**2), extent)
    evidence = -modes.value - 0.5 * np.linalg.slogdet(curvature)[1]
    evidence = np.where(np.isfinite(modes.value), evidence, -np.inf)
    weight: Float64 = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return Posterior(np.linalg.inv(curvature).astype(np.float64), weight)


def _limit_curvature(curvature: Float64, extent: Float64) -> Float64:
    """Return curvatures (B, K, 5, 5) that are positive definite: no mode is wider than about 30 extents.

    A window that holds next to nothing of an image may have negative weights, and a likelihood without a peak.
    """
    try:
        np.linalg.cholesky(curvature)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(curvature * np.outer(extent, extent))
        limited = (vectors * np.maximum(values, MIN_CURVATURE)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
        return np.asarray(limited / np.outer(extent, extent), dtype=np.float64)
    return curvature


def backprojection_points(
    posterior: Posterior,
    modes: list[Poses],
    fulcrum_A: Float64,
    pixel_size_A: float,
    reach: float,
    magnification: Float64 | None = None,
) -> WeightedPoses:
    """Return points that represent the posterior of each image: four for a wide mode, one for a narrow one.

    Each rotation gets the shift that is most probable for it. The width of the shift that is left is ignored: it made
    no measurable difference.

    posterior: of B images. modes: poses of mode 0, 1, … in the frame of the box. fulcrum_A: (x, y, z). reach: radius of
    the finest sample, in samples of the padded FT. magnification: (B, 3, 3) of `aberrations.magnification_in_3d`, or
    None.
    """
    share = np.where(posterior.weight >= MIN_MODE_SHARE, posterior.weight, 0.0)
    share /= share.sum(axis=1, keepdims=True)
    used = [m for m in range(len(modes)) if m == 0 or share[:, m].any()]
    parts = [
        _mode_points(posterior.covariance[:, m], modes[m], fulcrum_A, pixel_size_A, reach, magnification) for m in used
    ]
    return WeightedPoses(
        np.concatenate([part.rotation for part in parts], axis=1),
        np.concatenate([part.origin_A for part in parts], axis=1),
        np.concatenate([part.share * share[:, m, None] for m, part in zip(used, parts, strict=True)], axis=1).astype(
            np.float32
        ),
    )


def _mode_points(
    covariance: Float64,
    poses: Poses,
    fulcrum_A: Float64,
    pixel_size_A: float,
    reach: float,
    magnification: Float64 | None,
) -> WeightedPoses:
    """Return the four points of one mode of each image; a narrow mode is its first point, the others have weight 0."""
    rotation_covariance, cross_covariance = covariance[:, :3, :3], covariance[:, :3, 3:]
    narrow = reach * np.sqrt(np.linalg.eigvalsh(rotation_covariance)[:, -1]) < NARROW_MODE
    deltas = np.einsum("bij,pj->bpi", np.linalg.cholesky(rotation_covariance), TETRAHEDRON)
    deltas[narrow] = 0.0
    shifts = pixel_size_A * deltas @ np.linalg.solve(rotation_covariance, cross_covariance)
    rotation = poses.rotation[:, None] @ rotation_exp(deltas.reshape(-1, 3)).reshape(*deltas.shape, 3)
    fulcrum_shift = (magnified_rotation(rotation - poses.rotation[:, None], magnification) @ fulcrum_A)[..., :2]
    share = np.where(narrow[:, None], [1.0, 0.0, 0.0, 0.0], 0.25).astype(np.float32)
    return WeightedPoses(rotation, poses.origin_A[:, None] + fulcrum_shift - shifts, share)
