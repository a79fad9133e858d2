"""Define the input of a refinement and check that its parts fit each other."""

import warnings
from dataclasses import dataclass, replace

import numpy as np

from lrcore.errors import InputError
from lrcore.masks import validate_mask
from lrcore.particles.duplicates import require_disjoint_half_sets
from lrcore.particles.half_sets import require_both_half_sets
from lrcore.records import HalfMaps, Particles, Step, Volume
from lrcore.refinement.parameter_checks import parameter_warnings, require_valid_fulcrum
from lrcore.refinement.parameters import RefineSpec


@dataclass(frozen=True)
class Job:
    """What a refinement works on. half_maps: as given, or None to reconstruct them from the input poses."""

    particles: Particles
    mask: Volume
    spec: RefineSpec
    half_maps: HalfMaps | None = None


def check_job(job: Job) -> None:
    """Raise InputError when mask, half maps, half sets or spec do not fit the particles; warn of what is unwise."""
    particles = job.particles
    validate_mask(job.mask, particles.box, particles.pixel_size_A)
    for volume in (job.half_maps.first, job.half_maps.second) if job.half_maps else ():
        name = volume.path or "half map"
        if volume.box != particles.box:
            raise InputError(f"{name}: the map is {volume.box}³ but the particles' box is {particles.box}: re-box it")
        if abs(volume.pixel_size_A / particles.pixel_size_A - 1) > 0.01:
            raise InputError(
                f"{name}: voxel size {volume.pixel_size_A:g} Å but the particles' is {particles.pixel_size_A:g} Å: "
                "resample the map, or correct it with --apix"
            )
    require_both_half_sets(particles)
    require_disjoint_half_sets(particles)
    require_valid_fulcrum(job.mask, job.spec)
    for doubt in parameter_warnings(job.mask, job.spec, half=particles.half):
        warnings.warn(doubt, stacklevel=2)
    if particles.subtracted:
        _note_subtracted(job)


def _note_subtracted(job: Job) -> None:
    name, spec = job.particles.path, job.spec
    if spec.subtract_outside:
        warnings.warn(
            f"{name}: these images are without what lies outside the mask already: subtract_outside does nothing",
            stacklevel=3,
        )
    if spec.mask_mode == "dynamic":
        warnings.warn(
            f"{name}: what lies outside the mask is subtracted from these images, so a dynamic mask cannot grow: "
            "set mask_mode=static, or bring the whole images back (lrwidgets subtract --back)",
            stacklevel=3,
        )


def with_signal_scale(job: Job, last: Step) -> Particles:
    """The particles with the scale of their images' signal: of the file, of the optics group, of the particle."""
    particles = job.particles
    scale = particles.scale
    if last.intensity:
        scale = scale * np.array(last.intensity)[particles.group]
    if job.spec.per_particle_scale:
        scale = scale * last.expectation.scale
    return replace(particles, scale=scale)
