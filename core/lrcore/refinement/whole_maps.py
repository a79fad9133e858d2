"""Make the whole half maps of a step: one pass of the whole images, nothing subtracted, at the poses that were found.

Iterations work in the window about the mask, and know nothing of the rest of the box. The maps that people look at and
deposit are those of whole images, neither masked nor filtered. All that moves rigidly with the body is sharp in them,
and what does not is blurred.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.fourier_volume import PADDING
from lrcore.imaging.poses import displaced_poses
from lrcore.kernels.local_search import SearchLimits
from lrcore.maps.body_maps import MapsAmidStart
from lrcore.maps.fsc import fsc_curves
from lrcore.particles.image_stream import Batch, batch_ranges, map_batches, reading_order, typical_sd_of
from lrcore.records import Expectation, HalfMaps, Particles, Poses, Progress, Step, Volume, WeightedPoses
from lrcore.refinement.density import map_operators
from lrcore.refinement.geometry import ALIGN_THRESHOLD
from lrcore.refinement.job import Job, with_signal_scale
from lrcore.refinement.noise import apply_noise_model
from lrcore.refinement.posterior import PointGeometry, Posterior, backprojection_points
from lrcore.refinement.reconstruction import (
    Accumulator,
    accumulator_to_host,
    add_accumulators,
    backproject,
    collect_return_value,
    empty_accumulator,
    regularisation_from_fsc,
    solve_map,
)
from lrcore.refinement.search import poses_to_theta
from lrcore.refinement.truncation import reaches_extents
from lrcore.units import DEGREE

STAGE = "whole maps"
"""Name of the stage in the progress."""


def has_whole_maps(step: Step) -> bool:
    """Return True if the half maps of a step are of whole images, or of the start.

    Parameters
    ----------
    step : of a run
    """
    return not isinstance(step.half_maps, MapsAmidStart)


def make_whole_maps(job: Job, step: Step, backend: Backend) -> Iterator[Progress | Step]:
    """Make the whole half maps of a step, and all FSC curves of them.

    Parameters
    ----------
    job : the job that made the step
    step : made in a window
    backend : where the kernels run

    Yields
    ------
    Progress or Step
        `Progress` while images are inserted, then the step with its whole half maps; `body` stays.

    Raises
    ------
    InputError
        When an image cannot be read.
    """
    particles, spec = with_signal_scale(job, step), job.spec
    noise = apply_noise_model(step.noise, spec.noise_model)
    operators = map_operators(job.mask, spec.symmetry)
    rho = regularisation_from_fsc(step.corrected.value)
    volumes: list[Volume] = []
    done = 0
    for half in (1, 2):
        rows = reading_order(particles, half)
        context = InsertionContext(
            noise[half - 1], operators, spec.marginalize, point_geometry(job, step), typical_sd_of(particles, rows)
        )
        results: list[Accumulator] = []
        insertion = _insert_half(context, particles, step.expectation, rows, backend)
        for count in collect_return_value(results, insertion):
            done += count
            yield Progress(step.iteration, STAGE, done, len(particles))
        volumes.append(
            solve_map(accumulator_to_host(results.pop(), backend), particles.pixel_size_A, rho, backend.threads)
        )
    maps = HalfMaps(*volumes)
    fsc = fsc_curves(maps.first, maps.second, job.mask, workers=backend.threads, part=True)
    yield replace(step, half_maps=maps, fsc=fsc)


@dataclass(frozen=True)
class InsertionContext:
    """Parameters of the insertion of whole images that all images of a half set share.

    Attributes
    ----------
    noise : (groups, shells) σ²
    operators : (m, 3, 3) over which the map is averaged
    marginalize : True to represent the posterior by several points
    geometry : of these points
    typical_sd : SD of a valid image
    """

    noise: Float64
    operators: Float64
    marginalize: bool
    geometry: PointGeometry
    typical_sd: float


def point_geometry(job: Job, step: Step) -> PointGeometry:
    """Return extents, fulcrum and scale of the points of a step's posterior.

    A search that was re-centred has its extents about poses that are no longer known: its points are not limited.
    """
    search, apix = step.search, job.mask.pixel_size_A
    assert search is not None
    extents = (
        (np.inf, np.inf) if search.recentred else (search.rotation_extent_deg * DEGREE, search.shift_extent_A / apix)
    )
    limits = SearchLimits(*extents, np.inf, np.inf)
    resolution_A = max(step.corrected.resolution_A(ALIGN_THRESHOLD), 2 * apix)
    reach = PADDING * job.mask.box * apix / resolution_A
    return PointGeometry(limits, np.array(search.fulcrum_A), apix, reach)


def _insert_half(
    context: InsertionContext,
    particles: Particles,
    expectation: Expectation,
    rows: Rows,
    backend: Backend,
) -> Generator[int, None, Accumulator]:
    """Insert the images of a half set, here or on workers. Yields numbers of images."""
    if backend.workers is None:
        return (yield from _insert_range(context, (particles, expectation, rows), backend))
    ranges = batch_ranges(rows, particles.box, backend)
    with backend.workers.map_reduce(_insert_range_on_worker, add_accumulators) as task:
        parts = [
            (replace(particles.select(part), source=None), expectation.select(part), np.arange(len(part)))
            for part in ranges
        ]
        task.add_group(context, parts, [len(part) for part in ranges])
        before = 0
        for _ in task.wait(0):
            yield task.done - before
            before = task.done
        sums: Accumulator = task.result(0)
    return sums


def _insert_range(
    context: InsertionContext, part: tuple[Particles, Expectation, Rows], backend: Backend
) -> Generator[int, None, Accumulator]:
    """Insert some rows of particles. Yields the number of images of each batch."""
    particles, expectation, rows = part
    sums = empty_accumulator(particles.box, backend, largest_magnification(particles))

    def work(batch: Batch) -> int:
        found, magnification = expectation.select(batch.rows), magnification_in_3d(particles, batch.rows)
        points = WeightedPoses.from_poses(found.poses)
        if context.marginalize:
            points = points_of(found, particles.poses.select(batch.rows), context.geometry, magnification)
        points = points.weighted(found.presence)
        backproject(
            sums, batch, points, particles.pixel_size_A, context.noise, particles.group[batch.rows], context.operators,
            backend, magnification,
        )  # fmt: skip
        return len(batch.rows)

    yield from map_batches(particles, rows, backend, work, context.typical_sd)
    return sums


def _insert_range_on_worker(
    context: InsertionContext, part: tuple[Particles, Expectation, Rows], backend: Backend
) -> Generator[int, None, Accumulator]:
    """Insert some rows of particles on a worker, and return the sums as NumPy arrays."""
    sums = yield from _insert_range(context, part, backend)
    return accumulator_to_host(sums, backend)


def points_of(
    found: Expectation, given: Poses, geometry: PointGeometry, magnification: Float64 | None = None
) -> WeightedPoses:
    """Return points that represent the stored posterior of B images, as `backprojection_points` makes them.

    Modes other than the best have the covariance of the best, since that is the only one that is kept.

    Parameters
    ----------
    found : poses, covariances and other modes of the images
    given : (B,) centres of the search, from which the extents count
    geometry : of the points
    magnification : (B, 3, 3) of `aberrations.magnification_in_3d`, or None
    """
    unit = np.array([1.0, 1.0, 1.0, geometry.pixel_size_A, geometry.pixel_size_A])
    covariance = found.covariance / np.outer(unit, unit)
    searched = np.linalg.det(covariance) > 0
    covariance = np.where(searched[:, None, None], covariance, np.diag([1e-12] * 5))
    others = np.nan_to_num(found.other_modes.astype(np.float64))
    modes = [found.poses] + [
        displaced_poses(found.poses, others[:, m], geometry.fulcrum_A, magnification) for m in range(others.shape[1])
    ]
    weight = np.concatenate([found.mode_probability[:, None], found.other_probability], axis=1).astype(np.float64)
    weight[:, 0] = np.where(weight.sum(axis=1) > 0, weight[:, 0], 1.0)
    weight /= weight.sum(axis=1, keepdims=True)
    theta = np.stack([poses_to_theta(given, mode, geometry, magnification) for mode in modes], axis=1)
    every = np.repeat(covariance[:, None], len(modes), axis=1)
    count = len(theta)
    flat = every.reshape(-1, 5, 5)
    truncated = reaches_extents(theta.reshape(-1, 5), flat, geometry.limits).reshape(count, -1)
    posterior = Posterior(every, weight, np.linalg.inv(covariance).astype(np.float64), truncated)
    return backprojection_points(posterior, modes, theta, geometry, magnification)
