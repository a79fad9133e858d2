"""Read particle images in batches, with their spectra corrected for the optics and with their CTF.

The next batch is read and transformed while the caller works on the current one.
"""

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
from lrcore.particles.background import remove_background
from lrcore.particles.bad_images import VALID, find_defects, typical_sd
from lrcore.records import Particles

T = TypeVar("T")

MIN_CTF = 0.05
"""Premultiplied images are not used where |CTF| is below this, as its division would amplify noise: 3 % of samples."""


@dataclass(frozen=True)
class Batch:
    """Images of B particles, with spectrum and CTF on the device of the backend.

    Attributes
    ----------
    rows : (B,) rows of the particles
    spectrum : (B, n, n // 2 + 1), FT with origin n // 2
        Without the background (`background`), corrected for beam tilt and other odd aberrations, and for a
        premultiplied CTF.
    ctf : (B, n, n // 2 + 1), with the scale and B-factor of each particle
    bad : (B,) the image is invalid (`bad_images`); its spectrum and CTF are 0, so that its weight is 0
    """

    rows: Rows
    spectrum: Complex64
    ctf: Float32
    bad: npt.NDArray[np.bool_]


MIN_BATCH_SIZE = 8
"""Images in a batch, at least."""
RANGE_IMAGES_PER_PIXEL = 16
"""Images in a range per pixel of the box side, at least: then the sums of a range take little memory in comparison."""


