"""Check particles, mask and half maps together when they are read, before anything is computed."""

import warnings

from lrcore.errors import InputError
from lrcore.imaging.resampling import grid_mismatch
from lrcore.io.checks import require_usable_bfactors, require_usable_scales
from lrcore.maps.half_map_checks import find_half_map_faults
from lrcore.masks import mask_warnings, require_mask_fits
from lrcore.particles.half_sets import half_set_warnings
from lrcore.particles.pose_checks import require_different_views, shared_pose_warning
from lrcore.records import HalfMaps, Particles, Volume


def check_input(particles: Particles, mask: Volume | None, half_maps: HalfMaps | None) -> tuple[str, ...]:
    """Check the input of a refinement, and return one line for each property that would harm it.

    Parameters
    ----------
    particles : n particles
    mask : mask of the region to refine; None skips its checks
    half_maps : half maps of the particles; None skips their checks

    Returns
    -------
    tuple of str
        The lines, each of which begins with a file.

    Raises
    ------
    InputError
        If the particles have no 3D poses, unusable B-factors or scales, or mask or half maps have another grid than the
        particles, or are unusable.
    """
    require_different_views(particles)
    require_usable_bfactors(particles)
    require_usable_scales(particles)
    texts = (shared_pose_warning(particles), *half_set_warnings(particles))
    lines = [f"{particles.path}: {text}" for text in texts if text is not None]
    if mask is not None:
        require_mask_fits(mask, particles.box, particles.pixel_size_A)
        lines += mask_warnings(mask)
    if half_maps is not None:
        require_same_grid_as_particles(half_maps, particles)
        faults = find_half_map_faults(half_maps)
        if faults.unusable:
            raise InputError(faults.unusable)
        lines += faults.harmful
    return tuple(lines)


def warn_of_input(particles: Particles, mask: Volume | None, half_maps: HalfMaps | None) -> None:
    """Check the input of a refinement as `check_input` does, and issue its lines as warnings.

    Parameters
    ----------
    particles, mask, half_maps : see `check_input`

    Raises
    ------
    InputError
        As `check_input`.
    """
    for line in check_input(particles, mask, half_maps):
        warnings.warn(line, stacklevel=2)


def require_same_grid_as_particles(half_maps: HalfMaps, particles: Particles) -> None:
    """Check that two half maps have the box and the pixel size of the particles.

    Parameters
    ----------
    half_maps : the half maps
    particles : n particles

    Raises
    ------
    InputError
        If they have not; names the file and the way out.
    """
    for volume in (half_maps.first, half_maps.second):
        if mismatch := grid_mismatch(volume, particles.box, particles.pixel_size_A, "map", "the particles'"):
            raise InputError(f"{mismatch}; or leave the half maps out: they are then reconstructed from the particles")
