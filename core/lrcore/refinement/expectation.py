"""Run the E-step of one batch: subtract the density outside the mask, weight, crop to the window, search.

From an image X with its CTF C, at its input pose, the slice B of the density outside the mask is subtracted first,

    X' = X − C B

X' is weighted by C / (σ² + C² v), σ² the noise of its optics group and v the error of the reference, cropped to the
window about the mask (`kernels.whiten`), and its pose is searched (`search.search_poses`).
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.compute.timing import StageTimer
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import recentred_poses
from lrcore.particles.image_stream import Batch
from lrcore.records import Expectation, Particles, Poses, WeightedPoses
from lrcore.refinement.density_projector import DensityProjector
from lrcore.refinement.geometry import SearchGeometry
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.presence import ALL_PRESENT, Shares
from lrcore.refinement.reference import Reference
from lrcore.refinement.search import SearchRequest, search_poses


def expectation_step(
    particles: Particles,
    spec: RefineSpec,
    batch: Batch,
    unambiguous: npt.NDArray[np.bool_],
    reference: Reference,
    geometry: SearchGeometry,
    last: Expectation,
    noise: Float64,
    backend: Backend,
    clock: StageTimer,
    shares: Shares = ALL_PRESENT,
) -> tuple[Expectation, WeightedPoses]:
    """Run the E-step of a batch of images of one half set.

    Parameters
    ----------
    particles : all particles, at their input poses
    spec : parameters of the refinement
    batch : images without the density outside the mask (`subtract_outside_density`)
    unambiguous : (n,) particles whose last pose is beyond doubt, which start from it alone
    reference : of the half set
    geometry : of the search
    last : what the last iteration found for all particles
    noise : (groups, shells) σ² of the half set
    backend : where the kernels run
    clock : counts the seconds of the stages "window" and "search"
    shares : of the images by what they show

    Returns
    -------
    Expectation
        Poses, covariances and flags of the batch.
    WeightedPoses
        Points at which its images are inserted into the map.
    """
    given, last_poses = particles.poses.select(batch.rows), last.poses.select(batch.rows)
    magnification = magnification_in_3d(particles, batch.rows)
    centres = search_centres(given, last_poses, spec, reference.frame.fulcrum_A, magnification)
    with clock("window"):
        W, w = backend.kernels.whiten_windows(
            batch.spectrum, batch.ctf, noise, particles.group[batch.rows], reference.variance,
            geometry.centre_in(centres, magnification),
            reference.frame.samples,
        )  # fmt: skip
    with clock("search"):
        scale = last.scale[batch.rows] if spec.per_particle_scale else None
        request = SearchRequest(
            centres, last_poses, given, batch.bad, unambiguous[batch.rows], scale, spec.marginalize, magnification,
            shares,
        )  # fmt: skip
        return search_poses(W, w, reference.frame, request, backend)


def search_centres(
    given: Poses, last: Poses, spec: RefineSpec, fulcrum_A: Float64, magnification: Float64 | None
) -> Poses:
    """Return the centres of the search and of the prior.

    They are the input poses, or the last poses where the parameters re-centre on them. With only one of rotation and
    shift re-centred, the fulcrum stays where the pose with the shift shows it.

    Parameters
    ----------
    given : input poses
    last : poses of the last iteration
    spec : parameters of the refinement
    fulcrum_A : (x, y, z) in Å from the box centre
    magnification : (B, 3, 3) of `aberrations.magnification_in_3d`, or None
    """
    rotations = last if spec.recenter_rotations else given
    shifts = last if spec.recenter_shifts else given
    return recentred_poses(rotations, shifts, fulcrum_A, magnification)


def subtract_outside_density(
    batch: Batch, outside: tuple[DensityProjector, ...], particles: Particles, backend: Backend
) -> Batch:
    """Subtract the density outside the mask from a batch of images at their input poses, X' = X − C B.

    Parameters
    ----------
    batch : images of one half set
    outside : density outside the mask of that half set, in parts; without any, the batch is returned unchanged
    particles : all particles, at their input poses
    backend : where the kernels run

    Returns
    -------
    Batch
        With a new spectrum (B, n, n // 2 + 1).
    """
    if not outside:
        return batch
    spectrum = batch.spectrum.copy()
    for part in outside:
        samples = part.samples(particles)
        planes, shifts = part.project(batch, particles, samples, backend)
        backend.kernels.subtract_model(spectrum, batch.ctf, planes, shifts, samples)
    return replace(batch, spectrum=spectrum)
