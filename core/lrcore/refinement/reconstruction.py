"""Reconstruct maps (the M-step): insert images into a padded Fourier volume, divide by the weights, transform back.

Each image X adds, at the sample q = Aᵀ (k, 0) of its slice and with its CTF C and noise σ², trilinearly,

    numerator += C X e^{−2πi k·o} / σ²,  denominator += C² / σ²

once for each operator of the symmetry. With ρ = (1 − FSC) / FSC per shell and mean that of the denominator over the
shell, the map is

    F = (1 + ρ) numerator / (denominator + ρ mean)

Within a shell this is RELION's Wiener filter with 1 / τ² = ρ mean (Scheres 2012). Differs from RELION in the factor
1 + ρ, which keeps the amplitude of a well sampled shell, so that the half maps stay unfiltered; in the bounds of ρ,
1/50 and 10; and in that the weights are not iterated (RELION's `--skip_gridding`).

References
----------
Scheres (2012), J. Struct. Biol. 180:519.
"""

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
from lrcore.particles.image_stream import (
    Batch,
    batch_ranges,
    ctf_in_quadrature,
    map_batches,
    reading_order,
    typical_sd_of,
)
from lrcore.records import Particles, Progress, Volume, WeightedPoses

T = TypeVar("T")
Box = tuple[int, slice, slice]

RHO_WITHOUT_FSC = 0.3
"""ρ where no FSC is known yet; it damps the noise of samples that few images cover."""


@dataclass(frozen=True)
class Accumulator:
    """Sums of a reconstruction in progress, see `backproject`.

    Attributes
    ----------
    numerator : (Z, Z, X) complex64
    denominator : (Z, Z, X) float32
    box : n of the map, voxels
    limit : last shell into which images are inserted
    """

    numerator: Complex64
    denominator: Float32
    box: int
    limit: int


