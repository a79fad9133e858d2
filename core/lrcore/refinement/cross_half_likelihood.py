"""What images say of their poses under the map of the other half set, which has not seen them.

A half map holds the noise of its own images, each at the pose that was found for it, so that under it they stay where
they were: motions that are told by it are too small, and a prior that is learned from these is too narrow, and makes
them smaller still. Each image goes on from the pose that was found, to the nearest most probable one under the other
half set's map and the prior of the search. There θ, the likelihood has the curvature H and the slope g:

    J = H,  h = H θ − g
"""

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.half_set_pass import HalfSetContext, ParticleRange
from lrcore.refinement.reference import reference_to_device
from lrcore.refinement.search import poses_to_theta


@dataclass(frozen=True)
class QuadraticLikelihood:
    """Of n images, in the order of a part's rows: J (n, 5, 5) and h (n, 5) of θ from their input poses, rad and Å."""

    precision: Float64
    information: Float64


def likelihood_under_other_half(
    common: HalfSetContext, part: ParticleRange, backend: Backend
) -> Generator[int, None, QuadraticLikelihood]:
    """Ask the images of a part: yields how many each batch had. common: with the reference of the other half set."""
    particles, shape, reference = part.particles, common.shape, reference_to_device(common.reference, backend)
    frame = reference.frame
    whole = replace(frame.samples, ends=frame.samples.ends[-1:])
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])

    def work(batch: Batch) -> QuadraticLikelihood:
        rest = subtract_outside_density(batch, reference.outside, particles, backend)
        given, behind = particles.poses.select(batch.rows), magnification_in_3d(particles, batch.rows)
        W, w = backend.kernels.whiten_windows(
            rest.spectrum, rest.ctf, common.noise, particles.group[batch.rows], reference.variance,
            shape.centre_in(given, behind), whole,
        )  # fmt: skip
        turns = magnified_rotation(given.rotation, behind)
        starts = poses_to_theta(given, part.last.poses.select(batch.rows), frame, behind)[:, None]
        once = np.ones((len(starts), 1), np.bool_)
        modes = backend.kernels.find_posterior_modes(
            frame.volume, W, w, whole, turns, starts, once, frame.lever, frame.limits
        )
        theta = modes.theta[:, 0]
        _, slope, curvature = backend.kernels.evaluate_with_derivatives(
            frame.volume, W, w, whole, 0, turns, theta, frame.lever
        )
        nothing = batch.bad[:, None]
        h = np.where(nothing, 0.0, np.einsum("bij,bj->bi", curvature, theta) - slope)
        return QuadraticLikelihood(np.where(nothing[..., None], 0.0, curvature) / np.outer(unit, unit), h / unit)

    found: list[QuadraticLikelihood] = []
    for one in map_batches(particles, part.rows, backend, work, common.typical_sd):
        found.append(one)
        yield len(one.information)
    return _concatenate_likelihoods(found)


def concatenate_likelihoods(a: QuadraticLikelihood, b: QuadraticLikelihood) -> QuadraticLikelihood:
    """What two ranges say, one after the other."""
    return _concatenate_likelihoods([a, b])


def _concatenate_likelihoods(parts: list[QuadraticLikelihood]) -> QuadraticLikelihood:
    return QuadraticLikelihood(
        np.concatenate([one.precision for one in parts]), np.concatenate([one.information for one in parts])
    )
