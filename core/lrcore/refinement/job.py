"""Define the input of a refinement and check that its parts fit each other."""

import warnings
from dataclasses import dataclass, replace

import numpy as np

from lrcore.masks import validate_mask
from lrcore.particles.duplicates import require_disjoint_half_sets
from lrcore.particles.half_sets import require_both_half_sets
from lrcore.records import HalfMaps, Particles, Step, Volume
from lrcore.refinement.input_checks import require_same_grid_as_particles
from lrcore.refinement.parameter_checks import parameter_warnings, require_valid_fulcrum
from lrcore.refinement.parameters import RefineSpec


@dataclass(frozen=True)
class Job:
    """Input of a refinement.

    Attributes
    ----------
    particles : images with their input poses, optics groups and half sets
    mask : soft mask of the body that is refined, (n, n, n), same box as the particles
    spec : parameters of the refinement
    half_maps : two half maps as read from files, or None to reconstruct them from the input poses
    """

    particles: Particles
    mask: Volume
    spec: RefineSpec
    half_maps: HalfMaps | None = None


def check_job(job: Job) -> None:
    """Check that mask, half maps, half sets and parameters fit the particles.

    Settings that work but are unwise are issued as warnings.

    Parameters
    ----------
    job : input of a refinement

    Raises
    ------
    InputError
        When the mask is invalid, a half map has another box or voxel size than the particles, a half set is empty, the
        two half sets share images, or the fulcrum lies far outside the box.
    """
    particles = job.particles
    validate_mask(job.mask, particles.box, particles.pixel_size_A)
    if job.half_maps is not None:
        require_same_grid_as_particles(job.half_maps, particles)
    require_both_half_sets(particles)
    require_disjoint_half_sets(particles)
    require_valid_fulcrum(job.mask, job.spec)
    for message in parameter_warnings(job.mask, job.spec, half=particles.half):
        warnings.warn(message, stacklevel=2)
    if particles.subtracted:
        _note_subtracted(job)


def with_signal_scale(job: Job, last: Step) -> Particles:
    """Return the particles with the amplitude of each image's signal in force after a step.

    It is the product of the scale in the particle file, the intensity of the optics group, and, with
    `per_particle_scale`, the scale that the last search estimated.

    Parameters
    ----------
    job : input of the refinement
    last : step whose intensities (groups,) and scales (n,) are used

    Returns
    -------
    Particles
        The job's particles with a new `scale`, (n,).
    """
    particles = job.particles
    scale = particles.scale
    if last.intensity:
        scale = scale * np.array(last.intensity)[particles.group]
    if job.spec.per_particle_scale:
        scale = scale * last.expectation.scale
    return replace(particles, scale=scale)


def _note_subtracted(job: Job) -> None:
    """Warn of settings that have no effect on particles whose images are already subtracted."""
    name, spec = job.particles.path, job.spec
    if spec.subtract_outside:
        warnings.warn(
            f"{name}: the density outside the mask is already subtracted from these images: "
            "subtract_outside does nothing",
            stacklevel=3,
        )
    if spec.mask_mode == "dynamic":
        warnings.warn(
            f"{name}: the density outside the mask is subtracted from these images, so a dynamic mask cannot grow: "
            "set mask_mode=static, or restore the original images (lrwidgets subtract --back)",
            stacklevel=3,
        )
