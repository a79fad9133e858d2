"""The E-step of one batch: subtract what lies outside the mask, weigh, cut the window, search."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.compute.timing import StageTimer
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import half_plane
from lrcore.imaging.poses import magnified_rotation, recentred_poses
from lrcore.particles.image_stream import Batch
from lrcore.records import Expectation, Particles, Poses, WeightedPoses
from lrcore.refinement.geometry import SearchGeometry
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reference import Reference
from lrcore.refinement.search import SearchRequest, search_poses


def expectation_step(
    particles: Particles,
    spec: RefineSpec,
    rest: Batch,
    known: npt.NDArray[np.bool_],
    reference: Reference,
    shape: SearchGeometry,
    last: Expectation,
    noise: Float64,
    backend: Backend,
    clock: StageTimer,
) -> tuple[Expectation, WeightedPoses]:
    """The E-step of a batch of one half set that holds no more of what lies outside the mask.

    Where the images go into the map comes with it. last: what was found of all particles before.
    noise: (groups, shells) of the half set. known: (n,) whose last pose is beyond doubt.
    """
    given, before = particles.poses.select(rest.rows), last.poses.select(rest.rows)
    behind = magnification_in_3d(particles, rest.rows)
    centres = search_centres(given, before, spec, reference.frame.fulcrum_A, behind)
    with clock("window"):
        W, w = backend.kernels.whiten_windows(
            rest.spectrum, rest.ctf, noise, particles.group[rest.rows], reference.variance,
            shape.centre_in(centres, behind),
            reference.frame.samples,
        )  # fmt: skip
    with clock("search"):
        scale = last.scale[rest.rows] if spec.per_particle_scale else None
        asked = SearchRequest(centres, before, given, rest.bad, known[rest.rows], scale, spec.marginalize, behind)
        return search_poses(W, w, reference.frame, asked, backend)


def search_centres(given: Poses, before: Poses, spec: RefineSpec, fulcrum_A: Float64, behind: Float64 | None) -> Poses:
    """Middles of the search and of the prior: the input poses, or the last ones where the spec re-centres on them."""
    turned = before if spec.recenter_rotations else given
    placed = before if spec.recenter_shifts else given
    return recentred_poses(turned, placed, fulcrum_A, behind)


def subtract_outside_density(
    batch: Batch, outside: FourierVolume | None, particles: Particles, backend: Backend
) -> Batch:
    """The batch without what lies outside the mask (of its half set), as seen from the input poses."""
    if outside is None:
        return batch
    samples = half_plane(particles.box, (outside.limit / largest_magnification(particles),))
    given = particles.poses.select(batch.rows)
    turns = backend.to_device(magnified_rotation(given.rotation, magnification_in_3d(particles, batch.rows)))
    planes = backend.kernels.project_slices(outside, turns, samples)
    spectrum = batch.spectrum.copy()
    backend.kernels.subtract_model(spectrum, batch.ctf, planes, given.origin_A / particles.pixel_size_A, samples)
    return replace(batch, spectrum=spectrum)
