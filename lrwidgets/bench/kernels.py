"""The kernels on what a refinement gives them, by one thread and by all, against the ceilings of one thread.

The floor of a sample is the longest of three times: its operations at the speed of multiply-adds, the bytes of it that
come from memory at the speed of a copy, its neighbours at the speed of a loop that only reads (or adds to) them.
Operations are counted from the formulas, a multiply-add as two; sines, addresses and loops are not.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.backend import Backend, pick
from lrcore.expect import subtracted
from lrcore.fourier import shape_for
from lrcore.grids import Samples, half_plane
from lrcore.images import Batch, batches, reading_order
from lrcore.records import Poses
from lrcore.reference import Geometry, geometry, prepare, surroundings
from lrcore.refine import Job
from lrcore.search import Frame
from lrcore.workload import begun, workload
from lrwidgets.bench.ceilings import Ceilings, of_one_thread
from lrwidgets.bench.measured import Measured, Options, best_of
from lrwidgets.params import DEFAULTS, edited

SETTING = edited(
    DEFAULTS,
    {
        "rotation_extent_deg": 20.0,
        "shift_extent_A": 10.0,
        "max_align_resolution_A": 4.0,
        "initial_lowpass_A": 4.0,
    },
)
"""The reference setting: extents of 20° and 10 Å, information to 4 Å."""
IMAGES = 128


@dataclass(frozen=True)
class Cost:
    """Of one sample. flops: operations. streamed: bytes that are read or written once. gathered: width of a read."""

    flops: float
    streamed: float
    gathered: int = 0
    scattered: bool = False

    def floor(self, machine: Ceilings) -> tuple[float, str]:
        """Seconds that it takes at least, and by what."""
        times = {"arithmetic": self.flops / machine.flops, "memory": self.streamed / machine.copy}
        if self.gathered:
            times["gathers"] = machine.gather[self.gathered]
        if self.scattered:
            times["scattered adds"] = machine.scatter
        bound = max(times, key=lambda name: times[name])
        return times[bound], bound


# Trilinear: 7 blends of 2 × 3 operations and the coordinates, 15. Quadratic: 9 rows of 20, 3 sheets of 30, the depth
# 40, taps and coordinates 42, ∇S × q 18. Derivatives: wave and residual 22, J 30, value, gradient and Hessian 78.
# Values alone: 9 rows of 12, 3 sheets of 12, the depth 36, taps and coordinates 42; wave and residual 22, value 10.
SLICES = Cost(57.0, 8.0, gathered=2)
EVALUATE = Cost(370.0 + 130.0, 20.0, gathered=3)
POSES = 16
"""Of an image, of which `values` asks at once."""
VALUES = Cost(222.0 + 32.0, 20.0 / POSES, gathered=3)
INSERT = Cost(15.0 + 8.0 + 8 * 7.0, 12.0, scattered=True)


def score_cost(shifts: int) -> Cost:
    """Of a sample at one rotation: the slice, its product with the image, and a complex wave for each shift in x."""
    return Cost(57.0 + 12.0 + 8.0 * shifts, 0.0, gathered=2)


@dataclass(frozen=True)
class Problem:
    """What the kernels are given. frame: reference, lattice, limits. cut: the arguments of `window`. W, w: from it."""

    frame: Frame
    cut: tuple[Any, ...]
    W: npt.NDArray[np.complex64]
    w: npt.NDArray[np.float32]
    centres: Poses
    batch: Batch
    shape: Geometry


def run(options: Options) -> Iterator[Measured]:
    """The reference window, then one twice as large."""
    cases = [(128, 30.0)] if options.quick else [(128, 30.0), (192, 60.0)]
    for box, radius in cases:
        folder = options.folder / f"{box}"
        made = workload(folder, 2 * IMAGES, SETTING, box=box, radius_px=radius, distinct=2 * IMAGES)
        yield from measure(made.job, options)


def measure(job: Job, options: Options) -> Iterator[Measured]:
    """Every kernel on the first images of a job."""
    one = problem(job, pick("cpu", options.threads))
    options.tell(f"ceilings of one thread, window {one.shape.window}")
    inserted = half_plane(one.shape.box, (one.shape.box / 2 - 1,))
    machine = of_one_thread(one.frame.samples, inserted)
    for threads in sorted({1, options.threads}):
        options.tell(f"window {one.shape.window}, {threads} thread(s)")
        yield from _kernels(one, pick("cpu", threads), machine)


def problem(job: Job, backend: Backend) -> Problem:
    """The first batch of half set 1, against the given half map."""
    shape, first = geometry(job.mask, job.spec), begun(job)
    around = surroundings(first.half_maps, job.mask, job.spec, backend.threads)
    reference = prepare(first, around, 1, job.mask, job.spec, shape, backend.threads)
    rows = reading_order(job.particles, 1)[:IMAGES]
    batch = subtracted(next(batches(job.particles, rows, backend)), reference.outside, job.particles, backend)
    given, noise = job.particles.poses.select(batch.rows), first.noise[0]
    cut = (
        batch.spectrum, batch.ctf, noise, job.particles.group[batch.rows], reference.variance, shape.centre_in(given),
        reference.frame.samples,
    )  # fmt: skip
    W, w = backend.kernels.window(*cut)
    return Problem(reference.frame, cut, W, w, given, batch, shape)


def _kernels(one: Problem, backend: Backend, machine: Ceilings) -> Iterator[Measured]:
    frame, kernels, n = one.frame, backend.kernels, len(one.W)
    turns, none, lattice = one.centres.rotation, np.zeros((len(one.W), 5)), frame.lattice
    samples, coarse = frame.samples, frame.samples.ends[0]
    where = {"threads": backend.threads, "window": one.shape.window, "box": one.shape.box}

    def per_sample(name: str, count: int, cost: Cost, work: Callable[[], object], **more: float) -> Measured:
        spent = best_of(work) * backend.threads / count
        floor, bound = cost.floor(machine)
        known = {**where, **more, "flops": cost.flops, "bytes": cost.streamed}
        return Measured("kernels", name, 1e9 * spent, "ns/sample/core", known, 1e9 * floor, bound)

    full = len(samples.kx)
    yield per_sample("slices", n * full, SLICES, lambda: kernels.slices(frame.volume, turns, samples), samples=full)
    rotations, shifts = len(lattice.rotations), len(lattice.shifts)
    yield per_sample(
        "score", n * coarse * rotations, score_cost(shifts),
        lambda: kernels.score(
            frame.volume, one.W, one.w, samples, turns, lattice.rotations, frame.lever, lattice.shifts,
            lattice.penalty_shift,
        ),
        samples=coarse, rotations=rotations, shifts=shifts**2,
    )  # fmt: skip
    last = len(samples.ends) - 1
    yield per_sample(
        "evaluate", n * full, EVALUATE,
        lambda: kernels.evaluate(frame.volume, one.W, one.w, samples, last, turns, none, frame.lever),
        samples=full,
    )  # fmt: skip
    many = np.random.default_rng(0).normal(0, 0.01, (n, POSES, 5))
    yield per_sample(
        "values", n * full * POSES, VALUES,
        lambda: kernels.values(frame.volume, one.W, one.w, samples, last, turns, many, frame.lever),
        samples=full, poses=POSES,
    )  # fmt: skip
    yield _newton(one, backend, where)
    yield Measured("kernels", "window", n / best_of(lambda: kernels.window(*one.cut)), "particles/s", where)
    yield _insert(one, backend, machine, where)


def _newton(one: Problem, backend: Backend, where: Mapping[str, float]) -> Measured:
    """Whole descents from the input poses; an evaluation is of one pose of one image in one band."""
    frame, n = one.frame, len(one.W)
    starts, valid = np.zeros((n, 1, 5)), np.ones((n, 1), np.bool_)
    turns, kernel = one.centres.rotation, backend.kernels.newton
    arguments = (frame.volume, one.W, one.w, frame.samples, turns, starts, valid, frame.lever, frame.limits)
    steps = int(kernel(*arguments).steps.sum())
    spent = best_of(lambda: kernel(*arguments))
    known = {**where, "evaluations_per_descent": round(steps / n, 2)}
    return Measured("kernels", "newton", steps / spent, "evaluations/s", known)


def _insert(one: Problem, backend: Backend, machine: Ceilings, where: Mapping[str, float]) -> Measured:
    """The whole box up to Nyquist, as a reconstruction does."""
    limit, n = one.shape.box // 2, len(one.W)
    sums = np.zeros(shape_for(limit), np.complex64), np.zeros(shape_for(limit), np.float32)
    shifts, weight = np.zeros((n, 2)), one.batch.ctf**2
    turns, data = one.centres.rotation, one.batch.ctf * one.batch.spectrum
    spent = best_of(lambda: backend.kernels.insert(*sums, turns, shifts, data, weight, limit))
    samples = len(_disc(one.shape.box).kx)
    floor, bound = INSERT.floor(machine)
    known = {**where, "samples": samples, "flops": INSERT.flops, "bytes": INSERT.streamed}
    ceiling = backend.threads / (floor * samples)
    return Measured("kernels", "insert", n / spent, "particles/s", known, ceiling, bound)


def _disc(box: int) -> Samples:
    return half_plane(box, (float(box // 2),))
