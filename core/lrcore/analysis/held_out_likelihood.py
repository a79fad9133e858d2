"""Compare how well two steps predict held-out images: images scored with the map of the other half set.

The score of an image is its marginal log-likelihood over the unknown pose. It is computed by Laplace's approximation at
the pose x that was found with the image's own half map, with the posterior covariance Σ and the probability q of the
mode:

    log p(image) = log p(image | x) + log prior(x) + ½ log |2π Σ| − log q

The likelihood at the pose alone would favour every step whose wide prior lets the poses follow the noise. Without a
prior, the prior is taken as uniform inside the extents; step 0, which searches no pose, has the input pose for certain.
Scores are relative to the likelihood of no density. Each image is scored with both steps, so that differences between
images cancel.

The paired Student's t-test treats the maps as fixed, so that with enough images even a negligible difference becomes
significant. Therefore a step is called better only if both half sets, which share no images and no maps, agree, and if
the mean difference exceeds `MIN_GAIN`.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.fourier_volume import FourierVolume, filter_map
from lrcore.imaging.grids import FourierSamples, window_at
from lrcore.imaging.poses import magnified_rotation
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.motion.model import motion_between_poses
from lrcore.particles.bad_images import bad_image_mask
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.particles.subsets import draw_balanced_subset
from lrcore.records import Expectation, Particles, Poses, SearchSettings, Step, Volume
from lrcore.refinement.density import density_to_subtract
from lrcore.refinement.density_projector import DensityProjector
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
"""Number of images that are scored by default; more would detect only differences that do not matter."""
MIN_GAIN = 0.1
"""Smallest mean difference of the log-likelihood per image that counts: 10 % more probable."""
MAX_P_VALUE = 0.001
"""Largest p value of the t-test over both half sets that counts as significant."""


@dataclass(frozen=True)
class HeldOut:
    """Scores of the same images with two steps.

    Attributes
    ----------
    rows : (n,), rows of the scored particles
    half : (n,), their half sets, 1 or 2
    score : (2, n), log-likelihood of each image with each step, relative to no density
    gain : mean of the second step's score minus the first's
    error : standard error of `gain`
    p : p value of the paired Student's t-test, two-sided
    better : index of the better step, 0 or 1; None if there is no significant difference
    priors_counted : True if the scores include the pose priors. They cannot for a re-centred search, because a step
        does not store the centre of its search; then both scores are without priors.
    """

    rows: npt.NDArray[np.int64]
    half: npt.NDArray[np.int8]
    score: Float64
    gain: float
    error: float
    p: float
    better: int | None
    priors_counted: bool = True


def held_out(first: Step, a: tuple[Job, Step], b: tuple[Job, Step], backend: Backend, n: int = MAX_IMAGES) -> HeldOut:
    """Compare steps a and b of the same particles by held-out images, inside the mask of b.

    Parameters
    ----------
    first : step 0 of the run of b, whose half maps show the whole particle
    a : job and step that is compared with
    b : job and step that is judged
    backend : backend to compute with
    n : number of images, half of them from each half set, drawn with the seed of b

    Returns
    -------
    HeldOut
        Scores of both steps; `gain` is positive if b is better.

    Raises
    ------
    InputError
        If an image stack cannot be read.

    References
    ----------
    MacKay 2003, Information Theory, Inference, and Learning Algorithms, ch. 27 (Laplace's method) and 28 (Occam factor)
    """
    job = b[0]
    particles = with_signal_scale(replace(job, spec=job.spec.model_copy(update={"per_particle_scale": False})), first)
    rows = draw_balanced_subset(particles.half, min(n, len(particles)), job.spec.seed)
    geometry, outside = search_geometry(job.mask, job.spec), density_to_subtract(job, first, job.mask, backend.threads)
    steps = (a[1], b[1])
    finest = min(align_resolution_A(step.fsc["corrected"], job.spec, step.initial_lowpass_A) for step in steps)
    samples, _, _ = resolution_bands(geometry, finest, largest_magnification(particles))
    score, half = np.zeros((2, len(rows))), particles.half[rows]
    for number in (1, 2):
        context = _ScoringContext(
            samples,
            geometry,
            np.mean([step.noise[number - 1] for step in steps], axis=0),
            tuple(part.to_device(backend) for part in outside.projectors(number, backend.threads)) if outside else (),
        )
        volumes = [_predictive_volume(step, 3 - number, job.mask, context, particles, backend) for step in steps]

        def work(batch: Batch, context: _ScoringContext = context, volumes: list[FourierVolume] = volumes) -> Float64:
            rest = subtract_outside_density(batch, context.outside, particles, backend)
            poses = [step.expectation.poses.select(batch.rows) for step in steps]
            both = zip(poses, volumes, strict=True)
            each = [_score(rest, here, volume, context, particles, backend) for here, volume in both]
            return np.where(batch.bad, 0.0, each)

        at = np.nonzero(half == number)[0]
        score[:, at] = np.concatenate(list(map_batches(particles, rows[at], backend, work)), axis=1)
    marginal = all(step.iteration == 0 or (step.search and not step.search.recentred) for step in steps)
    if marginal:
        score += np.stack(
            [_occam_factor(particles.select(rows), step.expectation.select(rows), step.search) for step in steps]
        )
    return replace(compare_scores(rows, half, score), priors_counted=marginal)


def compare_scores(rows: npt.NDArray[np.int64], half: npt.NDArray[np.int8], score: Float64) -> HeldOut:
    """Test which of two steps has the higher scores.

    Parameters
    ----------
    rows : (n,), rows of the scored particles
    half : (n,), their half sets, 1 or 2
    score : (2, n), log-likelihood of each image with each step

    Returns
    -------
    HeldOut
        The scores with their mean gain, its standard error and p value, and the better step, if any.
    """
    difference = score[1] - score[0]
    gain, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    p = float(2 * stdtr(len(difference) - 1, -abs(gain) / error)) if error > 0 else 1.0
    signs = {float(np.sign(difference[half == number].mean())) for number in (1, 2)}
    significant = p < MAX_P_VALUE and len(signs) == 1 and abs(gain) > MIN_GAIN
    return HeldOut(rows, half, score, gain, error, p, int(gain > 0) if significant else None)


def _occam_factor(particles: Particles, found: Expectation, search: SearchSettings | None) -> Float64:
    """Return log prior(x) + ½ log |2π Σ| − log q (n,), the cost of an unknown pose; 0 if `search` is None."""
    if search is None:
        return np.zeros(len(particles))
    behind = magnification_in_3d(particles, np.arange(len(particles)))
    theta = motion_between_poses(particles.poses, found.poses, np.array(search.fulcrum_A), behind)
    if np.isfinite(search.rotation_sd_deg):
        precision = search_limits(search).precision(magnified_rotation(particles.poses.rotation, behind))
        prior = 0.5 * (
            np.linalg.slogdet(precision / (2 * np.pi))[1] - np.einsum("ni,nij,nj->n", theta, precision, theta)
        )
    else:
        ball = 4 / 3 * np.pi * (search.rotation_extent_deg * DEGREE) ** 3 * np.pi * search.shift_extent_A**2
        prior = np.full(len(theta), -np.log(ball))
    width = 0.5 * np.linalg.slogdet(2 * np.pi * found.covariance)[1]
    cost = prior + width - np.log(np.maximum(found.mode_probability, 1e-6))
    return np.asarray(np.where(bad_image_mask(found.flags), 0.0, cost), dtype=np.float64)


@dataclass(frozen=True)
class _ScoringContext:
    """Data that scoring the images of one half set needs.

    samples: Fourier samples of the window. geometry: window and fulcrum. noise: (groups, shells), variance of an
    image's Fourier coefficients. outside: density outside the mask that is subtracted from the images, in parts.
    """

    samples: FourierSamples
    geometry: SearchGeometry
    noise: Float64
    outside: tuple[DensityProjector, ...]


def _predictive_volume(
    step: Step, half: int, mask: Volume, context: _ScoringContext, particles: Particles, backend: Backend
) -> FourierVolume:
    """Return the half map that predicts the images, Wiener-filtered by the FSC inside this mask."""
    first, second = step.half_maps.first.data, step.half_maps.second.data
    # The step's own FSC, corrected for its mask, is an upper limit: this mask may inflate the FSC.
    here, corrected = masked_fsc(first, second, mask.data, backend.threads), step.fsc["corrected"].value
    gain = wiener_gain(np.minimum(here, corrected))
    filtered = filter_map(step.half_maps.half(half).data, gain, backend.threads)
    return backend.volume_to_device(
        masked_window_ft(
            window_at(filtered, *context.geometry.window_voxels),
            mask,
            context.geometry,
            context.samples,
            backend.threads,
            largest_magnification(particles),
        )
    )


def _score(
    rest: Batch, poses: Poses, volume: FourierVolume, context: _ScoringContext, particles: Particles, backend: Backend
) -> Float64:
    """Return the log-likelihood (B,) of a batch at these poses, relative to no density."""
    behind = magnification_in_3d(particles, rest.rows)
    W, w = backend.kernels.whiten_windows(
        rest.spectrum, rest.ctf, context.noise, particles.group[rest.rows], np.zeros(context.noise.shape[-1]),
        context.geometry.centre_in(poses, behind), context.samples,
    )  # fmt: skip
    turns, still = magnified_rotation(poses.rotation, behind), np.zeros((len(poses), 1, 5))
    lever = context.geometry.centre - context.geometry.fulcrum
    band = len(context.samples.ends) - 1
    return -backend.kernels.evaluate_likelihood(volume, W, w, context.samples, band, turns, still, lever)[:, 0]
