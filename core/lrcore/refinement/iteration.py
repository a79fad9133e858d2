"""Refinement as data: start, advance, iterate and finish; whoever calls holds the loop."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64, Rows
from lrcore.compute.backend import Backend, WorkerPool
from lrcore.compute.timing import StageTimer
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.maps.fsc import fsc_curves
from lrcore.maps.nonuniform import cutoff_map
from lrcore.motion.model import MotionEvidence
from lrcore.particles.bad_images import bad_image_mask, warn_bad_images
from lrcore.particles.image_stream import batch_ranges, reading_order, typical_sd_of
from lrcore.records import Expectation, HalfMaps, Particles, Progress, Step, Volume
from lrcore.refinement.convergence import has_converged, is_finished, summarise_iteration
from lrcore.refinement.cross_half_likelihood import (
    QuadraticLikelihood,
    concatenate_likelihoods,
    likelihood_under_other_half,
)
from lrcore.refinement.density import density_to_subtract, maps_include_surroundings, mask_for_next_iteration
from lrcore.refinement.geometry import (
    MotionPrior,
    SearchGeometry,
    search_geometry,
    search_key,
    search_settings,
)
from lrcore.refinement.half_set_pass import (
    HalfSetContext,
    HalfSetResult,
    ParticleRange,
    concatenate_expectations,
    merge_half_set_results,
    run_half_set,
    run_half_set_on_worker,
)
from lrcore.refinement.job import Job, with_signal_scale
from lrcore.refinement.motion_prior import estimate_motion_prior, rows_to_learn_from
from lrcore.refinement.noise import (
    apply_noise_model,
    choose_sample,
    pooled_noise_spectrum,
)
from lrcore.refinement.reconstruction import (
    Accumulator,
    accumulator_to_host,
    collect_return_value,
    regularisation_from_fsc,
    solve_map,
)
from lrcore.refinement.reference import OutsideDensity, make_reference
from lrcore.refinement.search import is_unambiguous


def run_iteration(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """One iteration on top of `last`; `first` is the run's Step 0. Yields Progress per chunk, then the Step."""
    clock = StageTimer()
    with clock("reference"):
        around = density_to_subtract(job, first, job.mask, backend.threads)
    yield from _run_iteration(job, around, first, last, backend, clock)


@dataclass(frozen=True)
class IterationContext:
    """What both half sets of an iteration share.

    cutoff_A: of each voxel. question: what the search asks. known: (n,) poses that are beyond doubt about it.
    """

    job: Job
    last: Step
    shape: SearchGeometry
    outside: OutsideDensity | None
    cutoff_A: Float32 | None
    search_key: str
    unambiguous: npt.NDArray[np.bool_]
    backend: Backend
    clock: StageTimer


def cross_half_context(job: Job, first: Step, last: Step, backend: Backend) -> IterationContext:
    """What both half sets share when each is looked at with the map of the other, and as the search of `last` held it.

    first: the run's Step 0.
    """
    around = density_to_subtract(job, first, job.mask, backend.threads)
    return _with_swapped_half_maps(_iteration_context(job, around, first, last, backend, StageTimer()))


def _with_swapped_half_maps(scene: IterationContext) -> IterationContext:
    last = scene.last
    exchanged = replace(last, half_maps=HalfMaps(last.half_maps.second, last.half_maps.first))
    return replace(
        _with_search_prior(scene, MotionPrior.from_settings(last.search) if last.search else None), last=exchanged
    )


def _iteration_context(
    job: Job, around: OutsideDensity | None, first: Step, last: Step, backend: Backend, clock: StageTimer
) -> IterationContext:
    """What follows `last`, holding what the spec says. around: of the job's own mask."""
    spec, maps, workers = job.spec, last.half_maps, backend.threads
    mask = mask_for_next_iteration(job, last, workers)
    if mask is not job.mask:
        around = density_to_subtract(job, first, mask, workers)
    cutoff_A = None
    if spec.non_uniform:
        both, factor = (maps.first.data, maps.second.data), spec.non_uniform_window_factor
        cutoff_A = cutoff_map(*both, mask.data, mask.pixel_size_A, factor, workers=workers)
    job = replace(job, mask=mask, particles=with_signal_scale(job, last))
    nothing = np.zeros(len(job.particles), np.bool_)
    return _with_search_prior(
        IterationContext(job, last, search_geometry(mask, spec), around, cutoff_A, "", nothing, backend, clock), None
    )


