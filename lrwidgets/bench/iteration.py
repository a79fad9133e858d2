"""A whole iteration at the reference setting: particles a second, stage by stage, from the run's own clock."""

import statistics
from collections.abc import Iterable, Iterator
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from lrcore.compute.backend import get_backend
from lrcore.records import IterationSummary, Progress, Step
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.start import start
from lrcore.simulation.benchmark_data import make_benchmark_data
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement

EXPECTATION = ("read", "window", "search")
FIXED = ("reference", "reconstruct", "fsc")
"""Stages whose time depends on the box and not on the number of particles."""


def run(options: BenchmarkOptions) -> Iterator[Measurement]:
    """The first iteration, where every particle runs the lattice, and a later one that goes on from it."""
    n = 1000 if options.quick else 4000
    options.report(f"simulating {n} particles")
    job = make_benchmark_data(options.folder, n, SETTING).job
    warm_up()
    backend = get_backend("cpu", options.threads)
    first = last_step(start(job, backend))
    begins = first
    for name in ("first iteration", "later iteration"):
        steps = []
        for turn in range(options.repeats):
            options.report(f"{name}, {turn + 1} of {options.repeats}")
            steps.append(last_step(run_iteration(job, first, begins, backend)))
        known = {
            **workload_parameters(job),
            "threads": backend.threads,
            "iteration": name,
            "median_of": options.repeats,
        }
        yield from rates(steps, n, known)
        begins = steps[0]


def rates(steps: list[Step], n: int, known: dict[str, Any]) -> Iterator[Measurement]:
    """Medians over the same iteration done several times."""
    lines = [step.history[-1] for step in steps]
    known = {
        **known,
        "particles": n,
        "align_resolution_A": round(lines[0].align_resolution_A, 3),
        "on_the_lattice_%": round(100 * lines[0].lattice_share, 1),
    }
    stages = {"expectation": EXPECTATION} | {name: (name,) for name in (*EXPECTATION, "noise", "insert")}
    for name, parts in stages.items():
        spent = statistics.median(seconds_in_stages(line, parts) for line in lines)
        yield Measurement("step", name, n / spent, "particles/s", known)
    for name in FIXED:
        yield Measurement("step", name, statistics.median(line.seconds[name] for line in lines), "s", known)
    whole = statistics.median(seconds_in_stages(line, line.seconds) for line in lines)
    yield Measurement("step", "whole iteration", n / whole, "particles/s", known)


def seconds_in_stages(line: IterationSummary, stages: Iterable[str]) -> float:
    """Seconds of some stages of an iteration."""
    return sum(line.seconds[name] for name in stages)


def workload_parameters(job: Job) -> dict[str, Any]:
    """What of a job decides how much work it is."""
    shape = search_geometry(job.mask, job.spec)
    return {
        "box": shape.box,
        "pixel_size_A": shape.pixel_size_A,
        "window": shape.window,
        "rotation_extent_deg": job.spec.rotation_limit_deg,
        "shift_extent_A": job.spec.shift_limit_A,
    }


@cache
def warm_up() -> None:
    """A small refinement, once in a process, so that no later time holds a compilation or the import of a module."""
    with TemporaryDirectory() as folder:
        job = make_benchmark_data(folder, 16, SETTING, box=48, pixel_size_A=3.0, radius_px=15.0).job
        backend = get_backend("cpu")
        first = last_step(start(job, backend))
        last_step(run_iteration(job, first, first, backend))


def last_step(events: Iterable[Progress | Step]) -> Step:
    """The last step that comes."""
    return [event for event in events if isinstance(event, Step)][-1]
