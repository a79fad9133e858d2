"""The one stream of particle images: read ahead, transform, and cut to the window that a mask needs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.backend import Backend
from lrcore.ctf import particle_ctf
from lrcore.fourier import FourierVolume
from lrcore.grids import Complex64, Float32, Samples, ft, ift, window_at
from lrcore.io.stack import StackReader
from lrcore.records import Particles, Poses

Spectrum = npt.NDArray[np.complexfloating] | Float32
Rows = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

BATCH_BYTES = 32 << 20
"""Size of the images of one batch; a batch and the one read ahead are all that is in memory."""


@dataclass(frozen=True)
class Batch:
    """Images of some particles. rows: (B,) of the particles. spectrum: (B, n, n // 2 + 1), FT with origin n // 2.

    ctf: (B, n, n // 2 + 1), with each particle's scale and B-factor. bad: (B,) the image had a NaN or was constant; its
    spectrum and CTF are zero, so that it weighs nothing.
    """

    rows: Rows
    spectrum: Complex64
    ctf: Float32
    bad: npt.NDArray[np.bool_]


def batch_size(box: int) -> int:
    """Images in a batch: a multiple of 8 that fills about BATCH_BYTES."""
    return max(8, min(1024, BATCH_BYTES // (4 * box * box) // 8 * 8))


def reading_order(particles: Particles, half: int | None = None) -> Rows:
    """Rows of a half set (None: all) by stack and slice: quick to read, and the same whatever the table's order."""
    rows = np.arange(len(particles)) if half is None else np.nonzero(particles.half == half)[0]
    images = particles.images
    rank = np.argsort(np.argsort([str(path) for path in images.stacks]))
    return rows[np.lexsort((images.index[rows], rank[images.stack[rows]]))]


def batches(particles: Particles, rows: Rows, workers: int = 1) -> Iterator[Batch]:
    """Batches of the given rows in their order; the next one is read while the caller works on this one.

    Raises InputError when a stack cannot be read.
    """
    size = batch_size(particles.box)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    with StackReader(particles.images, particles.box) as reader, ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(reader.read, parts[0]) if parts else None
        for i, part in enumerate(parts):
            assert waiting is not None
            images = waiting.result()
            waiting = ahead.submit(reader.read, parts[i + 1]) if i + 1 < len(parts) else None
            yield transformed(particles, part, images, workers)


def transformed(particles: Particles, rows: Rows, images: Float32, workers: int) -> Batch:
    """The batch of (B, n, n) images read for `rows`."""
    flat = images.reshape(len(images), -1)
    bad = ~np.isfinite(flat).all(axis=1) | (flat.min(axis=1) == flat.max(axis=1))
    if bad.any():
        images = np.where(bad[:, None, None], np.float32(0), images)
    values = particle_ctf(particles, rows)
    values[bad] = 0
    return Batch(rows, ft(images, 2, workers).astype(np.complex64, copy=False), values, bad)


def phase_ramp(n: int, points: Float64) -> Complex64:
    """exp(+2πi k·p / n) on the half-complex grid for (B, 2) points (x, y) in pixels: brings p to the origin."""
    ky, kx = np.fft.fftfreq(n, 1.0 / n), np.arange(n // 2 + 1)
    along_x = np.exp(2j * np.pi / n * points[:, :1] * kx).astype(np.complex64)
    along_y = np.exp(2j * np.pi / n * points[:, 1:] * ky).astype(np.complex64)
    return along_y[:, :, None] * along_x[:, None, :]


def model_images(
    volume: FourierVolume, poses: Poses, samples: Samples, pixel_size_A: float, backend: Backend
) -> npt.NDArray[np.complex64]:
    """Slices at poses, with their origin shifts, on the grid of `samples`: (B, S), no CTF."""
    planes = backend.kernels.slices(volume, poses.rotation, samples)
    step = 2j * np.pi / samples.size / pixel_size_A
    ramp_x = np.exp(step * poses.origin_A[:, :1] * np.arange(samples.size // 2 + 1)).astype(np.complex64)
    ramp_y = np.exp(step * poses.origin_A[:, 1:] * np.fft.fftfreq(samples.size, 1 / samples.size)).astype(np.complex64)
    out: npt.NDArray[np.complex64] = planes * ramp_x[:, samples.kx] * ramp_y[:, samples.ky]
    return out


def complete_column(spectra: Complex64, samples: Samples) -> None:
    """After the samples (kx = 0, ky > 0) were written: make the column kx = 0 Hermitian again. In place."""
    ky = samples.ky[samples.kx == 0]
    spectra[:, -ky, 0] = spectra[:, ky, 0].conj()


def subtract_model(spectra: Complex64, ctf: Float32, model: Complex64, samples: Samples) -> None:
    """Take CTF × model, (B, S) on `samples`, from half-complex spectra (B, n, n // 2 + 1). In place."""
    spectra[:, samples.ky, samples.kx] -= ctf[:, samples.ky, samples.kx] * model
    complete_column(spectra, samples)


def windowed(
    batch: Batch, inverse_variance: Float32, points: Float64, samples: Samples, workers: int = 1
) -> tuple[Complex64, Float32]:
    """The exact window: all that a masked reference needs to know of each image.

    inverse_variance: (B, n, n // 2 + 1), 1/σ² of each Fourier coefficient. points: (B, 2), where the centre of the
    mask lies in each image, pixels from n // 2. Returns W (B, S) and w (B, S) on the grid of `samples`, D = its size:

    W = FT_D(cut(FT⁻¹(C X / σ²), about the point)), w = FT_D(cut(FT⁻¹(C² / σ²))), both times (n / D)², so that
    Σ_k −2 Re conj(W) M + w |M|² over the samples is −log p up to a constant, for every M supported in the window.
    """
    n, size = batch.spectrum.shape[1], samples.size
    weight = batch.ctf * inverse_variance
    cross = _cut(weight * batch.spectrum * phase_ramp(n, points), n, size, workers)
    norm = _cut(weight * batch.ctf, n, size, workers)
    scale = np.float32((n / size) ** 2)
    flat = (samples.ky % size) * (size // 2 + 1) + samples.kx
    W = scale * np.take(cross.reshape(len(cross), -1), flat, axis=1)
    w = scale * np.take(norm.real.reshape(len(norm), -1), flat, axis=1)
    return W, w


def _cut(spectrum: Spectrum, n: int, size: int, workers: int) -> Complex64:
    """FT on the coarse grid of the middle of images given by their FT; zero outside the image."""
    images = ift(spectrum, n, 2, workers)
    middle = window_at(images, (n // 2, n // 2), size)
    return ft(middle, 2, workers).astype(np.complex64, copy=False)
