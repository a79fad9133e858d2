"""Benchmark the kernels on the data of a refinement, with one thread and with all, against the limits of one thread.

The minimum time per sample is the longest of three times: its operations at the speed of multiply-adds; its bytes from
memory at the speed of a copy; its neighbouring voxels at the speed of a loop that only reads (or adds to) them.
Operations are counted from the formulas, a multiply-add as two; sines, addresses and loops are not counted.
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
from lrcore.refinement.search_frame import SearchFrame
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
"""Number of images of a measurement."""


@dataclass(frozen=True)
class KernelCost:
    """Cost of a kernel per sample.

    Attributes
    ----------
    flops : operations
    streamed : bytes that are read or written once
    gathered : width w of the w³ voxels that are read; 0 for none
    scattered : True if the sample is added to 2³ voxels
    """

    flops: float
    streamed: float
    gathered: int = 0
    scattered: bool = False

    def floor(self, machine: Roofline) -> tuple[float, str]:
        """Return the minimum time of a sample in seconds, and the name of the limit."""
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
"""Poses per image that `values` evaluates at once."""
VALUES = KernelCost(222.0 + 32.0, 20.0 / POSES, gathered=3)
INSERT = KernelCost(15.0 + 8.0 + 8 * 7.0, 12.0, scattered=True)


def score_cost(shifts: int) -> KernelCost:
    """Return the cost of a sample at one rotation: slice, product with the image, and a wave for each shift in x."""
    return KernelCost(57.0 + 12.0 + 8.0 * shifts, 0.0, gathered=2)


@dataclass(frozen=True)
class KernelInputs:
    """Inputs of the kernels for n images.

    Attributes
    ----------
    frame : reference, lattice and limits of the search
    window_arguments : arguments of `whiten_windows`
    W, w : (n, samples), its results: whitened images and weights
    centres : (n,), poses about which is searched
    batch : the images
    shape : search geometry
    """

    frame: SearchFrame
    window_arguments: tuple[Any, ...]
    W: npt.NDArray[np.complex64]
    w: npt.NDArray[np.float32]
    centres: Poses
    batch: Batch
    shape: SearchGeometry


def run(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure with the reference window, then with one twice as large."""
    cases = [(128, 30.0)] if options.quick else [(128, 30.0), (192, 60.0)]
    for box, radius in cases:
        folder = options.folder / f"{box}"
        data = make_benchmark_data(folder, 2 * IMAGES, SETTING, box=box, radius_px=radius, distinct=2 * IMAGES)
        yield from measure(data.job, options)


