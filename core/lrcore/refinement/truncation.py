"""Truncate the Gaussian at a mode of the posterior at the hard extents of the search.

With θ = (ω, t) from the centre of the search, δ the displacement from a mode θ_m, and Σ⁻¹ and g the curvature and the
gradient of −log posterior there,

    p(δ) ∝ exp(−gᵀ δ − ½ δᵀ Σ⁻¹ δ)  where |ω| ≤ rotation extent and |t| ≤ shift extent, 0 elsewhere

The gradient is 0 but for modes that stopped at an extent, where the likelihood still rises outwards: then what is left
lies close to the rim. Mass and covariance are found by importance sampling with fixed points from a Gaussian that
is as wide as what is left (`_proposal`). Rotations near the mode are linear in the displacement, ω = ω_m + J δ.

Modes that end well inside the extents are not changed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from lrcore.arrays import Float64
from lrcore.imaging.rotations import rotation_exp, rotation_log
from lrcore.kernels.local_search import SearchLimits

POINTS = 256
"""Number of points of the importance sampling, in pairs ±z."""
REACH_SDS = 4.0
"""A mode whose ellipsoid of this many SDs lies inside the extents is not truncated."""
EXTENT_SHARPNESS = 0.5
"""Precision of the stand-in for the extents, relative to that of a uniform distribution: wider, to reach the rim."""
RIM = 0.05
"""Width of the edge of the extents in the sampling, relative to the extent."""
NEARLY_WHOLE = 0.8
"""Share of a Gaussian inside the extents above which its known moments correct the sampled ones."""
MIN_VARIANCE = 1e-4
"""Least variance of a truncated mode along an axis, relative to that of the whole one."""


@dataclass(frozen=True)
class TruncatedModes:
    """Modes inside the extents.

    Attributes
    ----------
    mass : (N,) integral inside the extents, over that of the whole Gaussian at the mode
    covariance : (N, 5, 5) of the displacement δ = (δω, δt) from each mode, where R → R exp(δω); rad and px
    changed : (N,) False for modes well inside, whose mass is 1 and whose covariance is the given one
    """

    mass: Float64
    covariance: Float64
    changed: npt.NDArray[np.bool_]


def truncate_modes(theta: Float64, covariance: Float64, gradient: Float64, limits: SearchLimits) -> TruncatedModes:
    """Return mass and covariance of Gaussians inside the extents.

    Parameters
    ----------
    theta : (N, 5) modes, inside the extents, rad and px
    covariance : (N, 5, 5) of the displacement from each mode
    gradient : (N, 5) of −log posterior at the modes; 0 inside the extents
    limits : extents of the search; one of 0 is that of a search along the other unknowns alone, and is left out

    References
    ----------
    Owen (2013), Monte Carlo theory, methods and examples, ch. 9 (self-normalised importance sampling).
    """
    changed = reaches_extents(theta, covariance, limits)
    out = TruncatedModes(np.ones(len(theta)), covariance.copy(), changed)
    if changed.any():
        out.mass[changed], out.covariance[changed] = _truncated_moments(
            theta[changed], covariance[changed], gradient[changed], limits
        )
    return out


def reaches_extents(theta: Float64, covariance: Float64, limits: SearchLimits) -> npt.NDArray[np.bool_]:
    """Return which modes (N, 5) have a noticeable part of their Gaussian (N, 5, 5) beyond the extents: (N,)."""
    changed = np.zeros(len(theta), np.bool_)
    for part, extent in _limited_parts(limits):
        widest = np.sqrt(np.linalg.eigvalsh(covariance[:, part, part])[:, -1])
        changed |= np.linalg.norm(theta[:, part], axis=1) + REACH_SDS * widest > extent
    return changed


def _limited_parts(limits: SearchLimits) -> list[tuple[slice, float]]:
    """Return the unknowns, rotation or shift, that have an extent above 0, each with that extent."""
    parts = ((slice(0, 3), limits.rotation), (slice(3, 5), limits.shift))
    return [(part, extent) for part, extent in parts if extent > 0]


def move_into_extents(theta: Float64, delta: Float64, limits: SearchLimits) -> tuple[Float64, Float64]:
    """Move displaced poses that lie beyond an extent to the nearest pose inside.

    Parameters
    ----------
    theta : (N, 5) modes, rad and px
    delta : (N, P, 5) displacements from them
    limits : extents of the search

    Returns
    -------
    turned : (N, P, 3, 3) exp of the displacement of the rotation
    shift : (N, P, 2) displacement of the shift, px
    """
    shape = delta.shape[:2]
    mode = rotation_exp(theta[:, :3])
    moved = mode[:, None] @ rotation_exp(delta[..., :3].reshape(-1, 3)).reshape(*shape, 3, 3)
    omega = shorten_to(rotation_log(moved.reshape(-1, 3, 3)).reshape(*shape, 3), limits.rotation)
    inside = rotation_exp(omega.reshape(-1, 3)).reshape(*shape, 3, 3)
    shift = shorten_to(theta[:, None, 3:] + delta[..., 3:], limits.shift) - theta[:, None, 3:]
    return mode.transpose(0, 2, 1)[:, None] @ inside, shift


def shorten_to(vectors: Float64, length: float) -> Float64:
    """Return vectors (..., d) of this length at most."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors * np.minimum(1.0, length / np.maximum(norm, 1e-30)), dtype=np.float64)


