"""Benchmark start and iterations in boxes of real data, each in a new process: time and memory."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from lrcore.compute.backend import Backend, get_backend
from lrcore.compute.timing import peak_memory_MB
from lrcore.records import Step
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.start import start
from lrcore.refinement.window_cache import WindowCache
from lrcore.simulation.benchmark_data import make_benchmark_data
from lrwidgets.bench.iteration import last_step, warm_up
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement

REAL = ((128, 30.0), (256, 45.0), (384, 60.0), (512, 80.0))
"""Box and radius of the mask, pixels."""
SAME_MASK = ((128, 30.0), (256, 30.0), (384, 30.0))
"""The same mask in several boxes."""
FEW, MANY = 64, 320
"""Particles of the iterations from which the cost is extrapolated to none."""


@dataclass(frozen=True)
class BoxCost:
    """Cost of a refinement in one box.

    Attributes
    ----------
    start_s : start, seconds
    start_cpu_s : CPU time of the start, of all threads, seconds
    first_s : first iterations with FEW and with MANY particles, seconds
    later_s : later iterations, likewise, medians
    cache_bytes : of the windows of a particle
    peak_MB : peak memory of the process
    """

    start_s: float
    start_cpu_s: float
    first_s: tuple[float, float]
    later_s: tuple[float, float]
    cache_bytes: float
    peak_MB: float


def measure_boxes(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure boxes and masks of real data, and the same mask in several boxes."""
    context = multiprocessing.get_context("spawn")
    sizes = REAL[:2] if options.quick else (*REAL, *SAME_MASK[1:])
    for box, radius in sizes:
        options.report(f"simulating {MANY} particles of box {box}, mask of radius {radius:g} px")
        folder = options.folder / f"{box}-{radius:g}"
        job = make_benchmark_data(folder, MANY, SETTING, box=box, radius_px=radius, distinct=64).job
        options.report(f"box {box}, mask of radius {radius:g} px")
        with ProcessPoolExecutor(1, context) as executor:
            cost = executor.submit(measure_box, job, options.threads, options.repeats).result()
        parameters = {
            "box": box,
            "mask_radius_px": radius,
            "window": search_geometry(job.mask, job.spec).window,
            "particles": MANY,
            "threads": options.threads,
            "median_of": options.repeats,
        }
        for name, value, unit in _numbers(cost):
            yield Measurement("boxes", name, value, unit, parameters)


def _numbers(cost: BoxCost) -> Iterator[tuple[str, float, str]]:
    """Yield name, value and unit of what is reported of a box."""
    yield "start", cost.start_s, "s"
    yield "start, CPU time", cost.start_cpu_s, "s"
    for name, (few, many) in (("first iteration", cost.first_s), ("later iteration", cost.later_s)):
        each = (many - few) / (MANY - FEW)
        yield f"{name}, fixed", few - FEW * each, "s"
        yield f"{name}, per particle", 1e3 * each, "ms"
    yield "windows kept", cost.cache_bytes / 1e3, "kB/particle"
    yield "peak memory", cost.peak_MB, "MB"


def measure_box(job: Job, threads: int, repeats: int) -> BoxCost:
    """Run the start and iterations of a job; for a process of its own."""
    warm_up()
    backend = get_backend("cpu", threads)
    began, cpu_began = time.perf_counter(), time.process_time()
    first = last_step(start(job, backend))
    start_s, start_cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    times = []
    for n in (FEW, MANY):
        rows = np.arange(n)
        fewer = replace(job, particles=job.particles.select(rows))
        begun = replace(first, expectation=first.expectation.select(rows))
        cache = WindowCache()
        times.append(_time_iterations(fewer, begun, replace(backend, windows=cache), repeats))
    kept = cache.bytes / MANY
    (first_few, later_few), (first_many, later_many) = times
    return BoxCost(start_s, start_cpu_s, (first_few, first_many), (later_few, later_many), kept, peak_memory_MB())


def _time_iterations(job: Job, first: Step, backend: Backend, repeats: int) -> tuple[float, float]:
    """Return the seconds of the first iteration, and the median of the later ones."""
    seconds, last = [], first
    for _ in range(repeats + 1):
        began = time.perf_counter()
        last = last_step(run_iteration(job, first, last, backend))
        seconds.append(time.perf_counter() - began)
    return seconds[0], statistics.median(seconds[1:])
