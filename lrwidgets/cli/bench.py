"""`lrwidgets bench`: run the benchmarks one after the other and print each number as soon as it is known."""

import os
import platform
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lrcore.errors import InputError
from lrwidgets import __version__
from lrwidgets.bench.measurement import BenchmarkOptions, BenchmarkSkipped, Measurement
from lrwidgets.cli.printer import Printer
from lrwidgets.text.formatting import format_for_display

BENCHMARKS = {
    "ceilings": ("roofline.run", "what the machine can do at best"),
    "kernels": ("kernels.run", "the kernels against these ceilings"),
    "step": ("iteration.run", "whole iterations at the reference setting, simulated images"),
    "asked": ("step_analyses.run", "what is asked of a step: its motion, advice, uncertainty, comparisons"),
    "particles": ("scaling.particles", "time per particle as their number grows"),
    "box": ("scaling.box", "time per particle as the box grows around the same mask"),
    "mask": ("scaling.mask", "time per particle as the mask grows in the same box"),
    "band": ("scaling.band", "time per particle as the resolution limit of the search moves"),
    "threads": ("scaling.threads", "speed-up by threads"),
    "workers": ("many_particles.measure_workers", "processes that share an iteration, against the threads of one"),
    "many": (
        "many_particles.measure_many_particles",
        "time per particle and memory of very many particles, each process a fresh one",
    ),
    "memory": ("whole_commands.measure_peak_memory", "peak of memory of lrwidgets refine, a fresh process"),
    "startup": ("whole_commands.startup", "the wait for lrwidgets refine, a fresh process"),
    "reading": ("table_reading.reading", "tables of a million particles, read in a fresh process"),
    "reconstruct": ("relion.compare_reconstruction", "lrwidgets reconstruct beside relion_reconstruct"),
    "relion": ("relion.compare_refinement", "lrwidgets refine beside RELION's local search"),
}
"""Name → function in lrwidgets.bench, and what it measures."""
SLOW = ("relion",)
"""Not among those that run with --quick, unless named."""
DATA = "LRW_TEST_DATA"
SET = "two_body"
WIDTH = 42


def bench(arguments: Namespace) -> None:
    """Run what is asked for. Raises InputError at the end if a benchmark failed; the others have then been run."""
    names, outside = selected_benchmarks(arguments), find_data_set(arguments.data)
    printer, began, lost = Printer(arguments.json), time.monotonic(), []
    printer.report(_heading(describe_machine()), "machine", **describe_machine())
    for name in names:
        start = time.monotonic()
        words = BENCHMARKS[name][1]
        if not arguments.json:
            printer.print_line(f"\n{name}: {words}")
        try:
            _print(printer, run_benchmark(name, arguments, outside))
        except BenchmarkSkipped as reason:
            if arguments.only:
                raise InputError(f"benchmark {name}: {reason}") from reason
            printer.report(f"  skipped: {reason}", "skipped", benchmark=name, reason=str(reason))
        except (InputError, OSError) as error:
            lost.append(name)
            printer.report(f"  failed: {error}", "failed", benchmark=name, reason=str(error))
        _report_progress(f"{name}: took {time.monotonic() - start:.0f} s")
    spent = time.monotonic() - began
    printer.report(f"\n{spent:.0f} s", "end", seconds=round(spent, 1), failed=lost)
    if lost:
        raise InputError(f"benchmarks that failed: {', '.join(lost)}: the reasons are above")


def selected_benchmarks(arguments: Namespace) -> list[str]:
    """Names in their order. Raises InputError for one that is unknown."""
    for name in arguments.only or ():
        if name not in BENCHMARKS:
            raise InputError(f"--only {name}: there is no such benchmark; there are {', '.join(BENCHMARKS)}")
    left_out = SLOW if arguments.quick else ()
    return [name for name in BENCHMARKS if (name in arguments.only if arguments.only else name not in left_out)]


def run_benchmark(name: str, arguments: Namespace, outside: Path | None) -> Iterator[Measurement]:
    """What one benchmark finds, in a folder of its own that is removed afterwards."""
    module, function = BENCHMARKS[name][0].split(".")
    run: Callable[[BenchmarkOptions], Iterator[Measurement]] = getattr(
        import_module(f"lrwidgets.bench.{module}"), function
    )
    with tempfile.TemporaryDirectory(prefix="lrwidgets-bench-") as folder:
        options = BenchmarkOptions(
            folder=Path(folder),
            report=lambda words: _report_progress(f"{name}: {words}"),
            threads=arguments.threads or len(os.sched_getaffinity(0)),
            quick=arguments.quick,
            data=outside,
            relion_iterations=arguments.relion_iterations,
            relion_total=arguments.relion_total,
        )
        yield from run(options)


def find_data_set(given: Path | None) -> Path | None:
    """The folder of the data set two_body: as given, in LRW_TEST_DATA, or beside the checkout; None if not there.

    Raises InputError if the one given is none.
    """
    if given is not None:
        if not (given / "particles.star").is_file():
            raise InputError(f"--data {given}: there is no {given / 'particles.star'}: give the folder {SET}")
        return given.absolute()
    places = [Path(os.environ[DATA])] if os.environ.get(DATA) else [Path("../shared/data")]
    found = [place / SET for place in places if (place / SET / "particles.star").is_file()]
    return found[0].absolute() if found else None


def describe_machine() -> dict[str, Any]:
    """What the numbers were measured on, and with."""
    cpu = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = {name: version(name) for name in ("numpy", "scipy", "numba")}
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_GB": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"lrwidgets": __version__, "python": platform.python_version(), **packages},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _heading(facts: Mapping[str, Any]) -> str:
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_GB']} GB; {format_for_display(facts['versions'])}"


def _report_progress(words: str) -> None:
    print(f"bench {words}", file=sys.stderr, flush=True)


def _print(printer: Printer, found: Iterator[Measurement]) -> None:
    """A line for each number, with those parameters that the line before did not have."""
    before: Mapping[str, Any] = {}
    for one in found:
        new = {name: value for name, value in one.parameters.items() if before.get(name) != value}
        printer.report(format_measurement(one, new), "measured", **one.record())
        before = one.parameters


def format_measurement(one: Measurement, shown: Mapping[str, Any]) -> str:
    """Name, value, unit, what is reached of the ceiling, and some parameters."""
    reached = f"  {100 * one.fraction:3.0f} % of {one.bound}" if one.fraction is not None else ""
    said = f"  [{format_for_display(dict(shown))}]" if shown else ""
    return f"  {one.name:{WIDTH}s}{one.value:12.4g} {one.unit:15s}{reached}{said}".rstrip()