def batch_size(box: int, size_bytes: int) -> int:
    """Return the number of images in a batch, a multiple of 8; two batches are in memory at a time.

    Parameters
    ----------
    box : pixels
    size_bytes : bytes of a batch, approximately
    """
    return max(MIN_BATCH_SIZE, min(1024, size_bytes // (4 * box * box) // 8 * 8))


def reading_order(particles: Particles, half: int | None = None) -> Rows:
    """Return rows in the order of stack and slice, which is fast to read and independent of the order of the table.

    Parameters
    ----------
    particles : n particles
    half : half set 1 or 2, or None for all particles

    Returns
    -------
    (m,) int64
    """
    rows = np.arange(len(particles)) if half is None else np.nonzero(particles.half == half)[0]
    images = particles.images
    rank = np.argsort(np.argsort([str(path) for path in images.stacks]))
    return rows[np.lexsort((images.index[rows], rank[images.stack[rows]]))]


def batch_ranges(rows: Rows, box: int, backend: Backend, size: int | None = None) -> list[Rows]:
    """Divide rows into ranges of whole batches of nearly equal size, whatever the number of workers.

    Parameters
    ----------
    rows : (m,) rows in reading order
    box : pixels
    backend : its `batch_bytes` sets the size of a batch
    size : number of images in a batch, where they are not whole images

    Returns
    -------
    list of arrays
        Consecutive parts of `rows`, of at least about RANGE · box images if there are several.
    """
    size = size or batch_size(box, backend.batch_bytes)
    whole = -(-len(rows) // size)
    count = max(1, min(whole, len(rows) // (RANGE_IMAGES_PER_PIXEL * box)))
    bounds = [whole * i // count * size for i in range(count + 1)]
    return [rows[a:b] for a, b in pairwise(bounds)]


def typical_sd_of(particles: Particles, rows: Rows) -> float:
    """Estimate the typical SD of particle images (see `bad_images.typical_sd`).

    Parameters
    ----------
    particles : n particles
    rows : (m,) rows of the images

    Returns
    -------
    float
        NaN if too few images are valid.

    Raises
    ------
    InputError
        If a stack cannot be read.
    """
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
    """Apply a function to each batch; if memory is short, repeat the same images in batches of half the size.

    Parameters
    ----------
    particles : n particles
    rows : (m,) rows, in the order in which they are processed
    backend : where spectra and CTFs are computed
    work : function of a batch; it must have no effect when it raises MemoryError
    usual : typical SD of an image; estimated from these rows if None
    reading : wraps the stream of batches, e.g. to time it

    Yields
    ------
    T
        work(batch) of each batch.

    Raises
    ------
    InputError
        If a stack cannot be read, or there is too little memory for FEWEST images.
    """
    usual = typical_sd_of(particles, rows) if usual is None else usual
    while len(rows):
        try:
            with closing(batches(particles, rows, backend, usual)) as stream:
                for batch in reading(stream):
                    result = work(batch)
                    rows = rows[len(batch.rows) :]
                    yield result
        except MemoryError as error:
            backend = halve_batches(particles.box, len(rows), backend, error)


def halve_batches(box: int, images: int, backend: Backend, error: MemoryError) -> Backend:
    """Return the backend with batches of half the size, and warn about it."""
    size = min(batch_size(box, backend.batch_bytes), images)
    if size <= MIN_BATCH_SIZE:
        remedy = (
            "use --backend cpu, or fewer workers" if backend.name == "cuda" else "use fewer workers or a smaller box"
        )
        raise InputError(f"backend {backend.name}: too little memory for {size} images of {box} px ({error}): {remedy}")
    half = max(MIN_BATCH_SIZE, size // 2)
    backend.free_cached_memory()
    warnings.warn(
        f"memory is short: continuing with images of {box} px in batches of {half}", RuntimeWarning, stacklevel=3
    )
    return replace(backend, batch_bytes=half * 4 * box * box)


def batches(
    particles: Particles, rows: Rows, backend: Backend, usual: float | None = None
) -> Generator[Batch, None, None]:
    """Read images in batches; the next one is read and transformed while the caller works on the current one.

    Invalid images are marked as bad. Their typical SD is estimated from the given rows alone, so that the half sets
    stay independent.

    Parameters
    ----------
    particles : n particles
    rows : (m,) rows, in the order in which they are read
    backend : where spectra and CTFs are computed
    usual : typical SD of an image; estimated from these rows if None

    Yields
    ------
    Batch

    Raises
    ------
    InputError
        If a stack cannot be read.
    """
    size = batch_size(particles.box, backend.batch_bytes)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    with StackReader(particles.images, particles.box) as reader, ThreadPoolExecutor(1) as ahead:
        usual_sd = typical_sd(reader, rows) if usual is None else usual

        def prepare(part: Rows) -> tuple[Complex64, npt.NDArray[np.bool_]]:
            images, finite = reader.read_with_finite_flags(part)
            bad = find_defects(images, finite, usual_sd) != VALID
            images[bad] = 0.0
            remove_background(images)
            spectrum = ft(backend.to_device(images), 2, backend.threads, backend.fft)
            return spectrum.astype(np.complex64, copy=False), bad

        waiting = ahead.submit(prepare, parts[0]) if parts else None
        for i, part in enumerate(parts):
            assert waiting is not None
            spectrum, bad = waiting.result()
            waiting = ahead.submit(prepare, parts[i + 1]) if i + 1 < len(parts) else None
            yield _correct_optics(particles, Batch(part, spectrum, _ctfs(particles, part, bad, backend), bad), backend)


def _groups(particles: Particles, rows: Rows) -> list[tuple[int, Rows]]:
    """Return the optics groups of the given rows, each with the indices of its rows among them."""
    group = particles.group[rows]
    return [(int(number), np.nonzero(group == number)[0]) for number in np.unique(group)]


def ctf_in_quadrature(particles: Particles, batch: Batch, backend: Backend) -> Float32:
    """Compute the CTF in quadrature: E cos γ where the CTF of the batch is E sin γ.

    Parameters
    ----------
    particles : n particles
    batch : B of their images
    backend : where it is computed

    Returns
    -------
    (B, n, n // 2 + 1) float32
        0 where the CTF is 0, as for a bad image.
    """
    values = _ctfs(particles, batch.rows, batch.bad, backend, 0.25)
    values[batch.ctf == 0] = 0.0
    return values


def _ctfs(
    particles: Particles, rows: Rows, bad: npt.NDArray[np.bool_], backend: Backend, ahead: float = 0.0
) -> Float32:
    """Compute the CTFs (B, n, n // 2 + 1) of the given rows with the terms of their optics groups; 0 for bad ones.

    ahead: added to the phase, in turns.
    """
    waves = ctf.ctf_kernel_parameters(particles, rows)
    waves[:, 4] += ahead
    waves[bad, -1] = 0.0
    tables: list[Float32] = []
    table_of_row = np.full(len(rows), -1)
    for number, members in _groups(particles, rows):
        table = ctf_offset(particles.optics[number])
        if table is not None:
            table_of_row[members] = len(tables)
            tables.append(table)
    if not tables:
        plain: Float32 = backend.kernels.compute_ctf(waves, particles.box)
        return plain
    values: Float32 = backend.kernels.compute_ctf(waves, particles.box, np.stack(tables), table_of_row)
    for number, members in _groups(particles, rows):
        squares, factor = envelope_squares(particles.optics[number]), particles.bfactor_A2[rows[members]]
        if squares is not None and factor.any():
            decay = np.exp(-0.25 * factor[:, None, None] * squares).astype(np.float32)
            values[backend.to_device(members)] *= backend.to_device(decay)
    return values


def _correct_optics(particles: Particles, batch: Batch, backend: Backend) -> Batch:
    """Correct the spectra of a batch for odd aberrations and a premultiplied CTF, in place."""
    for number, members in _groups(particles, batch.rows):
        optics, at = particles.optics[number], backend.to_device(members)
        table = odd_phase_correction(optics)
        if table is not None:
            batch.spectrum[at] *= backend.to_device(table)
        if optics.ctf_premultiplied:
            _undo_premultiplication(batch, at, _premultiplied_ctfs(particles, batch.rows[members], backend), backend)
    return batch


def undo_corrections(particles: Particles, rows: Rows, model: Complex64, backend: Backend) -> Complex64:
    """Convert corrected spectra, as `batches` yields them, back to those of the images in the stacks, in place.

    Applies the odd aberrations of the optics, and the CTF for premultiplied images.

    Parameters
    ----------
    particles : n particles
    rows : (B,) rows of the images
    model : (B, n, n // 2 + 1), corrected FTs; overwritten
    backend : where it is computed

    Returns
    -------
    (B, n, n // 2 + 1) complex64
        `model`.
    """
    for number, members in _groups(particles, rows):
        optics, at = particles.optics[number], backend.to_device(members)
        if optics.ctf_premultiplied:
            model[at] *= _premultiplied_ctfs(particles, rows[members], backend)
        table = odd_phase_correction(optics)
        if table is not None:
            model[at] *= backend.to_device(table.conj())
    return model


def _premultiplied_ctfs(particles: Particles, rows: Rows, backend: Backend) -> Float32:
    """Compute the CTFs by which premultiplied images were multiplied: without B-factor and scale."""
    pure = replace(particles, bfactor_A2=np.zeros(len(particles)), scale=np.ones(len(particles)))
    return _ctfs(pure, rows, np.zeros(len(rows), np.bool_), backend)


def _undo_premultiplication(batch: Batch, at: Rows, pure: Float32, backend: Backend) -> None:
    """Divide the images `at` by the CTFs `pure`; set spectrum and CTF to 0 where |pure| < MIN_CTF."""
    lost = backend.xp.abs(pure) < MIN_CTF
    pure[lost] = 1.0
    spectrum, values = batch.spectrum[at] / pure, batch.ctf[at]
    spectrum[lost], values[lost] = 0.0, 0.0
    batch.spectrum[at], batch.ctf[at] = spectrum, values
