"""Run a refinement step by step. The functions are generators, and the caller drives the loop.

One iteration, on top of the last step:

1. dynamic mask, density outside the mask, and low-pass of each voxel, where the parameters ask for them;
2. prior and fulcrum from the motion of the last step, where they are estimated (`motion_prior`);
3. for each half set, a pass over its images (`half_set_pass`): E-step under the half set's own reference, residuals for
   the noise, sums of the M-step;
4. M-step: half maps from the sums (`reconstruction.solve_map`), FSC curves, noise spectra;
5. the next step, with its line of history and whether it has converged (`convergence`).

The half sets share the mask, the FSC, and the estimated prior and fulcrum, but no map, no noise and no pose.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64, Rows
from lrcore.compute.backend import Backend, WorkerPool
from lrcore.compute.timing import StageTimer
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.maps.body_maps import MapsAmidStart, soft_cube
from lrcore.maps.fsc import fsc_curves
from lrcore.maps.nonuniform import cutoff_map
from lrcore.motion.model import MotionEvidence
from lrcore.particles.bad_images import bad_image_mask, warn_bad_images
from lrcore.particles.image_stream import batch_ranges, reading_order, typical_sd_of
from lrcore.records import BodyMaps, Expectation, HalfMaps, Particles, Progress, Step, Volume
from lrcore.refinement.convergence import has_converged, settings_since, stop_reason, summarise_iteration
from lrcore.refinement.cross_half_likelihood import (
    QuadraticLikelihood,
    concatenate_likelihoods,
    likelihood_under_other_half,
)
from lrcore.refinement.density import (
    density_to_subtract,
    map_operators,
    maps_include_surroundings,
    mask_for_next_iteration,
    mask_of_all_copies,
)
from lrcore.refinement.density_projector import DensityProjector
from lrcore.refinement.geometry import MotionPrior, SearchGeometry, search_geometry, search_key, search_settings
from lrcore.refinement.half_set_pass import (
    HalfSetContext,
    HalfSetResult,
    ParticleRange,
    concatenate_expectations,
    merge_half_set_results,
)
from lrcore.refinement.job import Job, with_signal_scale
from lrcore.refinement.motion_prior import estimate_motion_prior, rows_for_motion_estimate
from lrcore.refinement.noise import apply_noise_model, choose_sample, pooled_noise_spectrum
from lrcore.refinement.parameter_effects import settings_key
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.presence import Shares, estimate_shares, presence_of
from lrcore.refinement.reconstruction import (
    Accumulator,
    accumulator_to_host,
    collect_return_value,
    regularisation_from_fsc,
    solve_map,
)
from lrcore.refinement.reference import OutsideDensity, Reference, make_reference
from lrcore.refinement.search import is_unambiguous
from lrcore.refinement.whole_maps import has_whole_maps, make_whole_maps
from lrcore.refinement.window import (
    LEAST_SHARE,
    Window,
    body_in_window,
    continued_step,
    held_density,
    step_in_window,
    window_of,
    with_coarse_shells,
)
from lrcore.refinement.window_batch import window_batch_size
from lrcore.refinement.window_cache import WindowCache, window_key
from lrcore.refinement.window_images import CutInput, Cutting
from lrcore.refinement.window_pass import run_pass, run_pass_on_worker


def run_iteration(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """Run one iteration on top of a step.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    last : step to go on from
    backend : where the kernels run, and where windows of the images are kept from one iteration to the next

    Yields
    ------
    Progress or Step
        `Progress` per batch or chunk of images (stages "learn" and "search"), then the new step.

    Raises
    ------
    InputError
        When an image cannot be read, no image of a half set is valid, or memory does not suffice.
    """
    yield from _run_iteration(RunInput(job, first, backend), last)


def iterate(job: Job, first: Step, last: Step, backend: Backend) -> Iterator[Progress | Step]:
    """Run iterations until the refinement has converged, and its extra passes, or `max_iterations` is reached.

    Both count from the last change of spec or mask, see `convergence.stop_reason`. The last step has whole half maps
    (`whole_maps`).

    Parameters
    ----------
    job, first, last, backend : see `run_iteration`, which also says what is raised

    Yields
    ------
    Progress or Step
        All that `run_iteration` yields.
    """
    if backend.windows is None:
        backend = replace(backend, windows=WindowCache())
    run = RunInput(job, first, backend)
    while not stop_reason(job, last):
        for event in _run_iteration(run, last):
            if isinstance(event, Step):
                last = event
                if stop_reason(job, last) and not has_whole_maps(last):
                    yield from make_whole_maps(job, last, backend)
                    break
            yield event


class RunInput:
    """Input that all iterations of a run share.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    backend : where the kernels run, and where windows of the images are kept
    """

    def __init__(self, job: Job, first: Step, backend: Backend) -> None:
        self.job, self.first, self.backend = job, first, backend
        self.cache: WindowCache | None = backend.windows
        self._cut_inputs: dict[int, CutInput] = {}

    @cached_property
    def operators(self) -> Float64:
        """Operators of the symmetry over which the map is averaged."""
        return map_operators(self.job.mask, self.job.spec.symmetry)

    @cached_property
    def mask_of_copies(self) -> Volume:
        """The mask and its copies in place: density in it stays in the images."""
        return mask_of_all_copies(self.job.mask, self.job.spec.symmetry)

    @cached_property
    def outside(self) -> OutsideDensity | None:
        """Density outside the mask of the job; it takes transforms of the whole box."""
        return density_to_subtract(self.job, self.first, self.job.mask, self.backend.threads)

    def cut_input(self, half: int) -> CutInput:
        """Return what cutting the images of a half set, 1 or 2, takes; it is made when the first one is cut."""

        def make() -> tuple[tuple[DensityProjector, ...], float]:
            parts = self.outside.projectors(half, self.backend.threads) if self.outside else ()
            return parts, typical_sd_of(self.job.particles, reading_order(self.job.particles, half))

        return self._cut_inputs.setdefault(half, CutInput(make))


@dataclass(frozen=True)
class IterationContext:
    """Input that both half sets of an iteration share.

    Attributes
    ----------
    job : with the mask of this iteration, and particles with their amplitudes in force
    last : the step before, whose half maps are the references
    geometry : geometry of the search
    window : in which the iteration works; None for whole images
    run : what all iterations share
    outside : density outside a mask that changed and is subtracted, or None
    operators : (m, 3, 3) over which the map is averaged
    cutoff_A : (n, n, n) low-pass of each voxel, or None
    search_key : text that changes with the search, see `geometry.search_key`
    unambiguous : (n,) particles whose last pose is beyond doubt, found with the same `search_key`
    backend : where the kernels run
    clock : counts the seconds of each stage
    """

    job: Job
    last: Step
    geometry: SearchGeometry
    window: Window | None
    run: RunInput
    outside: OutsideDensity | None
    operators: Float64
    cutoff_A: Float32 | None
    search_key: str
    unambiguous: npt.NDArray[np.bool_]
    backend: Backend
    clock: StageTimer


def cross_half_context(job: Job, first: Step, last: Step, backend: Backend) -> IterationContext:
    """Return the context in which each half set is compared with the map of the other one.

    Prior and extents are those of the search that made the step.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    last : step whose poses are examined
    backend : where the kernels run

    Returns
    -------
    IterationContext
        With the half maps of `last` swapped.
    """
    run = RunInput(job, first, backend)
    return _with_swapped_half_maps(_iteration_context(run, last, StageTimer(), whole_images=True))


def half_set_context(context: IterationContext, half: int, rows: Rows) -> HalfSetContext:
    """Return what the images of a half set share, with its reference.

    Parameters
    ----------
    context : of the iteration
    half : half set, 1 or 2
    rows : rows of its particles, from which the SD of a valid image is estimated
    """
    if context.window is not None:
        return _window_half_set_context(context, context.window, half)
    job, last, geometry, spec = context.job, context.last, context.geometry, context.job.spec
    with context.clock("reference"):
        magnification = largest_magnification(job.particles)
        reference = make_reference(
            last,
            context.outside,
            half,
            job.mask,
            spec,
            geometry,
            context.backend.threads,
            context.cutoff_A,
            magnification,
        )
        reference = _with_other_half(
            reference, spec, lambda: make_reference(
                last, None, 3 - half, job.mask, spec, geometry, context.backend.threads, context.cutoff_A, magnification
            ),
        )  # fmt: skip
    typical_sd, whole = typical_sd_of(job.particles, rows), maps_include_surroundings(spec)
    noise = apply_noise_model(last.noise, spec.noise_model)[half - 1]
    return HalfSetContext(
        spec, geometry, reference, noise, typical_sd, context.operators, whole, magnification,
        shares=_shares(job.particles, last, half),
    )  # fmt: skip


def _with_other_half(reference: Reference, spec: RefineSpec, other: Callable[[], Reference]) -> Reference:
    """Return a reference with that of the other half set, where images are weighted by the presence of the body."""
    if not spec.weight_by_presence:
        return reference
    return replace(reference, frame=replace(reference.frame, other_volume=other().frame.volume))


def _shares(particles: Particles, last: Step, half: int) -> Shares:
    """Return the shares of the valid images of a half set by what they show, from the last iteration."""
    found = last.expectation
    valid = (particles.half == half) & ~bad_image_mask(found.flags)
    return estimate_shares(found.evidence[valid], found.misfit[valid])


def _window_half_set_context(context: IterationContext, window: Window, half: int) -> HalfSetContext:
    """Return `half_set_context` of an iteration inside the window, with room for its windows in the cache."""
    _prepare_cache(context, window)
    job, last, spec, workers = context.job, context.last, context.job.spec, context.backend.threads
    magnification = largest_magnification(job.particles)
    with context.clock("reference"):
        geometry, step, mask = window.geometry(context.geometry), step_in_window(last, window), window.crop(job.mask)

        def reference_of(number: int) -> Reference:
            return make_reference(
                step, None, number, mask, spec, geometry, workers, context.cutoff_A, magnification
            )  # fmt: skip

        reference = _with_other_half(reference_of(half), spec, lambda: reference_of(3 - half))
        # Poses stay in the frame of the box.
        frame = replace(reference.frame, fulcrum_A=context.geometry.fulcrum * window.pixel_size_A)
    noise = apply_noise_model(last.noise, spec.noise_model)[half - 1]
    cutting = Cutting(window, context.run.first.noise[half - 1], context.run.cut_input(half))
    return HalfSetContext(
        spec, context.geometry, replace(reference, frame=frame), noise, np.nan, context.operators, False, magnification,
        cutting, _shares(job.particles, last, half),
    )  # fmt: skip


def _iteration_context(run: RunInput, last: Step, clock: StageTimer, whole_images: bool = False) -> IterationContext:
    """Return the context of the iteration after `last`, with the prior and fulcrum of the parameters."""
    job, spec, workers = run.job, run.job.spec, run.backend.threads
    last = continued_step(run.first, last)
    mask = mask_for_next_iteration(job, last, workers)
    geometry = search_geometry(mask, spec)
    window = None if whole_images else window_of(mask, spec, geometry, last)
    outside = None
    if window is None:
        outside = run.outside if mask is job.mask else density_to_subtract(job, run.first, mask, workers)
    cutoff_A = None
    if spec.non_uniform:
        maps, inside = (last.half_maps, mask) if window is None else (body_in_window(last, window), window.crop(mask))
        both, factor = (maps.first.data, maps.second.data), spec.non_uniform_window_factor
        cutoff_A = cutoff_map(*both, inside.data, mask.pixel_size_A, factor, workers=workers)
    job = replace(job, mask=mask, particles=with_signal_scale(job, last))
    unambiguous = np.zeros(len(job.particles), np.bool_)
    context = IterationContext(
        job, last, geometry, window, run, outside, run.operators, cutoff_A, "", unambiguous, run.backend, clock
    )
    return _with_search_prior(context, None)


def _with_swapped_half_maps(context: IterationContext) -> IterationContext:
    """Return the context with swapped half maps, and with the prior of the search that made the last step."""
    last, body = context.last, context.last.body
    if body is not None:  # a window reads the half maps of the body
        body = replace(body, half_maps=HalfMaps(body.half_maps.second, body.half_maps.first))
    swapped = replace(last, half_maps=HalfMaps(last.half_maps.second, last.half_maps.first), body=body)
    return replace(
        _with_search_prior(context, MotionPrior.from_settings(last.search) if last.search else None), last=swapped
    )


def _with_search_prior(context: IterationContext, prior: MotionPrior | None) -> IterationContext:
    """Return the context with a search about this fulcrum and with this prior; None for those of the parameters."""
    spec, last = context.job.spec, context.last
    geometry, window = search_geometry(context.job.mask, spec, prior), context.window
    if window is not None:
        window = window_of(context.job.mask, spec, geometry, last)
    key = search_key(spec, geometry)
    return replace(
        context,
        geometry=geometry,
        window=window,
        search_key=key,
        unambiguous=is_unambiguous(last.expectation) & (last.search_key == key),
    )


def _run_iteration(run: RunInput, last: Step) -> Iterator[Progress | Step]:
    """Run one iteration, see `run_iteration`."""
    clock, job = StageTimer(), run.job
    with clock("reference"):
        context = _iteration_context(run, last, clock)
    context = _with_search_prior(context, (yield from _estimate_motion_prior(context)))
    expectations, volumes, spectra = yield from _run_half_sets(context)
    noise, key = np.stack(spectra), settings_key(job.spec, job.mask)
    expectation = _combine_half_sets(expectations, job.particles)
    if job.spec.weight_by_presence:
        valid = ~bad_image_mask(expectation.flags)
        presence = presence_of(expectation.evidence, expectation.misfit, job.particles.half, valid)
        expectation = replace(expectation, presence=presence)
    step = replace(
        last, iteration=last.iteration + 1, expectation=expectation, noise=noise,
        initial_lowpass_A=0.0, search_key=context.search_key, search=search_settings(context.geometry, job.spec),
        settings_key=key, settings_since=settings_since(key, last),
    )  # fmt: skip
    with clock("fsc"):
        step = _with_maps(context, step, HalfMaps(*volumes))
    lattice_share, fulcrum = 1 - float(context.unambiguous.mean()), context.geometry.fulcrum_A
    summary = summarise_iteration(job.particles, job.spec, last, step, fulcrum, clock.seconds, lattice_share)
    step = replace(step, history=(*last.history, summary))
    warn_bad_images(job.particles, bad_image_mask(expectation.flags))
    yield replace(step, converged=has_converged(step.history[step.settings_since :]))


def _with_maps(context: IterationContext, step: Step, maps: HalfMaps) -> Step:
    """Return a step with its half maps and FSC curves; inside a window, these are of the body."""
    job, workers, window = context.job, context.backend.threads, context.window
    if window is None:
        fsc = fsc_curves(maps.first, maps.second, job.mask, workers=workers, part=True)
        return replace(step, half_maps=maps, fsc=fsc, body=None)
    fsc = window.fsc_of(maps, window.crop(job.mask), workers)
    held = held_density(context.run.mask_of_copies, window, job.spec.subtract_outside)
    body = BodyMaps(maps, held, window.centre, fsc["corrected"])
    return replace(step, half_maps=MapsAmidStart(context.run.first.half_maps, body), fsc=fsc, body=body)


def _prepare_cache(context: IterationContext, window: Window) -> None:
    """Make room for the windows of a pass, which stay as they are while all that they depend on does."""
    run, particles = context.run, context.job.particles
    if run.cache is None or context.backend.workers is not None:
        return
    run.cache.prepare(window_key(context.job, run.first, window), len(particles), window)


def _estimate_motion_prior(context: IterationContext) -> Generator[Progress, None, MotionPrior | None]:
    """Estimate the prior from the motion of the last step; None where it is not requested or impossible."""
    particles, last, began = context.job.particles, context.last, time.perf_counter()
    rows = rows_for_motion_estimate(particles, last, context.job.spec)
    if not rows or last.search is None:
        return None
    swapped = replace(_with_swapped_half_maps(context), clock=StageTimer())
    limits, apix = swapped.geometry.limits, swapped.geometry.pixel_size_A
    extent, halves = (limits.rotation, limits.shift * apix), []
    for subset, likelihood in zip(rows, (yield from _cross_half_likelihoods(swapped, rows)), strict=True):
        magnification = magnification_in_3d(particles, subset)
        plane = magnified_rotation(particles.poses.select(subset).rotation, magnification)[:, :2]
        reference_A = np.array(swapped.geometry.fulcrum_A)
        halves.append(MotionEvidence(reference_A, likelihood.precision, likelihood.information, plane, extent))
    prior = estimate_motion_prior(halves, last.search, context.job.mask, context.job.spec)
    context.clock.seconds["learn"] = time.perf_counter() - began
    return prior


def _cross_half_likelihoods(
    context: IterationContext, rows: Sequence[Rows]
) -> Generator[Progress, None, list[QuadraticLikelihood]]:
    """Evaluate the likelihoods of these rows of each half set under the maps of the context. Yields progress."""
    likelihoods, done, total = [], 0, sum(len(subset) for subset in rows)
    workers, parts = context.backend.workers, [_particle_range(context, subset) for subset in rows]
    iteration = context.last.iteration + 1
    if workers is None:
        for half, part in zip((1, 2), parts, strict=True):
            results: list[QuadraticLikelihood] = []
            for count in collect_return_value(
                results,
                likelihood_under_other_half(
                    half_set_context(context, half, part.rows), part, context.backend, context.run.cache
                ),
            ):
                done += count
                yield Progress(iteration, "learn", done, total)
            likelihoods += results
        return likelihoods
    with workers.map_reduce(likelihood_under_other_half, concatenate_likelihoods) as task:
        for half, part in zip((1, 2), parts, strict=True):
            chunks = _ranges(context, part.rows)
            task.add_group(
                half_set_context(context, half, part.rows),
                [part.select(chunk) for chunk in chunks],
                [*map(len, chunks)],
            )
        for number in (0, 1):
            for _ in task.wait(number):
                yield Progress(iteration, "learn", task.done, total)
            likelihoods.append(task.result(number))
    return likelihoods


def _run_half_sets(
    context: IterationContext,
) -> Generator[Progress, None, tuple[list[Expectation], list[Volume], list[Float64]]]:
    """Run the passes over both half sets. Yields progress.

    Returns, for each half set, its expectation in reading order, its new map, and its noise (groups, shells).
    """
    expectations: list[Expectation] = []
    volumes: list[Volume] = []
    spectra: list[Float64] = []
    workers = context.backend.workers
    for event in _run_in_this_process(context) if workers is None else _run_on_workers(context, workers):
        if isinstance(event, Progress):
            yield event
            continue
        expectations.append(concatenate_expectations(event.expectations))
        spectra.append(pooled_noise_spectrum(event.residuals, context.job.particles))
        volumes.append(_solve_map(context, event.sums, len(volumes) + 1))
        del event
    return expectations, volumes, spectra


def _run_in_this_process(context: IterationContext) -> Iterator[Progress | HalfSetResult]:
    """Run the passes over both half sets in this process. Yields progress, and the result of each half set."""
    done, total = 0, len(context.job.particles)
    for half in (1, 2):
        part = _particle_range(context, reading_order(context.job.particles, half))
        shared, backend, clock = half_set_context(context, half, part.rows), context.backend, context.clock
        half_set_pass = run_pass(shared, part, backend, clock, context.run.cache)
        # Reference and images are released with the pass, before the map is made.
        results: list[HalfSetResult] = []
        for count in collect_return_value(results, half_set_pass):
            done += count
            yield Progress(context.last.iteration + 1, "search", done, total)
        del half_set_pass
        yield results.pop()


def _run_on_workers(context: IterationContext, workers: WorkerPool) -> Iterator[Progress | HalfSetResult]:
    """Run the passes over both half sets on workers, in chunks that depend on the data alone. Yields as above."""
    particles, began = context.job.particles, time.perf_counter()
    with workers.map_reduce(run_pass_on_worker, merge_half_set_results) as task:
        for half in (1, 2):
            part = _particle_range(context, reading_order(particles, half))
            chunks = _ranges(context, part.rows)
            parts = [part.select(chunk) for chunk in chunks]
            task.add_group(half_set_context(context, half, part.rows), parts, [len(chunk) for chunk in chunks])
        for number in (0, 1):
            for _ in task.wait(number):
                yield Progress(context.last.iteration + 1, "search", task.done, len(particles))
            results = [task.result(number)]
            _add_worker_time(context.clock, results[0].seconds, time.perf_counter() - began)
            yield results.pop()
            began = time.perf_counter()


def _ranges(context: IterationContext, rows: Rows) -> list[Rows]:
    """Return rows divided into ranges for workers, of whole batches of images or of windows."""
    window, backend = context.window, context.backend
    size = None if window is None else window_batch_size(window, backend)
    return batch_ranges(rows, context.job.particles.box, backend, size)


def _add_worker_time(clock: StageTimer, spent: dict[str, float], waited: float) -> None:
    """Add the time spent waiting for workers to the stages, in proportion to what the workers spent on each."""
    total = sum(spent.values())
    for stage, seconds in spent.items():
        clock.seconds[stage] = clock.seconds.get(stage, 0.0) + waited * seconds / max(total, 1e-9)


def _particle_range(context: IterationContext, rows: Rows) -> ParticleRange:
    """Return the images of a half set, in reading order, as one part."""
    particles = context.job.particles
    return ParticleRange(
        rows, particles, context.last.expectation, context.unambiguous, choose_sample(rows, len(particles))
    )


def _solve_map(context: IterationContext, sums: Accumulator, half: int) -> Volume:
    """Return the new half map of the sums (M-step), of the whole box or of the window."""
    window, last, backend = context.window, context.last, context.backend
    apix = context.job.particles.pixel_size_A
    with context.clock("reconstruct"):
        corrected = last.corrected if window is None else window.fsc_at_window(last.corrected)
        rho = regularisation_from_fsc(corrected.value)
        least = 0.0 if window is None else LEAST_SHARE
        volume = solve_map(accumulator_to_host(sums, backend), apix, rho, backend.threads, least)
        if window is None:
            return volume
        held = held_density(context.run.mask_of_copies, window, context.job.spec.subtract_outside)
        start = window.crop(context.run.first.half_maps.half(half))
        coarse = replace(start, data=start.data * held * soft_cube(window.size))
        return with_coarse_shells(volume, coarse, backend.threads)


def _combine_half_sets(expectations: list[Expectation], particles: Particles) -> Expectation:
    """Return the expectations of both half sets in the order of the particles; the mean scale of a half set is 1."""
    half = particles.half
    order = np.argsort(np.concatenate([reading_order(particles, number) for number in (1, 2)]))
    whole = concatenate_expectations(expectations).select(order)
    weights = np.maximum(whole.presence, 1e-6)
    mean = np.array([np.average(whole.scale[half == number], weights=weights[half == number]) for number in (1, 2)])
    return replace(whole, scale=whole.scale / mean[half - 1])
