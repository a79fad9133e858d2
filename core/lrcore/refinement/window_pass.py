"""Run one pass over the images of a half set inside the window: E-step, noise and sums of the M-step.

It is `half_set_pass` for windows: nothing here is of the size of the box but the images that have not been cut yet.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Complex64, Float32, Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.compute.timing import StageTimer
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.grids import half_plane, radius_grid, shell_mean
from lrcore.imaging.poses import magnified_rotation
from lrcore.masks import cosine_edge
from lrcore.particles.image_stream import batch_size
from lrcore.records import Expectation, Particles, Poses, WeightedPoses
from lrcore.refinement.expectation import search_centres
from lrcore.refinement.half_set_pass import (
    HalfSetContext,
    HalfSetResult,
    ParticleRange,
    concatenate_expectations,
    run_half_set,
)
from lrcore.refinement.noise import NoiseResiduals, crop_about_points
from lrcore.refinement.reconstruction import Accumulator, accumulator_to_host, empty_accumulator, insert_slices
from lrcore.refinement.reference import Reference, reference_to_device
from lrcore.refinement.search import SearchRequest, search_poses
from lrcore.refinement.window import Window, cut_points
from lrcore.refinement.window_cache import WindowCache
from lrcore.refinement.window_images import CutImages, amplitude_of_cut, windows_of

MAX_BATCH_IMAGES = 256
"""Largest number of windows in a batch, so that a pass can be stopped soon."""


@dataclass(frozen=True)
class WindowBatch:
    """Windows of B images, on the device of the backend.

    Attributes
    ----------
    rows : (B,) of the particles
    data : (B, D, D // 2 + 1) C X / σ²
    weight : (B, D, D // 2 + 1) C² / σ²
    bad : (B,) invalid images
    points : (B, 2) about which the windows were cut, pixels from the centre of the image
    centres : of the search
    magnification : (B, 3, 3) of `aberrations.magnification_in_3d`, or None
    """

    rows: Rows
    data: Complex64
    weight: Float32
    bad: npt.NDArray[np.bool_]
    points: Float64
    centres: Poses
    magnification: Float64 | None


def window_batches(rows: Rows, window: Window, backend: Backend) -> Iterator[Rows]:
    """Yield rows in batches, which depend on the size of the window alone."""
    size = min(MAX_BATCH_IMAGES, batch_size(window.size, backend.batch_bytes))
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def load_windows(
    context: HalfSetContext,
    part: ParticleRange,
    rows: Rows,
    centres: Poses,
    cache: WindowCache,
    backend: Backend,
) -> Generator[int, None, WindowBatch]:
    """Return the windows of some images for the present noise and amplitudes; yields 0 while images are read.

    context: of the half set, with `cutting`. centres: (B,) about which the images are searched.
    """
    spec, cutting, particles = context.spec, context.cutting, part.particles
    assert cutting is not None
    magnification = magnification_in_3d(particles, rows)
    points = cut_points(context.geometry.centre_in(centres, magnification), spec)
    amplitude = part.last.scale[rows] if spec.per_particle_scale else np.ones(len(rows))
    if spec.per_particle_scale:
        particles = replace(particles, scale=particles.scale / part.last.scale)
    at_cut = amplitude_of_cut(amplitude)
    cut: CutImages = yield from cache.fetch(particles, rows, points, at_cut, cutting, backend)
    group = particles.group[rows]
    data, weight = windows_of(cut, amplitude / at_cut, group, context.noise, cutting, backend)
    return WindowBatch(rows, data, weight, cut.bad, points, centres, magnification)


def samples_to_search(
    batch: WindowBatch, context: HalfSetContext, reference: Reference, backend: Backend
) -> tuple[Complex64, Float32]:
    """Return W and w (B, S) of the search of a batch, about the centres of the search."""
    shifts = context.geometry.centre_in(batch.centres, batch.magnification) - batch.points
    return backend.kernels.search_samples(batch.data, batch.weight, reference.variance, shifts, reference.frame.samples)


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
    for rows in window_batches(part.rows, cutting.window, backend):
        given, last_poses = particles.poses.select(rows), part.last.poses.select(rows)
        centres = search_centres(
            given, last_poses, spec, reference.frame.fulcrum_A, magnification_in_3d(particles, rows)
        )
        batch = yield from clock.time_generator("window", load_windows(context, part, rows, centres, cache, backend))
        with clock("window"):
            W, w = samples_to_search(batch, context, reference, backend)
        with clock("search"):
            scale = part.last.scale[rows] if spec.per_particle_scale else None
            request = SearchRequest(
                centres, last_poses, given, batch.bad, part.unambiguous[rows], scale, spec.marginalize,
                batch.magnification,
            )  # fmt: skip
            expectation, points = search_poses(W, w, reference.frame, request, backend)
        with clock("noise"):
            residuals.append(_measure_residuals(context, part, batch, expectation.poses, reference, backend))
        with clock("insert"):
            _insert(sums, batch, points, context.operators, cutting.window, backend)
        expectations.append(expectation)
        yield len(rows)
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


def _measure_residuals(
    context: HalfSetContext,
    part: ParticleRange,
    batch: WindowBatch,
    poses: Poses,
    reference: Reference,
    backend: Backend,
) -> NoiseResiduals:
    """Return the noise σ² (m, n // 2 + 1) that the residuals of the sampled images of a batch have, and their groups.

    With W and w the window and its weights, S the slice of the reference at the pose that was found, and d a soft disc
    of the mask's diameter about the mask's centre, the power of FT(d · (W − w S)) is compared per shell with what noise
    of the present spectrum would give, FT of the inverse FT of w times the autocorrelation of d:

        σ²_new(|k|) = σ²(|k|) · power / expected power
    """
    chosen = np.nonzero(part.measure_noise[batch.rows] & ~batch.bad)[0]
    shells = context.noise.shape[1]
    group = part.particles.group[batch.rows[chosen]]
    if len(chosen) == 0:
        return np.empty((0, shells)), group.astype(np.int32)
    power, expected = _residual_power(context, part.particles, batch, chosen, poses, reference, backend)
    window = context.cutting.window if context.cutting else None
    assert window is not None
    ratio = np.empty_like(power)
    for number in np.unique(group):
        own = group == number
        ratio[own] = power[own] / _never_zero(expected[own].mean(axis=0))
    return context.noise[group] * window.shells_of_box(ratio), group.astype(np.int32)


def _never_zero(values: Float64) -> Float64:
    """Return values per shell with those next to nothing replaced by the nearest one that is not."""
    known = np.nonzero(values > 1e-6 * values.max())[0]
    nearest = known[np.abs(np.arange(len(values))[:, None] - known).argmin(axis=1)]
    return np.asarray(values[nearest], np.float64)


def _residual_power(
    context: HalfSetContext,
    particles: Particles,
    batch: WindowBatch,
    chosen: npt.NDArray[np.int64],
    poses: Poses,
    reference: Reference,
    backend: Backend,
) -> tuple[Float64, Float64]:
    """Return the power per shell of residuals in the disc of the mask, and what noise alone would give: (m, shells)."""
    cutting, volume, workers = context.cutting, reference.frame.volume, backend.threads
    assert cutting is not None
    size = cutting.window.size
    behind = None if batch.magnification is None else batch.magnification[chosen]
    rotation = poses.rotation[chosen]
    at = cutting.window.seen_at(rotation, poses.origin_A[chosen], behind) - batch.points[chosen]
    index = backend.to_device(chosen)
    residual, weight = backend.to_host(batch.data[index]).copy(), backend.to_host(batch.weight[index])
    samples = half_plane(size, (min(volume.limit, (size - 1) // 2) / largest_magnification(particles),))
    planes = backend.kernels.project_slices(volume, magnified_rotation(rotation, behind), samples)
    residual = backend.to_device(residual)
    backend.kernels.subtract_model(residual, backend.to_device(weight), planes, -at, samples)
    disc = cosine_edge(radius_grid(size, 2), 0.5 * context.geometry.diameter, 3.0)
    # The FT of |FT(d)|², that is the autocorrelation of the disc about the origin of the array.
    outline = scipy.fft.irfft2(np.abs(scipy.fft.rfft2(disc)) ** 2, s=disc.shape).astype(np.float32)
    kernel = scipy.fft.irfft2(weight, s=disc.shape, axes=(1, 2), workers=workers) / size**2
    expected = scipy.fft.rfft2(kernel * outline, axes=(1, 2), workers=workers).real
    images = crop_about_points(backend.to_host(residual), at, size, workers) * disc
    ft = scipy.fft.rfft2(images, axes=(1, 2), workers=workers)
    power = ft.real**2 + ft.imag**2
    return shell_mean(power, size, 2), shell_mean(expected, size, 2)
