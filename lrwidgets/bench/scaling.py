"""How cost grows: with particles, box, mask, threads and resolution; everything else stays at the reference setting."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from lrcore.compute.backend import Backend, get_backend
from lrcore.compute.timing import StageTimer
from lrcore.particles.image_stream import batches, reading_order
from lrcore.records import Expectation
from lrcore.refinement.expectation import expectation_step, subtract_outside_density
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.reference import make_reference, outside_density
from lrcore.refinement.start import start
from lrcore.simulation.benchmark_data import make_benchmark_data, synthetic_start
from lrwidgets.bench.iteration import EXPECTATION, last_step, seconds_in_stages, warm_up, workload_parameters
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement
from lrwidgets.text.parameters import edit_spec

MEMORY_PER_VOXEL = 150
"""Bytes, about, that the padded transform of a map takes for each of its voxels."""


def particles(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Time per particle of a whole first iteration, with the times that do not depend on their number and without."""
    counts = (500, 2000) if options.quick else (1000, 2000, 4000, 8000, 16000)
    options.report(f"simulating {counts[-1]} particles")
    job = make_benchmark_data(options.folder, counts[-1], SETTING).job
    warm_up()
    backend = get_backend("cpu", options.threads)
    for n in counts:
        options.report(f"{n} particles")
        fewer = replace(job, particles=job.particles.select(np.arange(n)))
        first = last_step(start(fewer, backend))
        line = last_step(run_iteration(fewer, first, first, backend)).history[-1]
        known = {**workload_parameters(fewer), "threads": backend.threads, "particles": n}
        for name, stages in (("per particle", (*EXPECTATION, "noise", "insert")), ("whole iteration", line.seconds)):
            yield Measurement("particles", name, 1e3 * seconds_in_stages(line, stages) / n, "ms/particle", known)


def box(options: BenchmarkOptions) -> Iterator[Measurement]:
    """The search follows the mask and not the box; reading and windowing follow the box."""
    boxes = (96, 128, 192) if options.quick else (96, 128, 192, 256, 384)
    backend = get_backend("cpu", options.threads)
    for size in boxes:
        if MEMORY_PER_VOXEL * size**3 > total_memory_bytes():
            options.report(
                f"box {size} is left out: it would need {MEMORY_PER_VOXEL * size**3 / 2**30:.0f} GB of memory"
            )
            continue
        n = 512 if options.quick or size > 192 else 1024
        options.report(f"simulating {n} particles of box {size}")
        job = make_benchmark_data(options.folder / f"box{size}", n, SETTING, box=size, distinct=128).job
        yield from _measure_expectation("box", job, backend, options)


def mask(options: BenchmarkOptions) -> Iterator[Measurement]:
    """The search with masks of several radii in one box."""
    backend = get_backend("cpu", options.threads)
    for radius in (20.0, 30.0) if options.quick else (15.0, 20.0, 30.0, 40.0):
        options.report(f"mask of radius {radius:g} px")
        n = 512 if options.quick else 1024
        job = make_benchmark_data(options.folder / f"mask{radius:g}", n, SETTING, radius_px=radius, distinct=128).job
        yield from _measure_expectation("mask", job, backend, options, mask_radius_px=radius)


def band(options: BenchmarkOptions) -> Iterator[Measurement]:
    """The search with information up to several resolutions."""
    backend = get_backend("cpu", options.threads)
    job = make_benchmark_data(options.folder, 512 if options.quick else 1024, SETTING, distinct=128).job
    for resolution in (4.0, 8.0) if options.quick else (3.2, 4.0, 6.0, 8.0, 12.0):
        options.report(f"information to {resolution:g} Å")
        limits = {"max_align_resolution_A": resolution, "initial_lowpass_A": resolution}
        limited = replace(job, spec=edit_spec(SETTING, limits))
        yield from _measure_expectation("band", limited, backend, options, align_resolution_A=resolution)


def threads(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Speed-up of a first iteration by more threads and as many cores, against one."""
    n = 500 if options.quick else 2000
    job = make_benchmark_data(options.folder, n, SETTING).job
    alone: dict[str, float] = {}
    for count in thread_counts(options.threads):
        options.report(f"{count} thread(s)")
        warm_up()
        backend = get_backend("cpu", count)
        with limit_cores(count):
            first = last_step(start(job, backend))
            line = last_step(run_iteration(job, first, first, backend)).history[-1]
        parts = {"expectation": EXPECTATION, "search": ("search",), "insert": ("insert",), "whole": line.seconds}
        for name, stages in parts.items():
            spent = seconds_in_stages(line, stages)
            known = {**workload_parameters(job), "threads": count, "particles": n}
            known["speed_up"] = round(alone.setdefault(name, spent) / spent, 3)
            yield Measurement("threads", name, n / spent, "particles/s", known)


@contextmanager
def limit_cores(count: int) -> Iterator[None]:
    """No more than `count` cores, where the system can say so: reading ahead would use a second one for one thread."""
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
    """1, 2, 4 … and the largest."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})


def _measure_expectation(
    name: str, job: Job, backend: Backend, options: BenchmarkOptions, **more: Any
) -> Iterator[Measurement]:  # fmt: skip
    """Each stage of the expectation of half set 1, in ms a particle: the quickest of some times."""
    count = int((job.particles.half == 1).sum())
    found = [spent for spent, _ in time_expectation(job, backend, options.repeats)]
    known = {**workload_parameters(job), "threads": backend.threads, "particles": count, **more}
    for stage in EXPECTATION:
        yield Measurement(name, stage, 1e3 * min(spent[stage] for spent in found) / count, "ms/particle", known)


def time_expectation(
    job: Job, backend: Backend, repeats: int
) -> Iterator[tuple[dict[str, float], list[Expectation]]]:  # fmt: skip
    """Seconds by stage, and what was found: half set 1 of a first iteration, without any reconstruction.

    One more than `repeats` are done, since the first may compile.
    """
    shape, first = search_geometry(job.mask, job.spec), synthetic_start(job)
    around = outside_density(first.half_maps, job.mask, job.spec, backend.threads)
    reference = make_reference(first, around, 1, job.mask, job.spec, shape, backend.threads)
    given = first.expectation, first.noise[0]
    rows, known = reading_order(job.particles, 1), np.zeros(len(job.particles), np.bool_)
    for turn in range(repeats + 1):
        clock, found = StageTimer(), []
        for batch in clock.time_items("read", batches(job.particles, rows, backend)):
            with clock("window"):
                rest = subtract_outside_density(batch, reference.outside, job.particles, backend)
            now, _ = expectation_step(job.particles, job.spec, rest, known, reference, shape, *given, backend, clock)
            found.append(now)
        if turn:
            yield clock.seconds, found


def total_memory_bytes() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
