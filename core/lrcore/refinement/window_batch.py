"""Load the windows of a batch of images for the present noise and amplitudes, as search and M-step read them."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.particles.image_stream import batch_size, halve_batches
from lrcore.records import Poses
from lrcore.refinement.half_set_pass import HalfSetContext, ParticleRange
from lrcore.refinement.reference import Reference
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


def window_batch_size(window: Window, backend: Backend) -> int:
    """Return the number of windows in a batch."""
    return min(MAX_BATCH_IMAGES, batch_size(window.size, backend.batch_bytes))


def run_window_batches(
    rows: Rows, window: Window, backend: Backend, work: Callable[[Rows], Generator[int, None, None]]
) -> Generator[int, None, None]:
    """Work on rows in batches, which depend on the size of the window alone; in smaller ones where memory is short.

    work: of some rows; it must have no effect when it raises MemoryError. Yields what `work` yields, and the number of
    images of each batch. Raises InputError where memory does not suffice for a few images.
    """
    backend = replace(backend, batch_bytes=window_batch_size(window, backend) * 4 * window.size**2)
    while len(rows):
        part = rows[: batch_size(window.size, backend.batch_bytes)]
        try:
            yield from work(part)
        except MemoryError as error:
            backend = halve_batches(window.size, len(part), backend, error)
            continue
        yield len(part)
        rows = rows[len(part) :]


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
