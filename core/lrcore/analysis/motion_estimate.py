"""What a step's poses say of the motion: where the body turns and how far, from all particles and from each half."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

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
    """The motion of those particles that say anything, `particles` (n,) their rows; the hinge of all, of each half."""

    motion: Motion
    particles: npt.NDArray[np.int64]
    overall: FulcrumEstimate
    halves: tuple[FulcrumEstimate, FulcrumEstimate]

    @property
    def half_set_distance_A(self) -> float:
        """How far the fulcra of the two half sets are from each other, Å."""
        first, second = self.halves
        return float(np.linalg.norm(first.fulcrum_A - second.fulcrum_A))


def estimate_motion(job: Job, step: Step, before: Step | None = None) -> MotionEstimate:
    """The motion that `step` found. before: the step it followed, where it was re-centred on that one's poses."""
    spec, shape = job.spec, search_geometry(job.mask, job.spec)
    search = step.search or search_settings(shape, spec)
    particles = job.particles
    last = particles.poses if before is None else before.expectation.poses
    behind = magnification_in_3d(particles, np.arange(len(particles)))
    centres = search_centres(particles.poses, last, spec, np.array(search.fulcrum_A), behind)
    seen, rows = evidence_from_search(particles, step.expectation, centres, search)
    locate = fulcrum_fitter(job.mask, spec, shape)
    motion, found = locate(seen)
    (_, first), (_, second) = (locate(half) for half in split_by_half_set(seen, particles.half[rows]))
    return MotionEstimate(motion, rows, found, (first, second))


def principal_motions(job: Job, found: MotionEstimate) -> xr.Dataset:
    """The principal motions about the estimated fulcrum, and each particle's place on them: xarray."""
    radius = radius_of_gyration_A(job.mask.data, job.mask.pixel_size_A, found.overall.fulcrum_A)
    particles = job.particles.select(found.particles)
    return to_dataset(decompose_motion(found.motion, found.overall, radius), particles.uid, particles.half)
