"""Benchmark whole iterations at the reference setting: particles per second of each stage, from its own timer."""

import statistics
from collections.abc import Iterable, Iterator
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from lrcore.compute.backend import Backend, get_backend
from lrcore.records import IterationSummary, Progress, Step
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.start import start
from lrcore.simulation.benchmark_data import make_benchmark_data
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement

EXPECTATION = ("read", "window", "search")
"""Stages of the expectation step."""
FIXED = ("reference", "reconstruct", "fsc")
"""Stages whose time depends on the box and not on the number of particles."""


def run(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the first iteration, in which all particles use the lattice search, and the iteration after it."""
    n = 1000 if options.quick else 4000
    job, backend = simulated_job(options, n)
    first = last_step(start(job, backend))
    last = first
    for name in ("first iteration", "later iteration"):
        steps = []
        for turn in range(options.repeats):
            options.report(f"{name}, {turn + 1} of {options.repeats}")
            steps.append(last_step(run_iteration(job, first, last, backend)))
        parameters = {
            **workload_parameters(job),
            "threads": backend.threads,
            "iteration": name,
            "median_of": options.repeats,
        }
        yield from rates(steps, n, parameters)
        last = steps[0]


def rates(steps: list[Step], n: int, parameters: dict[str, Any]) -> Iterator[Measurement]:
    """Yield the medians over repetitions of one iteration of n particles: rates of stages, and fixed times."""
    summaries = [step.history[-1] for step in steps]
    parameters = {
        **parameters,
        "particles": n,
        "align_resolution_A": round(summaries[0].align_resolution_A, 3),
        "on_the_lattice_%": round(100 * summaries[0].lattice_share, 1),
    }
    stages = {"expectation": EXPECTATION} | {name: (name,) for name in (*EXPECTATION, "noise", "insert")}
    for name, parts in stages.items():
        seconds = statistics.median(seconds_in_stages(summary, parts) for summary in summaries)
        yield Measurement("step", name, n / seconds, "particles/s", parameters)
    for name in FIXED:
        seconds = statistics.median(summary.seconds[name] for summary in summaries)
        yield Measurement("step", name, seconds, "s", parameters)
    whole = statistics.median(seconds_in_stages(summary, summary.seconds) for summary in summaries)
    yield Measurement("step", "whole iteration", n / whole, "particles/s", parameters)


def simulated_job(options: BenchmarkOptions, n: int, more: str = "") -> tuple[Job, Backend]:
    """Simulate n particles at the reference setting, saying so and what `more` is done, and warm up a backend."""
    options.report(f"simulating {n} particles{more}")
    job = make_benchmark_data(options.folder, n, SETTING).job
    warm_up()
    return job, get_backend("cpu", options.threads)


def seconds_in_stages(summary: IterationSummary, stages: Iterable[str]) -> float:
    """Return the seconds that an iteration spent in some stages."""
    return sum(summary.seconds.get(name, 0.0) for name in stages)


def workload_parameters(job: Job) -> dict[str, Any]:
    """Return the parameters of a job that determine its amount of work."""
    geometry = search_geometry(job.mask, job.spec)
    return {
        "box": geometry.box,
        "pixel_size_A": geometry.pixel_size_A,
        "window": geometry.window,
        "rotation_extent_deg": job.spec.rotation_limit_deg,
        "shift_extent_A": job.spec.shift_limit_A,
    }


@cache
def warm_up() -> None:
    """Run a small refinement once per process, so that later times include no compilation and no imports."""
    with TemporaryDirectory() as folder:
        job = make_benchmark_data(folder, 16, SETTING, box=48, pixel_size_A=3.0, radius_px=15.0).job
        backend = get_backend("cpu")
        first = last_step(start(job, backend))
        last_step(run_iteration(job, first, first, backend))


def last_step(events: Iterable[Progress | Step]) -> Step:
    """Return the last step among the events."""
    return [event for event in events if isinstance(event, Step)][-1]
