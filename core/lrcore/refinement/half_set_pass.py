"""Run one pass over the images of a half set, or over a part of them: E-step, noise, and the sums of the M-step.

A batch is read, the density outside the mask subtracted, the poses searched (`expectation`), the residual measured for
the noise of the next iteration (`noise`), and the images inserted into the sums of the map (`reconstruction`).
"""

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
from lrcore.particles.image_stream import Batch, map_batches
from lrcore.records import Expectation, Particles, Poses
from lrcore.refinement.expectation import expectation_step, subtract_outside_density
from lrcore.refinement.geometry import SearchGeometry
from lrcore.refinement.noise import NoiseResiduals, measure_residuals
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.presence import ALL_PRESENT, Shares
from lrcore.refinement.reconstruction import (
    Accumulator,
    add_accumulators,
    backproject,
    empty_accumulator,
)
from lrcore.refinement.reference import Reference, reference_to_device
from lrcore.refinement.window_images import Cutting


@dataclass(frozen=True)
class HalfSetContext:
    """Input that all images of a half set share in one iteration.

    Attributes
    ----------
    spec : parameters of the refinement
    geometry : geometry of the search
    reference : of the half set
    noise : (groups, shells) σ²
    typical_sd : SD of a valid image, see `bad_images`
    operators : (m, 3, 3) over which the map is averaged
    insert_whole_images : True to insert whole images into the map, False to insert the subtracted ones
    largest_magnification : largest factor by which the frequencies of the map exceed those of the images
    cutting : of the images' windows, where the pass works on these (`window_pass`); the reference, its variance and the
        sums are then those of the window
    shares : of the images by what they show, from the last iteration
    """

    spec: RefineSpec
    geometry: SearchGeometry
    reference: Reference
    noise: Float64
    typical_sd: float
    operators: Float64
    insert_whole_images: bool
    largest_magnification: float
    cutting: Cutting | None = None
    shares: Shares = ALL_PRESENT


@dataclass(frozen=True)
class ParticleRange:
    """Part of the images of a half set.

    Attributes
    ----------
    rows : rows of the particles, in reading order
    particles : n of them
    last : what the last iteration found, of all n
    unambiguous : (n,) poses beyond doubt, see `search.is_unambiguous`
    measure_noise : (n,) images whose residual is measured
    """

    rows: Rows
    particles: Particles
    last: Expectation
    unambiguous: npt.NDArray[np.bool_]
    measure_noise: npt.NDArray[np.bool_]

    def select(self, rows: Rows) -> "ParticleRange":
        """Return the part that holds these particles and no others, to be sent to a worker."""
        particles = replace(self.particles.select(rows), source=None)
        before = self.last.select(rows)
        return ParticleRange(np.arange(len(rows)), particles, before, self.unambiguous[rows], self.measure_noise[rows])


@dataclass(frozen=True)
class HalfSetResult:
    """Result of a pass, in the order of its rows.

    Attributes
    ----------
    expectations : of each batch
    residuals : residual powers and optics groups of each batch
    sums : of the M-step
    seconds : by stage
    """

    expectations: tuple[Expectation, ...]
    residuals: tuple[NoiseResiduals, ...]
    sums: Accumulator
    seconds: dict[str, float]


def run_half_set(
    context: HalfSetContext, part: ParticleRange, backend: Backend, clock: StageTimer | None = None
) -> Generator[int, None, HalfSetResult]:
    """Run the E-step and accumulate the sums of the M-step over a part of a half set.

    Yields the number of images of each batch, and returns the result.
    """
    clock = clock or StageTimer()
    particles, spec, geometry = part.particles, context.spec, context.geometry
    with clock("reference"):
        reference = reference_to_device(context.reference, backend)
    spheres = ewald_spheres(particles, spec.ewald)
    sums = empty_accumulator(particles.box, backend, context.largest_magnification)

    def work(batch: Batch) -> tuple[int, Expectation, NoiseResiduals]:
        with clock("window"):
            subtracted = subtract_outside_density(batch, reference.outside, particles, backend)
        expectation, points = expectation_step(
            particles, spec, subtracted, part.unambiguous, reference, geometry, part.last, context.noise, backend,
            clock, context.shares,
        )  # fmt: skip
        with clock("noise"):
            residual = measure_residuals(
                subtracted, part.measure_noise[batch.rows], particles, expectation, reference, geometry, backend
            )
        with clock("insert"):
            group, magnification = particles.group[batch.rows], magnification_in_3d(particles, batch.rows)
            inserted = batch if context.insert_whole_images else subtracted
            backproject(
                sums,
                inserted,
                points,
                particles.pixel_size_A,
                context.noise,
                group,
                context.operators,
                backend,
                magnification,
                spheres,
            )
        return len(batch.rows), expectation, residual

    expectations: list[Expectation] = []
    residuals: list[NoiseResiduals] = []
    reading = partial(clock.time_items, "read")
    for count, expectation, residual in map_batches(particles, part.rows, backend, work, context.typical_sd, reading):
        expectations.append(expectation)
        residuals.append(residual)
        yield count
    return HalfSetResult(tuple(expectations), tuple(residuals), sums, clock.seconds)


def merge_half_set_results(a: HalfSetResult, b: HalfSetResult) -> HalfSetResult:
    """Merge the results of two parts, one after the other."""
    stages = dict.fromkeys([*a.seconds, *b.seconds])
    seconds = {stage: a.seconds.get(stage, 0.0) + b.seconds.get(stage, 0.0) for stage in stages}
    return HalfSetResult(
        a.expectations + b.expectations, a.residuals + b.residuals, add_accumulators(a.sums, b.sums), seconds
    )


def concatenate_expectations(parts: Sequence[Expectation]) -> Expectation:
    """Concatenate expectations, one after the other."""
    poses = Poses(*(np.concatenate([getattr(e.poses, name) for e in parts]) for name in ("rotation", "origin_A")))
    names = [field.name for field in fields(Expectation) if field.name != "poses"]
    columns = (np.concatenate([getattr(e, name) for e in parts]) for name in names)
    return Expectation(poses, *columns)
