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

from lrcore.compute.backend import Backend, get_backend
from lrcore.imaging.fourier_volume import fourier_volume_shape
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.particles.image_stream import Batch, batches, reading_order
from lrcore.records import Poses
from lrcore.refinement.expectation import subtract_outside_density
from lrcore.refinement.geometry import SearchGeometry, search_geometry
from lrcore.refinement.job import Job
from lrcore.refinement.reference import make_reference, outside_density
from lrcore.refinement.search import SearchFrame
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement, fastest_seconds
from lrwidgets.bench.roofline import Roofline, measure_one_thread
from lrwidgets.text.parameters import DEFAULT_SPEC, edit_spec

SETTING = edit_spec(
    DEFAULT_SPEC,
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
class KernelCost:
    """Of one sample. flops: operations. streamed: bytes that are read or written once. gathered: width of a read."""

    flops: float
    streamed: float
    gathered: int = 0
    scattered: bool = False

    def floor(self, machine: Roofline) -> tuple[float, str]:
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
SLICES = KernelCost(57.0, 8.0, gathered=2)
EVALUATE = KernelCost(370.0 + 130.0, 20.0, gathered=3)
POSES = 16
"""Of an image, of which `values` asks at once."""
VALUES = KernelCost(222.0 + 32.0, 20.0 / POSES, gathered=3)
INSERT = KernelCost(15.0 + 8.0 + 8 * 7.0, 12.0, scattered=True)


def score_cost(shifts: int) -> KernelCost:
    """Of a sample at one rotation: the slice, its product with the image, and a complex wave for each shift in x."""
    return KernelCost(57.0 + 12.0 + 8.0 * shifts, 0.0, gathered=2)


@dataclass(frozen=True)
class KernelInputs:
    """What the kernels are given. frame: reference, lattice, limits. cut: the arguments of `window`. W, w: from it."""

    frame: SearchFrame
    window_arguments: tuple[Any, ...]
    W: npt.NDArray[np.complex64]
    w: npt.NDArray[np.float32]
    centres: Poses
    batch: Batch
    shape: SearchGeometry


def run(options: BenchmarkOptions) -> Iterator[Measurement]:
    """The reference window, then one twice as large."""
    cases = [(128, 30.0)] if options.quick else [(128, 30.0), (192, 60.0)]
    for box, radius in cases:
        folder = options.folder / f"{box}"
        made = make_benchmark_data(folder, 2 * IMAGES, SETTING, box=box, radius_px=radius, distinct=2 * IMAGES)
        yield from measure(made.job, options)


def measure(job: Job, options: BenchmarkOptions) -> Iterator[Measurement]:
    """Every kernel on the first images of a job."""
    one = problem(job, get_backend("cpu", options.threads))
    options.report(f"ceilings of one thread, window {one.shape.window}")
    inserted = half_plane(one.shape.box, (one.shape.box / 2 - 1,))
    machine = measure_one_thread(one.frame.samples, inserted)
    for threads in sorted({1, options.threads}):
        options.report(f"window {one.shape.window}, {threads} thread(s)")
        yield from _kernels(one, get_backend("cpu", threads), machine)


def problem(job: Job, backend: Backend) -> KernelInputs:
    """The first batch of half set 1, against the given half map."""
    shape, first = search_geometry(job.mask, job.spec), synthetic_start(job)
    around = outside_density(first.half_maps, job.mask, job.spec, backend.threads)
    reference = make_reference(first, around, 1, job.mask, job.spec, shape, backend.threads)
    rows = reading_order(job.particles, 1)[:IMAGES]
    batch = subtract_outside_density(
        next(batches(job.particles, rows, backend)), reference.outside, job.particles, backend
    )
    given, noise = job.particles.poses.select(batch.rows), first.noise[0]
    cut = (
        batch.spectrum, batch.ctf, noise, job.particles.group[batch.rows], reference.variance, shape.centre_in(given),
        reference.frame.samples,
    )  # fmt: skip
    W, w = backend.kernels.whiten_windows(*cut)
    return KernelInputs(reference.frame, cut, W, w, given, batch, shape)


def _kernels(one: KernelInputs, backend: Backend, machine: Roofline) -> Iterator[Measurement]:
    frame, kernels, n = one.frame, backend.kernels, len(one.W)
    turns, none, lattice = one.centres.rotation, np.zeros((len(one.W), 5)), frame.lattice
    samples, coarse = frame.samples, frame.samples.ends[0]
    where = {"threads": backend.threads, "window": one.shape.window, "box": one.shape.box}

    def per_sample(name: str, count: int, cost: KernelCost, work: Callable[[], object], **more: float) -> Measurement:
        spent = fastest_seconds(work) * backend.threads / count
        floor, bound = cost.floor(machine)
        known = {**where, **more, "flops": cost.flops, "bytes": cost.streamed}
        return Measurement("kernels", name, 1e9 * spent, "ns/sample/core", known, 1e9 * floor, bound)

    full = len(samples.kx)
    yield per_sample(
        "slices", n * full, SLICES, lambda: kernels.project_slices(frame.volume, turns, samples), samples=full
    )
    rotations, shifts = len(lattice.rotations), len(lattice.shifts)
    yield per_sample(
        "score", n * coarse * rotations, score_cost(shifts),
        lambda: kernels.search_lattice(
            frame.volume, one.W, one.w, samples, turns, lattice.rotations, frame.lever, lattice.shifts,
            lattice.penalty_shift,
        ),
        samples=coarse, rotations=rotations, shifts=shifts**2,
    )  # fmt: skip
    last = len(samples.ends) - 1
    yield per_sample(
        "evaluate", n * full, EVALUATE,
        lambda: kernels.evaluate_with_derivatives(frame.volume, one.W, one.w, samples, last, turns, none, frame.lever),
        samples=full,
    )  # fmt: skip
    many = np.random.default_rng(0).normal(0, 0.01, (n, POSES, 5))
    yield per_sample(
        "values", n * full * POSES, VALUES,
        lambda: kernels.evaluate_likelihood(frame.volume, one.W, one.w, samples, last, turns, many, frame.lever),
        samples=full, poses=POSES,
    )  # fmt: skip
    yield _newton(one, backend, where)
    yield Measurement(
        "kernels",
        "window",
        n / fastest_seconds(lambda: kernels.whiten_windows(*one.window_arguments)),
        "particles/s",
        where,
    )
    yield _insert(one, backend, machine, where)


def _newton(one: KernelInputs, backend: Backend, where: Mapping[str, float]) -> Measurement:
    """Whole descents from the input poses; an evaluation is of one pose of one image in one band."""
    frame, n = one.frame, len(one.W)
    starts, valid = np.zeros((n, 1, 5)), np.ones((n, 1), np.bool_)
    turns, kernel = one.centres.rotation, backend.kernels.find_posterior_modes
    arguments = (frame.volume, one.W, one.w, frame.samples, turns, starts, valid, frame.lever, frame.limits)
    steps = int(kernel(*arguments).steps.sum())
    spent = fastest_seconds(lambda: kernel(*arguments))
    known = {**where, "evaluations_per_descent": round(steps / n, 2)}
    return Measurement("kernels", "newton", steps / spent, "evaluations/s", known)


def _insert(one: KernelInputs, backend: Backend, machine: Roofline, where: Mapping[str, float]) -> Measurement:
    """The whole box up to Nyquist, as a reconstruction does."""
    limit, n = one.shape.box // 2, len(one.W)
    sums = np.zeros(fourier_volume_shape(limit), np.complex64), np.zeros(fourier_volume_shape(limit), np.float32)
    shifts, weight = np.zeros((n, 2)), one.batch.ctf**2
    turns, data = one.centres.rotation, one.batch.ctf * one.batch.spectrum
    spent = fastest_seconds(lambda: backend.kernels.backproject_images(*sums, turns, shifts, data, weight, limit))
    samples = len(_disc(one.shape.box).kx)
    floor, bound = INSERT.floor(machine)
    known = {**where, "samples": samples, "flops": INSERT.flops, "bytes": INSERT.streamed}
    ceiling = backend.threads / (floor * samples)
    return Measurement("kernels", "insert", n / spent, "particles/s", known, ceiling, bound)


def _disc(box: int) -> FourierSamples:
    return half_plane(box, (float(box // 2),))
