"""The one stream of particle images: read and transform ahead, with their CTF."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore import ctf
from lrcore.backend import Backend
from lrcore.grids import Complex64, Float32, ft
from lrcore.io.stack import StackReader
from lrcore.records import Particles

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Images of some particles. rows: (B,) of the particles. spectrum: (B, n, n // 2 + 1), FT with origin n // 2.

    ctf: (B, n, n // 2 + 1), with each particle's scale and B-factor. bad: (B,) the image was constant; its spectrum
    and CTF are zero, so that it weighs nothing. Spectrum and CTF are where the kernels work.
    """

    rows: Rows
    spectrum: Complex64
    ctf: Float32
    bad: npt.NDArray[np.bool_]


def batch_size(box: int, size_bytes: int) -> int:
    """Images in a batch: a multiple of 8 that fills about `size_bytes`. A batch and the next one are in memory."""
    return max(8, min(1024, size_bytes // (4 * box * box) // 8 * 8))


def reading_order(particles: Particles, half: int | None = None) -> Rows:
    """Rows of a half set (None: all) by stack and slice: quick to read, and the same whatever the table's order."""
    rows = np.arange(len(particles)) if half is None else np.nonzero(particles.half == half)[0]
    images = particles.images
    rank = np.argsort(np.argsort([str(path) for path in images.stacks]))
    return rows[np.lexsort((images.index[rows], rank[images.stack[rows]]))]


def batches(particles: Particles, rows: Rows, backend: Backend) -> Iterator[Batch]:
    """Batches of the given rows in their order; the next one is read and transformed while the caller works on this.

    Raises InputError when a stack cannot be read.
    """
    size = batch_size(particles.box, backend.batch_bytes)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    with StackReader(particles.images, particles.box) as reader, ThreadPoolExecutor(1) as ahead:

        def prepare(part: Rows) -> tuple[Complex64, npt.NDArray[np.bool_]]:
            images = reader.read(part)
            spectrum = ft(backend.to_device(images), 2, backend.threads, backend.fft)
            return spectrum.astype(np.complex64, copy=False), flat(images)

        waiting = ahead.submit(prepare, parts[0]) if parts else None
        for i, part in enumerate(parts):
            assert waiting is not None
            spectrum, bad = waiting.result()
            waiting = ahead.submit(prepare, parts[i + 1]) if i + 1 < len(parts) else None
            waves = ctf.waves(particles, part)
            waves[bad, -1] = 0.0
            if bad.any():
                spectrum[backend.to_device(bad)] = 0
            yield Batch(part, spectrum, backend.kernels.ctf(waves, particles.box), bad)


def flat(images: Float32) -> npt.NDArray[np.bool_]:
    """Which images (B, n, n) are constant: (B,). Only those whose first row is are looked at as a whole."""
    bad: npt.NDArray[np.bool_] = np.ptp(images[:, 0], axis=1) == 0
    for i in np.nonzero(bad)[0]:
        bad[i] = np.ptp(images[i]) == 0
    return bad
