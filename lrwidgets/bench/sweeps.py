"""How cost grows: with particles, box, mask, threads and resolution; everything else stays at the reference setting."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from lrcore.backend import Backend, pick
from lrcore.clock import Clock
from lrcore.expect import expect, subtracted
from lrcore.images import batches, reading_order
from lrcore.records import Expectation
from lrcore.reference import geometry, prepare, surroundings
from lrcore.refine import Job, advance, start
from lrcore.workload import begun, workload
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measured import Measured, Options
from lrwidgets.bench.step import EXPECTATION, last_step, setting, spent_on, warm
from lrwidgets.params import edited

MEMORY_PER_VOXEL = 150
"""Bytes, about, that the padded transform of a map takes for each of its voxels."""


def particles(options: Options) -> Iterator[Measured]:
    """Time per particle of a whole first iteration, with the times that do not depend on their number and without."""
    counts = (500, 2000) if options.quick else (1000, 2000, 4000, 8000, 16000)
    options.tell(f"simulating {counts[-1]} particles")
    job = workload(options.folder, counts[-1], SETTING).job
    warm()
    backend = pick("cpu", options.threads)
    for n in counts:
        options.tell(f"{n} particles")
        fewer = replace(job, particles=job.particles.select(np.arange(n)))
        first = last_step(start(fewer, backend))
        line = last_step(advance(fewer, first, first, backend)).history[-1]
        known = {**setting(fewer), "threads": backend.threads, "particles": n}
        for name, stages in (("per particle", (*EXPECTATION, "noise", "insert")), ("whole iteration", line.seconds)):
            yield Measured("particles", name, 1e3 * spent_on(line, stages) / n, "ms/particle", known)


def box(options: Options) -> Iterator[Measured]:
    """The search follows the mask and not the box; reading and windowing follow the box."""
    boxes = (96, 128, 192) if options.quick else (96, 128, 192, 256, 384)
    backend = pick("cpu", options.threads)
    for size in boxes:
        if MEMORY_PER_VOXEL * size**3 > memory():
            options.tell(f"box {size} is left out: it would need {MEMORY_PER_VOXEL * size**3 / 2**30:.0f} GB of memory")
            continue
        n = 512 if options.quick or size > 192 else 1024
        options.tell(f"simulating {n} particles of box {size}")
        job = workload(options.folder / f"box{size}", n, SETTING, box=size, distinct=128).job
        yield from _of_expectation("box", job, backend, options)


def mask(options: Options) -> Iterator[Measured]:
    """The search with masks of several radii in one box."""
    backend = pick("cpu", options.threads)
    for radius in (20.0, 30.0) if options.quick else (15.0, 20.0, 30.0, 40.0):
        options.tell(f"mask of radius {radius:g} px")
        n = 512 if options.quick else 1024
        job = workload(options.folder / f"mask{radius:g}", n, SETTING, radius_px=radius, distinct=128).job
        yield from _of_expectation("mask", job, backend, options, mask_radius_px=radius)


def band(options: Options) -> Iterator[Measured]:
    """The search with information up to several resolutions."""
    backend = pick("cpu", options.threads)
    job = workload(options.folder, 512 if options.quick else 1024, SETTING, distinct=128).job
    for resolution in (4.0, 8.0) if options.quick else (3.2, 4.0, 6.0, 8.0, 12.0):
        options.tell(f"information to {resolution:g} Å")
        limits = {"max_align_resolution_A": resolution, "initial_lowpass_A": resolution}
        limited = replace(job, spec=edited(SETTING, limits))
        yield from _of_expectation("band", limited, backend, options, align_resolution_A=resolution)


def threads(options: Options) -> Iterator[Measured]:
    """Speed-up of a first iteration by more threads and as many cores, against one."""
    n = 500 if options.quick else 2000
    job = workload(options.folder, n, SETTING).job
    alone: dict[str, float] = {}
    for count in thread_counts(options.threads):
        options.tell(f"{count} thread(s)")
        warm()
        backend = pick("cpu", count)
        with on_cores(count):
            first = last_step(start(job, backend))
            line = last_step(advance(job, first, first, backend)).history[-1]
        parts = {"expectation": EXPECTATION, "search": ("search",), "insert": ("insert",), "whole": line.seconds}
        for name, stages in parts.items():
            spent = spent_on(line, stages)
            known = {**setting(job), "threads": count, "particles": n}
            known["speed_up"] = round(alone.setdefault(name, spent) / spent, 3)
            yield Measured("threads", name, n / spent, "particles/s", known)


@contextmanager
def on_cores(count: int) -> Iterator[None]:
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


def _of_expectation(
    name: str, job: Job, backend: Backend, options: Options, **more: Any
) -> Iterator[Measured]:  # fmt: skip
    """Each stage of the expectation of half set 1, in ms a particle: the quickest of some times."""
    count = int((job.particles.half == 1).sum())
    found = [spent for spent, _ in expectations(job, backend, options.repeats)]
    known = {**setting(job), "threads": backend.threads, "particles": count, **more}
    for stage in EXPECTATION:
        yield Measured(name, stage, 1e3 * min(spent[stage] for spent in found) / count, "ms/particle", known)


def expectations(
    job: Job, backend: Backend, repeats: int
) -> Iterator[tuple[dict[str, float], list[Expectation]]]:  # fmt: skip
    """Seconds by stage, and what was found: half set 1 of a first iteration, without any reconstruction.

    One more than `repeats` are done, since the first may compile.
    """
    shape, first = geometry(job.mask, job.spec), begun(job)
    around = surroundings(first.half_maps, job.mask, job.spec, backend.threads)
    reference = prepare(first, around, 1, job.mask, job.spec, shape, backend.threads)
    given = first.expectation, first.noise[0]
    rows, known = reading_order(job.particles, 1), np.zeros(len(job.particles), np.bool_)
    for turn in range(repeats + 1):
        clock, found = Clock(), []
        for batch in clock.over("read", batches(job.particles, rows, backend)):
            with clock("window"):
                rest = subtracted(batch, reference.outside, job.particles, backend)
            now, _ = expect(job.particles, job.spec, rest, known, reference, shape, *given, backend, clock)
            found.append(now)
        if turn:
            yield clock.seconds, found


def memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
