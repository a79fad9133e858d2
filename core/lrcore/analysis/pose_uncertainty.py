"""How far the poses of a step may be off, by draws from their posterior under a map that has not seen their image.

Laplace's covariance, which the search gives, promises too much for two reasons: at low SNR the posterior is wider than
a Gaussian with the curvature of its peak; and a half map holds the noise of its own images, each at the pose that was
found for it, which sharpens every peak and holds it where it was. So each image is asked again, with the map of the
other half set: weighted draws z from Student's distribution about the pose x, of covariance WIDER² Σ,

    w(z) ∝ p(image | z, other half's map) p(z) / q(z),      E[(z − x)(z − x)ᵀ] = Σ w (z − x)(z − x)ᵀ / Σ w

Where few draws have all the weight, they are drawn again from what they found. Nothing of this goes back into a
refinement: the half sets stay apart.
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
from lrcore.refinement.search import SearchFrame, poses_to_theta
from lrcore.units import DEGREE

DRAWS = 256
"""From each posterior; a power of two, as Sobol's sequence wants."""
PROPOSAL_WIDTH = 1.6
DEGREES_OF_FREEDOM = 5
"""Of the distribution that is drawn from: wider than the posterior, with tails for what it may have beside."""
MIN_EFFECTIVE_DRAWS = 24.0
"""Draws that count, `ess`, below which they are drawn again."""
MAX_ROUNDS = 3


@dataclass(frozen=True)
class Uncertainty:
    """What draws say of the error of n poses.

    covariance: (n, 5, 5), second moment about the reported pose of (ω_x, ω_y, ω_z, t_x, t_y) about the fulcrum, rad
    and Å. offset: (n, 5), the mean: where the other half's map would have the pose. ess: (n,) draws that count, of
    DRAWS. An image that is none keeps the search's covariance, and has an `ess` of 0.
    """

    covariance: Float64
    offset: Float64
    ess: Float64


def uncertainty(
    job: Job, first: Step, last: Step, backend: Backend, before: Step | None = None
) -> Iterator[Progress | Uncertainty]:
    """Progress, then the uncertainty of the poses of `last`. first: the run's Step 0.

    before: the step that `last` followed, which its prior was about if the spec re-centres. Raises InputError for a
    step without a search.
    """
    if last.iteration == 0:
        raise InputError("iteration 0 has the input poses, which were not searched: give a later iteration")
    n, done = len(job.particles), 0
    scene = cross_half_context(job, first, last, backend)
    out = Uncertainty(last.expectation.covariance.copy(), np.zeros((n, 5)), np.zeros(n))
    for half in (1, 2):
        rows = reading_order(job.particles, half)
        shared = half_set_context(scene, half, rows)
        reference = reference_to_device(shared.reference, backend)
        prior = job.particles.poses if before is None else before.expectation.poses

        def work(batch: Batch, half: int = half, reference: Reference = reference, prior: Poses = prior) -> Batch:
            _sample_batch(batch, scene, half, reference, prior, out)
            return batch

        for batch in map_batches(job.particles, rows, backend, work, shared.typical_sd):
            done += len(batch.rows)
            yield Progress(last.iteration, "uncertainty", done, n)
    yield out


def _sample_batch(
    batch: Batch, scene: IterationContext, half: int, reference: Reference, prior: Poses, out: Uncertainty
) -> None:
    """Draw for the images of a batch, and put down what they say."""
    particles, frame, backend, rows = scene.job.particles, reference.frame, scene.backend, batch.rows
    rest = subtract_outside_density(batch, reference.outside, particles, backend)
    behind = magnification_in_3d(particles, rows)
    centres = search_centres(particles.poses.select(rows), prior.select(rows), scene.job.spec, frame.fulcrum_A, behind)
    whole = replace(frame.samples, ends=frame.samples.ends[-1:])
    W, w = backend.kernels.whiten_windows(
        rest.spectrum, rest.ctf, scene.last.noise[half - 1], particles.group[rows], reference.variance,
        scene.shape.centre_in(centres, behind), whole,
    )  # fmt: skip
    found: Expectation = scene.last.expectation.select(rows)
    theta = poses_to_theta(centres, found.poses, frame, behind)
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])
    turns = magnified_rotation(centres.rotation, behind)
    drawn = ProposalDistribution(theta, found.covariance / np.outer(unit, unit))
    mean, second, ess = sample_posterior(W, w, replace(frame, samples=whole), turns, drawn, backend)
    fine = ~batch.bad
    out.covariance[rows[fine]] = (second * np.outer(unit, unit))[fine]
    out.offset[rows[fine]] = (mean * unit)[fine]
    out.ess[rows[fine]] = ess[fine]


