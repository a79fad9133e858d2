"""Tell whether the body is in each image: log evidence against no density, and the probability of presence.

An image shows the body, or nothing in the place of the mask, or something else (a contaminant, an ice edge, a neighbour
on top). Without density the value of the search (`kernels.local_search`) is 0. With the body, the evidence of an image
is the likelihood over the prior of the pose; by Laplace's approximation from the pose θ that was found, with the value
v, gradient g and curvature H under the reference, and the precision P of the prior (g and H of the posterior are g + Pθ
and A = H + P),

    log Z = −v + ½ (g + Pθ)ᵀ A⁻¹ (g + Pθ) + log prior(θ) + ½ log |2π A⁻¹| − log q

with q the probability of this mode. The reference is that of the other half set: the map of its own half set holds the
noise of the image, which would speak for the body.

The noise of an image may be stronger or weaker than the mean by a factor τ, and something else raises it much. With N
samples in a band and C = Σ |W − w M|² / w, the likelihood of either is, relative to the noise as it is,

    ∫ τ^{−N} exp(−C / τ) LogNormal(τ; 0, s) dτ

with s = NOISE_SD where an image is what it should be and s = MISFIT_SD for something else, which has M = 0. So −v is
replaced by the difference of the logarithms with C + v and with C, the sum over the bands of the search.

With the shares π of images with the body and ε of something else, both by maximum likelihood, and the evidence Y of
something else, the probability of presence is

    p = π Z / (π Z + (1 − π − ε) + ε Y)

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
LARGEST_EVIDENCE = 300.0
"""Log evidence is cut here, for exponentials."""
LARGEST_CORRECTION = 10.0
"""Most that the step to the mode under the other half set's reference may add: beyond, the quadratic is not valid."""
NOISE_SD = 0.15
"""SD of the logarithm of an image's noise about the mean."""
MISFIT_SD = 1.0
"""The same for an image of something else."""
LEAST_WEIGHT = 0.3
"""Samples with less weight than this share of the mean do not count more than these in the power of the noise."""
_LOG_NOISE = np.linspace(-1.5, 5.0, 131)
"""Values of log τ over which the likelihood is integrated."""
EM_STEPS = 200


@dataclass(frozen=True)
class Shares:
    """Shares of the images of a half set by what they show.

    Attributes
    ----------
    present : π, of images with the body
    misfit : ε, of images of something else
    error : standard error of π
    """

    present: float = 1.0
    misfit: float = 0.0
    error: float = 0.0


ALL_PRESENT = Shares()
"""Before anything was measured."""


def log_evidence(
    W: Complex64,
    w: Float32,
    frame: SearchFrame,
    views: Float64,
    theta: Float64,
    mode_probability: Float64,
    backend: Backend,
) -> tuple[Float64, Float64]:
    """Return the log evidence of the body, and that of something else, against no density: (B,) each.

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
    last = len(samples.ends) - 1
    value, gradient, hessian = backend.kernels.evaluate_with_derivatives(
        volume, W, w, samples, last, views, theta, frame.lever
    )
    coarser = [
        backend.kernels.evaluate_likelihood(volume, W, w, samples, band, views, theta[:, None], frame.lever)[:, 0]
        for band in range(last)
    ]
    each = np.diff(np.stack([np.zeros(len(value)), *coarser, value]), axis=0)
    body, misfit = _with_unknown_noise(each, *_power_of_bands(W, w, samples.ends, backend))
    occam = _occam_factor(theta, gradient, hessian, limits.precision(views), limits)
    found = body + occam - np.log(np.maximum(mode_probability, 1e-6))
    return _cut(found), _cut(misfit)


def _cut(evidence: Float64) -> Float64:
    """Return log evidence within LARGEST_EVIDENCE of 0."""
    return np.asarray(np.clip(evidence, -LARGEST_EVIDENCE, LARGEST_EVIDENCE), np.float64)


def _occam_factor(
    theta: Float64, gradient: Float64, hessian: Float64, precision: Float64, limits: SearchLimits
) -> Float64:
    """Return ½ (g + Pθ)ᵀ A⁻¹ (g + Pθ) + log prior(θ) + ½ log |2π A⁻¹| of each image, (B,)."""
    slope = gradient + np.einsum("bij,bj->bi", precision, theta)
    # A posterior is no wider than the extents.
    extent = np.array([limits.rotation] * 3 + [limits.shift] * 2)
    curvature = hessian + precision + np.diag(np.maximum(extent, 1e-6) ** -2.0)
    gain = 0.5 * np.einsum("bi,bi->b", slope, np.linalg.solve(curvature, slope[..., None])[..., 0])
    width = -0.5 * np.linalg.slogdet(curvature / (2 * np.pi))[1]
    return np.asarray(np.minimum(gain, LARGEST_CORRECTION) + width + _log_prior(theta, precision, limits), np.float64)


def _log_prior(theta: Float64, precision: Float64, limits: SearchLimits) -> Float64:
    """Return the log density (B,) of the prior at poses; without a prior it is uniform inside the extents."""
    if np.isfinite(limits.rotation_sd) or limits.motion is not None:
        quadratic = np.einsum("bi,bij,bj->b", theta, precision, theta)
        return np.asarray(0.5 * (np.linalg.slogdet(precision / (2 * np.pi))[1] - quadratic), np.float64)
    ball = 4 / 3 * np.pi * max(limits.rotation, 1e-6) ** 3 * np.pi * max(limits.shift, 1e-6) ** 2
    return np.full(len(theta), -np.log(ball))


def _power_of_bands(
    W: Complex64, w: Float32, ends: tuple[int, ...], backend: Backend
) -> tuple[Float64, npt.NDArray[np.int64]]:
    """Return C = Σ |W|² / w of the samples of each band (bands, B), and their numbers (bands,)."""
    power, start = [], 0
    for end in ends:
        part = w[:, start:end]
        level = np.maximum(part, LEAST_WEIGHT * part.mean(axis=1)[:, None] + np.float32(1e-30))
        seen = (np.abs(W[:, start:end]) ** 2 / level).sum(axis=1)
        expected = (np.maximum(part, np.float32(0)) / level).sum(axis=1)
        ratio = backend.to_host(seen).astype(np.float64) / np.maximum(backend.to_host(expected), 1e-6)
        power.append((end - start) * ratio)
        start = end
    return np.stack(power), np.diff([0, *ends])


def _with_unknown_noise(value: Float64, power: Float64, count: npt.NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Return the log likelihood of the body, and of something else, against no density, for noise of unknown strength.

    value: (bands, B) of the search. power: (bands, B) C. count: (bands,) samples.
    """
    body, misfit = np.zeros(value.shape[1]), np.zeros(value.shape[1])
    for v, C, N in zip(value, power, count, strict=True):
        nothing = _over_noise(C, N, NOISE_SD)
        body += _over_noise(np.maximum(C + v, 0.0), N, NOISE_SD) - nothing
        misfit += _over_noise(C, N, MISFIT_SD) - nothing
    return body, misfit


