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

from lrcore.aberrations import lens
from lrcore.backend import Backend
from lrcore.expect import subtracted
from lrcore.grids import Float64
from lrcore.images import Batch, worked
from lrcore.passes import Common, Part
from lrcore.poses import seen_through
from lrcore.reference import placed
from lrcore.search import to_frame


@dataclass(frozen=True)
class Told:
    """Of n images, in the order of a part's rows: J (n, 5, 5) and h (n, 5) of θ from their input poses, rad and Å."""

    precision: Float64
    information: Float64


def told(common: Common, part: Part, backend: Backend) -> Generator[int, None, Told]:
    """Ask the images of a part: yields how many each batch had. common: with the reference of the other half set."""
    particles, shape, reference = part.particles, common.shape, placed(common.reference, backend)
    frame = reference.frame
    whole = replace(frame.samples, ends=frame.samples.ends[-1:])
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])

    def work(batch: Batch) -> Told:
        rest = subtracted(batch, reference.outside, particles, backend)
        given, behind = particles.poses.select(batch.rows), lens(particles, batch.rows)
        W, w = backend.kernels.window(
            rest.spectrum, rest.ctf, common.noise, particles.group[batch.rows], reference.variance,
            shape.centre_in(given, behind), whole,
        )  # fmt: skip
        turns = seen_through(given.rotation, behind)
        starts = to_frame(given, part.before.poses.select(batch.rows), frame, behind)[:, None]
        once = np.ones((len(starts), 1), np.bool_)
        modes = backend.kernels.newton(frame.volume, W, w, whole, turns, starts, once, frame.lever, frame.limits)
        theta = modes.theta[:, 0]
        _, slope, curvature = backend.kernels.evaluate(frame.volume, W, w, whole, 0, turns, theta, frame.lever)
        nothing = batch.bad[:, None]
        h = np.where(nothing, 0.0, np.einsum("bij,bj->bi", curvature, theta) - slope)
        return Told(np.where(nothing[..., None], 0.0, curvature) / np.outer(unit, unit), h / unit)

    found: list[Told] = []
    for one in worked(particles, part.rows, backend, work, common.usual):
        found.append(one)
        yield len(one.information)
    return _concatenated(found)


def joined(a: Told, b: Told) -> Told:
    """What two ranges say, one after the other."""
    return _concatenated([a, b])


def _concatenated(parts: list[Told]) -> Told:
    return Told(np.concatenate([one.precision for one in parts]), np.concatenate([one.information for one in parts]))
