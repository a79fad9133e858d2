"""The E-step of one batch: subtract what lies outside the mask, weigh, cut the window, search."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lrcore.aberrations import lens, stretch
from lrcore.backend import Backend
from lrcore.clock import Clock
from lrcore.fourier import FourierVolume
from lrcore.grids import Float64, half_plane
from lrcore.images import Batch
from lrcore.poses import combined, seen_through
from lrcore.records import Expectation, Particles, Points, Poses
from lrcore.reference import Geometry, Reference
from lrcore.search import Asked, search
from lrcore.spec import RefineSpec


def expect(
    particles: Particles,
    spec: RefineSpec,
    rest: Batch,
    known: npt.NDArray[np.bool_],
    reference: Reference,
    shape: Geometry,
    last: Expectation,
    noise: Float64,
    backend: Backend,
    clock: Clock,
) -> tuple[Expectation, Points]:
    """The E-step of a batch of one half set that holds no more of what lies outside the mask.

    Where the images go into the map comes with it. last: what was found of all particles before.
    noise: (groups, shells) of the half set. known: (n,) whose last pose is beyond doubt.
    """
    given, before = particles.poses.select(rest.rows), last.poses.select(rest.rows)
    behind = lens(particles, rest.rows)
    centres = middles(given, before, spec, reference.frame.fulcrum_A, behind)
    with clock("window"):
        W, w = backend.kernels.window(
            rest.spectrum, rest.ctf, noise, particles.group[rest.rows], reference.variance,
            shape.centre_in(centres, behind),
            reference.frame.samples,
        )  # fmt: skip
    with clock("search"):
        scale = last.scale[rest.rows] if spec.per_particle_scale else None
        asked = Asked(centres, before, given, rest.bad, known[rest.rows], scale, spec.marginalize, behind)
        return search(W, w, reference.frame, asked, backend)


def middles(given: Poses, before: Poses, spec: RefineSpec, fulcrum_A: Float64, behind: Float64 | None) -> Poses:
    """Middles of the search and of the prior: the input poses, or the last ones where the spec re-centres on them."""
    turned = before if spec.recenter_rotations else given
    placed = before if spec.recenter_shifts else given
    return combined(turned, placed, fulcrum_A, behind)


def subtracted(batch: Batch, outside: FourierVolume | None, particles: Particles, backend: Backend) -> Batch:
    """The batch without what lies outside the mask (of its half set), as seen from the input poses."""
    if outside is None:
        return batch
    samples = half_plane(particles.box, (outside.limit / stretch(particles),))
    given = particles.poses.select(batch.rows)
    turns = backend.to_device(seen_through(given.rotation, lens(particles, batch.rows)))
    planes = backend.kernels.slices(outside, turns, samples)
    spectrum = batch.spectrum.copy()
    backend.kernels.subtract(spectrum, batch.ctf, planes, given.origin_A / particles.pixel_size_A, samples)
    return replace(batch, spectrum=spectrum)
