"""Make the maps that belong to a step: final map, mask of the next iteration, density outside the mask.

The map is averaged over those operators of the symmetry that leave the mask in place (`map_operators`). A pose that was
found for the density inside the mask is no good pose of its copies elsewhere; besides, these are subtracted from the
images, so that the average of a mask of one unit of N would fall to 1 / N.
"""

from dataclasses import replace

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.maps.fsc import combined_gain, fsc_curves, wiener_gain
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.masks import dynamic_mask, operators_in_place, overlaps_with_copies, soft_edge, union_of_copies
from lrcore.records import HalfMaps, Particles, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reference import OutsideDensity, outside_density
from lrcore.refinement.window import continued_step

EXACT_OVERLAP = 0.98
"""Mean overlap of a mask with its copies from which they count as equal; less would show in the amplitude."""


def images_are_subtracted(particles: Particles, first: Step | None) -> bool:
    """Return True when nothing of the density outside the mask is in the images, as they are marked or as was measured.

    Parameters
    ----------
    particles : images of the job
    first : step 0 of the run, which measured it; None before there is one
    """
    return particles.subtracted or (first is not None and max(first.outside_fraction) == 0)


def density_to_subtract(
    job: Job, first: Step, mask: Volume, workers: int, spectra: HalfMapSpectra | None = None
) -> OutsideDensity | None:
    """Return the density outside a mask, and outside its copies in place, that is subtracted from every image of a job.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run, whose half maps are whole
    mask : (n, n, n), 1 where density is kept
    workers : threads of the Fourier transforms
    spectra : FTs of the half maps of step 0, if they are known

    Returns
    -------
    OutsideDensity or None
        None when nothing is subtracted (`subtract_outside` off, or no significant density outside), or when the images
        are already subtracted. Where the images contain a fraction of it, that fraction.
    """
    if images_are_subtracted(job.particles, first):
        return None
    fraction = np.array(first.outside_fraction, np.float32)
    particle = first.fsc.get("tight", first.corrected).value  # some steps have the curves inside the mask alone
    kept, finest = mask_of_all_copies(mask, job.spec.symmetry), int(np.count_nonzero(wiener_gain(particle)))
    outside = outside_density(first.half_maps, kept, job.spec, workers, spectra, finest)
    return outside if outside is None or (fraction == 1).all() else outside.scaled(fraction)


def map_operators(mask: Volume, symmetry: str) -> Float64:
    """Return the operators (m, 3, 3) over which a map is averaged: the subgroup that leaves the mask in place.

    Parameters
    ----------
    mask : (n, n, n)
    symmetry : name of the point group
    """
    return operators_in_place(mask.data, symmetry_operators(symmetry))


def symmetry_of_mask(mask: Volume, symmetry: str) -> str:
    """Return the name of a point group if all of its operators leave the mask in place, else C1.

    Parameters
    ----------
    mask : (n, n, n)
    symmetry : name of the point group
    """
    return symmetry if len(map_operators(mask, symmetry)) == len(symmetry_operators(symmetry)) else "C1"


def mask_of_all_copies(mask: Volume, symmetry: str) -> Volume:
    """Return the union of a mask's copies under `map_operators`; the mask itself if they are equal.

    Parameters
    ----------
    mask : (n, n, n)
    symmetry : name of the point group
    """
    operators = map_operators(mask, symmetry)
    if len(operators) == 1 or overlaps_with_copies(mask.data, operators).mean() >= EXACT_OVERLAP:
        return mask
    return replace(mask, data=union_of_copies(mask.data, operators))


def maps_include_surroundings(spec: RefineSpec) -> bool:
    """Return True when the M-step inserts the whole images, False when it inserts the subtracted ones.

    A dynamic mask has to see density where it can grow, so that it needs maps of whole images.

    Parameters
    ----------
    spec : parameters of the refinement
    """
    return spec.mask_mode == "dynamic" or not spec.subtract_outside


