"""Benchmark an iteration that is distributed over processes, and iterations of very many particles."""

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
    """Compare a first iteration in this process with one in as many processes of one thread as it has threads."""
    n, box = (2000 if options.quick else 10000), 64
    options.report(f"simulating {n} particles of box {box}")
    job = make_benchmark_data(options.folder, n, SMALL, box=box, pixel_size_A=3.0, radius_px=15.0).job
    warm_up()
    first, backend, ratios = synthetic_start(job), get_backend("cpu", options.threads), []
    with LocalWorkers(options.threads, "cpu", 1) as workers:
        distributed = replace(backend, workers=workers)
        last_step(run_iteration(job, first, first, distributed))
        parameters = {"particles": n, "box": box, "median_of": options.repeats, "threads": options.threads}
        times: dict[str, list[float]] = {"one process": [], "workers": []}
        for turn in range(options.repeats):
            options.report(f"{turn + 1} of {options.repeats}")
            for name, used in (("one process", backend), ("workers", distributed)):
                began = time.perf_counter()
                last_step(run_iteration(job, first, first, used))
                times[name].append(time.perf_counter() - began)
            ratios.append(times["workers"][-1] / times["one process"][-1])
    for name, seconds in times.items():
        yield Measurement("workers", name, statistics.median(seconds), "s", parameters)
    overhead = 100 * (statistics.median(ratios) - 1)
    yield Measurement("workers", "more time with workers", overhead, "%", parameters)


def measure_many_particles(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure time per particle and peak memory of first iterations, each in a new process, with repeated images."""
    counts = (2000, 10000) if options.quick else (10000, 200000)
    box = 32
    job = job_with_repeated_images(options.folder, counts[-1], box)
    context = multiprocessing.get_context("spawn")
    for n in counts:
        options.report(f"{n} particles of box {box}")
        fewer = replace(job, particles=job.particles.select(np.arange(n)))
        with ProcessPoolExecutor(1, context) as executor:
            seconds, peak_MB = executor.submit(time_first_iteration, fewer, options.threads).result()
        parameters = {"particles": n, "box": box, "threads": options.threads}
        yield Measurement("many", "whole iteration", 1e3 * seconds / n, "ms/particle", parameters)
        yield Measurement("many", "peak resident memory", peak_MB, "MB", parameters)


def job_with_repeated_images(folder: Path, n: int, box: int, distinct: int = 512) -> Job:
    """Return a job of n particles that share `distinct` images, each of which is in one half set only."""
    job = make_benchmark_data(folder, distinct, SMALL, box=box, pixel_size_A=192.0 / box, radius_px=box / 4.2).job
    images = job.particles
    rows = np.arange(n) % distinct
    particles: Particles = replace(images.select(rows), uid=np.arange(1, n + 1, dtype=np.uint64))
    return replace(job, particles=particles)


def time_first_iteration(job: Job, threads: int) -> tuple[float, float]:
    """Return the seconds of a first iteration, after a small one, and the peak memory of this process in MB."""
    warm_up()
    first, backend = synthetic_start(job), get_backend("cpu", threads)
    began = time.perf_counter()
    last_step(run_iteration(job, first, first, backend))
    return time.perf_counter() - began, peak_memory_MB()
