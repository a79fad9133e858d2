"""What a step's poses say of the motion: where the body turns and how far, from all particles and from each half."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from lrcore.aberrations import lens
from lrcore.expect import middles
from lrcore.learn import by_half, locator, seen_under
from lrcore.motion import Hinge, Motion
from lrcore.principal import gyration_A, principal, to_dataset
from lrcore.records import Step
from lrcore.reference import geometry, held
from lrcore.refine import Job


@dataclass(frozen=True)
class Estimate:
    """The motion of those particles that say anything, `particles` (n,) their rows; the hinge of all, of each half."""

    motion: Motion
    particles: npt.NDArray[np.int64]
    all: Hinge
    halves: tuple[Hinge, Hinge]

    @property
    def apart_A(self) -> float:
        """How far the fulcra of the two half sets are from each other, Å."""
        first, second = self.halves
        return float(np.linalg.norm(first.fulcrum_A - second.fulcrum_A))


def estimate(job: Job, step: Step, before: Step | None = None) -> Estimate:
    """The motion that `step` found. before: the step it followed, where it was re-centred on that one's poses."""
    spec, shape = job.spec, geometry(job.mask, job.spec)
    search = step.held or held(shape, spec)
    particles = job.particles
    last = particles.poses if before is None else before.expectation.poses
    behind = lens(particles, np.arange(len(particles)))
    centres = middles(particles.poses, last, spec, np.array(search.fulcrum_A), behind)
    seen, rows = seen_under(particles, step.expectation, centres, search)
    locate = locator(job.mask, spec, shape)
    motion, found = locate(seen)
    (_, first), (_, second) = (locate(half) for half in by_half(seen, particles.half[rows]))
    return Estimate(motion, rows, found, (first, second))


def principal_motions(job: Job, found: Estimate) -> xr.Dataset:
    """The principal motions about the estimated fulcrum, and each particle's place on them: xarray."""
    radius = gyration_A(job.mask.data, job.mask.pixel_size_A, found.all.fulcrum_A)
    particles = job.particles.select(found.particles)
    return to_dataset(principal(found.motion, found.all, radius), particles.uid, particles.half)