def subtracted_density(job: Job, first: Step, step: Step, workers: int) -> Float32 | None:
    """Return the density that was subtracted from the images of a step's maps, or None: (2, n, n, n) by half set.

    job: the one that made the step. first: step 0 of its run, whose half maps are whole.
    """
    if step.iteration == 0 or step.body is not None or maps_include_surroundings(job.spec):
        return None
    outside = density_to_subtract(job, first, job.mask, workers)
    return outside.on_box() if outside else None


def adopt_step(job: Job, source: Job, first: Step, step: Step, backend: Backend) -> Step:
    """Return a step as starting point of another job: whole half maps, and FSC curves inside the new job's mask.

    job: the one that continues. source: the one that made the step, with another mask or other parameters. first: step
    0 of the run. The density that was subtracted from the images is added back to the half maps.
    """
    step = continued_step(first, step)
    maps, subtracted = step.half_maps, subtracted_density(source, first, step, backend.threads)
    if subtracted is not None:
        whole = (
            replace(v, data=v.data + density) for v, density in zip((maps.first, maps.second), subtracted, strict=True)
        )
        maps = HalfMaps(*whole)
    fsc = fsc_curves(maps.first, maps.second, job.mask, workers=backend.threads, part=True)
    return replace(step, half_maps=maps, fsc=fsc, body=None)


def final_map(job: Job, step: Step) -> Volume:
    """Return the final map of a step, filtered by its FSC and not masked.

    It is the mean of the half maps with each shell multiplied by C_ref = √(2 FSC / (1 + FSC)) of the corrected FSC: the
    correlation that is expected between this map and a perfect one (Rosenthal & Henderson 2003).

    Parameters
    ----------
    job : input of the refinement, for the origin in the header of its mask
    step : the step to show

    Returns
    -------
    Volume
        (n, n, n), with the pixel size of the half maps.

    References
    ----------
    Rosenthal & Henderson (2003), J. Mol. Biol. 333:721.
    """
    first, second = step.half_maps.first, step.half_maps.second
    mean = filter_map(0.5 * (first.data + second.data), combined_gain(step.fsc["corrected"].value))
    return Volume(mean, first.pixel_size_A, job.mask.header_origin_A)


def map_with_surroundings(job: Job, first: Step, step: Step, workers: int = 1) -> Volume:
    """Return the final map of a step together with the density outside the mask.

    A step that has no whole half maps shows that of step 0, unchanged by the refinement.

    Parameters
    ----------
    job : the job that made the step
    first : step 0 of the run
    step : the step to show
    workers : threads of the Fourier transforms

    Returns
    -------
    Volume
        (n, n, n), filtered by the FSC and not masked.
    """
    filtered, subtracted = final_map(job, step), subtracted_density(job, first, step, workers)
    return filtered if subtracted is None else replace(filtered, data=filtered.data + subtracted.mean(axis=0))


def mask_for_next_iteration(job: Job, step: Step, workers: int = 1) -> Volume:
    """Return the mask of the iteration that follows a step: the job's own, or a dynamic one made from the final map.

    A dynamic mask is used from the first step on whose half maps agree to `dynamic_mask_start_A` inside the job's mask.
    Density further than `dynamic_mask_far_A` from the job's mask is ignored, so that the mask stays with its body.

    Parameters
    ----------
    job : input of the refinement, with its mask
    step : the step before
    workers : threads of the distance transform

    Returns
    -------
    Volume
        (n, n, n) in [0, 1].
    """
    spec, job_mask = job.spec, job.mask
    is_resolved = step.iteration > 0 and step.fsc["masked"].resolution_A() <= spec.dynamic_mask_start_A
    if spec.mask_mode == "static" or not is_resolved:
        return job_mask
    region = soft_edge(job_mask.data > 0.5, job_mask.pixel_size_A, 0.0, spec.dynamic_mask_far_A)
    density = final_map(job, step).data * region
    threshold, near, far = spec.dynamic_mask_threshold, spec.dynamic_mask_near_A, spec.dynamic_mask_far_A
    return replace(job_mask, data=dynamic_mask(density, job_mask.pixel_size_A, threshold, near, far, workers=workers))
