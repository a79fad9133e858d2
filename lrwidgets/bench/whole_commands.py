"""Benchmark whole commands in new processes: peak memory, and the time until results appear."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

from lrcore.errors import InputError
from lrcore.simulation.benchmark_data import make_benchmark_data
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, BenchmarkSkipped, Measurement
from lrwidgets.bench.subprocesses import CompletedCommand, run_lrwidgets

PARAMETERS = ("rotation_extent_deg", "shift_extent_A", "max_align_resolution_A", "initial_lowpass_A")


def measure_peak_memory(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure the peak resident memory of a refinement of one iteration, box 192, float16 images."""
    counts = (200, 1000) if options.quick else (1000, 20000)
    box = 96 if options.quick else 192
    needed = counts[-1] * box**2 * 2 + 40 * box**3
    free = shutil.disk_usage(options.folder).free
    if free < 1.2 * needed:
        raise BenchmarkSkipped(
            f"{options.folder} has {free / 1e9:.1f} GB of free space, {1.2 * needed / 1e9:.1f} GB needed: set TMPDIR"
        )
    _compile(options)
    for n in counts:
        options.report(f"simulating {n} particles of box {box}")
        folder = options.folder / f"{n}"
        data = make_benchmark_data(folder, n, SETTING, box=box, float16=True)
        options.report(f"refining {n} particles of box {box}")
        done = _refine_once(data.arguments, folder / "run.zarr", options)
        shutil.rmtree(folder)
        parameters = {"particles": n, "box": box, "threads": options.threads, "iterations": 1}
        yield Measurement("memory", "peak resident memory", done.peak_MB, "MB", parameters)
        yield Measurement("memory", "wall time", done.seconds, "s", parameters)


def startup(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure when `lrwidgets refine --subset 2000`, box 128, prints its lines, with compiled kernels."""
    n, subset = (600, 200) if options.quick else (4000, 2000)
    options.report(f"simulating {n} particles")
    data = make_benchmark_data(options.folder / "data", n, SETTING)
    _compile(options)
    runs = []
    for turn in range(options.repeats):
        options.report(f"{turn + 1} of {options.repeats}")
        out = options.folder / f"run{turn}.zarr"
        runs.append(_refine_once(data.arguments, out, options, "--subset", str(subset)))
    parameters = {
        "particles": n,
        "subset": subset,
        "box": 128,
        "threads": options.threads,
        "median_of": options.repeats,
    }
    times = {
        "until the first iteration begins": [run.when(event="iteration", iteration=0) for run in runs],
        "until the first iteration is done": [run.when(event="iteration", iteration=1) for run in runs],
        "whole command": [run.seconds for run in runs],
    }
    for name, values in times.items():
        yield Measurement("startup", name, statistics.median(values), "s", parameters)


def _compile(options: BenchmarkOptions) -> None:
    """Run a small refinement, so that the kernels are compiled, which takes time and memory."""
    options.report("a small refinement first, which may compile")
    data = make_benchmark_data(options.folder / "compiles", 64, SETTING, box=96)
    _refine_once(data.arguments, options.folder / "compiles.zarr", options)


def _refine_once(inputs: list[str], out: Path, options: BenchmarkOptions, *more: str) -> CompletedCommand:
    """Run one iteration at the reference setting with `lrwidgets refine`."""
    settings = [f"{name}={getattr(SETTING, name)}" for name in PARAMETERS]
    set_options = [word for text in settings for word in ("--set", text)]
    done = run_lrwidgets(
        "refine",
        *inputs,
        "--out",
        str(out),
        "--iterations",
        "1",
        "--threads",
        str(options.threads),
        *set_options,
        *more,
    )
    if not done.lines:
        raise InputError("lrwidgets refine printed nothing")
    return done