def _truncated_moments(
    theta: Float64, covariance: Float64, gradient: Float64, limits: SearchLimits
) -> tuple[Float64, Float64]:
    """Return mass (N,) and covariance (N, 5, 5) of each Gaussian inside the extents."""
    to_theta = np.zeros((len(theta), 5, 5))
    to_theta[:, :3, :3] = _right_jacobian_inverse(theta[:, :3])
    to_theta[:, 3:, 3:] = np.eye(2)
    precision = np.linalg.inv(covariance).astype(np.float64)
    centre, proposal = _proposal(theta, precision, gradient, to_theta, limits)
    z = normal_points(POINTS)
    delta = centre[:, None] + z @ np.linalg.cholesky(proposal).transpose(0, 2, 1)
    whitened = delta @ np.linalg.cholesky(precision)
    log_ratio = 0.5 * (z**2).sum(axis=1) - 0.5 * np.einsum("nsi,nsi->ns", whitened, whitened)
    log_ratio -= (delta @ gradient[..., None])[..., 0]
    log_ratio += 0.5 * (np.linalg.slogdet(proposal)[1] - np.linalg.slogdet(covariance)[1])[:, None]
    whole = np.exp(np.minimum(log_ratio, 300.0))
    ratio = whole * _share_inside(theta[:, None] + delta @ to_theta.transpose(0, 2, 1), limits)
    mass, second = _weighted_covariance(ratio, delta)
    # Where hardly anything is cut, the error of the sampling is that of the whole Gaussian, which is known.
    all_mass, all_second = _weighted_covariance(whole, delta)
    trust = np.clip((mass / all_mass - 1) / (1 - NEARLY_WHOLE) + 1, 0.0, 1.0) ** 2
    mass = mass + trust * (1 - all_mass)
    second = second + trust[:, None, None] * (covariance - all_second)
    return np.maximum(mass, 1e-12), second + (1 - trust)[:, None, None] * MIN_VARIANCE * proposal


def _weighted_covariance(ratio: Float64, delta: Float64) -> tuple[Float64, Float64]:
    """Return the mean weight (N,) and the covariance (N, 5, 5) of points (N, S, 5) with weights (N, S)."""
    share = ratio / np.maximum(ratio.sum(axis=1, keepdims=True), 1e-300)
    around = delta - share[:, None] @ delta
    covariance = (share[..., None] * around).transpose(0, 2, 1) @ around
    return np.maximum(ratio.mean(axis=1), 1e-300), np.asarray(covariance, dtype=np.float64)


def _proposal(
    theta: Float64, precision: Float64, gradient: Float64, to_theta: Float64, limits: SearchLimits
) -> tuple[Float64, Float64]:
    """Return centre (N, 5) and covariance (N, 5, 5) of the Gaussian to draw from.

    Its precision is that of the mode; of a stand-in for the extents, EXTENT_SHARPNESS times that of a uniform
    distribution inside (5 / R² of a ball, 4 / T² of a disc), about the centre of the search; and, where a gradient g
    pushes against an extent E, ½ g gᵀ across the rim and |g| / E along it, as the rim is curved.
    """
    stand_in, across = np.zeros((len(theta), 5)), np.zeros((len(theta), 5, 5))
    for part, extent in _limited_parts(limits):
        slope = gradient[:, part]
        dimension, steepness = slope.shape[1], np.linalg.norm(slope, axis=1, keepdims=True)
        stand_in[:, part] = EXTENT_SHARPNESS * (dimension + 2) / extent**2
        across[:, part, part] = 0.5 * slope[:, :, None] * slope[:, None]
        across[:, part, part] += (steepness / extent)[..., None] * np.eye(dimension)
    pull = to_theta.transpose(0, 2, 1) @ (stand_in[..., None] * to_theta)
    inward = -(to_theta.transpose(0, 2, 1) @ (stand_in * theta)[..., None])[..., 0] + 0.5 * gradient
    covariance = np.linalg.inv(precision + pull + across)
    return (covariance @ inward[..., None])[..., 0], np.asarray(covariance, dtype=np.float64)


def _share_inside(theta: Float64, limits: SearchLimits) -> Float64:
    """Return the weight (...) of poses (..., 5): 1 inside the extents and 0 beyond, with a linear edge of RIM.

    With a sharp edge the last bit of an input could move a point across it, and change its mode by a percent.
    """
    weight = np.ones(theta.shape[:-1])
    for part, extent in _limited_parts(limits):
        here = theta[..., part]
        length = np.sqrt(np.einsum("...i,...i->...", here, here))
        weight *= np.clip((1 - length / extent) / RIM + 0.5, 0.0, 1.0)
    return weight


def _right_jacobian_inverse(omega: Float64) -> Float64:
    """Return J (N, 3, 3) with log(exp(ω) exp(δ)) = ω + J δ to first order in δ."""
    angle = np.linalg.norm(omega, axis=1)
    cross = np.zeros((len(omega), 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]], cross[:, [1, 2, 0], [2, 0, 1]] = omega, -omega
    small = angle < 1e-3
    safe = np.where(small, 1.0, angle)
    factor = np.where(small, 1 / 12, 1 / safe**2 - (1 + np.cos(safe)) / (2 * safe * np.sin(safe)))
    return np.asarray(np.eye(3) + 0.5 * cross + factor[:, None, None] * (cross @ cross), dtype=np.float64)


def normal_points(count: int) -> Float64:
    """Return evenly spread points of a normal distribution in five dimensions, in pairs ±z: (count, 5).

    From the additive recurrence with the powers of 1 / φ, where φ is the root of φ⁶ = φ + 1.
    """
    root = 1.0
    for _ in range(64):
        root = (1 + root) ** (1 / 6)
    steps = root ** -np.arange(1.0, 6.0)
    uniform = (0.5 + np.arange(1, count // 2 + 1)[:, None] * steps) % 1.0
    z = np.asarray(ndtri(uniform), dtype=np.float64)
    z = np.concatenate([z, -z])
    return np.asarray(z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / count)).T, dtype=np.float64)
