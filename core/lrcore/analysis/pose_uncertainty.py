"""Estimate the uncertainty of poses by importance sampling of their posterior under the other half map.

Laplace's covariance Σ, which the search gives, is too small for two reasons. At low SNR the posterior is wider than a
Gaussian with the curvature of its peak. And a half map contains the noise of its own images, each at the pose found for
it, which sharpens each peak and keeps it where it was. Therefore the posterior of each image is sampled with the map of
the other half set: draws z come from a multivariate Student t distribution q about the pose x, with the scale matrix
PROPOSAL_WIDTH² Σ, and have the weights

    w(z) ∝ p(image | z, other half map) p(z) / q(z),      E[(z − x)(z − x)ᵀ] = Σ w (z − x)(z − x)ᵀ / Σ w

Where few draws carry all the weight, new ones are drawn from a distribution with the weighted moments of the old ones.
Nothing is fed back into a refinement: the half sets stay independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv, gammaln, ndtri

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.rotations import rotation_exp, rotation_log
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.records import Expectation, Poses, Progress, Step
from lrcore.refinement.expectation import search_centres, subtract_outside_density
from lrcore.refinement.iteration import IterationContext, cross_half_context, half_set_context
from lrcore.refinement.job import Job
from lrcore.refinement.reference import Reference, reference_to_device
from lrcore.refinement.search import poses_to_theta
from lrcore.refinement.search_frame import SearchFrame
from lrcore.units import DEGREE

DRAWS = 256
"""Number of draws for each image; a power of two, which Sobol sequences require."""
PROPOSAL_WIDTH = 1.6
"""Width of the proposal distribution relative to Laplace's approximation: wider than the posterior."""
DEGREES_OF_FREEDOM = 5
"""Degrees of freedom of the proposal distribution; its heavy tails reach secondary modes."""
MIN_EFFECTIVE_DRAWS = 24.0
"""Effective number of draws below which an image is sampled again."""
MAX_ROUNDS = 3
"""Largest number of times that an image is sampled."""


@dataclass(frozen=True)
class Uncertainty:
    """Sampled uncertainty of n poses, in (ω_x, ω_y, ω_z, t_x, t_y) about the fulcrum, rad and Å.

    Attributes
    ----------
    covariance : (n, 5, 5), second moment about the reported pose; for an invalid image, the covariance of the search
    offset : (n, 5), mean difference from the reported pose: where the other half map would place it
    ess : (n,), effective number of draws out of `DRAWS`; 0 for an invalid image
    """

    covariance: Float64
    offset: Float64
    ess: Float64


def uncertainty(
    job: Job, first: Step, last: Step, backend: Backend, before: Step | None = None
) -> Iterator[Progress | Uncertainty]:
    """Estimate the uncertainty of the poses of a step under the map of the other half set.

    Parameters
    ----------
    job : the job that the step was run with
    first : step 0 of the run
    last : the step whose poses are sampled
    backend : backend to compute with
    before : the step before `last`, about whose poses a re-centred search has its prior; None for the input poses

    Yields
    ------
    Progress or Uncertainty
        Progress after each batch, and the Uncertainty as the last item.

    Raises
    ------
    InputError
        If `last` is step 0, which has no search, or if an image stack cannot be read.

    References
    ----------
    Owen 2013, Monte Carlo theory, methods and examples, ch. 9 (self-normalised importance sampling, effective sample
    size)
    """
    if last.iteration == 0:
        raise InputError("iteration 0 has the input poses, which were not searched: give a later iteration")
    n, done = len(job.particles), 0
    context = cross_half_context(job, first, last, backend)
    out = Uncertainty(last.expectation.covariance.copy(), np.zeros((n, 5)), np.zeros(n))
    for half in (1, 2):
        rows = reading_order(job.particles, half)
        shared = half_set_context(context, half, rows)
        reference = reference_to_device(shared.reference, backend)
        prior = job.particles.poses if before is None else before.expectation.poses

        def work(
            batch: Batch, noise: Float64 = shared.noise, reference: Reference = reference, prior: Poses = prior
        ) -> Batch:
            _sample_batch(batch, context, noise, reference, prior, out)
            return batch

        for batch in map_batches(job.particles, rows, backend, work, shared.typical_sd):
            done += len(batch.rows)
            yield Progress(last.iteration, "uncertainty", done, n)
    yield out


def _sample_batch(
    batch: Batch, context: IterationContext, noise: Float64, reference: Reference, prior: Poses, out: Uncertainty
) -> None:
    """Sample the posteriors of a batch and store their moments in `out`. noise: (groups, shells) of its half set."""
    particles, frame, backend, rows = context.job.particles, reference.frame, context.backend, batch.rows
    rest = subtract_outside_density(batch, reference.outside, particles, backend)
    behind = magnification_in_3d(particles, rows)
    centres = search_centres(
        particles.poses.select(rows), prior.select(rows), context.job.spec, frame.fulcrum_A, behind
    )
    whole = replace(frame.samples, ends=frame.samples.ends[-1:])
    W, w = backend.kernels.whiten_windows(
        rest.spectrum, rest.ctf, noise, particles.group[rows], reference.variance,
        context.geometry.centre_in(centres, behind), whole,
    )  # fmt: skip
    found: Expectation = context.last.expectation.select(rows)
    theta = poses_to_theta(centres, found.poses, frame, behind)
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])
    turns = magnified_rotation(centres.rotation, behind)
    proposal = ProposalDistribution(theta, found.covariance / np.outer(unit, unit))
    mean, second, ess = sample_posterior(W, w, replace(frame, samples=whole), turns, proposal, backend)
    good = ~batch.bad
    out.covariance[rows[good]] = (second * np.outer(unit, unit))[good]
    out.offset[rows[good]] = (mean * unit)[good]
    out.ess[rows[good]] = ess[good]


