"""Held-out likelihood: how well two steps predict images that their maps have not seen, and which does it better.

An image of one half set is looked at with the map of the other, which has never seen it. What counts is how probable
the image is under the step, its pose not being known but for the prior (Laplace's approximation at the pose x that its
own half set found, with its posterior covariance Σ and the probability q of that mode):

    log p(image) = log p(image | x) + log prior(x) + ½ log |2π Σ| − log q

The likelihood at the pose alone would praise every step whose prior lets poses follow the noise. Without a prior it is
uniform inside the extents; the start, which looks for no pose, has the input pose for certain. It is counted over that
of no density at all. Of two steps every image has two scores, so that what makes one image worse than another drops out
of their difference.

The test is Student's on those differences. It takes the maps as they are, so that a difference of no weight is found
significant once there are images enough: a step is called better only if both half sets say so, which share no image
and no map, and if the difference is more than `WORTH`.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.fourier_volume import FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples
from lrcore.imaging.poses import magnified_rotation
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.motion.model import motion_between_poses
from lrcore.particles.bad_images import bad_image_mask
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.particles.subsets import draw_balanced_subset
from lrcore.records import Expectation, Particles, Poses, SearchSettings, Step, Volume
from lrcore.refinement.density import density_to_subtract
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.geometry import (
    SearchGeometry,
    align_resolution_A,
    resolution_bands,
    search_geometry,
    search_limits,
)
from lrcore.refinement.job import Job, with_signal_scale
from lrcore.refinement.reference import masked_window_ft
from lrcore.units import DEGREE

MAX_IMAGES = 4000
"""Images that are looked at; more would find smaller differences than matter."""
MIN_GAIN = 0.1
"""Mean difference of the scores, an image's log-likelihood, from which on it is called one: 10 % more probable."""
MAX_P_VALUE = 0.001
"""Probability of a chance finding, both half sets together, below which it is none."""


@dataclass(frozen=True)
class HeldOut:
    """Scores of the same images with two steps.

    rows: (n,) of the particles. half: (n,). score: (2, n), log-likelihood over no density. gain: mean of the second
    step's over the first's, error: its standard error. p: of Student's paired test, two-sided. better: 0 or 1, which
    step, or None where the data tell no difference. marginal: whether the poses' priors are counted; they cannot be of
    a re-centred search, whose middle a step does not keep, and then are of neither.
    """

    rows: npt.NDArray[np.int64]
    half: npt.NDArray[np.int8]
    score: Float64
    gain: float
    error: float
    p: float
    better: int | None
    marginal: bool = True


def held_out(first: Step, a: tuple[Job, Step], b: tuple[Job, Step], backend: Backend, n: int = MAX_IMAGES) -> HeldOut:
    """Compare steps a and b of the same particles inside the mask of b. first: the start of b, whose maps are whole.

    n: images to look at, as many of each half set, drawn by the seed of b.
    """
    job = b[0]
    particles = with_signal_scale(replace(job, spec=job.spec.model_copy(update={"per_particle_scale": False})), first)
    rows = draw_balanced_subset(particles.half, min(n, len(particles)), job.spec.seed)
    shape, around = search_geometry(job.mask, job.spec), density_to_subtract(job, first, job.mask, backend.threads)
    steps = (a[1], b[1])
    finest = min(align_resolution_A(step.fsc["corrected"], job.spec, step.initial_lowpass_A) for step in steps)
    samples, _, _ = resolution_bands(shape, finest, largest_magnification(particles))
    score, half = np.zeros((2, len(rows))), particles.half[rows]
    for number in (1, 2):
        seen = _ScoringContext(
            samples,
            shape,
            np.mean([step.noise[number - 1] for step in steps], axis=0),
            backend.place(map_to_fourier_volume(around.maps[number - 1], around.limit, backend.threads))
            if around
            else None,
        )
        volumes = [_predictive_volume(step, 3 - number, job.mask, seen, particles, backend) for step in steps]

        def work(batch: Batch, seen: _ScoringContext = seen, volumes: list[FourierVolume] = volumes) -> Float64:
            rest = subtract_outside_density(batch, seen.outside, particles, backend)
            poses = [step.expectation.poses.select(batch.rows) for step in steps]
            both = zip(poses, volumes, strict=True)
            each = [_score(rest, here, volume, seen, particles, backend) for here, volume in both]
            return np.where(batch.bad, 0.0, each)

        at = np.nonzero(half == number)[0]
        score[:, at] = np.concatenate(list(map_batches(particles, rows[at], backend, work)), axis=1)
    marginal = all(step.iteration == 0 or (step.search and not step.search.recentred) for step in steps)
    if marginal:
        score += np.stack(
            [_occam_factor(particles.select(rows), step.expectation.select(rows), step.search) for step in steps]
        )
    return replace(compare_scores(rows, half, score), marginal=marginal)


