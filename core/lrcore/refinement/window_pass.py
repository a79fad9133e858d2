"""Run one pass over the images of a half set inside the window: E-step, noise and sums of the M-step.

It is `half_set_pass` for windows: nothing here is of the size of the box but the images that have not been cut yet.
"""

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from lrcore.arrays import Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.compute.timing import StageTimer
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.records import Expectation, WeightedPoses
from lrcore.refinement.expectation import search_centres
from lrcore.refinement.half_set_pass import (
    HalfSetContext,
    HalfSetResult,
    ParticleRange,
    concatenate_expectations,
    run_half_set,
)
from lrcore.refinement.noise import NoiseResiduals
from lrcore.refinement.reconstruction import Accumulator, accumulator_to_host, empty_accumulator, insert_slices
from lrcore.refinement.reference import reference_to_device
from lrcore.refinement.search import SearchRequest, search_poses
from lrcore.refinement.window import Window
from lrcore.refinement.window_batch import WindowBatch, load_windows, run_window_batches, samples_to_search
from lrcore.refinement.window_cache import WindowCache
from lrcore.refinement.window_noise import measure_window_residuals


def run_half_set_in_window(
    context: HalfSetContext, part: ParticleRange, backend: Backend, clock: StageTimer, cache: WindowCache
) -> Generator[int, None, HalfSetResult]:
    """Run the E-step and accumulate the sums of the M-step over a part of a half set; see `run_half_set`."""
    particles, spec, cutting = part.particles, context.spec, context.cutting
    assert cutting is not None
    with clock("reference"):
        reference = reference_to_device(context.reference, backend)
    sums = empty_accumulator(cutting.window.size, backend, context.largest_magnification)
    expectations: list[Expectation] = []
    residuals: list[NoiseResiduals] = []

    def work(rows: Rows) -> Generator[int, None, None]:
        given, last_poses = particles.poses.select(rows), part.last.poses.select(rows)
        magnification = magnification_in_3d(particles, rows)
        centres = search_centres(given, last_poses, spec, reference.frame.fulcrum_A, magnification)
        batch = yield from clock.time_generator("read", load_windows(context, part, rows, centres, cache, backend))
        with clock("window"):
            W, w = samples_to_search(batch, context, reference, backend)
        with clock("search"):
            scale = part.last.scale[rows] if spec.per_particle_scale else None
            request = SearchRequest(
                centres, last_poses, given, batch.bad, part.unambiguous[rows], scale, spec.marginalize, magnification,
                context.shares,
            )  # fmt: skip
            expectation, points = search_poses(W, w, reference.frame, request, backend)
        with clock("noise"):
            residual = measure_window_residuals(context, part, batch, expectation, reference, backend)
        with clock("insert"):
            _insert(sums, batch, points, context.operators, cutting.window, backend)
        expectations.append(expectation)
        residuals.append(residual)

    yield from run_window_batches(part.rows, cutting.window, backend, work)
    return HalfSetResult(tuple(expectations), tuple(residuals), sums, clock.seconds)


def run_pass(
    context: HalfSetContext,
    part: ParticleRange,
    backend: Backend,
    clock: StageTimer | None = None,
    cache: WindowCache | None = None,
) -> Generator[int, None, HalfSetResult]:
    """Run a pass inside the window, or over whole images where the context has no window; see `run_half_set`.

    cache: windows that were cut before; None to cut all of them and keep none.
    """
    clock = clock or StageTimer()
    if context.cutting is None:
        return (yield from run_half_set(context, part, backend, clock))
    return (yield from run_half_set_in_window(context, part, backend, clock, cache or WindowCache()))


def run_pass_on_worker(
    context: HalfSetContext, part: ParticleRange, backend: Backend
) -> Generator[int, None, HalfSetResult]:
    """Run a pass on a worker, and return its result for the transfer: sums as NumPy arrays, all batches as one."""
    result = yield from run_pass(context, part, backend)
    power, groups = (np.concatenate(column) for column in zip(*result.residuals, strict=True))
    return replace(
        result,
        expectations=(concatenate_expectations(result.expectations),),
        residuals=((power, groups),),
        sums=accumulator_to_host(result.sums, backend),
    )


def _insert(
    sums: Accumulator, batch: WindowBatch, points: WeightedPoses, operators: Float64, window: Window, backend: Backend
) -> None:
    """Add windows at their weighted poses, once for each symmetry operator, in place."""
    image, point = np.nonzero(points.share)
    share, origin_A = points.share[image, point], points.origin_A[image, point]
    rotation = points.rotation[image, point]
    behind = None if batch.magnification is None else batch.magnification[image]
    for operator in operators:
        turned = rotation @ operator
        shifts = batch.points[image] - window.seen_at(turned, origin_A, behind)
        slices = (magnified_rotation(turned, behind), shifts, image, share, None)
        insert_slices(sums, slices, batch.data, batch.weight, backend)
