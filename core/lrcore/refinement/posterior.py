"""Approximate the posterior of a pose by Gaussians at its modes, and by a few points for the reconstruction.

At a mode k with the curvature H of −log likelihood and the precision P of the prior (Laplace's approximation),

    covariance Σ_k = (H + P)⁻¹,  log evidence_k = −value_k + ½ log det Σ_k + log Z_k,  weight_k ∝ evidence_k

The Gaussian is truncated at the hard extents (`truncation`): Z_k is its mass inside, and the covariance is that of what
is left. Well inside the extents Z_k is 1.

In the M-step a mode is represented by four rotations A exp(L v_p), with L Lᵀ = Σ_ωω and v_p the corners of a
tetrahedron (mean 0, covariance I), each with the shift that is most probable for it, t = Σ_tω Σ_ωω⁻¹ ω. A point beyond
an extent is moved to the extent.

Differs from RELION, which inserts each image at all orientations and translations of its grid, by their weights.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.rotations import rotation_exp
from lrcore.kernels.local_search import PosteriorModes, SearchLimits
from lrcore.records import Poses, WeightedPoses
from lrcore.refinement.truncation import move_into_extents, truncate_modes

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
    covariance : (B, K, 5, 5) of (δ, t), rad and px, where R → R exp(δ), inside the extents
    weight : (B, K), of sum 1
    curvature : (B, 5, 5) of −log posterior at the best mode
    truncated : (B, K) modes that reach the extents
    """

    covariance: Float64
    weight: Float64
    curvature: Float64
    truncated: npt.NDArray[np.bool_]

    @property
    def ess(self) -> Float64:
        """Effective number of modes, 1 / Σ weight²: (B,)."""
        return np.asarray(1 / (self.weight**2).sum(axis=1), dtype=np.float64)


def laplace_posterior(
    modes: PosteriorModes, limits: SearchLimits, views: Float64, gradient: Float64 | None = None
) -> Posterior:
    """Return covariance and probability of each mode.

        Σ = (H + P)⁻¹,  log evidence = −value + ½ log det Σ + log Z

    views: (B, 3, 3), rotations by which the map is seen at the centres of the search, for `SearchLimits.precision`.
    gradient: (B, K, 5) of −log posterior at the modes, None for 0.
    """
    slope = np.zeros(modes.theta.shape) if gradient is None else gradient
    curvature = modes.hessian + limits.precision(views)[:, None]
    # A direction without information from data or prior keeps a width of about the extent.
    extent = np.array([max(limits.rotation, 1e-6)] * 3 + [max(limits.shift, 1e-6)] * 2)
    curvature = _limit_curvature(curvature + np.diag(MIN_CURVATURE / extent**2), extent)
    evidence = -modes.value - 0.5 * np.linalg.slogdet(curvature)[1]
    present = np.isfinite(modes.value)
    covariance = np.linalg.inv(curvature).astype(np.float64)
    reached = np.zeros(present.shape, np.bool_)
    left = truncate_modes(modes.theta[present], covariance[present], slope[present], limits)
    covariance[present], reached[present] = left.covariance, left.changed
    evidence[present] += np.log(left.mass)
    evidence = np.where(present, evidence, -np.inf)
    weight: Float64 = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return Posterior(covariance, weight, curvature[:, 0], reached)


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


@dataclass(frozen=True)
class PointGeometry:
    """Extents, fulcrum and scale that the points of all images share.

    Attributes
    ----------
    limits : extents of the search
    fulcrum_A : (3,), (x, y, z) in Å from the box centre
    pixel_size_A : Å
    reach : radius of the finest sample, in samples of the padded FT
    """

    limits: SearchLimits
    fulcrum_A: Float64
    pixel_size_A: float
    reach: float


def backprojection_points(
    posterior: Posterior,
    modes: list[Poses],
    theta: Float64,
    geometry: PointGeometry,
    magnification: Float64 | None = None,
) -> WeightedPoses:
    """Return points that represent the posterior of each image: four for a wide mode, one for a narrow one.

    Each rotation gets the shift that is most probable for it. The width of the shift that is left is ignored: it made
    no measurable difference.

    posterior: of B images. modes: poses of mode 0, 1, … in the frame of the box. theta: (B, K, 5), the modes from the
    centres of the search, rad and px. magnification: (B, 3, 3) of `aberrations.magnification_in_3d`, or None.
    """
    share = np.where(posterior.weight >= MIN_MODE_SHARE, posterior.weight, 0.0)
    share /= share.sum(axis=1, keepdims=True)
    used = [m for m in range(len(modes)) if m == 0 or share[:, m].any()]
    parts = []
    for m in used:
        points, part_share = _mode_points(posterior, m, geometry.reach)
        turned, shift = _displacements(points, theta[:, m], posterior.truncated[:, m], geometry.limits)
        rotation = modes[m].rotation[:, None] @ turned
        moved = (magnified_rotation(rotation - modes[m].rotation[:, None], magnification) @ geometry.fulcrum_A)[..., :2]
        origin_A = modes[m].origin_A[:, None] + moved - geometry.pixel_size_A * shift
        parts.append((rotation, origin_A, part_share * share[:, m, None]))
    rotations, origins, shares = zip(*parts, strict=True)
    return WeightedPoses(
        np.concatenate(rotations, axis=1),
        np.concatenate(origins, axis=1),
        np.concatenate(shares, axis=1).astype(np.float32),
    )


def _mode_points(posterior: Posterior, m: int, reach: float) -> tuple[Float64, Float64]:
    """Return the four points (B, 4, 5) of mode m of each image, as displacements, and their shares (B, 4).

    A narrow mode is its first point, and the others have share 0.
    """
    covariance = posterior.covariance[:, m]
    rotation_covariance, cross_covariance = covariance[:, :3, :3], covariance[:, :3, 3:]
    narrow = reach * np.sqrt(np.linalg.eigvalsh(rotation_covariance)[:, -1]) < NARROW_MODE
    deltas = np.einsum("bij,pj->bpi", np.linalg.cholesky(rotation_covariance), TETRAHEDRON)
    deltas[narrow] = 0.0
    shifts = deltas @ np.linalg.solve(rotation_covariance, cross_covariance)
    points = np.concatenate([deltas, shifts], axis=2)
    return points, np.where(narrow[:, None], [1.0, 0.0, 0.0, 0.0], 0.25)


def _displacements(
    points: Float64, theta: Float64, truncated: npt.NDArray[np.bool_], limits: SearchLimits
) -> tuple[Float64, Float64]:
    """Return rotations exp(δ) (B, P, 3, 3) and shifts (B, P, 2) of displaced modes; truncated ones are inside."""
    turned = rotation_exp(points[..., :3].reshape(-1, 3)).reshape(*points.shape[:2], 3, 3)
    shift = points[..., 3:].copy()
    if truncated.any():
        turned[truncated], shift[truncated] = move_into_extents(theta[truncated], points[truncated], limits)
    return turned, shift
