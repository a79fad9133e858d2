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

from lrcore.aberrations import lens, stretch
from lrcore.backend import Backend
from lrcore.defects import skipped
from lrcore.expect import subtracted
from lrcore.fourier import FourierVolume, filter_map, from_map
from lrcore.fsc import masked_correlation, wiener_gain
from lrcore.grids import Samples
from lrcore.images import Batch, worked
from lrcore.motion import motions
from lrcore.poses import seen_through
from lrcore.records import Expectation, Held, Particles, Poses, Step, Volume
from lrcore.reference import Geometry, align_resolution_A, bands, geometry, limits_of, windowed
from lrcore.refine import Job, outside, weighed
from lrcore.subset import half_balanced
from lrcore.units import DEGREE

Float64 = npt.NDArray[np.float64]

AT_MOST = 4000
"""Images that are looked at; more would find smaller differences than matter."""
WORTH = 0.1
"""Mean difference of the scores, an image's log-likelihood, from which on it is called one: 10 % more probable."""
SURE = 0.001
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


def held_out(first: Step, a: tuple[Job, Step], b: tuple[Job, Step], backend: Backend, n: int = AT_MOST) -> HeldOut:
    """Compare steps a and b of the same particles inside the mask of b. first: the start of b, whose maps are whole.

    n: images to look at, as many of each half set, drawn by the seed of b.
    """
    job = b[0]
    particles = weighed(replace(job, spec=job.spec.model_copy(update={"per_particle_scale": False})), first)
    rows = half_balanced(particles.half, min(n, len(particles)), job.spec.seed)
    shape, around = geometry(job.mask, job.spec), outside(job, first, job.mask, backend.threads)
    steps = (a[1], b[1])
    finest = min(align_resolution_A(step.fsc["corrected"], job.spec, step.initial_lowpass_A) for step in steps)
    samples, _, _ = bands(shape, finest, stretch(particles))
    score, half = np.zeros((2, len(rows))), particles.half[rows]
    for number in (1, 2):
        seen = _Seen(
            samples,
            shape,
            np.mean([step.noise[number - 1] for step in steps], axis=0),
            backend.place(from_map(around.maps[number - 1], around.limit, backend.threads)) if around else None,
        )
        volumes = [_predicting(step, 3 - number, job.mask, seen, particles, backend) for step in steps]

        def work(batch: Batch, seen: _Seen = seen, volumes: list[FourierVolume] = volumes) -> Float64:
            rest = subtracted(batch, seen.outside, particles, backend)
            poses = [step.expectation.poses.select(batch.rows) for step in steps]
            both = zip(poses, volumes, strict=True)
            each = [_score(rest, here, volume, seen, particles, backend) for here, volume in both]
            return np.where(batch.bad, 0.0, each)

        at = np.nonzero(half == number)[0]
        score[:, at] = np.concatenate(list(worked(particles, rows[at], backend, work)), axis=1)
    marginal = all(step.iteration == 0 or (step.held and not step.held.recentred) for step in steps)
    if marginal:
        score += np.stack([_occam(particles.select(rows), step.expectation.select(rows), step.held) for step in steps])
    return replace(judged(rows, half, score), marginal=marginal)


def judged(rows: npt.NDArray[np.int64], half: npt.NDArray[np.int8], score: Float64) -> HeldOut:
    """The verdict on scores (2, n) of images of two half sets."""
    more = score[1] - score[0]
    gain, error = float(more.mean()), float(more.std(ddof=1) / np.sqrt(len(more)))
    p = float(2 * stdtr(len(more) - 1, -abs(gain) / error)) if error > 0 else 1.0
    signs = {float(np.sign(more[half == number].mean())) for number in (1, 2)}
    told = p < SURE and len(signs) == 1 and abs(gain) > WORTH
    return HeldOut(rows, half, score, gain, error, p, int(gain > 0) if told else None)


def _occam(particles: Particles, found: Expectation, held: Held | None) -> Float64:
    """What not knowing the pose costs, (n,): log prior(x) + ½ log |2π Σ| − log q. held: None for no search at all."""
    if held is None:
        return np.zeros(len(particles))
    behind = lens(particles, np.arange(len(particles)))
    theta = motions(particles.poses, found.poses, np.array(held.fulcrum_A), behind)
    if np.isfinite(held.rotation_sd_deg):
        precision = limits_of(held).precision(seen_through(particles.poses.rotation, behind))
        prior = 0.5 * (
            np.linalg.slogdet(precision / (2 * np.pi))[1] - np.einsum("ni,nij,nj->n", theta, precision, theta)
        )
    else:
        ball = 4 / 3 * np.pi * (held.rotation_extent_deg * DEGREE) ** 3 * np.pi * held.shift_extent_A**2
        prior = np.full(len(theta), -np.log(ball))
    width = 0.5 * np.linalg.slogdet(2 * np.pi * found.covariance)[1]
    cost = prior + width - np.log(np.maximum(found.mode_probability, 1e-6))
    return np.asarray(np.where(skipped(found.flags), 0.0, cost), dtype=np.float64)


@dataclass(frozen=True)
class _Seen:
    """How the images of a half set are looked at: window and samples, their noise, and what is taken from them."""

    samples: Samples
    shape: Geometry
    noise: Float64
    outside: FourierVolume | None


def _predicting(
    step: Step, half: int, mask: Volume, seen: _Seen, particles: Particles, backend: Backend
) -> FourierVolume:
    """What a half map predicts: its Wiener filter, by the FSC inside this mask."""
    first, second = step.half_maps.first.data, step.half_maps.second.data
    # At most what is left of the step's own FSC without what its mask lends to it.
    here, corrected = masked_correlation(first, second, mask.data, backend.threads), step.fsc["corrected"].value
    gain = wiener_gain(np.minimum(here, corrected))
    filtered = filter_map(step.half_maps.half(half).data, gain, backend.threads)
    return backend.place(windowed(filtered, mask, seen.shape, seen.samples, backend.threads, stretch(particles)))


def _score(
    rest: Batch, poses: Poses, volume: FourierVolume, seen: _Seen, particles: Particles, backend: Backend
) -> Float64:
    """Log-likelihood (B,) of a batch at these poses, over that of no density."""
    behind = lens(particles, rest.rows)
    W, w = backend.kernels.window(
        rest.spectrum, rest.ctf, seen.noise, particles.group[rest.rows], np.zeros(seen.noise.shape[-1]),
        seen.shape.centre_in(poses, behind), seen.samples,
    )  # fmt: skip
    turns, still = seen_through(poses.rotation, behind), np.zeros((len(poses), 1, 5))
    lever = seen.shape.centre - seen.shape.fulcrum
    band = len(seen.samples.ends) - 1
    return -backend.kernels.values(volume, W, w, seen.samples, band, turns, still, lever)[:, 0]
