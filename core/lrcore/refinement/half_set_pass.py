"""One pass over the images of a half set, or over a range of them: search, noise, and the sums of the next map."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64, Rows
from lrcore.compute.backend import Backend
from lrcore.compute.timing import StageTimer
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.ewald import ewald_spheres
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.records import Expectation, Particles, Poses
from lrcore.refinement.expectation import expectation_step, subtract_outside_density
from lrcore.refinement.geometry import SearchGeometry
from lrcore.refinement.noise import NoiseResiduals, measure_residuals
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import (
    Accumulator,
    accumulator_to_host,
    add_accumulators,
    backproject,
    empty_accumulator,
)
from lrcore.refinement.reference import Reference, reference_to_device


@dataclass(frozen=True)
class HalfSetContext:
    """What all images of a half set share. noise: (groups, shells). usual: SD of an image, see `defects`.

    whole: images go into the map as they are, not as they are searched. wide: see `reconstruct.empty`.
    """

    spec: RefineSpec
    shape: SearchGeometry
    reference: Reference
    noise: Float64
    typical_sd: float
    keep_outside: bool
    largest_magnification: float


@dataclass(frozen=True)
class ParticleRange:
    """Some images of a half set. rows: of the particles, in reading order.

    before: (n,) what the last iteration found. known, looked: (n,) poses beyond doubt; whose noise is measured.
    """

    rows: Rows
    particles: Particles
    last: Expectation
    unambiguous: npt.NDArray[np.bool_]
    measure_noise: npt.NDArray[np.bool_]

    def select(self, rows: Rows) -> "ParticleRange":
        """The part that holds these particles and no others, to be sent."""
        particles = replace(self.particles.select(rows), source=None)
        before = self.last.select(rows)
        return ParticleRange(np.arange(len(rows)), particles, before, self.unambiguous[rows], self.measure_noise[rows])


@dataclass(frozen=True)
class HalfSetResult:
    """What a pass has found, in the order of its rows. seconds: by stage."""

    expectations: tuple[Expectation, ...]
    residuals: tuple[NoiseResiduals, ...]
    sums: Accumulator
    seconds: dict[str, float]


def run_half_set(
    common: HalfSetContext, part: ParticleRange, backend: Backend, clock: StageTimer | None = None
) -> Generator[int, None, HalfSetResult]:
    """The pass: yields how many images each batch had."""
    clock = clock or StageTimer()
    particles, spec, shape = part.particles, common.spec, common.shape
    with clock("reference"):
        reference = reference_to_device(common.reference, backend)
    group, curved = symmetry_operators(spec.symmetry), ewald_spheres(particles, spec.ewald)
    sums = empty_accumulator(particles.box, backend, common.largest_magnification)

    def work(batch: Batch) -> tuple[int, Expectation, NoiseResiduals]:
        with clock("window"):
            rest = subtract_outside_density(batch, reference.outside, particles, backend)
        found, points = expectation_step(
            particles, spec, rest, part.unambiguous, reference, shape, part.last, common.noise, backend, clock
        )
        with clock("noise"):
            left = measure_residuals(
                rest, part.measure_noise[batch.rows], particles, found.poses, reference, shape, backend
            )
        with clock("insert"):
            optics, behind = particles.group[batch.rows], magnification_in_3d(particles, batch.rows)
            shown = batch if common.keep_outside else rest
            backproject(
                sums, shown, points, particles.pixel_size_A, common.noise, optics, group, backend, behind, curved
            )
        return len(batch.rows), found, left

    expectations: list[Expectation] = []
    residuals: list[NoiseResiduals] = []
    reading = partial(clock.over, "read")
    for count, found, left in map_batches(particles, part.rows, backend, work, common.typical_sd, reading):
        expectations.append(found)
        residuals.append(left)
        yield count
    return HalfSetResult(tuple(expectations), tuple(residuals), sums, clock.seconds)


def run_half_set_on_worker(
    common: HalfSetContext, part: ParticleRange, backend: Backend
) -> Generator[int, None, HalfSetResult]:
    """The pass over a range on a worker, as it travels: the sums in NumPy, all batches as one."""
    found = yield from run_half_set(common, part, backend)
    power, groups = (np.concatenate(column) for column in zip(*found.residuals, strict=True))
    return replace(
        found,
        expectations=(concatenate_expectations(found.expectations),),
        residuals=((power, groups),),
        sums=accumulator_to_host(found.sums, backend),
    )


def merge_half_set_results(a: HalfSetResult, b: HalfSetResult) -> HalfSetResult:
    """What was found of two ranges, one after the other."""
    stages = dict.fromkeys([*a.seconds, *b.seconds])
    seconds = {stage: a.seconds.get(stage, 0.0) + b.seconds.get(stage, 0.0) for stage in stages}
    return HalfSetResult(
        a.expectations + b.expectations, a.residuals + b.residuals, add_accumulators(a.sums, b.sums), seconds
    )


def concatenate_expectations(parts: Sequence[Expectation]) -> Expectation:
    """One expectation after the other."""
    poses = Poses(*(np.concatenate([getattr(e.poses, name) for e in parts]) for name in ("rotation", "origin_A")))
    names = [one.name for one in fields(Expectation) if one.name != "poses"]
    columns = (np.concatenate([getattr(e, name) for e in parts]) for name in names)
    return Expectation(poses, *columns)
