"""Benchmark how the cost grows with particles, box, mask, threads and resolution, from the reference setting."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from lrcore.compute.backend import Backend, get_backend
from lrcore.records import Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.start import start
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from lrwidgets.bench.iteration import (
    EXPECTATION,
    last_step,
    seconds_in_stages,
    simulated_job,
    warm_up,
    workload_parameters,
)
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement
from lrwidgets.text.parameters import edit_spec

MEMORY_PER_VOXEL = 150
"""Approximate bytes per voxel of a map that its padded transform takes."""


def particles(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the time per particle of a first iteration, with and without the stages of fixed cost."""
    counts = (500, 2000) if options.quick else (1000, 2000, 4000, 8000, 16000)
    job, backend = simulated_job(options, counts[-1])
    for n in counts:
        options.report(f"{n} particles")
        fewer = replace(job, particles=job.particles.select(np.arange(n)))
        first = last_step(start(fewer, backend))
        summary = last_step(run_iteration(fewer, first, first, backend)).history[-1]
        parameters = {**workload_parameters(fewer), "threads": backend.threads, "particles": n}
        per_particle = (*EXPECTATION, "noise", "insert")
        for name, stages in (("per particle", per_particle), ("whole iteration", summary.seconds)):
            milliseconds = 1e3 * seconds_in_stages(summary, stages) / n
            yield Measurement("particles", name, milliseconds, "ms/particle", parameters)


def box(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the expectation in several boxes: reading and windowing depend on the box, the search on the mask."""
    boxes = (96, 128, 192) if options.quick else (96, 128, 192, 256, 384)
    backend = get_backend("cpu", options.threads)
    for size in boxes:
        if MEMORY_PER_VOXEL * size**3 > total_memory_bytes():
            options.report(f"box {size} is skipped: it needs {MEMORY_PER_VOXEL * size**3 / 2**30:.0f} GB of memory")
            continue
        n = 512 if options.quick or size > 192 else 1024
        options.report(f"simulating {n} particles of box {size}")
        job = make_benchmark_data(options.folder / f"box{size}", n, SETTING, box=size, distinct=128).job
        yield from _measure_expectation("box", job, backend, options)


def mask(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the expectation with masks of several radii in one box."""
    backend = get_backend("cpu", options.threads)
    for radius in (20.0, 30.0) if options.quick else (15.0, 20.0, 30.0, 40.0):
        options.report(f"mask of radius {radius:g} px")
        n = 512 if options.quick else 1024
        job = make_benchmark_data(options.folder / f"mask{radius:g}", n, SETTING, radius_px=radius, distinct=128).job
        yield from _measure_expectation("mask", job, backend, options, mask_radius_px=radius)


def band(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the expectation with several resolution limits."""
    backend = get_backend("cpu", options.threads)
    job = make_benchmark_data(options.folder, 512 if options.quick else 1024, SETTING, distinct=128).job
    for resolution in (4.0, 8.0) if options.quick else (3.2, 4.0, 6.0, 8.0, 12.0):
        options.report(f"information to {resolution:g} Å")
        limits = {"max_align_resolution_A": resolution, "initial_lowpass_A": resolution}
        limited = replace(job, spec=edit_spec(SETTING, limits))
        yield from _measure_expectation("band", limited, backend, options, align_resolution_A=resolution)


def threads(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the speed-up of a first iteration with several numbers of threads, and as many cores."""
    n = 500 if options.quick else 2000
    job = make_benchmark_data(options.folder, n, SETTING).job
    with_one: dict[str, float] = {}
    for count in thread_counts(options.threads):
        options.report(f"{count} thread(s)")
        warm_up()
        backend = get_backend("cpu", count)
        with limit_cores(count):
            first = last_step(start(job, backend))
            summary = last_step(run_iteration(job, first, first, backend)).history[-1]
        parts = {"expectation": EXPECTATION, "search": ("search",), "insert": ("insert",), "whole": summary.seconds}
        for name, stages in parts.items():
            seconds = seconds_in_stages(summary, stages)
            parameters = {**workload_parameters(job), "threads": count, "particles": n}
            parameters["speed_up"] = round(with_one.setdefault(name, seconds) / seconds, 3)
            yield Measurement("threads", name, n / seconds, "particles/s", parameters)


@contextmanager
def limit_cores(count: int) -> Iterator[None]:
    """Limit this process to `count` cores, if the system can: reading ahead would use a second core for one thread."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def thread_counts(most: int) -> list[int]:
    """Return 1, 2, 4, … and the largest number."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})


def _measure_expectation(
    name: str, job: Job, backend: Backend, options: BenchmarkOptions, **more: Any
) -> Iterator[Measurement]:  # fmt: skip
    """Measure each stage of the expectation of a first iteration in ms per particle: the fastest of some runs."""
    count = len(job.particles)
    runs = [step.history[-1].seconds for step in first_iterations(job, backend, options.repeats)]
    parameters = {**workload_parameters(job), "threads": backend.threads, "particles": count, **more}
    for stage in EXPECTATION:
        milliseconds = 1e3 * min(seconds[stage] for seconds in runs) / count
        yield Measurement(name, stage, milliseconds, "ms/particle", parameters)


def first_iterations(job: Job, backend: Backend, repeats: int) -> Iterator[Step]:
    """Run a first iteration several times, each with images that are read and cut anew.

    Parameters
    ----------
    job : inputs of the refinement
    backend : backend that computes
    repeats : number of runs; one more is run first, which may compile

    Yields
    ------
    Step
        The step of each run.
    """
    first = synthetic_start(job)
    for turn in range(repeats + 1):
        step = last_step(run_iteration(job, first, first, backend))
        if turn:
            yield step


def total_memory_bytes() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
