"""Whole commands in fresh processes: peak of memory, and how long a person waits."""

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
    """Peak of resident memory of a refinement of one iteration, box 192, float16 images."""
    counts = (200, 1000) if options.quick else (1000, 20000)
    box = 96 if options.quick else 192
    needed = counts[-1] * box**2 * 2 + 40 * box**3
    free = shutil.disk_usage(options.folder).free
    if free < 1.2 * needed:
        raise BenchmarkSkipped(
            f"{options.folder} has {free / 1e9:.1f} GB left of {1.2 * needed / 1e9:.1f} needed (see TMPDIR)"
        )
    _compile(options)
    for n in counts:
        options.report(f"simulating {n} particles of box {box}")
        folder = options.folder / f"{n}"
        made = make_benchmark_data(folder, n, SETTING, box=box, float16=True)
        options.report(f"refining {n} particles of box {box}")
        done = _refined(made.arguments, folder / "run.zarr", options)
        shutil.rmtree(folder)
        known = {"particles": n, "box": box, "threads": options.threads, "iterations": 1}
        yield Measurement("memory", "peak resident memory", done.peak_MB, "MB", known)
        yield Measurement("memory", "wall time", done.seconds, "s", known)


def startup(options: BenchmarkOptions) -> Iterator[Measurement]:
    """`lrwidgets refine --subset 2000`, box 128, one iteration: the wait for its lines, the kernels compiled before."""
    n, subset = (600, 200) if options.quick else (4000, 2000)
    options.report(f"simulating {n} particles")
    made = make_benchmark_data(options.folder / "data", n, SETTING)
    _compile(options)
    found = []
    for turn in range(options.repeats):
        options.report(f"{turn + 1} of {options.repeats}")
        out = options.folder / f"run{turn}.zarr"
        found.append(_refined(made.arguments, out, options, "--subset", str(subset)))
    known = {"particles": n, "subset": subset, "box": 128, "threads": options.threads, "median_of": options.repeats}
    times = {
        "until the first iteration begins": [one.when(event="iteration", iteration=0) for one in found],
        "until the first iteration is done": [one.when(event="iteration", iteration=1) for one in found],
        "whole command": [one.seconds for one in found],
    }
    for name, values in times.items():
        yield Measurement("startup", name, statistics.median(values), "s", known)


def _compile(options: BenchmarkOptions) -> None:
    """What only the first refinement on a machine does: to compile takes time, and memory of its own."""
    options.report("a small refinement first, which may compile")
    made = make_benchmark_data(options.folder / "compiles", 64, SETTING, box=96)
    _refined(made.arguments, options.folder / "compiles.zarr", options)


def _refined(inputs: list[str], out: Path, options: BenchmarkOptions, *more: str) -> CompletedCommand:
    """One iteration at the reference setting by the command line."""
    settings = [f"{name}={getattr(SETTING, name)}" for name in PARAMETERS]
    told = [word for text in settings for word in ("--set", text)]
    done = run_lrwidgets(
        "refine", *inputs, "--out", str(out), "--iterations", "1", "--threads", str(options.threads), *told, *more
    )
    if not done.lines:
        raise InputError("lrwidgets refine printed nothing")
    return done