def measure(job: Job, options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure every kernel on the first images of a job."""
    inputs = problem(job, get_backend("cpu", options.threads))
    options.report(f"ceilings of one thread, window {inputs.shape.window}")
    inserted = half_plane(inputs.shape.box, (inputs.shape.box / 2 - 1,))
    machine = measure_one_thread(inputs.frame.samples, inserted)
    for threads in sorted({1, options.threads}):
        options.report(f"window {inputs.shape.window}, {threads} thread(s)")
        yield from _kernels(inputs, get_backend("cpu", threads), machine)


def problem(job: Job, backend: Backend) -> KernelInputs:
    """Prepare the first batch of half set 1, with the half map of the job as reference."""
    geometry, first = search_geometry(job.mask, job.spec), synthetic_start(job)
    outside = outside_density(first.half_maps, job.mask, job.spec, backend.threads)
    reference = make_reference(first, outside, 1, job.mask, job.spec, geometry, backend.threads)
    rows = reading_order(job.particles, 1)[:IMAGES]
    batch = subtract_outside_density(
        next(batches(job.particles, rows, backend)), reference.outside, job.particles, backend
    )
    centres, noise = job.particles.poses.select(batch.rows), first.noise[0]
    window_arguments = (
        batch.spectrum, batch.ctf, noise, job.particles.group[batch.rows], reference.variance,
        geometry.centre_in(centres), reference.frame.samples,
    )  # fmt: skip
    W, w = backend.kernels.whiten_windows(*window_arguments)
    return KernelInputs(reference.frame, window_arguments, W, w, centres, batch, geometry)


def _kernels(inputs: KernelInputs, backend: Backend, machine: Roofline) -> Iterator[Measurement]:
    """Measure every kernel with the threads of a backend."""
    frame, kernels, n = inputs.frame, backend.kernels, len(inputs.W)
    rotations, zero, lattice = inputs.centres.rotation, np.zeros((len(inputs.W), 5)), frame.lattice
    samples, coarse = frame.samples, frame.samples.ends[0]
    parameters = {"threads": backend.threads, "window": inputs.shape.window, "box": inputs.shape.box}

    def per_sample(name: str, count: int, cost: KernelCost, work: Callable[[], object], **more: float) -> Measurement:
        seconds = fastest_seconds(work) * backend.threads / count
        floor, bound = cost.floor(machine)
        known = {**parameters, **more, "flops": cost.flops, "bytes": cost.streamed}
        return Measurement("kernels", name, 1e9 * seconds, "ns/sample/core", known, 1e9 * floor, bound)

    full = len(samples.kx)
    yield per_sample(
        "slices", n * full, SLICES, lambda: kernels.project_slices(frame.volume, rotations, samples), samples=full
    )
    tried, shifts = len(lattice.rotations), len(lattice.shifts)
    yield per_sample(
        "score", n * coarse * tried, score_cost(shifts),
        lambda: kernels.search_lattice(
            frame.volume, inputs.W, inputs.w, samples, rotations, lattice.rotations, frame.lever, lattice.shifts,
            lattice.penalty_shift,
        ),
        samples=coarse, rotations=tried, shifts=shifts**2,
    )  # fmt: skip
    last = len(samples.ends) - 1
    yield per_sample(
        "evaluate", n * full, EVALUATE,
        lambda: kernels.evaluate_with_derivatives(
            frame.volume, inputs.W, inputs.w, samples, last, rotations, zero, frame.lever
        ),
        samples=full,
    )  # fmt: skip
    many = np.random.default_rng(0).normal(0, 0.01, (n, POSES, 5))
    yield per_sample(
        "values", n * full * POSES, VALUES,
        lambda: kernels.evaluate_likelihood(
            frame.volume, inputs.W, inputs.w, samples, last, rotations, many, frame.lever
        ),
        samples=full, poses=POSES,
    )  # fmt: skip
    yield _newton(inputs, backend, parameters)
    yield Measurement(
        "kernels",
        "window",
        n / fastest_seconds(lambda: kernels.whiten_windows(*inputs.window_arguments)),
        "particles/s",
        parameters,
    )
    yield _insert(inputs, backend, machine, parameters)


def _newton(inputs: KernelInputs, backend: Backend, parameters: Mapping[str, float]) -> Measurement:
    """Measure whole descents from the input poses; an evaluation is one pose of one image in one band."""
    frame, n = inputs.frame, len(inputs.W)
    starts, valid = np.zeros((n, 1, 5)), np.ones((n, 1), np.bool_)
    rotations, kernel = inputs.centres.rotation, backend.kernels.find_posterior_modes
    arguments = (frame.volume, inputs.W, inputs.w, frame.samples, rotations, starts, valid, frame.lever, frame.limits)
    steps = int(kernel(*arguments).steps.sum())
    seconds = fastest_seconds(lambda: kernel(*arguments))
    known = {**parameters, "evaluations_per_descent": round(steps / n, 2)}
    return Measurement("kernels", "newton", steps / seconds, "evaluations/s", known)


def _insert(inputs: KernelInputs, backend: Backend, machine: Roofline, parameters: Mapping[str, float]) -> Measurement:
    """Measure insertion of the whole box up to the Nyquist limit, as in a reconstruction."""
    limit, n = inputs.shape.box // 2, len(inputs.W)
    sums = np.zeros(fourier_volume_shape(limit), np.complex64), np.zeros(fourier_volume_shape(limit), np.float32)
    shifts, weight = np.zeros((n, 2)), inputs.batch.ctf**2
    rotations, data = inputs.centres.rotation, inputs.batch.ctf * inputs.batch.spectrum
    seconds = fastest_seconds(lambda: backend.kernels.backproject_images(*sums, rotations, shifts, data, weight, limit))
    samples = len(_disc(inputs.shape.box).kx)
    floor, bound = INSERT.floor(machine)
    known = {**parameters, "samples": samples, "flops": INSERT.flops, "bytes": INSERT.streamed}
    ceiling = backend.threads / (floor * samples)
    return Measurement("kernels", "insert", n / seconds, "particles/s", known, ceiling, bound)


def _disc(box: int) -> FourierSamples:
    """Return all samples of a box up to the Nyquist limit."""
    return half_plane(box, (float(box // 2),))
