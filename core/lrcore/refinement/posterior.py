"""The posterior of a pose: modes with their weights and widths, and the few points that stand for it in a map."""

from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float64
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.rotations import rotation_exp
from lrcore.kernels.local_search import PosteriorModes, SearchLimits
from lrcore.records import Poses, WeightedPoses

NARROW_MODE = 0.25
"""A rotation SD that moves the finest sample by less than this (samples of the padded FT) needs one point."""
LEAST = 1e-3
"""Curvature over the extent below which nothing holds a mode."""
MIN_MODE_SHARE = 0.02
"""Modes less probable than this are left out of the map."""
TETRAHEDRON = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
"""A tetrahedron with mean 0 and covariance I: the fewest points that have a Gaussian's first two moments."""


@dataclass(frozen=True)
class Posterior:
    """Laplace's approximation at K modes of B images, best first.

    covariance: (B, K, 5, 5) of (δ, t), rad and px, where R → R exp(δ). weight: (B, K), of sum 1.
    """

    covariance: Float64
    weight: Float64

    @property
    def ess(self) -> Float64:
        """Effective number of modes: (B,), 1 / Σ p²."""
        return np.asarray(1 / (self.weight**2).sum(axis=1), dtype=np.float64)


def laplace_posterior(modes: PosteriorModes, limits: SearchLimits, turns: Float64) -> Posterior:
    """Σ = (H + P)⁻¹ and log evidence = −value + ½ log det Σ of every mode. turns: (B, 3, 3), see `Limits.precision`."""
    curvature = modes.hessian + limits.precision(turns)[:, None]
    # A direction that the data say nothing about and no prior holds keeps the extent as its width.
    extent = np.array([max(limits.rotation, 1e-6)] * 3 + [max(limits.shift, 1e-6)] * 2)
    curvature = _limit_curvature(curvature + np.diag(LEAST / extent**2), extent)
    evidence = -modes.value - 0.5 * np.linalg.slogdet(curvature)[1]
    evidence = np.where(np.isfinite(modes.value), evidence, -np.inf)
    weight: Float64 = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return Posterior(np.linalg.inv(curvature).astype(np.float64), weight)


def _limit_curvature(curvature: Float64, extent: Float64) -> Float64:
    """The curvatures (B, K, 5, 5), no mode wider than about 30 extents.

    A window that holds next to nothing of an image may have weights below 0, and a likelihood that has no peak there.
    """
    try:
        np.linalg.cholesky(curvature)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(curvature * np.outer(extent, extent))
        firm = (vectors * np.maximum(values, LEAST)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
        return np.asarray(firm / np.outer(extent, extent), dtype=np.float64)
    return curvature


def backprojection_points(
    found: Posterior,
    modes: list[Poses],
    fulcrum_A: Float64,
    pixel_size_A: float,
    reach: float,
    lens: Float64 | None = None,
) -> WeightedPoses:
    """Points that stand for each image's posterior: four for a wide mode, one for a narrow mode.

    modes: the poses of mode 0, 1, …, box frame. fulcrum_A: (x, y, z). reach: radius of the finest sample, in samples
    of the padded FT. lens: (B, 3, 3), see `poses.seen_through`, or None. A rotation goes with the shift that it makes
    most probable; what is left of the shift's width changes nothing that was measured, and is left out.
    """
    share = np.where(found.weight >= MIN_MODE_SHARE, found.weight, 0.0)
    share /= share.sum(axis=1, keepdims=True)
    used = [m for m in range(len(modes)) if m == 0 or share[:, m].any()]
    parts = [_mode_points(found.covariance[:, m], modes[m], fulcrum_A, pixel_size_A, reach, lens) for m in used]
    return WeightedPoses(
        np.concatenate([part.rotation for part in parts], axis=1),
        np.concatenate([part.origin_A for part in parts], axis=1),
        np.concatenate([part.share * share[:, m, None] for m, part in zip(used, parts, strict=True)], axis=1).astype(
            np.float32
        ),
    )


def _mode_points(
    covariance: Float64, poses: Poses, fulcrum_A: Float64, pixel_size_A: float, reach: float, lens: Float64 | None
) -> WeightedPoses:
    """The four points of one mode of each image; the mode itself and three of no share where it is narrow."""
    turning, mixed = covariance[:, :3, :3], covariance[:, :3, 3:]
    narrow = reach * np.sqrt(np.linalg.eigvalsh(turning)[:, -1]) < NARROW_MODE
    turns = np.einsum("bij,pj->bpi", np.linalg.cholesky(turning), TETRAHEDRON)
    turns[narrow] = 0.0
    shifts = pixel_size_A * turns @ np.linalg.solve(turning, mixed)
    rotation = poses.rotation[:, None] @ rotation_exp(turns.reshape(-1, 3)).reshape(*turns.shape, 3)
    moved = (magnified_rotation(rotation - poses.rotation[:, None], lens) @ fulcrum_A)[..., :2]
    share = np.where(narrow[:, None], [1.0, 0.0, 0.0, 0.0], 0.25).astype(np.float32)
    return WeightedPoses(rotation, poses.origin_A[:, None] + moved - shifts, share)
