"""Reconstruction: insert images into a padded Fourier volume, divide by what was seen, return to real space."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Int32
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.ewald import EwaldSpheres, ewald_spheres
from lrcore.imaging.fourier_volume import (
    PADDING,
    FourierVolume,
    fourier_volume_shape,
    fourier_volume_to_map,
    make_hermitian,
    squared_radii,
)
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.particles.bad_images import warn_bad_images
from lrcore.particles.image_stream import Batch, batch_ranges, map_batches, quadrature, reading_order, typical_sd_of
from lrcore.records import Particles, Progress, Volume, WeightedPoses

T = TypeVar("T")
Box = tuple[int, slice, slice]

RHO_WITHOUT_FSC = 0.3
"""ρ of `solve` where no FSC is known yet: damps the noise of what few images saw."""


@dataclass(frozen=True)
class Accumulator:
    """Sums of a reconstruction in progress: numerator (Z, Z, X) complex64, denominator float32; see `insert`."""

    numerator: Complex64
    denominator: Float32
    box: int
    limit: int


def empty_accumulator(box: int, backend: Backend, wide: float = 1.0) -> Accumulator:
    """An accumulator for maps of `box` voxels, where the kernels work; what lies beyond Nyquist is let go at the end.

    wide: how much farther out than the images' Nyquist frequency they are inserted, see `aberrations.stretch`.
    """
    limit = int(np.ceil(box // 2 * wide))
    shape = fourier_volume_shape(limit)
    return Accumulator(backend.zeros(shape, np.complex64), backend.zeros(shape, np.float32), box, limit)


def accumulator_to_host(sums: Accumulator, backend: Backend) -> Accumulator:
    """The sums as NumPy arrays that can be written to."""
    both = (np.require(backend.to_host(one), requirements="W") for one in (sums.numerator, sums.denominator))
    numerator, denominator = both
    return replace(sums, numerator=numerator, denominator=denominator)


def add_accumulators(a: Accumulator, b: Accumulator) -> Accumulator:
    """The sums of both, as new arrays: where a worker is lost, either may be needed again."""
    return replace(a, numerator=a.numerator + b.numerator, denominator=a.denominator + b.denominator)


def backproject(
    sums: Accumulator,
    batch: Batch,
    points: WeightedPoses,
    pixel_size_A: float,
    noise: npt.NDArray[np.float64],
    group: npt.NDArray[np.integer],
    symmetry: npt.NDArray[np.float64],
    backend: Backend,
    behind: npt.NDArray[np.float64] | None = None,
    curved: EwaldSpheres | None = None,
) -> None:
    """Add a batch at its points: C X / σ² and C² / σ², once for every symmetry operator. In place.

    noise: (groups, shells) σ². group: (B,) of each image. behind: (B, 3, 3), the images' `aberrations.lens`, or None.
    curved: the Ewald spheres that they lie on; None for flat slices. Raises MemoryError before anything is added.
    """
    image, point = np.nonzero(points.share)
    shifts, share = points.origin_A[image, point] / pixel_size_A, points.share[image, point]
    views = magnified_rotation(points.rotation, behind)[image, point]
    for data, weight, curvature in _weighted_slices(batch, noise, group, curved, backend):
        bends = None if curvature is None else curvature[image]
        for operator in symmetry:
            _insert(sums, (views @ operator, shifts, image, share, bends), data, weight, backend)


def _insert(sums: Accumulator, slices: tuple[Any, ...], data: Complex64, weight: Float32, backend: Backend) -> None:
    """Add slices: turns, shifts, image, share and curvature or None of each. In halves where memory is short."""
    turns, shifts, image, share, bends = slices
    try:
        backend.kernels.backproject_images(
            sums.numerator, sums.denominator, turns, shifts, data, weight, sums.box // 2, image, share, bends
        )
    except MemoryError as error:
        if len(turns) < 2:
            raise InputError(f"backend {backend.name}: too little memory to insert an image ({error})") from None
        backend.free_cached_memory()
        middle = len(turns) // 2
        for half in (slice(middle), slice(middle, None)):
            _insert(sums, tuple(None if one is None else one[half] for one in slices), data, weight, backend)


def _weighted_slices(
    batch: Batch,
    noise: npt.NDArray[np.float64],
    group: npt.NDArray[np.integer],
    curved: EwaldSpheres | None,
    backend: Backend,
) -> Iterator[tuple[Complex64, Float32, npt.NDArray[np.float64] | None]]:
    """What goes onto the slices of a batch, their weights, and the curvature of each: one flat slice, or two."""
    if curved is None:
        yield *backend.kernels.whiten_images(batch.spectrum, batch.ctf, noise, group), None
        return
    cosine = quadrature(curved.particles, batch, backend)
    upper, lower, weight = backend.kernels.whiten_sidebands(
        batch.spectrum, batch.ctf, cosine, noise, group, curved.overlap
    )
    yield upper, weight, curved.curvature[group]
    yield lower, weight, -curved.curvature[group]


def solve_map(
    sums: Accumulator, pixel_size_A: float, regularisation: npt.ArrayLike = RHO_WITHOUT_FSC, workers: int = 1
) -> Volume:
    """The map, gridding-corrected, neither masked nor filtered: F = (1 + ρ) numerator / (denominator + ρ mean).

    mean: of the denominator over the shell. regularisation: ρ, one for all or one per shell; (1 − FSC) / FSC makes
    this the Wiener filter within a shell, and the factor 1 + ρ leaves a well-sampled shell's amplitude as it is.
    Uses up the sums: they are divided in place, since a second copy would be the largest thing in memory.
    """
    make_hermitian(sums.numerator)
    make_hermitian(sums.denominator)
    shells = _shells(sums.limit)
    mean = _shell_means(sums.denominator, shells, sums.limit)
    given = np.ravel(np.asarray(regularisation, dtype=np.float64))
    rho = given[np.minimum(np.arange(len(mean)), len(given) - 1)]
    floor = np.maximum(rho, 1e-6) * mean
    seen = (np.arange(len(mean)) <= sums.limit) & (floor > 0)
    gain = np.where(seen, 1 + rho, 0.0).astype(np.float32)[shells]
    ridge = np.where(seen, floor, 1.0).astype(np.float32)[shells]
    for box, squares in _samples_within(sums.limit):
        sums.numerator[box] *= gain[squares] / (sums.denominator[box] + ridge[squares])
    return Volume(fourier_volume_to_map(FourierVolume(sums.numerator, sums.box, sums.limit), workers), pixel_size_A)


def _samples_within(limit: int) -> Iterator[tuple[Box, Int32]]:
    """Of each plane z what may lie in a shell up to `limit`, and |k|² there; nothing was inserted farther out."""
    centre, radius = PADDING * limit + 1, PADDING * limit + PADDING
    for z, squares in enumerate(squared_radii(limit)):
        reach = int(np.sqrt(max(0, radius**2 - (z - centre) ** 2)))
        box = (z, slice(max(0, centre - reach), centre + reach + 1), slice(reach + 2))
        yield box, squares[box[1:]]


def _shells(limit: int) -> npt.NDArray[np.int64]:
    """Shell of the unpadded box by |k|² in a FourierVolume."""
    reach = PADDING * limit + 1
    return np.rint(np.sqrt(np.arange(3 * reach**2 + 1)) / PADDING).astype(np.int64)


def _shell_means(values: Float32, shells: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.float64]:
    """Mean of a Fourier volume's values over each shell up to `limit`; beyond, of what there is."""
    total, count = np.zeros((2, int(shells[-1]) + 1))
    for box, squares in _samples_within(limit):
        shell = shells[squares].ravel()
        total += np.bincount(shell, weights=values[box].ravel(), minlength=len(total))
        count += np.bincount(shell, minlength=len(total))
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def regularisation_from_fsc(fsc: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ρ = (1 − FSC) / FSC per shell, between 1/50 and 10; it stays at 10 from the first FSC below 0.09."""
    below = np.nonzero(fsc[1:] < 1 / 11)[0]
    rho = 1 / np.clip(fsc, 1 / 11, 50 / 51) - 1
    if len(below):
        rho[below[0] + 1 :] = 10.0
    return np.asarray(rho, dtype=np.float64)


def reconstruct(
    particles: Particles, half: int | None, symmetry: str, backend: Backend, ewald: str = "none"
) -> Iterator[Progress | Volume]:
    """Reconstruct the particles of one half set (None: of all) at their poses; Progress, then the Volume.

    Images weigh by their CTF alone. ewald: as in a spec. Raises InputError when there are no such particles.
    """
    chosen = reading_order(particles, half)
    if len(chosen) == 0:
        raise InputError(f"{particles.path}: half set {half} holds no particles; choose the other or neither")
    shared = _ReconstructionContext(symmetry, ewald, typical_sd_of(particles, chosen))
    done = 0
    ended: list[Inserted] = []
    if backend.workers is None:
        for count in collect_return_value(ended, _insert_range(shared, (particles, chosen), backend)):
            done += count
            yield Progress(0, "reconstruct", done, len(chosen))
    else:
        rows = batch_ranges(chosen, particles.box, backend)
        with backend.workers.map_reduce(_insert_range_on_worker, _merge_insertions) as errand:
            parts = [(replace(particles.select(some), source=None), np.arange(len(some))) for some in rows]
            errand.add_group(shared, parts, [len(some) for some in rows])
            for _ in errand.wait(0):
                yield Progress(0, "reconstruct", errand.done, len(chosen))
            ended.append(errand.result(0))
    sums, bad = ended.pop()
    warn_bad_images(particles, chosen[bad])
    yield solve_map(accumulator_to_host(sums, backend), particles.pixel_size_A, RHO_WITHOUT_FSC, backend.threads)


@dataclass(frozen=True)
class _ReconstructionContext:
    """What all images of a reconstruction share. usual: SD of an image, see `defects`."""

    symmetry: str
    ewald: str
    typical_sd: float


Inserted = tuple[Accumulator, npt.NDArray[np.bool_]]
"""Sums, and which of the images were none."""


def _insert_range(
    shared: _ReconstructionContext, part: tuple[Particles, npt.NDArray[np.int64]], backend: Backend
) -> Generator[int, None, Inserted]:
    """Insert some rows of particles at their poses; yields how many images each batch had."""
    particles, rows = part
    sums = empty_accumulator(particles.box, backend, largest_magnification(particles))
    group, curved = symmetry_operators(shared.symmetry), ewald_spheres(particles, shared.ewald)
    alike = np.ones((len(particles.optics), 1))

    def work(batch: Batch) -> npt.NDArray[np.bool_]:
        points, optics = WeightedPoses.from_poses(particles.poses.select(batch.rows)), particles.group[batch.rows]
        behind = magnification_in_3d(particles, batch.rows)
        backproject(sums, batch, points, particles.pixel_size_A, alike, optics, group, backend, behind, curved)
        return batch.bad

    bad = []
    for found in map_batches(particles, rows, backend, work, shared.typical_sd):
        bad.append(found)
        yield len(found)
    return sums, np.concatenate(bad)


def _insert_range_on_worker(
    shared: _ReconstructionContext, part: tuple[Particles, Any], backend: Backend
) -> Generator[int, None, Inserted]:
    """The same on a worker."""
    sums, bad = yield from _insert_range(shared, part, backend)
    return accumulator_to_host(sums, backend), bad


def _merge_insertions(a: Inserted, b: Inserted) -> Inserted:
    return add_accumulators(a[0], b[0]), np.concatenate([a[1], b[1]])


def collect_return_value(ended: list[T], going: Generator[int, None, T]) -> Iterator[int]:
    """What a generator yields; what it returns goes into the list."""
    ended.append((yield from going))
