"""One pass over the images of a half set, or over a range of them: search, noise, and the sums of the next map."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from lrcore.aberrations import lens
from lrcore.backend import Backend
from lrcore.clock import Clock
from lrcore.ewald import spheres
from lrcore.expect import expect, subtracted
from lrcore.images import Batch, Rows, worked
from lrcore.noise import measured
from lrcore.reconstruct import Accumulator, add, both, empty, fetched
from lrcore.records import Expectation, Particles, Poses
from lrcore.reference import Geometry, Reference, placed
from lrcore.spec import RefineSpec
from lrcore.symmetry import operators

Float64 = npt.NDArray[np.float64]
Left = tuple[Float64, npt.NDArray[np.int32]]
"""Residual powers of some images, and their optics groups."""


@dataclass(frozen=True)
class Common:
    """What all images of a half set share. noise: (groups, shells). usual: SD of an image, see `defects`.

    whole: images go into the map as they are, not as they are searched. wide: see `reconstruct.empty`.
    """

    spec: RefineSpec
    shape: Geometry
    reference: Reference
    noise: Float64
    usual: float
    whole: bool
    wide: float


@dataclass(frozen=True)
class Part:
    """Some images of a half set. rows: of the particles, in reading order.

    before: (n,) what the last iteration found. known, looked: (n,) poses beyond doubt; whose noise is measured.
    """

    rows: Rows
    particles: Particles
    before: Expectation
    known: npt.NDArray[np.bool_]
    looked: npt.NDArray[np.bool_]

    def narrowed(self, rows: Rows) -> "Part":
        """The part that holds these particles and no others, to be sent."""
        particles = replace(self.particles.select(rows), source=None)
        before = self.before.select(rows)
        return Part(np.arange(len(rows)), particles, before, self.known[rows], self.looked[rows])


@dataclass(frozen=True)
class Found:
    """What a pass has found, in the order of its rows. seconds: by stage."""

    expectations: tuple[Expectation, ...]
    left: tuple[Left, ...]
    sums: Accumulator
    seconds: dict[str, float]


def go_over(common: Common, part: Part, backend: Backend, clock: Clock | None = None) -> Generator[int, None, Found]:
    """The pass: yields how many images each batch had."""
    clock = clock or Clock()
    particles, spec, shape = part.particles, common.spec, common.shape
    with clock("reference"):
        reference = placed(common.reference, backend)
    group, curved = operators(spec.symmetry), spheres(particles, spec.ewald)
    sums = empty(particles.box, backend, common.wide)

    def work(batch: Batch) -> tuple[int, Expectation, Left]:
        with clock("window"):
            rest = subtracted(batch, reference.outside, particles, backend)
        found, points = expect(
            particles, spec, rest, part.known, reference, shape, part.before, common.noise, backend, clock
        )
        with clock("noise"):
            left = measured(rest, part.looked[batch.rows], particles, found.poses, reference, shape, backend)
        with clock("insert"):
            optics, behind = particles.group[batch.rows], lens(particles, batch.rows)
            shown = batch if common.whole else rest
            add(sums, shown, points, particles.pixel_size_A, common.noise, optics, group, backend, behind, curved)
        return len(batch.rows), found, left

    expectations: list[Expectation] = []
    residuals: list[Left] = []
    reading = partial(clock.over, "read")
    for count, found, left in worked(particles, part.rows, backend, work, common.usual, reading):
        expectations.append(found)
        residuals.append(left)
        yield count
    return Found(tuple(expectations), tuple(residuals), sums, clock.seconds)


def sent(common: Common, part: Part, backend: Backend) -> Generator[int, None, Found]:
    """The pass over a range on a worker, as it travels: the sums in NumPy, all batches as one."""
    found = yield from go_over(common, part, backend)
    power, groups = (np.concatenate(column) for column in zip(*found.left, strict=True))
    return replace(
        found,
        expectations=(concatenated(found.expectations),),
        left=((power, groups),),
        sums=fetched(found.sums, backend),
    )


def merged(a: Found, b: Found) -> Found:
    """What was found of two ranges, one after the other."""
    stages = dict.fromkeys([*a.seconds, *b.seconds])
    seconds = {stage: a.seconds.get(stage, 0.0) + b.seconds.get(stage, 0.0) for stage in stages}
    return Found(a.expectations + b.expectations, a.left + b.left, both(a.sums, b.sums), seconds)


def concatenated(parts: Sequence[Expectation]) -> Expectation:
    """One expectation after the other."""
    poses = Poses(*(np.concatenate([getattr(e.poses, name) for e in parts]) for name in ("rotation", "origin_A")))
    names = [one.name for one in fields(Expectation) if one.name != "poses"]
    columns = (np.concatenate([getattr(e, name) for e in parts]) for name in names)
    return Expectation(poses, *columns)
