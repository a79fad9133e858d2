"""Measure the time of each stage of an iteration, and peak memory."""

import resource
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Y = TypeVar("Y")
R = TypeVar("R")


class StageTimer:
    """Seconds spent in each stage of one iteration: `with timer("search"): ...` adds to `timer.seconds["search"]`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a with block to `stage`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def time_items(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """Yield the same items; add the time spent waiting for each of them to `stage`."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def time_generator(self, stage: str, generator: Generator[Y, None, R]) -> Generator[Y, None, R]:
        """Yield and return what a generator does; add the time spent waiting for it to `stage`."""
        while True:
            with self(stage):
                try:
                    item = next(generator)
                except StopIteration as end:
                    returned: R = end.value
                    return returned
            yield item


def peak_memory_MB() -> float:
    """Return the peak resident memory of this process in MB.

    On Linux it is read from /proc, which counts from the start of the program; `getrusage` starts from the peak of the
    parent process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
