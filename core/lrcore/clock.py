"""Time and memory: what each stage of an iteration took."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """Seconds spent by stage; made for one iteration and gone with it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a with block to `stage`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def over(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """The same items; the time spent waiting for each counts to `stage`."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item


def peak_memory_MB() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