def _with_search_prior(scene: IterationContext, found: MotionPrior | None) -> IterationContext:
    """The scene with a search that holds what was found of the motion."""
    spec, last = scene.job.spec, scene.last
    shape = search_geometry(scene.job.mask, spec, found)
    asked = search_key(spec, shape)
    return replace(
        scene, shape=shape, search_key=asked, unambiguous=is_unambiguous(last.expectation) & (last.search_key == asked)
    )


def _run_iteration(
    job: Job, around: OutsideDensity | None, first: Step, last: Step, backend: Backend, clock: StageTimer
) -> Iterator[Progress | Step]:
    """See `advance`; the clock may have counted what came before."""
    with clock("reference"):
        scene = _iteration_context(job, around, first, last, backend, clock)
    scene = _with_search_prior(scene, (yield from _estimate_motion_prior(scene)))
    found, volumes, spectra = yield from _run_half_sets(scene)
    with clock("fsc"):
        maps = HalfMaps(*volumes)
        fsc = fsc_curves(maps.first, maps.second, scene.job.mask, job.spec.seed, backend.threads, part=True)
    noise_now = apply_noise_model(np.stack(spectra), job.spec.noise_model)
    found_now = _combine_half_sets(found, job.particles)
    step = replace(
        last, iteration=last.iteration + 1, expectation=found_now, half_maps=maps, fsc=fsc, noise=noise_now,
        initial_lowpass_A=0.0, search_key=scene.search_key, search=search_settings(scene.shape, job.spec),
    )  # fmt: skip
    share, fulcrum = 1 - float(scene.unambiguous.mean()), scene.shape.fulcrum_A
    line = summarise_iteration(job.particles, job.spec, last, step, fulcrum, clock.seconds, share)
    step = replace(step, history=(*last.history, line))
    warn_bad_images(job.particles, bad_image_mask(found_now.flags))
    yield replace(step, converged=has_converged(step.history))


def _estimate_motion_prior(scene: IterationContext) -> Generator[Progress, None, MotionPrior | None]:
    """The motion that the last step found, told by each half set under the map of the other; None where nothing is."""
    particles, last, began = scene.job.particles, scene.last, time.perf_counter()
    rows = rows_to_learn_from(particles, last, scene.job.spec)
    if not rows or last.search is None:
        return None
    apart = replace(_with_swapped_half_maps(scene), clock=StageTimer())
    limits, apix = apart.shape.limits, apart.shape.pixel_size_A
    extent, halves = (limits.rotation, limits.shift * apix), []
    for some, said in zip(rows, (yield from _cross_half_likelihoods(apart, rows)), strict=True):
        plane = magnified_rotation(particles.poses.select(some).rotation, magnification_in_3d(particles, some))[:, :2]
        halves.append(MotionEvidence(np.array(apart.shape.fulcrum_A), said.precision, said.information, plane, extent))
    motion = estimate_motion_prior(halves, last.search, scene.job.mask, scene.job.spec)
    scene.clock.seconds["learn"] = time.perf_counter() - began
    return motion


def _cross_half_likelihoods(
    scene: IterationContext, rows: Sequence[Rows]
) -> Generator[Progress, None, list[QuadraticLikelihood]]:
    """What these particles of either half set say under the maps of the scene; Progress per chunk."""
    found, done, total = [], 0, sum(len(some) for some in rows)
    crew, parts = scene.backend.workers, [_particle_range(scene, some) for some in rows]
    iteration = scene.last.iteration + 1
    if crew is None:
        for half, part in zip((1, 2), parts, strict=True):
            ended: list[QuadraticLikelihood] = []
            for count in collect_return_value(
                ended, likelihood_under_other_half(half_set_context(scene, half, part.rows), part, scene.backend)
            ):
                done += count
                yield Progress(iteration, "learn", done, total)
            found += ended
        return found
    with crew.map_reduce(likelihood_under_other_half, concatenate_likelihoods) as errand:
        for half, part in zip((1, 2), parts, strict=True):
            shares = batch_ranges(part.rows, part.particles.box, scene.backend)
            errand.add_group(
                half_set_context(scene, half, part.rows), [part.select(some) for some in shares], [*map(len, shares)]
            )
        for number in (0, 1):
            for _ in errand.wait(number):
                yield Progress(iteration, "learn", errand.done, total)
            found.append(errand.result(number))
    return found


