"""The one stream of particle images: read and transform ahead, freed of what the optics did, with their CTF."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrcore import ctf
from lrcore.aberrations import correction, ctf_offset, envelope_squares
from lrcore.backend import Backend
from lrcore.defects import SOUND, defects, usual_sd
from lrcore.grids import Complex64, Float32, ft
from lrcore.io.stack import StackReader
from lrcore.records import Particles

Rows = npt.NDArray[np.int64]

LEAST_CTF = 0.05
"""Where the CTF is weaker than this, an image that was multiplied by it says nothing any more: 3 % of its samples."""


@dataclass(frozen=True)
class Batch:
    """Images of some particles. rows: (B,) of the particles. spectrum: (B, n, n // 2 + 1), FT with origin n // 2.

    spectrum is free of beam tilt and other odd aberrations, and of a CTF that the images were multiplied by. ctf:
    (B, n, n // 2 + 1), with each particle's scale and B-factor. bad: (B,) the image was none (`defects`); its spectrum
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

    Images that are none are marked as bad. What is usual among them is judged by these rows alone, so that no half
    set has a say in the other. Raises InputError when a stack cannot be read.
    """
    size = batch_size(particles.box, backend.batch_bytes)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    with StackReader(particles.images, particles.box) as reader, ThreadPoolExecutor(1) as ahead:
        usual = usual_sd(reader, rows)

        def prepare(part: Rows) -> tuple[Complex64, npt.NDArray[np.bool_]]:
            images, finite = reader.look(part)
            bad = defects(images, finite, usual) != SOUND
            images[bad] = 0.0
            spectrum = ft(backend.to_device(images), 2, backend.threads, backend.fft)
            return spectrum.astype(np.complex64, copy=False), bad

        waiting = ahead.submit(prepare, parts[0]) if parts else None
        for i, part in enumerate(parts):
            assert waiting is not None
            spectrum, bad = waiting.result()
            waiting = ahead.submit(prepare, parts[i + 1]) if i + 1 < len(parts) else None
            yield _corrected(particles, Batch(part, spectrum, _ctfs(particles, part, bad, backend), bad), backend)


def _groups(particles: Particles, rows: Rows) -> list[tuple[int, Rows]]:
    """The optics groups of the given rows, each with its places among them."""
    group = particles.group[rows]
    return [(int(number), np.nonzero(group == number)[0]) for number in np.unique(group)]


def quadrature(particles: Particles, batch: Batch, backend: Backend) -> Float32:
    """E cos γ (B, n, n // 2 + 1) where the batch's CTF is E sin γ; 0 wherever that is, as of a bad image."""
    found = _ctfs(particles, batch.rows, batch.bad, backend, 0.25)
    found[batch.ctf == 0] = 0.0
    return found


def _ctfs(
    particles: Particles, rows: Rows, bad: npt.NDArray[np.bool_], backend: Backend, ahead: float = 0.0
) -> Float32:
    """CTFs (B, n, n // 2 + 1) of the given rows with what their optics groups add; 0 for the bad ones.

    ahead: turns that are added to their phase.
    """
    waves = ctf.waves(particles, rows)
    waves[:, 4] += ahead
    waves[bad, -1] = 0.0
    tables: list[Float32] = []
    which = np.full(len(rows), -1)
    for number, mine in _groups(particles, rows):
        table = ctf_offset(particles.optics[number])
        if table is not None:
            which[mine] = len(tables)
            tables.append(table)
    if not tables:
        found: Float32 = backend.kernels.ctf(waves, particles.box)
        return found
    found = backend.kernels.ctf(waves, particles.box, np.stack(tables), which)
    for number, mine in _groups(particles, rows):
        squares, factor = envelope_squares(particles.optics[number]), particles.bfactor_A2[rows[mine]]
        if squares is not None and factor.any():
            decay = np.exp(-0.25 * factor[:, None, None] * squares).astype(np.float32)
            found[backend.to_device(mine)] *= backend.to_device(decay)
    return found


def _corrected(particles: Particles, batch: Batch, backend: Backend) -> Batch:
    """The batch of FTs as they were read, freed of what the optics did; in place."""
    for number, mine in _groups(particles, batch.rows):
        optics, at = particles.optics[number], backend.to_device(mine)
        table = correction(optics)
        if table is not None:
            batch.spectrum[at] *= backend.to_device(table)
        if optics.ctf_premultiplied:
            _divide(batch, at, _multiplied(particles, batch.rows[mine], backend), backend)
    return batch


def as_stored(particles: Particles, rows: Rows, model: Complex64, backend: Backend) -> Complex64:
    """FTs (B, n, n // 2 + 1) that are what `batches` says of some images → those that are in the stack. In place.

    Multiplied by the images' CTF where they were, and with the aberrations of their optics.
    """
    for number, mine in _groups(particles, rows):
        optics, at = particles.optics[number], backend.to_device(mine)
        if optics.ctf_premultiplied:
            model[at] *= _multiplied(particles, rows[mine], backend)
        table = correction(optics)
        if table is not None:
            model[at] *= backend.to_device(table.conj())
    return model


def _multiplied(particles: Particles, rows: Rows, backend: Backend) -> Float32:
    """The CTFs that premultiplied images were multiplied by: without B-factor and scale."""
    pure = replace(particles, bfactor_A2=np.zeros(len(particles)), scale=np.ones(len(particles)))
    return _ctfs(pure, rows, np.zeros(len(rows), np.bool_), backend)


def _divide(batch: Batch, at: Rows, pure: Float32, backend: Backend) -> None:
    """Undo a multiplication by the CTFs `pure` of the images `at`; where they say nothing, spectrum and CTF are 0."""
    lost = backend.xp.abs(pure) < LEAST_CTF
    pure[lost] = 1.0
    spectrum, values = batch.spectrum[at] / pure, batch.ctf[at]
    spectrum[lost], values[lost] = 0.0, 0.0
    batch.spectrum[at], batch.ctf[at] = spectrum, values
