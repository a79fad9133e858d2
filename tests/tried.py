"""How many inputs hypothesis makes: the same few in every run, or LRW_FUZZ others."""

import os

from hypothesis import HealthCheck, settings

TRIED = int(os.environ.get("LRW_FUZZ", "0"))


def times(n: int) -> settings:
    """N inputs, always the same; or, where LRW_FUZZ says so, that many new ones."""
    return settings(
        max_examples=TRIED or n,
        deadline=None,
        derandomize=not TRIED,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