@dataclass(frozen=True)
class ProposalDistribution:
    """About which poses to draw, θ (B, 5; rad, px), and with which covariances (B, 5, 5)."""

    theta: Float64
    covariance: Float64


def sample_posterior(
    W: Complex64, w: Float32, frame: SearchFrame, turns: Float64, about: ProposalDistribution, backend: Backend
) -> tuple[Float64, Float64, Float64]:
    """Mean (B, 5) and second moment (B, 5, 5) of δ, R → R exp(δ), t → t + δ, of the posterior; the draws that count.

    W, w: (B, S) as `window` cuts them; turns: (B, 3, 3) of the middles of the search.
    """
    count = len(about.theta)
    mean, spread = np.zeros((count, 5)), about.covariance * PROPOSAL_WIDTH**2
    second, ess = about.covariance.copy(), np.zeros(count)
    todo = np.arange(count)
    for seed in range(MAX_ROUNDS):
        z, density = student_t_draws(DRAWS, seed)
        delta = mean[todo, None] + np.einsum("bij,sj->bsi", np.linalg.cholesky(spread[todo]), z)
        some = backend.to_device(todo)
        value = _log_posterior(W[some], w[some], frame, turns[todo], about.theta[todo], delta, backend)
        share = value - density
        share = np.exp(share - share.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        counted = 1 / (share**2).sum(axis=1)
        better = counted > ess[todo]
        rows, share, delta = todo[better], share[better], delta[better]
        ess[rows] = counted[better]
        mean[rows] = np.einsum("bs,bsi->bi", share, delta)
        second[rows] = np.einsum("bs,bsi,bsj->bij", share, delta, delta)
        todo = todo[ess[todo] < MIN_EFFECTIVE_DRAWS]
        if len(todo) == 0:
            break
        off = mean[todo, :, None] * mean[todo, None]
        spread[todo] = PROPOSAL_WIDTH**2 * (second[todo] - off + 0.25 * about.covariance[todo])
    return mean, second, ess


def student_t_draws(draws: int, seed: int) -> tuple[Float64, Float64]:
    """Draws (S, 5) of Student's distribution by Sobol's sequence, and their log density (S,) up to a constant."""
    nu = DEGREES_OF_FREEDOM
    even = np.clip(_sobol(draws, seed), 1e-9, 1 - 1e-9)
    chi2 = 2 * gammaincinv(nu / 2, even[:, 5:])
    z = ndtri(even[:, :5]) / np.sqrt(chi2 / nu)
    constant = gammaln((nu + 5) / 2) - gammaln(nu / 2) - 2.5 * np.log(nu * np.pi)
    return z, constant - 0.5 * (nu + 5) * np.log1p((z**2).sum(axis=1) / nu)


def _sobol(draws: int, seed: int) -> Float64:
    """(draws, 6) evenly in the unit cube."""
    from scipy.stats import qmc  # takes half a second, which every command would wait for

    return np.asarray(qmc.Sobol(6, seed=seed).random(draws), dtype=np.float64)


def _log_posterior(
    W: Complex64, w: Float32, frame: SearchFrame, turns: Float64, theta: Float64, delta: Float64, backend: Backend
) -> Float64:
    """(B, S) of θ moved by each of the draws δ (B, S, 5), up to a constant of the image; −∞ beyond the extents."""
    limits, shape = frame.limits, delta.shape[:2]
    turned = rotation_exp(theta[:, :3])[:, None] @ rotation_exp(delta[..., :3].reshape(-1, 3)).reshape(*shape, 3, 3)
    omega = rotation_log(turned.reshape(-1, 3, 3)).reshape(*shape, 3)
    here = np.concatenate([omega, theta[:, None, 3:] + delta[..., 3:]], axis=2)
    value = backend.kernels.evaluate_likelihood(frame.volume, W, w, frame.samples, 0, turns, here, frame.lever)
    beyond = np.linalg.norm(here[..., :3], axis=2) > limits.rotation * (1 + 1e-9)
    beyond |= np.linalg.norm(here[..., 3:], axis=2) > limits.shift * (1 + 1e-9)
    penalty = 0.5 * np.einsum("bsi,bij,bsj->bs", here, limits.precision(turns), here)
    return np.asarray(np.where(beyond, -np.inf, -value - penalty), dtype=np.float64)


def pose_sds(covariance: npt.NDArray[np.floating]) -> tuple[Float64, Float64]:
    """SDs (n,) in degrees and Å, root mean squares over the axes, of covariances (n, 5, 5)."""
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    return np.sqrt(variance[:, :3].mean(axis=1)) / DEGREE, np.sqrt(variance[:, 3:].mean(axis=1))
