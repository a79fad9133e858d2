"""Reconstruction: insert images into a padded Fourier volume, divide by what was seen, return to real space."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lrcore.aberrations import lens, stretch
from lrcore.backend import Backend
from lrcore.defects import tell
from lrcore.errors import InputError
from lrcore.ewald import Spheres, spheres
from lrcore.fourier import PADDING, FourierVolume, make_hermitian, shape_for, squared_radii, to_map
from lrcore.grids import Complex64, Float32
from lrcore.images import Batch, quadrature, ranges, reading_order, usual_of, worked
from lrcore.poses import seen_through
from lrcore.records import Particles, Points, Progress, Volume
from lrcore.symmetry import operators

T = TypeVar("T")
Radii = npt.NDArray[np.int32]
Box = tuple[int, slice, slice]

RIDGE = 0.3
"""ρ of `solve` where no FSC is known yet: damps the noise of what few images saw."""


@dataclass(frozen=True)
class Accumulator:
    """Sums of a reconstruction in progress: numerator (Z, Z, X) complex64, denominator float32; see `insert`."""

    numerator: Complex64
    denominator: Float32
    box: int
    limit: int


def empty(box: int, backend: Backend, wide: float = 1.0) -> Accumulator:
    """An accumulator for maps of `box` voxels, where the kernels work; what lies beyond Nyquist is let go at the end.

    wide: how much farther out than the images' Nyquist frequency they are inserted, see `aberrations.stretch`.
    """
    limit = int(np.ceil(box // 2 * wide))
    shape = shape_for(limit)
    return Accumulator(backend.zeros(shape, np.complex64), backend.zeros(shape, np.float32), box, limit)


def fetched(sums: Accumulator, backend: Backend) -> Accumulator:
    """The sums as NumPy arrays that can be written to."""
    both = (np.require(backend.to_host(one), requirements="W") for one in (sums.numerator, sums.denominator))
    numerator, denominator = both
    return replace(sums, numerator=numerator, denominator=denominator)


def both(a: Accumulator, b: Accumulator) -> Accumulator:
    """The sums of both, as new arrays: where a worker is lost, either may be needed again."""
    return replace(a, numerator=a.numerator + b.numerator, denominator=a.denominator + b.denominator)


def add(
    sums: Accumulator,
    batch: Batch,
    points: Points,
    pixel_size_A: float,
    noise: npt.NDArray[np.float64],
    group: npt.NDArray[np.integer],
    symmetry: npt.NDArray[np.float64],
    backend: Backend,
    behind: npt.NDArray[np.float64] | None = None,
    curved: Spheres | None = None,
) -> None:
    """Add a batch at its points: C X / σ² and C² / σ², once for every symmetry operator. In place.

    noise: (groups, shells) σ². group: (B,) of each image. behind: (B, 3, 3), the images' `aberrations.lens`, or None.
    curved: the Ewald spheres that they lie on; None for flat slices. Raises MemoryError before anything is added.
    """
    image, point = np.nonzero(points.share)
    shifts, share = points.origin_A[image, point] / pixel_size_A, points.share[image, point]
    views = seen_through(points.rotation, behind)[image, point]
    for data, weight, curvature in _weighed(batch, noise, group, curved, backend):
        bends = None if curvature is None else curvature[image]
        for operator in symmetry:
            _insert(sums, (views @ operator, shifts, image, share, bends), data, weight, backend)


def _insert(sums: Accumulator, slices: tuple[Any, ...], data: Complex64, weight: Float32, backend: Backend) -> None:
    """Add slices: turns, shifts, image, share and curvature or None of each. In halves where memory is short."""
    turns, shifts, image, share, bends = slices
    try:
        backend.kernels.insert(
            sums.numerator, sums.denominator, turns, shifts, data, weight, sums.box // 2, image, share, bends
        )
    except MemoryError as error:
        if len(turns) < 2:
            raise InputError(f"backend {backend.name}: too little memory to insert an image ({error})") from None
        backend.tidied()
        middle = len(turns) // 2
        for half in (slice(middle), slice(middle, None)):
            _insert(sums, tuple(None if one is None else one[half] for one in slices), data, weight, backend)


def _weighed(
    batch: Batch,
    noise: npt.NDArray[np.float64],
    group: npt.NDArray[np.integer],
    curved: Spheres | None,
    backend: Backend,
) -> Iterator[tuple[Complex64, Float32, npt.NDArray[np.float64] | None]]:
    """What goes onto the slices of a batch, their weights, and the curvature of each: one flat slice, or two."""
    if curved is None:
        yield *backend.kernels.weigh(batch.spectrum, batch.ctf, noise, group), None
        return
    cosine = quadrature(curved.particles, batch, backend)
    upper, lower, weight = backend.kernels.sidebands(batch.spectrum, batch.ctf, cosine, noise, group, curved.overlap)
    yield upper, weight, curved.curvature[group]
    yield lower, weight, -curved.curvature[group]


def solve(sums: Accumulator, pixel_size_A: float, regularisation: npt.ArrayLike = RIDGE, workers: int = 1) -> Volume:
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
    for box, squares in _within(sums.limit):
        sums.numerator[box] *= gain[squares] / (sums.denominator[box] + ridge[squares])
    return Volume(to_map(FourierVolume(sums.numerator, sums.box, sums.limit), workers), pixel_size_A)


def _within(limit: int) -> Iterator[tuple[Box, Radii]]:
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
    for box, squares in _within(limit):
        shell = shells[squares].ravel()
        total += np.bincount(shell, weights=values[box].ravel(), minlength=len(total))
        count += np.bincount(shell, minlength=len(total))
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def regularisation(fsc: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
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
    shared = _Shared(symmetry, ewald, usual_of(particles, chosen))
    done = 0
    ended: list[Inserted] = []
    if backend.crew is None:
        for count in ended_into(ended, _inserted(shared, (particles, chosen), backend)):
            done += count
            yield Progress(0, "reconstruct", done, len(chosen))
    else:
        rows = ranges(chosen, particles.box, backend)
        with backend.crew.errand(_sent, _merged) as errand:
            parts = [(replace(particles.select(some), source=None), np.arange(len(some))) for some in rows]
            errand.put(shared, parts, [len(some) for some in rows])
            for _ in errand.watch(0):
                yield Progress(0, "reconstruct", errand.done, len(chosen))
            ended.append(errand.result(0))
    sums, bad = ended.pop()
    tell(particles, chosen[bad])
    yield solve(fetched(sums, backend), particles.pixel_size_A, RIDGE, backend.threads)


@dataclass(frozen=True)
class _Shared:
    """What all images of a reconstruction share. usual: SD of an image, see `defects`."""

    symmetry: str
    ewald: str
    usual: float


Inserted = tuple[Accumulator, npt.NDArray[np.bool_]]
"""Sums, and which of the images were none."""


def _inserted(
    shared: _Shared, part: tuple[Particles, npt.NDArray[np.int64]], backend: Backend
) -> Generator[int, None, Inserted]:
    """Insert some rows of particles at their poses; yields how many images each batch had."""
    particles, rows = part
    sums = empty(particles.box, backend, stretch(particles))
    group, curved = operators(shared.symmetry), spheres(particles, shared.ewald)
    alike = np.ones((len(particles.optics), 1))

    def work(batch: Batch) -> npt.NDArray[np.bool_]:
        points, optics = Points.of(particles.poses.select(batch.rows)), particles.group[batch.rows]
        behind = lens(particles, batch.rows)
        add(sums, batch, points, particles.pixel_size_A, alike, optics, group, backend, behind, curved)
        return batch.bad

    bad = []
    for found in worked(particles, rows, backend, work, shared.usual):
        bad.append(found)
        yield len(found)
    return sums, np.concatenate(bad)


def _sent(shared: _Shared, part: tuple[Particles, Any], backend: Backend) -> Generator[int, None, Inserted]:
    """The same on a worker."""
    sums, bad = yield from _inserted(shared, part, backend)
    return fetched(sums, backend), bad


def _merged(a: Inserted, b: Inserted) -> Inserted:
    return both(a[0], b[0]), np.concatenate([a[1], b[1]])


def ended_into(ended: list[T], going: Generator[int, None, T]) -> Iterator[int]:
    """What a generator yields; what it returns goes into the list."""
    ended.append((yield from going))
