"""Tell whether the body is in each image: log evidence of its density against no density, and its probability.

Without density in the mask the value of the search (`kernels.local_search`) is 0. With it, the evidence of an image is
the likelihood over the prior of the pose; by Laplace's approximation from the pose θ that was found, with the value v,
gradient g and curvature H under the reference, and the precision P of the prior (g and H of the posterior are g + Pθ
and A = H + P),

    log Z = −v + ½ (g + Pθ)ᵀ A⁻¹ (g + Pθ) + log prior(θ) + ½ log |2π A⁻¹| − log q

with q the probability of this mode. The reference is that of the other half set: the map of its own half set holds the
noise of the image, which would speak for the body. With π the share of images that hold the body, estimated by maximum
likelihood, the probability of presence is

    p = π Z / (π Z + 1 − π)

References: MacKay 2003, Information Theory, Inference, and Learning Algorithms, ch. 27 (Laplace's method) and 28 (Occam
factor); Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39:1 (mixtures).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.kernels.local_search import SearchLimits
from lrcore.refinement.search_frame import SearchFrame

MIN_SHARE = 0.05
"""Below this share of images with the body, nothing is weighted: the maps would be made of next to no images."""
LARGEST_EVIDENCE = 500.0
"""Log evidence is cut here, for exponentials."""
LARGEST_CORRECTION = 10.0
"""Most that the step to the mode under the other half set's reference may add: beyond, the quadratic is not valid."""


@dataclass(frozen=True)
class PresentShare:
    """Share of the images that hold the body.

    Attributes
    ----------
    value : π, in [0, 1]
    error : standard error
    """

    value: float
    error: float


def log_evidence(
    W: Complex64,
    w: Float32,
    frame: SearchFrame,
    views: Float64,
    theta: Float64,
    mode_probability: Float64,
    backend: Backend,
) -> Float64:
    """Return the log evidence (B,) of the body against no density.

    Parameters
    ----------
    W, w : (B, S) windows and their weights
    frame : of the search, with the reference of the other half set
    views : (B, 3, 3) rotations about which the images were searched
    theta : (B, 5) poses that were found
    mode_probability : (B,) of these poses
    backend : where the kernels run
    """
    volume, samples, limits = frame.other_volume, frame.samples, frame.limits
    assert volume is not None
    value, gradient, hessian = backend.kernels.evaluate_with_derivatives(
        volume, W, w, samples, len(samples.ends) - 1, views, theta, frame.lever
    )
    precision = limits.precision(views)
    slope = gradient + np.einsum("bij,bj->bi", precision, theta)
    # The least curvature that matters: a posterior is no wider than the extents.
    extent = np.array([limits.rotation] * 3 + [limits.shift] * 2)
    curvature = hessian + precision + np.diag(np.maximum(extent, 1e-6) ** -2.0)
    gain = 0.5 * np.einsum("bi,bi->b", slope, np.linalg.solve(curvature, slope[..., None])[..., 0])
    width = -0.5 * np.linalg.slogdet(curvature / (2 * np.pi))[1]
    prior = _log_prior(theta, precision, limits)
    found = -value + np.minimum(gain, LARGEST_CORRECTION) + prior + width - np.log(np.maximum(mode_probability, 1e-6))
    return np.asarray(np.clip(found, -LARGEST_EVIDENCE, LARGEST_EVIDENCE), np.float64)


def _log_prior(theta: Float64, precision: Float64, limits: SearchLimits) -> Float64:
    """Return the log density (B,) of the prior at poses; without a prior it is uniform inside the extents."""
    if np.isfinite(limits.rotation_sd) or limits.motion is not None:
        quadratic = np.einsum("bi,bij,bj->b", theta, precision, theta)
        return np.asarray(0.5 * (np.linalg.slogdet(precision / (2 * np.pi))[1] - quadratic), np.float64)
    ball = 4 / 3 * np.pi * max(limits.rotation, 1e-6) ** 3 * np.pi * max(limits.shift, 1e-6) ** 2
    return np.full(len(theta), -np.log(ball))


def estimate_share(evidence: Float64) -> PresentShare:
    """Return the share of images that hold the body, by maximum likelihood.

    The likelihood Π (π Z + 1 − π) is concave in π: the root of its derivative is found by bisection.

    Parameters
    ----------
    evidence : (n,) log evidence of each image
    """
    if len(evidence) == 0:
        return PresentShare(1.0, 0.0)
    low, high = 0.0, 1.0
    if _slope(1.0, evidence).sum() >= 0:
        low = 1.0
    elif _slope(0.0, evidence).sum() <= 0:
        high = 0.0
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _slope(middle, evidence).sum() > 0 else (low, middle)
    share = 0.5 * (low + high)
    information = float((_slope(min(max(share, 1e-6), 1 - 1e-6), evidence) ** 2).sum())
    return PresentShare(share, min(information**-0.5, 1.0) if information > 0 else 1.0)


def _slope(share: float, evidence: Float64) -> Float64:
    """Return ∂ log(π Z + 1 − π) / ∂π of each image, (Z − 1) / (π Z + 1 − π), without overflow."""
    scale = np.exp(-np.maximum(evidence, 0.0))
    Z = np.exp(np.minimum(evidence, 0.0))
    return np.asarray((Z - scale) / np.maximum(share * Z + (1 - share) * scale, 1e-300), np.float64)


def probability_of_presence(evidence: Float64, share: float) -> Float64:
    """Return the probability (n,) that each image holds the body; 1 for all where the share is below MIN_SHARE.

    Parameters
    ----------
    evidence : (n,) log evidence of each image
    share : of all images that hold the body
    """
    if share < MIN_SHARE:
        return np.ones(len(evidence))
    scale, Z = np.exp(-np.maximum(evidence, 0.0)), np.exp(np.minimum(evidence, 0.0))
    return np.asarray(share * Z / np.maximum(share * Z + (1 - share) * scale, 1e-300), np.float64)


def presence_of(evidence: Float64, half: npt.NDArray[np.integer], valid: npt.NDArray[np.bool_]) -> Float64:
    """Return the probability of presence (n,), with the share of each half set; 0 for invalid images.

    Parameters
    ----------
    evidence : (n,) log evidence of each image
    half : (n,) half sets, 1 or 2
    valid : (n,) images that could be searched
    """
    found = np.zeros(len(evidence))
    for number in (1, 2):
        rows = valid & (half == number)
        found[rows] = probability_of_presence(evidence[rows], estimate_share(evidence[rows]).value)
    return found
