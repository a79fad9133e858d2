"""What a benchmark yields, and how its times are taken."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RATES = ("particles/s", "evaluations/s", "GB/s", "GFLOP/s")
"""Units of which more is better; less is better of all others."""


@dataclass(frozen=True)
class Measurement:
    """A number that was measured. ceiling: what the machine could do at best, in the same unit; bound: by what."""

    benchmark: str
    name: str
    value: float
    unit: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ceiling: float | None = None
    bound: str = ""

    @property
    def fraction(self) -> float | None:
        """How near to its ceiling the number is: 1 is there."""
        if not self.ceiling or not self.value:
            return None
        return self.value / self.ceiling if self.unit in RATES else self.ceiling / self.value

    def record(self) -> dict[str, Any]:
        """Every field, and the fraction: a line of JSON."""
        return {**asdict(self), "fraction": self.fraction}


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to measure. folder: for what is simulated, a new one for each benchmark. tell: what is going on."""

    folder: Path
    report: Callable[[str], None]
    threads: int
    quick: bool = False
    data: Path | None = None
    relion_iterations: int | None = None
    relion_total: int | None = None

    @property
    def repeats(self) -> int:
        """How often a time is taken, for its median."""
        return 3 if self.quick else 5


class BenchmarkSkipped(Exception):
    """A benchmark cannot be done here; the text says what is missing."""


def fastest_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the quickest of some runs, after one that is not counted."""
    work()
    return min(time_call(work) for _ in range(repeats))


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of some runs."""
    return statistics.median(time_call(work) for _ in range(repeats))


def time_call(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
