"""Evaluate the likelihood of each image's pose under the map of the other half set.

A half map holds the noise of its own images, each at the pose that was found for it, so that under this map poses are
drawn to where they were. Motions that are measured this way are too small, and a prior estimated from them is too
narrow and makes the next ones smaller still. The map of the other half set has not seen the images.

From the pose that was found, each image descends to the nearest most probable pose θ under the other half map and the
prior of the search. There, with the curvature H and the gradient g of −log likelihood, the likelihood is approximated
by a quadratic form with

    J = H,  h = H θ − g

that is, −log p(X | θ') = ½ θ'ᵀ J θ' − hᵀ θ' + const.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.half_set_pass import HalfSetContext, ParticleRange
from lrcore.refinement.reference import reference_to_device
from lrcore.refinement.search import poses_to_theta
from lrcore.refinement.window_batch import load_windows, run_window_batches, samples_to_search
from lrcore.refinement.window_cache import WindowCache


@dataclass(frozen=True)
class QuadraticLikelihood:
    """Quadratic form of −log likelihood of n images, in θ from their input poses, rad and Å.

    Attributes
    ----------
    precision : J (n, 5, 5)
    information : h (n, 5)
    """

    precision: Float64
    information: Float64


def likelihood_under_other_half(
    context: HalfSetContext, part: ParticleRange, backend: Backend, cache: WindowCache | None = None
) -> Generator[int, None, QuadraticLikelihood]:
    """Evaluate the likelihoods of a part of a half set. Yields the number of images of each batch.

    context: with the reference of the *other* half set. cache: of windows, where the context has a window. Invalid
    images get J = 0, h = 0.
    """
    particles, geometry, reference = part.particles, context.geometry, reference_to_device(context.reference, backend)
    frame = reference.frame
    all_samples = replace(frame.samples, ends=frame.samples.ends[-1:])
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])

    def evaluate(W: Complex64, w: Float32, rows: Rows, bad: npt.NDArray[np.bool_]) -> QuadraticLikelihood:
        given, magnification = particles.poses.select(rows), magnification_in_3d(particles, rows)
        views = magnified_rotation(given.rotation, magnification)
        starts = poses_to_theta(given, part.last.poses.select(rows), frame, magnification)[:, None]
        valid = np.ones((len(starts), 1), np.bool_)
        modes = backend.kernels.find_posterior_modes(
            frame.volume, W, w, all_samples, views, starts, valid, frame.lever, frame.limits
        )
        theta = modes.theta[:, 0]
        _, gradient, curvature = backend.kernels.evaluate_with_derivatives(
            frame.volume, W, w, all_samples, 0, views, theta, frame.lever
        )
        h = np.where(bad[:, None], 0.0, np.einsum("bij,bj->bi", curvature, theta) - gradient)
        precision = np.where(bad[:, None, None], 0.0, curvature) / np.outer(unit, unit)
        return QuadraticLikelihood(precision, h / unit)

    def work(batch: Batch) -> QuadraticLikelihood:
        subtracted = subtract_outside_density(batch, reference.outside, particles, backend)
        given, magnification = particles.poses.select(batch.rows), magnification_in_3d(particles, batch.rows)
        W, w = backend.kernels.whiten_windows(
            subtracted.spectrum, subtracted.ctf, context.noise, particles.group[batch.rows], reference.variance,
            geometry.centre_in(given, magnification), all_samples,
        )  # fmt: skip
        return evaluate(W, w, batch.rows, batch.bad)

    results: list[QuadraticLikelihood] = []
    if context.cutting is None:
        for result in map_batches(particles, part.rows, backend, work, context.typical_sd):
            results.append(result)
            yield len(result.information)
        return _concatenate_likelihoods(results)

    def work_in_window(rows: Rows) -> Generator[int, None, None]:
        given, windows_cache = particles.poses.select(rows), cache or WindowCache()
        windows = yield from load_windows(context, part, rows, given, windows_cache, backend)
        W, w = samples_to_search(windows, context, reference, backend)
        results.append(evaluate(W, w, rows, windows.bad))

    yield from run_window_batches(part.rows, context.cutting.window, backend, work_in_window)
    return _concatenate_likelihoods(results)


def concatenate_likelihoods(a: QuadraticLikelihood, b: QuadraticLikelihood) -> QuadraticLikelihood:
    """Concatenate the likelihoods of two parts, one after the other."""
    return _concatenate_likelihoods([a, b])


def _concatenate_likelihoods(parts: list[QuadraticLikelihood]) -> QuadraticLikelihood:
    """Concatenate likelihoods."""
    return QuadraticLikelihood(
        np.concatenate([part.precision for part in parts]), np.concatenate([part.information for part in parts])
    )
