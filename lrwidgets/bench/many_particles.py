"""An iteration shared out to processes, and one of very many particles: time and memory against the plain one."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from lrcore.compute.backend import get_backend
from lrcore.compute.timing import peak_memory_MB
from lrcore.compute.workers import LocalWorkers
from lrcore.records import Particles
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from lrwidgets.bench.iteration import last_step, warm_up
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement
from lrwidgets.text.parameters import edit_spec

SMALL = edit_spec(SETTING, {"max_align_resolution_A": 8.0, "initial_lowpass_A": 8.0})
"""The reference setting for a small box: the same mask in Å, information to 8 Å."""


def measure_workers(options: BenchmarkOptions) -> Iterator[Measurement]:
    """A first iteration in this process and by as many processes of one thread as it has threads, in turn."""
    n, box = (2000 if options.quick else 10000), 64
    options.report(f"simulating {n} particles of box {box}")
    job = make_benchmark_data(options.folder, n, SMALL, box=box, pixel_size_A=3.0, radius_px=15.0).job
    warm_up()
    first, backend, ratios = synthetic_start(job), get_backend("cpu", options.threads), []
    with LocalWorkers(options.threads, "cpu", 1) as crew:
        shared = replace(backend, workers=crew)
        last_step(run_iteration(job, first, first, shared))
        known = {"particles": n, "box": box, "median_of": options.repeats}
        times: dict[str, list[float]] = {"one process": [], "workers": []}
        for turn in range(options.repeats):
            options.report(f"{turn + 1} of {options.repeats}")
            for name, one in (("one process", backend), ("workers", shared)):
                began = time.perf_counter()
                last_step(run_iteration(job, first, first, one))
                times[name].append(time.perf_counter() - began)
            ratios.append(times["workers"][-1] / times["one process"][-1])
    for name, found in times.items():
        yield Measurement("workers", name, statistics.median(found), "s", {**known, "threads": options.threads})
    overhead = 100 * (statistics.median(ratios) - 1)
    yield Measurement("workers", "more time with workers", overhead, "%", {**known, "threads": options.threads})


def measure_many_particles(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Time per particle and peak of memory of a first iteration, each in a process of its own; images are repeated."""
    counts = (2000, 10000) if options.quick else (10000, 200000)
    box = 32
    job = job_with_repeated_images(options.folder, counts[-1], box)
    context = multiprocessing.get_context("spawn")
    for n in counts:
        options.report(f"{n} particles of box {box}")
        fewer = replace(job, particles=job.particles.select(np.arange(n)))
        with ProcessPoolExecutor(1, context) as executor:
            spent, peak_MB = executor.submit(time_first_iteration, fewer, options.threads).result()
        known = {"particles": n, "box": box, "threads": options.threads}
        yield Measurement("many", "whole iteration", 1e3 * spent / n, "ms/particle", known)
        yield Measurement("many", "peak resident memory", peak_MB, "MB", known)


def job_with_repeated_images(folder: Path, n: int, box: int, distinct: int = 512) -> Job:
    """So many particles that show `distinct` images, each of them in one half set only."""
    job = make_benchmark_data(folder, distinct, SMALL, box=box, pixel_size_A=192.0 / box, radius_px=box / 4.2).job
    some = job.particles
    rows = np.arange(n) % distinct
    particles: Particles = replace(some.select(rows), uid=np.arange(1, n + 1, dtype=np.uint64))
    return replace(job, particles=particles)


def time_first_iteration(job: Job, threads: int) -> tuple[float, float]:
    """Seconds of a first iteration after a small one, and the peak of this process's memory."""
    warm_up()
    first, backend = synthetic_start(job), get_backend("cpu", threads)
    began = time.perf_counter()
    last_step(run_iteration(job, first, first, backend))
    return time.perf_counter() - began, peak_memory_MB()
