"""Define the result and the options of a benchmark, and measure times."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RATES = ("particles/s", "evaluations/s", "GB/s", "GFLOP/s")
"""Units of rates, for which more is better; for all other units less is better."""


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    Attributes
    ----------
    benchmark : name of the benchmark
    name : label of the quantity
    value : the number
    unit : its unit
    parameters : size of the workload, name → value
    ceiling : best value that the machine allows, in the same unit; None if unknown
    bound : what sets the ceiling
    """

    benchmark: str
    name: str
    value: float
    unit: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ceiling: float | None = None
    bound: str = ""

    @property
    def fraction(self) -> float | None:
        """Return the fraction of the ceiling that is reached, 1 at best; None without a ceiling."""
        if not self.ceiling or not self.value:
            return None
        return self.value / self.ceiling if self.unit in RATES else self.ceiling / self.value

    def record(self) -> dict[str, Any]:
        """Return every field and the fraction, for one line of JSON."""
        return {**asdict(self), "fraction": self.fraction}


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of a benchmark.

    Attributes
    ----------
    folder : new folder for simulated data
    report : prints the progress
    threads : number of threads
    quick : True for smaller workloads
    data : folder of the data set two_body; None to simulate one
    relion_iterations : iterations after which RELION is stopped; None to let it converge
    relion_total : iterations to which the time of a stopped RELION is extrapolated; None not to
    """

    folder: Path
    report: Callable[[str], None]
    threads: int
    quick: bool = False
    data: Path | None = None
    relion_iterations: int | None = None
    relion_total: int | None = None

    @property
    def repeats(self) -> int:
        """Return how often a time is measured, for its median."""
        return 3 if self.quick else 5


class BenchmarkSkipped(Exception):
    """Raised if a benchmark cannot run on this machine; the text says what is missing."""


def fastest_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the seconds of the fastest of some runs, after one that is not counted."""
    work()
    return min(time_call(work) for _ in range(repeats))


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of some runs."""
    return statistics.median(time_call(work) for _ in range(repeats))


def time_call(work: Callable[[], object]) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
