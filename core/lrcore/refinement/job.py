"""Define the input of a refinement and check that its parts fit each other."""

import warnings
from dataclasses import dataclass, replace

import numpy as np

from lrcore.masks import validate_mask
from lrcore.particles.duplicates import image_numbers, require_disjoint_half_sets
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
    if job.spec.symmetry != "C1":
        _note_expanded(job)


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


def _note_expanded(job: Job) -> None:
    """Warn of a symmetry that is imposed on particles that are expanded already."""
    images = len(np.unique(image_numbers(job.particles)))
    if len(job.particles) >= 2 * images:
        warnings.warn(
            f"{job.particles.path}: {len(job.particles)} rows show {images} images, so these particles are expanded by "
            f"symmetry already: set symmetry=C1, since symmetry {job.spec.symmetry} averages the copies once more",
            stacklevel=3,
        )


def warn_subtracted(job: Job, fraction: tuple[float, float]) -> None:
    """Warn that images have been subtracted before, and of settings that have no effect on them.

    Parameters
    ----------
    job : input of the refinement
    fraction : by half set, fraction of the density outside the mask that the images contain
    """
    name, spec = job.particles.path, job.spec
    if min(fraction) == 1:
        return
    if max(fraction) > 0:
        shares = " and ".join(f"{100 * value:.0f} %" for value in fraction)
        warnings.warn(
            f"{name}: on average the images contain {shares} of the density outside the mask (half sets 1 and 2), the "
            "rest has been subtracted before: only what is left is subtracted",
            stacklevel=2,
        )
    elif spec.subtract_outside:
        how = "" if job.particles.subtracted else " (measured: less than 10 % of it is left)"
        warnings.warn(
            f"{name}: the density outside the mask is already subtracted from these images{how}: "
            "subtract_outside does nothing",
            stacklevel=2,
        )
    if max(fraction) == 0 and spec.mask_mode == "dynamic":
        remedy = " (lrwidgets subtract --back)" if job.particles.subtracted else ""
        warnings.warn(
            f"{name}: the density outside the mask is subtracted from these images, so a dynamic mask cannot grow: "
            f"set mask_mode=static, or restore the original images{remedy}",
            stacklevel=2,
        )