def compare_scores(rows: npt.NDArray[np.int64], half: npt.NDArray[np.int8], score: Float64) -> HeldOut:
    """The verdict on scores (2, n) of images of two half sets."""
    more = score[1] - score[0]
    gain, error = float(more.mean()), float(more.std(ddof=1) / np.sqrt(len(more)))
    p = float(2 * stdtr(len(more) - 1, -abs(gain) / error)) if error > 0 else 1.0
    signs = {float(np.sign(more[half == number].mean())) for number in (1, 2)}
    told = p < MAX_P_VALUE and len(signs) == 1 and abs(gain) > MIN_GAIN
    return HeldOut(rows, half, score, gain, error, p, int(gain > 0) if told else None)


def _occam_factor(particles: Particles, found: Expectation, held: SearchSettings | None) -> Float64:
    """What not knowing the pose costs, (n,): log prior(x) + ½ log |2π Σ| − log q. held: None for no search at all."""
    if held is None:
        return np.zeros(len(particles))
    behind = magnification_in_3d(particles, np.arange(len(particles)))
    theta = motion_between_poses(particles.poses, found.poses, np.array(held.fulcrum_A), behind)
    if np.isfinite(held.rotation_sd_deg):
        precision = search_limits(held).precision(magnified_rotation(particles.poses.rotation, behind))
        prior = 0.5 * (
            np.linalg.slogdet(precision / (2 * np.pi))[1] - np.einsum("ni,nij,nj->n", theta, precision, theta)
        )
    else:
        ball = 4 / 3 * np.pi * (held.rotation_extent_deg * DEGREE) ** 3 * np.pi * held.shift_extent_A**2
        prior = np.full(len(theta), -np.log(ball))
    width = 0.5 * np.linalg.slogdet(2 * np.pi * found.covariance)[1]
    cost = prior + width - np.log(np.maximum(found.mode_probability, 1e-6))
    return np.asarray(np.where(bad_image_mask(found.flags), 0.0, cost), dtype=np.float64)


@dataclass(frozen=True)
class _ScoringContext:
    """How the images of a half set are looked at: window and samples, their noise, and what is taken from them."""

    samples: FourierSamples
    shape: SearchGeometry
    noise: Float64
    outside: FourierVolume | None


def _predictive_volume(
    step: Step, half: int, mask: Volume, seen: _ScoringContext, particles: Particles, backend: Backend
) -> FourierVolume:
    """What a half map predicts: its Wiener filter, by the FSC inside this mask."""
    first, second = step.half_maps.first.data, step.half_maps.second.data
    # At most what is left of the step's own FSC without what its mask lends to it.
    here, corrected = masked_fsc(first, second, mask.data, backend.threads), step.fsc["corrected"].value
    gain = wiener_gain(np.minimum(here, corrected))
    filtered = filter_map(step.half_maps.half(half).data, gain, backend.threads)
    return backend.place(
        masked_window_ft(filtered, mask, seen.shape, seen.samples, backend.threads, largest_magnification(particles))
    )


def _score(
    rest: Batch, poses: Poses, volume: FourierVolume, seen: _ScoringContext, particles: Particles, backend: Backend
) -> Float64:
    """Log-likelihood (B,) of a batch at these poses, over that of no density."""
    behind = magnification_in_3d(particles, rest.rows)
    W, w = backend.kernels.whiten_windows(
        rest.spectrum, rest.ctf, seen.noise, particles.group[rest.rows], np.zeros(seen.noise.shape[-1]),
        seen.shape.centre_in(poses, behind), seen.samples,
    )  # fmt: skip
    turns, still = magnified_rotation(poses.rotation, behind), np.zeros((len(poses), 1, 5))
    lever = seen.shape.centre - seen.shape.fulcrum
    band = len(seen.samples.ends) - 1
    return -backend.kernels.evaluate_likelihood(volume, W, w, seen.samples, band, turns, still, lever)[:, 0]