@dataclass(frozen=True)
class ProposalDistribution:
    """Centres θ (B, 5), rad and px, and covariances (B, 5, 5) of the distributions to draw from."""

    theta: Float64
    covariance: Float64


def sample_posterior(
    W: Complex64, w: Float32, frame: SearchFrame, turns: Float64, proposal: ProposalDistribution, backend: Backend
) -> tuple[Float64, Float64, Float64]:
    """Sample posteriors of δ, R → R exp(δ), t → t + δ, and return their moments.

    Parameters
    ----------
    W, w : (B, S), whitened images and weights, from `whiten_windows`
    frame : reference, samples, prior and extents of the search
    turns : (B, 3, 3), rotations of the centres of the search
    proposal : centres and covariances to draw from, in θ relative to the centres of the search
    backend : backend to compute with

    Returns
    -------
    tuple of arrays
        Mean (B, 5) and second moment (B, 5, 5) of δ, rad and px, and the effective number of draws (B,).
    """
    count = len(proposal.theta)
    mean, spread = np.zeros((count, 5)), proposal.covariance * PROPOSAL_WIDTH**2
    second, ess = proposal.covariance.copy(), np.zeros(count)
    todo = np.arange(count)
    for seed in range(MAX_ROUNDS):
        z, density = student_t_draws(DRAWS, seed)
        delta = mean[todo, None] + np.einsum("bij,sj->bsi", np.linalg.cholesky(spread[todo]), z)
        batch = backend.to_device(todo)
        value = _log_posterior(W[batch], w[batch], frame, turns[todo], proposal.theta[todo], delta, backend)
        share = value - density
        share = np.exp(share - share.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        effective = 1 / (share**2).sum(axis=1)
        better = effective > ess[todo]
        rows, share, delta = todo[better], share[better], delta[better]
        ess[rows] = effective[better]
        mean[rows] = np.einsum("bs,bsi->bi", share, delta)
        second[rows] = np.einsum("bs,bsi,bsj->bij", share, delta, delta)
        todo = todo[ess[todo] < MIN_EFFECTIVE_DRAWS]
        if len(todo) == 0:
            break
        outer = mean[todo, :, None] * mean[todo, None]
        spread[todo] = PROPOSAL_WIDTH**2 * (second[todo] - outer + 0.25 * proposal.covariance[todo])
    return mean, second, ess


def student_t_draws(draws: int, seed: int) -> tuple[Float64, Float64]:
    """Return draws (S, 5) of a Student t distribution from a Sobol sequence, and their log density (S,)."""
    nu = DEGREES_OF_FREEDOM
    uniform = np.clip(_sobol(draws, seed), 1e-9, 1 - 1e-9)
    chi2 = 2 * gammaincinv(nu / 2, uniform[:, 5:])
    z = ndtri(uniform[:, :5]) / np.sqrt(chi2 / nu)
    constant = gammaln((nu + 5) / 2) - gammaln(nu / 2) - 2.5 * np.log(nu * np.pi)
    return z, constant - 0.5 * (nu + 5) * np.log1p((z**2).sum(axis=1) / nu)


def _sobol(draws: int, seed: int) -> Float64:
    """Return a scrambled Sobol sequence (draws, 6) in the unit cube."""
    from scipy.stats import qmc  # imported here because it takes half a second, which would delay every command

    return np.asarray(qmc.Sobol(6, seed=seed).random(draws), dtype=np.float64)


def _log_posterior(
    W: Complex64, w: Float32, frame: SearchFrame, turns: Float64, theta: Float64, delta: Float64, backend: Backend
) -> Float64:
    """Return the log posterior (B, S) of θ moved by draws δ (B, S, 5), up to a constant; −∞ beyond the extents."""
    limits, shape = frame.limits, delta.shape[:2]
    moved = rotation_exp(theta[:, :3])[:, None] @ rotation_exp(delta[..., :3].reshape(-1, 3)).reshape(*shape, 3, 3)
    omega = rotation_log(moved.reshape(-1, 3, 3)).reshape(*shape, 3)
    here = np.concatenate([omega, theta[:, None, 3:] + delta[..., 3:]], axis=2)
    value = backend.kernels.evaluate_likelihood(frame.volume, W, w, frame.samples, 0, turns, here, frame.lever)
    beyond = np.linalg.norm(here[..., :3], axis=2) > limits.rotation * (1 + 1e-9)
    beyond |= np.linalg.norm(here[..., 3:], axis=2) > limits.shift * (1 + 1e-9)
    penalty = 0.5 * np.einsum("bsi,bij,bsj->bs", here, limits.precision(turns), here)
    return np.asarray(np.where(beyond, -np.inf, -value - penalty), dtype=np.float64)


def pose_sds(covariance: npt.NDArray[np.floating]) -> tuple[Float64, Float64]:
    """Return SDs of rotation (n,), degrees, and of shift (n,), Å, as root mean squares over the axes.

    Parameters
    ----------
    covariance : (n, 5, 5), covariances of (ω, t), rad and Å

    Returns
    -------
    tuple of arrays
        SD of the rotation in degrees and SD of the shift in Å.
    """
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    return np.sqrt(variance[:, :3].mean(axis=1)) / DEGREE, np.sqrt(variance[:, 3:].mean(axis=1))
