"""Make the maps that belong to a step: final map, mask of the next iteration, density outside the mask."""

from dataclasses import replace

from lrcore.arrays import Float32
from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import filter_map
from lrcore.maps.fsc import combined_gain, fsc_curves
from lrcore.masks import dynamic_mask, soft_edge
from lrcore.records import HalfMaps, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reference import OutsideDensity, outside_density


def density_to_subtract(job: Job, first: Step, mask: Volume, workers: int) -> OutsideDensity | None:
    """What is subtracted from every image; None, too, if it has been already. first: the run's Step 0."""
    return None if job.particles.subtracted else outside_density(first.half_maps, mask, job.spec, workers)


def maps_include_surroundings(spec: RefineSpec) -> bool:
    """Whether iterations make their maps of the images as they are: a dynamic mask has to see where it can grow.

    Otherwise the images go into the map as they were searched, less what lies outside the mask.
    """
    return spec.mask_mode == "dynamic" or not spec.subtract_outside


def subtracted_density(job: Job, first: Step, step: Step, workers: int) -> Float32 | None:
    """What was subtracted from the images of which the maps of `step` are made: (2, n, n, n) by half set, or None.

    job: the one that made the step. first: its run's Step 0, whose maps are whole.
    """
    if step.iteration == 0 or maps_include_surroundings(job.spec):
        return None
    around = density_to_subtract(job, first, job.mask, workers)
    return around.maps if around else None


def adopt_step(job: Job, made: Job, first: Step, step: Step, backend: Backend) -> Step:
    """The step as `job` takes it up: half maps with all that lies about, and FSC curves inside the job's mask.

    made: the job that made the step, with another mask or other settings. first: the run's Step 0.
    """
    maps, rest = step.half_maps, subtracted_density(made, first, step, backend.threads)
    if rest is not None:
        whole = (replace(v, data=v.data + r) for v, r in zip((maps.first, maps.second), rest, strict=True))
        maps = HalfMaps(*whole)
    fsc = fsc_curves(maps.first, maps.second, job.mask, job.spec.seed, backend.threads, part=True)
    return replace(step, half_maps=maps, fsc=fsc)


def final_map(job: Job, step: Step) -> Volume:
    """Mean of the half maps, filtered by √(2 FSC / (1 + FSC)) of the corrected FSC; not masked."""
    first, second = step.half_maps.first, step.half_maps.second
    mean = filter_map(0.5 * (first.data + second.data), combined_gain(step.fsc["corrected"].value))
    return Volume(mean, first.pixel_size_A, job.mask.header_origin_A)


def map_with_surroundings(job: Job, first: Step, step: Step, workers: int = 1) -> Volume:
    """The final map amid what lies outside the mask; where that was subtracted, it is as the run's Step 0 has it."""
    made, rest = final_map(job, step), subtracted_density(job, first, step, workers)
    return made if rest is None else replace(made, data=made.data + rest.mean(axis=0))


def mask_for_next_iteration(job: Job, step: Step, workers: int = 1) -> Volume:
    """The mask of the iteration after `step`: the job's own, or one made from the step's map where it is dynamic.

    A dynamic mask takes over once the half maps agree to `dynamic_mask_start_A` inside the job's. Density further than
    `dynamic_mask_far_A` from that mask does not count, so that it stays with its body.
    """
    spec, given = job.spec, job.mask
    late = step.iteration > 0 and step.fsc["masked"].resolution_A() <= spec.dynamic_mask_start_A
    if spec.mask_mode == "static" or not late:
        return given
    region = soft_edge(given.data > 0.5, given.pixel_size_A, 0.0, spec.dynamic_mask_far_A)
    seen = final_map(job, step).data * region
    threshold, near, far = spec.dynamic_mask_threshold, spec.dynamic_mask_near_A, spec.dynamic_mask_far_A
    return replace(given, data=dynamic_mask(seen, given.pixel_size_A, threshold, near, far, workers=workers))