def _over_noise(C: Float64, N: int, sd: float) -> Float64:
    """Return log ∫ τ^{−N} exp(−C / τ) LogNormal(τ; 0, sd) dτ for each of (B,) values C, up to a constant."""
    terms = -N * _LOG_NOISE - C[:, None] * np.exp(-_LOG_NOISE) - 0.5 * (_LOG_NOISE / sd) ** 2
    most = terms.max(axis=1)
    return np.asarray(most + np.log(np.exp(terms - most[:, None]).sum(axis=1)) - np.log(sd), np.float64)


def estimate_shares(evidence: Float64, misfit: Float64) -> Shares:
    """Return the shares of the images by what they show, by expectation maximisation of the likelihood.

    Parameters
    ----------
    evidence, misfit : (n,) log evidence of the body and of something else; all 0 where nothing was measured
    """
    if not np.any(evidence):
        return Shares()
    shares = Shares(0.5, 0.05)
    for _ in range(EM_STEPS):
        p, q = _posterior(evidence, misfit, shares)
        found = Shares(float(p.mean()), float(q.mean()))
        moved = abs(found.present - shares.present) + abs(found.misfit - shares.misfit)
        shares = found
        if moved < 1e-7:
            break
    p, q = _posterior(evidence, misfit, Shares(min(max(shares.present, 1e-6), 1 - 1e-6), shares.misfit))
    nothing = max(1 - shares.present - shares.misfit, 1e-6)
    information = float(((p / max(shares.present, 1e-6) - (1 - p - q) / nothing) ** 2).sum())
    return Shares(shares.present, shares.misfit, min(information**-0.5, 1.0) if information > 0 else 1.0)


def probability_of_presence(evidence: Float64, misfit: Float64, shares: Shares) -> Float64:
    """Return the probability (n,) that each image holds the body; 1 for all where the share is below MIN_SHARE.

    Parameters
    ----------
    evidence, misfit : (n,) log evidence of the body and of something else
    shares : of all images
    """
    if shares.present < MIN_SHARE:
        return np.ones(len(evidence))
    return _posterior(evidence, misfit, shares)[0]


def _posterior(evidence: Float64, misfit: Float64, shares: Shares) -> tuple[Float64, Float64]:
    """Return the probabilities (n,) of the body and of something else, without overflow."""
    most = np.maximum(np.maximum(evidence, misfit), 0.0)
    body, other = shares.present * np.exp(evidence - most), shares.misfit * np.exp(misfit - most)
    nothing = max(1 - shares.present - shares.misfit, 0.0) * np.exp(-most)
    total = np.maximum(body + other + nothing, 1e-300)
    return body / total, other / total


def presence_of(
    evidence: Float64, misfit: Float64, half: npt.NDArray[np.integer], valid: npt.NDArray[np.bool_]
) -> Float64:
    """Return the probability of presence (n,), with the shares of each half set; 0 for invalid images.

    Parameters
    ----------
    evidence, misfit : (n,) log evidence of the body and of something else
    half : (n,) half sets, 1 or 2
    valid : (n,) images that could be searched
    """
    found = np.zeros(len(evidence))
    for number in (1, 2):
        rows = valid & (half == number)
        shares = estimate_shares(evidence[rows], misfit[rows])
        found[rows] = probability_of_presence(evidence[rows], misfit[rows], shares)
    return found
