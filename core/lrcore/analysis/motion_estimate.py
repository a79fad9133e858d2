"""Estimate the motion of the body from the poses of a step: its fulcrum and extent, and the principal motions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from lrcore.errors import InputError
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.motion.model import FulcrumEstimate, Motion
from lrcore.motion.principal import decompose_motion, radius_of_gyration_A, to_dataset
from lrcore.records import Step
from lrcore.refinement.expectation import search_centres
from lrcore.refinement.geometry import search_geometry, search_settings
from lrcore.refinement.job import Job
from lrcore.refinement.motion_prior import evidence_from_search, fulcrum_fitter, split_by_half_set


@dataclass(frozen=True)
class MotionEstimate:
    """Motion estimated from the poses of a step.

    Attributes
    ----------
    motion : motion of the body, with the coordinates of n particles
    particles : (n,), rows of these particles, which exclude invalid images
    overall : fulcrum and motion about it, from all n particles
    halves : the same from half set 1 and from half set 2
    """

    motion: Motion
    particles: npt.NDArray[np.int64]
    overall: FulcrumEstimate
    halves: tuple[FulcrumEstimate, FulcrumEstimate]

    @property
    def half_set_distance_A(self) -> float:
        """Return the distance between the fulcra of the two half sets, Å."""
        first, second = self.halves
        return float(np.linalg.norm(first.fulcrum_A - second.fulcrum_A))


def estimate_motion(job: Job, step: Step, before: Step | None = None) -> MotionEstimate:
    """Estimate the motion of the body from the poses of a step.

    Parameters
    ----------
    job : the job that the step was run with
    step : the step whose poses are used
    before : the step before it, about whose poses a re-centred search was made; None for the input poses

    Returns
    -------
    MotionEstimate
        Motion, and fulcra from all particles and from each half set.

    Raises
    ------
    InputError
        If the poses do not determine a motion, as where all particles are seen from one direction.
    """
    spec, geometry = job.spec, search_geometry(job.mask, job.spec)
    search = step.search or search_settings(geometry, spec)
    particles = job.particles
    last = particles.poses if before is None else before.expectation.poses
    behind = magnification_in_3d(particles, np.arange(len(particles)))
    centres = search_centres(particles.poses, last, spec, np.array(search.fulcrum_A), behind)
    evidence, rows = evidence_from_search(particles, step.expectation, centres, search)
    fit = fulcrum_fitter(job.mask, spec, geometry)
    try:
        motion, overall = fit(evidence)
        (_, first), (_, second) = (fit(half) for half in split_by_half_set(evidence, particles.half[rows]))
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"{particles.path}: the poses do not determine a motion ({error}): check that the particles are aligned "
            "and have different views"
        ) from error
    return MotionEstimate(motion, rows, overall, (first, second))


def principal_motions(job: Job, estimate: MotionEstimate) -> xr.Dataset:
    """Decompose an estimated motion into principal motions about its fulcrum.

    Parameters
    ----------
    job : the job that the motion was estimated for
    estimate : result of `estimate_motion`

    Returns
    -------
    xarray.Dataset
        The principal motions, and the coordinate of each particle along each of them.
    """
    radius = radius_of_gyration_A(job.mask.data, job.mask.pixel_size_A, estimate.overall.fulcrum_A)
    particles = job.particles.select(estimate.particles)
    return to_dataset(decompose_motion(estimate.motion, estimate.overall, radius), particles.uid, particles.half)