def _run_half_sets(
    scene: IterationContext,
) -> Generator[Progress, None, tuple[list[Expectation], list[Volume], list[Float64]]]:
    """What was found of either half set, in reading order, its new map and its noise spectrum; Progress per chunk."""
    found, volumes, spectra = [], [], []
    crew = scene.backend.workers
    for event in _run_in_this_process(scene) if crew is None else _run_on_workers(scene, crew):
        if isinstance(event, Progress):
            yield event
            continue
        found.append(concatenate_expectations(event.expectations))
        spectra.append(pooled_noise_spectrum(event.residuals, scene.job.particles))
        volumes.append(_solve_map(scene, event.sums))
        del event
    return found, volumes, spectra


def _solve_map(scene: IterationContext, sums: Accumulator) -> Volume:
    with scene.clock("reconstruct"):
        rho = regularisation_from_fsc(scene.last.fsc["corrected"].value)
        return solve_map(
            accumulator_to_host(sums, scene.backend), scene.job.particles.pixel_size_A, rho, scene.backend.threads
        )


def half_set_context(scene: IterationContext, half: int, rows: Rows) -> HalfSetContext:
    """What the images of a half set share."""
    job, last, shape, spec = scene.job, scene.last, scene.shape, scene.job.spec
    with scene.clock("reference"):
        wide = largest_magnification(job.particles)
        made = make_reference(
            last, scene.outside, half, job.mask, spec, shape, scene.backend.threads, scene.cutoff_A, wide
        )
    usual = typical_sd_of(job.particles, rows)
    return HalfSetContext(spec, shape, made, last.noise[half - 1], usual, maps_include_surroundings(spec), wide)


def _particle_range(scene: IterationContext, rows: Rows) -> ParticleRange:
    """Images of a half set, in reading order."""
    particles = scene.job.particles
    return ParticleRange(
        rows, particles, scene.last.expectation, scene.unambiguous, choose_sample(rows, len(particles))
    )


def _run_in_this_process(scene: IterationContext) -> Iterator[Progress | HalfSetResult]:
    """The pass over either half set in this process."""
    done, total = 0, len(scene.job.particles)
    for half in (1, 2):
        part = _particle_range(scene, reading_order(scene.job.particles, half))
        going = run_half_set(half_set_context(scene, half, part.rows), part, scene.backend, scene.clock)
        # Reference and images end with the pass, before the map is made.
        ended: list[HalfSetResult] = []
        for count in collect_return_value(ended, going):
            done += count
            yield Progress(scene.last.iteration + 1, "search", done, total)
        del going
        yield ended.pop()


def _run_on_workers(scene: IterationContext, crew: WorkerPool) -> Iterator[Progress | HalfSetResult]:
    """The passes over both half sets by a crew, in ranges that the data alone decide."""
    particles, began = scene.job.particles, time.perf_counter()
    with crew.map_reduce(run_half_set_on_worker, merge_half_set_results) as errand:
        for half in (1, 2):
            part = _particle_range(scene, reading_order(particles, half))
            rows = batch_ranges(part.rows, particles.box, scene.backend)
            parts = [part.select(some) for some in rows]
            errand.add_group(half_set_context(scene, half, part.rows), parts, [len(some) for some in rows])
        for number in (0, 1):
            for _ in errand.wait(number):
                yield Progress(scene.last.iteration + 1, "search", errand.done, len(particles))
            found = [errand.result(number)]
            _add_worker_time(scene.clock, found[0].seconds, time.perf_counter() - began)
            yield found.pop()
            began = time.perf_counter()


def _add_worker_time(clock: StageTimer, spent: dict[str, float], waited: float) -> None:
    """Count the time that was waited for workers to the stages that they spent theirs on."""
    total = sum(spent.values())
    for stage, seconds in spent.items():
        clock.seconds[stage] = clock.seconds.get(stage, 0.0) + waited * seconds / max(total, 1e-9)


def _combine_half_sets(found: list[Expectation], particles: Particles) -> Expectation:
    """The half sets' results in the particles' order; the mean scale of a half set is 1."""
    half = particles.half
    order = np.argsort(np.concatenate([reading_order(particles, number) for number in (1, 2)]))
    whole = concatenate_expectations(found).select(order)
    mean = np.array([whole.scale[half == number].mean() for number in (1, 2)])
    return replace(whole, scale=whole.scale / mean[half - 1])


def iterate(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """Advance until converged (plus extra passes) or `max_iterations`; yields everything `advance` does."""
    if is_finished(job.spec, last):
        return
    clock = StageTimer()
    with clock("reference"):
        around = density_to_subtract(job, first, job.mask, backend.threads)
    while not is_finished(job.spec, last):
        for event in _run_iteration(job, around, first, last, backend, clock):
            yield event
            if isinstance(event, Step):
                last = event
        clock = StageTimer()
