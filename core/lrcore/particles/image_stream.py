"""The one stream of particle images: read and transform ahead, freed of what the optics did, with their CTF."""

import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Rows
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging import ctf
from lrcore.imaging.aberrations import ctf_offset, envelope_squares, odd_phase_correction
from lrcore.imaging.grids import ft
from lrcore.io.image_stacks import StackReader
from lrcore.particles.bad_images import VALID, find_defects, typical_sd
from lrcore.records import Particles

T = TypeVar("T")

MIN_CTF = 0.05
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


FEWEST = 8
"""Images in a batch, however little memory there is."""
RANGE = 16
"""Images of a range, at least, for each pixel along the box: so many that their sums are little beside them."""


def batch_size(box: int, size_bytes: int) -> int:
    """Images in a batch: a multiple of 8 that fills about `size_bytes`. A batch and the next one are in memory."""
    return max(FEWEST, min(1024, size_bytes // (4 * box * box) // 8 * 8))


def reading_order(particles: Particles, half: int | None = None) -> Rows:
    """Rows of a half set (None: all) by stack and slice: quick to read, and the same whatever the table's order."""
    rows = np.arange(len(particles)) if half is None else np.nonzero(particles.half == half)[0]
    images = particles.images
    rank = np.argsort(np.argsort([str(path) for path in images.stacks]))
    return rows[np.lexsort((images.index[rows], rank[images.stack[rows]]))]


def batch_ranges(rows: Rows, box: int, backend: Backend) -> list[Rows]:
    """The rows in ranges of whole batches, of nearly equal size: RANGE images per pixel, by the data alone."""
    size = batch_size(box, backend.batch_bytes)
    whole = -(-len(rows) // size)
    count = max(1, min(whole, len(rows) // (RANGE * box)))
    bounds = [whole * i // count * size for i in range(count + 1)]
    return [rows[a:b] for a, b in pairwise(bounds)]


def typical_sd_of(particles: Particles, rows: Rows) -> float:
    """SD of the rows' images that is usual, see `defects.usual_sd`. Raises InputError when a stack cannot be read."""
    with StackReader(particles.images, particles.box) as reader:
        return typical_sd(reader, rows)


def map_batches(
    particles: Particles,
    rows: Rows,
    backend: Backend,
    work: Callable[[Batch], T],
    usual: float | None = None,
    reading: Callable[[Iterator[Batch]], Iterator[Batch]] = iter,
) -> Iterator[T]:
    """work(batch) of each of `batches`; where memory is short, the same images again in batches of half the size.

    So `work` must have done nothing when it raises MemoryError. reading: may count the time that batches take. Raises
    InputError when there is no room for FEWEST images.
    """
    normal = typical_sd_of(particles, rows) if usual is None else usual
    while len(rows):
        try:
            with closing(batches(particles, rows, backend, normal)) as stream:
                for batch in reading(stream):
                    found = work(batch)
                    rows = rows[len(batch.rows) :]
                    yield found
        except MemoryError as error:
            backend = _halve_batches(particles.box, len(rows), backend, error)


def _halve_batches(box: int, images: int, backend: Backend, error: MemoryError) -> Backend:
    """The backend with batches of half the size; says so."""
    size = min(batch_size(box, backend.batch_bytes), images)
    if size <= FEWEST:
        remedy = (
            "use --backend cpu, or fewer workers" if backend.name == "cuda" else "use fewer workers or a smaller box"
        )
        raise InputError(f"backend {backend.name}: too little memory for {size} images of {box} px ({error}): {remedy}")
    half = max(FEWEST, size // 2)
    backend.free_cached_memory()
    warnings.warn(f"memory is short: images of {box} px go on in batches of {half}", RuntimeWarning, stacklevel=3)
    return replace(backend, batch_bytes=half * 4 * box * box)


def batches(
    particles: Particles, rows: Rows, backend: Backend, usual: float | None = None
) -> Generator[Batch, None, None]:
    """Batches of the given rows in their order; the next one is read and transformed while the caller works on this.

    Images that are none are marked as bad. What is `usual` among them is judged by these rows alone, so that no half
    set has a say in the other. Raises InputError when a stack cannot be read.
    """
    size = batch_size(particles.box, backend.batch_bytes)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    with StackReader(particles.images, particles.box) as reader, ThreadPoolExecutor(1) as ahead:
        normal = typical_sd(reader, rows) if usual is None else usual

        def prepare(part: Rows) -> tuple[Complex64, npt.NDArray[np.bool_]]:
            images, finite = reader.read_with_finite_flags(part)
            bad = find_defects(images, finite, normal) != VALID
            images[bad] = 0.0
            spectrum = ft(backend.to_device(images), 2, backend.threads, backend.fft)
            return spectrum.astype(np.complex64, copy=False), bad

        waiting = ahead.submit(prepare, parts[0]) if parts else None
        for i, part in enumerate(parts):
            assert waiting is not None
            spectrum, bad = waiting.result()
            waiting = ahead.submit(prepare, parts[i + 1]) if i + 1 < len(parts) else None
            yield _correct_optics(particles, Batch(part, spectrum, _ctfs(particles, part, bad, backend), bad), backend)


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
    waves = ctf.ctf_kernel_parameters(particles, rows)
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
        found: Float32 = backend.kernels.compute_ctf(waves, particles.box)
        return found
    found = backend.kernels.compute_ctf(waves, particles.box, np.stack(tables), which)
    for number, mine in _groups(particles, rows):
        squares, factor = envelope_squares(particles.optics[number]), particles.bfactor_A2[rows[mine]]
        if squares is not None and factor.any():
            decay = np.exp(-0.25 * factor[:, None, None] * squares).astype(np.float32)
            found[backend.to_device(mine)] *= backend.to_device(decay)
    return found


def _correct_optics(particles: Particles, batch: Batch, backend: Backend) -> Batch:
    """The batch of FTs as they were read, freed of what the optics did; in place."""
    for number, mine in _groups(particles, batch.rows):
        optics, at = particles.optics[number], backend.to_device(mine)
        table = odd_phase_correction(optics)
        if table is not None:
            batch.spectrum[at] *= backend.to_device(table)
        if optics.ctf_premultiplied:
            _undo_premultiplication(batch, at, _premultiplied_ctfs(particles, batch.rows[mine], backend), backend)
    return batch


def undo_corrections(particles: Particles, rows: Rows, model: Complex64, backend: Backend) -> Complex64:
    """FTs (B, n, n // 2 + 1) that are what `batches` says of some images → those that are in the stack. In place.

    Multiplied by the images' CTF where they were, and with the aberrations of their optics.
    """
    for number, mine in _groups(particles, rows):
        optics, at = particles.optics[number], backend.to_device(mine)
        if optics.ctf_premultiplied:
            model[at] *= _premultiplied_ctfs(particles, rows[mine], backend)
        table = odd_phase_correction(optics)
        if table is not None:
            model[at] *= backend.to_device(table.conj())
    return model


def _premultiplied_ctfs(particles: Particles, rows: Rows, backend: Backend) -> Float32:
    """The CTFs that premultiplied images were multiplied by: without B-factor and scale."""
    pure = replace(particles, bfactor_A2=np.zeros(len(particles)), scale=np.ones(len(particles)))
    return _ctfs(pure, rows, np.zeros(len(rows), np.bool_), backend)


def _undo_premultiplication(batch: Batch, at: Rows, pure: Float32, backend: Backend) -> None:
    """Undo a multiplication by the CTFs `pure` of the images `at`; where they say nothing, spectrum and CTF are 0."""
    lost = backend.xp.abs(pure) < MIN_CTF
    pure[lost] = 1.0
    spectrum, values = batch.spectrum[at] / pure, batch.ctf[at]
    spectrum[lost], values[lost] = 0.0, 0.0
    batch.spectrum[at], batch.ctf[at] = spectrum, values