def empty_accumulator(box: int, backend: Backend, magnification: float = 1.0) -> Accumulator:
    """Return an accumulator for maps of `box` voxels, in the memory of the backend.

    magnification: largest factor by which the frequencies of the map exceed those of the images. What is inserted
    beyond the Nyquist frequency of the map is dropped at the end.
    """
    limit = int(np.ceil(box // 2 * magnification))
    shape = fourier_volume_shape(limit)
    return Accumulator(backend.zeros(shape, np.complex64), backend.zeros(shape, np.float32), box, limit)


def accumulator_to_host(sums: Accumulator, backend: Backend) -> Accumulator:
    """Return the sums as writable NumPy arrays."""
    arrays = (np.require(backend.to_host(array), requirements="W") for array in (sums.numerator, sums.denominator))
    numerator, denominator = arrays
    return replace(sums, numerator=numerator, denominator=denominator)


def add_accumulators(a: Accumulator, b: Accumulator) -> Accumulator:
    """Return the sum of two accumulators as new arrays, since either may be needed again when a worker fails."""
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
    magnification: npt.NDArray[np.float64] | None = None,
    spheres: EwaldSpheres | None = None,
) -> None:
    """Add a batch of images at their weighted poses, once for each symmetry operator, in place.

    noise: (groups, shells) σ². group: (B,) of each image. symmetry: (m, 3, 3) operators. magnification: (B, 3, 3) of
    `aberrations.magnification_in_3d`, or None. spheres: Ewald spheres of the images, or None for flat slices. Raises
    InputError when memory does not suffice for a single image.
    """
    image, point = np.nonzero(points.share)
    shifts, share = points.origin_A[image, point] / pixel_size_A, points.share[image, point]
    views = magnified_rotation(points.rotation, magnification)[image, point]
    for data, weight, curvature in _weighted_slices(batch, noise, group, spheres, backend):
        curvatures = None if curvature is None else curvature[image]
        for operator in symmetry:
            insert_slices(sums, (views @ operator, shifts, image, share, curvatures), data, weight, backend)


def insert_slices(
    sums: Accumulator,
    slices: tuple[Any, ...],
    data: Complex64,
    weight: Float32,
    backend: Backend,
    limit: int | None = None,
) -> None:
    """Add slices, in halves where memory is short.

    slices: rotation, shift, image, share and curvature (or None) of each. limit: last shell of the images that is
    inserted; None for the Nyquist frequency of the map.
    """
    rotations, shifts, image, share, curvatures = slices
    last = sums.box // 2 if limit is None else limit
    try:
        backend.kernels.backproject_images(
            sums.numerator, sums.denominator, rotations, shifts, data, weight, last, image, share, curvatures
        )
    except MemoryError as error:
        if len(rotations) < 2:
            raise InputError(f"backend {backend.name}: too little memory to insert an image ({error})") from None
        backend.free_cached_memory()
        middle = len(rotations) // 2
        for half in (slice(middle), slice(middle, None)):
            part = tuple(None if column is None else column[half] for column in slices)
            insert_slices(sums, part, data, weight, backend, limit)


def _weighted_slices(
    batch: Batch,
    noise: npt.NDArray[np.float64],
    group: npt.NDArray[np.integer],
    spheres: EwaldSpheres | None,
    backend: Backend,
) -> Iterator[tuple[Complex64, Float32, npt.NDArray[np.float64] | None]]:
    """Yield data, weights and curvature of a batch: one flat slice, or the two sidebands on the Ewald sphere."""
    if spheres is None:
        yield *backend.kernels.whiten_images(batch.spectrum, batch.ctf, noise, group), None
        return
    cosine = ctf_in_quadrature(spheres.particles, batch, backend)
    upper, lower, weight = backend.kernels.whiten_sidebands(
        batch.spectrum, batch.ctf, cosine, noise, group, spheres.overlap
    )
    yield upper, weight, spheres.curvature[group]
    yield lower, weight, -spheres.curvature[group]


def solve_map(
    sums: Accumulator,
    pixel_size_A: float,
    rho: npt.ArrayLike = RHO_WITHOUT_FSC,
    workers: int = 1,
    least_share: npt.ArrayLike = 0.0,
) -> Volume:
    """Return the map F = (1 + ρ) numerator / (denominator + ρ mean), gridding-corrected, neither masked nor filtered.

    mean is the mean of the denominator over the shell. Overwrites the sums, since a copy would be the largest array in
    memory.

    Parameters
    ----------
    sums : of inserted images or windows
    pixel_size_A : Å
    rho : one for all shells or (shells,)
    workers : threads of the Fourier transforms
    least_share
        Least value of the denominator, as a share of its mean over the shell and both its neighbours; one for all
        shells or (shells,), of which the last is for all further ones.
    """
    make_hermitian(sums.numerator)
    make_hermitian(sums.denominator)
    shells = shells_of_radii(sums.limit)
    mean = shell_means(sums.denominator, shells, sums.limit)
    least = of_shells(least_share, len(mean)) * mean_of_neighbours(np.maximum(mean, 0.0))
    shell_rho = of_shells(rho, len(mean))
    floor = np.maximum(shell_rho, 1e-6) * np.maximum(mean, least)
    sampled = (np.arange(len(mean)) <= sums.limit) & (floor > 0)
    gain = np.where(sampled, 1 + shell_rho, 0.0).astype(np.float32)[shells]
    ridge = np.where(sampled, floor, 1.0).astype(np.float32)[shells]
    lowest = least.astype(np.float32)[shells]
    for box, squares in _samples_within(sums.limit):
        # The weights of windows have sidelobes, so that few of their sums may be negative.
        sums.numerator[box] *= gain[squares] / (np.maximum(sums.denominator[box], lowest[squares]) + ridge[squares])
    return Volume(fourier_volume_to_map(FourierVolume(sums.numerator, sums.box, sums.limit), workers), pixel_size_A)


def of_shells(values: npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
    """Return values for `count` shells: one for all, or one each, the last for all further ones."""
    given = np.ravel(np.asarray(values, dtype=np.float64))
    return given[np.minimum(np.arange(count), len(given) - 1)]


def mean_of_neighbours(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean over each shell and both its neighbours; over two shells at the ends."""
    ends = np.pad(values, 1)
    count = np.convolve(np.ones(len(values)), np.ones(3), "same")
    return np.asarray((ends[:-2] + ends[1:-1] + ends[2:]) / count)


def _samples_within(limit: int) -> Iterator[tuple[Box, Int32]]:
    """Yield, for each plane z, the part that holds the shells up to `limit`, and |k|² there."""
    centre, radius = PADDING * limit + 1, PADDING * limit + PADDING
    for z, squares in enumerate(squared_radii(limit)):
        reach = int(np.sqrt(max(0, radius**2 - (z - centre) ** 2)))
        box = (z, slice(max(0, centre - reach), centre + reach + 1), slice(reach + 2))
        yield box, squares[box[1:]]


def shells_of_radii(limit: int) -> npt.NDArray[np.int64]:
    """Return the shell of the unpadded box by |k|² of a FourierVolume."""
    reach = PADDING * limit + 1
    return np.rint(np.sqrt(np.arange(3 * reach**2 + 1)) / PADDING).astype(np.int64)


def shell_means(values: Float32, shells: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.float64]:
    """Return the mean of a Fourier volume's values over each shell."""
    total, count = np.zeros((2, int(shells[-1]) + 1))
    for box, squares in _samples_within(limit):
        shell = shells[squares].ravel()
        total += np.bincount(shell, weights=values[box].ravel(), minlength=len(total))
        count += np.bincount(shell, minlength=len(total))
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def regularisation_from_fsc(fsc: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ρ = (1 − FSC) / FSC per shell, between 1/50 and 10, and 10 from the first shell with FSC < 1/11."""
    below = np.nonzero(fsc[1:] < 1 / 11)[0]
    rho = 1 / np.clip(fsc, 1 / 11, 50 / 51) - 1
    if len(below):
        rho[below[0] + 1 :] = 10.0
    return np.asarray(rho, dtype=np.float64)


def reconstruct(
    particles: Particles, half: int | None, symmetry: str, backend: Backend, ewald: str = "none"
) -> Iterator[Progress | Volume]:
    """Reconstruct a map from particles at their poses.

    Images are weighted by their CTF alone.

    Parameters
    ----------
    particles : with poses
    half : half set, 1 or 2, or None for all particles
    symmetry : name of the point group
    backend : where the kernels run
    ewald : "none", "positive" or "negative", as in `RefineSpec`

    Yields
    ------
    Progress or Volume
        `Progress` while images are inserted, then the map (n, n, n).

    Raises
    ------
    InputError
        When the half set holds no particles, or an image cannot be read.
    """
    chosen = reading_order(particles, half)
    if len(chosen) == 0:
        raise InputError(f"{particles.path}: half set {half} holds no particles; choose the other or neither")
    context = _ReconstructionContext(symmetry, ewald, typical_sd_of(particles, chosen))
    done = 0
    results: list[Inserted] = []
    if backend.workers is None:
        for count in collect_return_value(results, _insert_range(context, (particles, chosen), backend)):
            done += count
            yield Progress(0, "reconstruct", done, len(chosen))
    else:
        rows = batch_ranges(chosen, particles.box, backend)
        with backend.workers.map_reduce(_insert_range_on_worker, _merge_insertions) as task:
            parts = [(replace(particles.select(subset), source=None), np.arange(len(subset))) for subset in rows]
            task.add_group(context, parts, [len(subset) for subset in rows])
            for _ in task.wait(0):
                yield Progress(0, "reconstruct", task.done, len(chosen))
            results.append(task.result(0))
    sums, bad = results.pop()
    warn_bad_images(particles, chosen[bad])
    yield solve_map(accumulator_to_host(sums, backend), particles.pixel_size_A, RHO_WITHOUT_FSC, backend.threads)


@dataclass(frozen=True)
class _ReconstructionContext:
    """Parameters that all images of a reconstruction share. typical_sd: SD of a valid image, see `bad_images`."""

    symmetry: str
    ewald: str
    typical_sd: float


Inserted = tuple[Accumulator, npt.NDArray[np.bool_]]
"""Sums, and (m,) which of the images are invalid."""


def _insert_range(
    context: _ReconstructionContext, part: tuple[Particles, npt.NDArray[np.int64]], backend: Backend
) -> Generator[int, None, Inserted]:
    """Insert some rows of particles at their poses. Yields the number of images per batch."""
    particles, rows = part
    sums = empty_accumulator(particles.box, backend, largest_magnification(particles))
    operators, spheres = symmetry_operators(context.symmetry), ewald_spheres(particles, context.ewald)
    no_noise = np.ones((len(particles.optics), 1))

    def work(batch: Batch) -> npt.NDArray[np.bool_]:
        points, group = WeightedPoses.from_poses(particles.poses.select(batch.rows)), particles.group[batch.rows]
        magnification = magnification_in_3d(particles, batch.rows)
        backproject(
            sums, batch, points, particles.pixel_size_A, no_noise, group, operators, backend, magnification, spheres
        )
        return batch.bad

    bad = []
    for batch_bad in map_batches(particles, rows, backend, work, context.typical_sd):
        bad.append(batch_bad)
        yield len(batch_bad)
    return sums, np.concatenate(bad)


def _insert_range_on_worker(
    context: _ReconstructionContext, part: tuple[Particles, Any], backend: Backend
) -> Generator[int, None, Inserted]:
    """Insert some rows of particles on a worker, and return the sums as NumPy arrays."""
    sums, bad = yield from _insert_range(context, part, backend)
    return accumulator_to_host(sums, backend), bad


def _merge_insertions(a: Inserted, b: Inserted) -> Inserted:
    """Add the sums of two ranges, one after the other."""
    return add_accumulators(a[0], b[0]), np.concatenate([a[1], b[1]])


def collect_return_value(results: list[T], generator: Generator[int, None, T]) -> Iterator[int]:
    """Yield what a generator yields, and append what it returns to a list."""
    results.append((yield from generator))
