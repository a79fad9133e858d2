"""How many inputs hypothesis makes: the same few in every run, or LRW_FUZZ others, or others for LRW_FUZZ_SECONDS."""

import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from hypothesis import HealthCheck, settings

FUZZ_EXAMPLES = int(os.environ.get("LRW_FUZZ", "0"))
SECONDS = float(os.environ.get("LRW_FUZZ_SECONDS", "0"))
AT_ONCE = 500
"""Inputs of which hypothesis keeps track at a time, where the clock decides how many there are."""

Test = Callable[..., None]


def fuzz_examples(n: int) -> Callable[[Test], Test]:
    """N inputs, always the same; or as many new ones as LRW_FUZZ says; or new ones for LRW_FUZZ_SECONDS."""
    tried = settings(
        max_examples=AT_ONCE if SECONDS else FUZZ_EXAMPLES or n,
        deadline=None,
        derandomize=not (FUZZ_EXAMPLES or SECONDS),
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    return (lambda test: _for_long(tried(test))) if SECONDS else tried


def _for_long(test: Test) -> Test:
    @wraps(test)
    def again(*arguments: Any, **more: Any) -> None:
        end, rounds = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            test(*arguments, **more)
            rounds += 1
        print(f"{test.__name__}: {rounds} times {AT_ONCE} inputs in {SECONDS:.0f} s")

    return again
