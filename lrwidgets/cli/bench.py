"""`lrwidgets bench`: run the benchmarks one after the other and print each number when it is measured."""

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
    "ceilings": ("roofline.run", "limits of this machine"),
    "kernels": ("kernels.run", "kernels compared with these limits"),
    "step": ("iteration.run", "whole iterations at the reference setting, simulated images"),
    "asked": ("step_analyses.run", "analyses of a step: motion, advice, uncertainty, comparisons"),
    "particles": ("scaling.particles", "time per particle for several numbers of particles"),
    "box": ("scaling.box", "time per particle for several boxes around the same mask"),
    "boxes": ("boxes.measure_boxes", "start and iterations in boxes of real data, each in a new process"),
    "mask": ("scaling.mask", "time per particle for several masks in the same box"),
    "band": ("scaling.band", "time per particle for several resolution limits of the search"),
    "threads": ("scaling.threads", "speed-up with the number of threads"),
    "workers": (
        "many_particles.measure_workers",
        "an iteration distributed over processes, compared with the threads of one process",
    ),
    "many": (
        "many_particles.measure_many_particles",
        "time per particle and memory for very many particles, in new processes",
    ),
    "memory": ("whole_commands.measure_peak_memory", "peak memory of lrwidgets refine, in a new process"),
    "startup": ("whole_commands.startup", "start-up time of lrwidgets refine, in a new process"),
    "reading": ("table_reading.reading", "reading tables of a million particles, in a new process"),
    "reconstruct": ("relion.compare_reconstruction", "lrwidgets reconstruct compared with relion_reconstruct"),
    "relion": ("relion.compare_refinement", "lrwidgets refine compared with RELION's local search"),
}
"""Name → function in lrwidgets.bench, and what it measures, in the order in which they run."""
SLOW = ("relion",)
"""Benchmarks that --quick skips, unless --only names them."""
DATA = "LRW_TEST_DATA"
"""Environment variable that holds the folder of the data sets."""
SET = "two_body"
"""Data set of the comparison with RELION."""
WIDTH = 42
"""Width of the column of labels."""


def bench(arguments: Namespace) -> None:
    """Run the selected benchmarks. Raises InputError at the end if one failed, after the others have run."""
    names, data = selected_benchmarks(arguments), find_data_set(arguments.data)
    printer, start, failed = Printer(arguments.json), time.monotonic(), []
    printer.report(_heading(describe_machine()), "machine", **describe_machine())
    for name in names:
        start_of_one = time.monotonic()
        if not arguments.json:
            printer.print_line(f"\n{name}: {BENCHMARKS[name][1]}")
        try:
            _print_measurements(printer, run_benchmark(name, arguments, data))
        except BenchmarkSkipped as reason:
            if arguments.only:
                raise InputError(f"benchmark {name}: {reason}") from reason
            printer.report(f"  skipped: {reason}", "skipped", benchmark=name, reason=str(reason))
        except (InputError, OSError) as error:
            failed.append(name)
            printer.report(f"  failed: {error}", "failed", benchmark=name, reason=str(error))
        _report_progress(f"{name}: took {time.monotonic() - start_of_one:.0f} s")
    seconds = time.monotonic() - start
    printer.report(f"\n{seconds:.0f} s", "end", seconds=round(seconds, 1), failed=failed)
    if failed:
        raise InputError(f"benchmarks that failed: {', '.join(failed)}: the reasons are above")


def selected_benchmarks(arguments: Namespace) -> list[str]:
    """Return the names of the benchmarks to run, in order. Raises InputError for an unknown name."""
    for name in arguments.only or ():
        if name not in BENCHMARKS:
            raise InputError(f"--only {name}: there is no such benchmark; there are {', '.join(BENCHMARKS)}")
    skipped = SLOW if arguments.quick else ()
    return [name for name in BENCHMARKS if (name in arguments.only if arguments.only else name not in skipped)]


def run_benchmark(name: str, arguments: Namespace, data: Path | None) -> Iterator[Measurement]:
    """Run one benchmark in a temporary folder. data: folder of the data set, or None. Yields its measurements."""
    module, function = BENCHMARKS[name][0].split(".")
    run: Callable[[BenchmarkOptions], Iterator[Measurement]] = getattr(
        import_module(f"lrwidgets.bench.{module}"), function
    )
    with tempfile.TemporaryDirectory(prefix="lrwidgets-bench-") as folder:
        options = BenchmarkOptions(
            folder=Path(folder),
            report=lambda text: _report_progress(f"{name}: {text}"),
            threads=arguments.threads or len(os.sched_getaffinity(0)),
            quick=arguments.quick,
            data=data,
            relion_iterations=arguments.relion_iterations,
            relion_total=arguments.relion_total,
        )
        yield from run(options)


def find_data_set(given: Path | None) -> Path | None:
    """Find the folder of the data set two_body: the one given, or in LRW_TEST_DATA, or in ../shared/data.

    Returns None if it is in none of these places. Raises InputError if the one given does not hold it.
    """
    if given is not None:
        if not (given / "particles.star").is_file():
            raise InputError(f"--data {given}: there is no {given / 'particles.star'}: give the folder {SET}")
        return given.absolute()
    folders = [Path(os.environ[DATA])] if os.environ.get(DATA) else [Path("../shared/data")]
    found = [folder / SET for folder in folders if (folder / SET / "particles.star").is_file()]
    return found[0].absolute() if found else None


def describe_machine() -> dict[str, Any]:
    """Return processor, memory, system and versions."""
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
    """Return the lines of a file; none if it cannot be read."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _heading(facts: Mapping[str, Any]) -> str:
    """Return the machine as one line."""
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_GB']} GB; {format_for_display(facts['versions'])}"


def _report_progress(text: str) -> None:
    """Print the progress on stderr."""
    print(f"bench {text}", file=sys.stderr, flush=True)


def _print_measurements(printer: Printer, measurements: Iterator[Measurement]) -> None:
    """Print one line per number, with the parameters that differ from the line before."""
    before: Mapping[str, Any] = {}
    for each in measurements:
        new = {name: value for name, value in each.parameters.items() if before.get(name) != value}
        printer.report(format_measurement(each, new), "measured", **each.record())
        before = each.parameters


def format_measurement(measurement: Measurement, parameters: Mapping[str, Any]) -> str:
    """Return one line: name, value, unit, fraction of the ceiling, and some of the parameters."""
    m = measurement
    reached = f"  {100 * m.fraction:3.0f} % of {m.bound}" if m.fraction is not None else ""
    listed = f"  [{format_for_display(dict(parameters))}]" if parameters else ""
    return f"  {m.name:{WIDTH}s}{m.value:12.4g} {m.unit:15s}{reached}{listed}".rstrip()
