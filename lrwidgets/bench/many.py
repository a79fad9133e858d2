"""An iteration shared out to processes, and one of very many particles: time and memory against the plain one."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from lrcore.backend import pick
from lrcore.clock import peak_memory_MB
from lrcore.execute import LocalCrew
from lrcore.records import Particles
from lrcore.refine import Job, advance
from lrcore.workload import begun, workload
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measured import Measured, Options
from lrwidgets.bench.step import last_step, warm
from lrwidgets.params import edited

SMALL = edited(SETTING, {"max_align_resolution_A": 8.0, "initial_lowpass_A": 8.0})
"""The reference setting for a small box: the same mask in Å, information to 8 Å."""


def workers(options: Options) -> Iterator[Measured]:
    """A first iteration in this process and by as many processes of one thread as it has threads, in turn."""
    n, box = (2000 if options.quick else 10000), 64
    options.tell(f"simulating {n} particles of box {box}")
    job = workload(options.folder, n, SMALL, box=box, pixel_size_A=3.0, radius_px=15.0).job
    warm()
    first, backend, ratios = begun(job), pick("cpu", options.threads), []
    with LocalCrew(options.threads, "cpu", 1) as crew:
        shared = replace(backend, crew=crew)
        last_step(advance(job, first, first, shared))
        known = {"particles": n, "box": box, "median_of": options.repeats}
        times: dict[str, list[float]] = {"one process": [], "workers": []}
        for turn in range(options.repeats):
            options.tell(f"{turn + 1} of {options.repeats}")
            for name, one in (("one process", backend), ("workers", shared)):
                began = time.perf_counter()
                last_step(advance(job, first, first, one))
                times[name].append(time.perf_counter() - began)
            ratios.append(times["workers"][-1] / times["one process"][-1])
    for name, found in times.items():
        yield Measured("workers", name, statistics.median(found), "s", {**known, "threads": options.threads})
    overhead = 100 * (statistics.median(ratios) - 1)
    yield Measured("workers", "more time with workers", overhead, "%", {**known, "threads": options.threads})


def many(options: Options) -> Iterator[Measured]:
    """Time per particle and peak of memory of a first iteration, each in a process of its own; images are repeated."""
    counts = (2000, 10000) if options.quick else (10000, 200000)
    box = 32
    job = repeated(options.folder, counts[-1], box)
    context = multiprocessing.get_context("spawn")
    for n in counts:
        options.tell(f"{n} particles of box {box}")
        fewer = replace(job, particles=job.particles.select(np.arange(n)))
        with ProcessPoolExecutor(1, context) as executor:
            spent, peak_MB = executor.submit(iteration, fewer, options.threads).result()
        known = {"particles": n, "box": box, "threads": options.threads}
        yield Measured("many", "whole iteration", 1e3 * spent / n, "ms/particle", known)
        yield Measured("many", "peak resident memory", peak_MB, "MB", known)


def repeated(folder: Path, n: int, box: int, distinct: int = 512) -> Job:
    """So many particles that show `distinct` images, each of them in one half set only."""
    job = workload(folder, distinct, SMALL, box=box, pixel_size_A=192.0 / box, radius_px=box / 4.2).job
    some = job.particles
    rows = np.arange(n) % distinct
    particles: Particles = replace(some.select(rows), uid=np.arange(1, n + 1, dtype=np.uint64))
    return replace(job, particles=particles)


def iteration(job: Job, threads: int) -> tuple[float, float]:
    """Seconds of a first iteration after a small one, and the peak of this process's memory."""
    warm()
    first, backend = begun(job), pick("cpu", threads)
    began = time.perf_counter()
    last_step(advance(job, first, first, backend))
    return time.perf_counter() - began, peak_memory_MB()
