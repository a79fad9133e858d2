"""Compile each kernel once in a test run of several processes: one compiles, the others load it from Numba's cache."""

import fcntl
import threading
from typing import Any

from numba.core.dispatcher import Dispatcher

from tests.exclusive import file_lock


def compile_in_turn(run: str) -> None:
    """Let one process of a test run compile at a time. Numba itself has no lock: all would compile the same kernels.

    A process that has waited finds what it needs in the cache. Kernels that a kernel calls are compiled in its turn.
    """
    compile_now: Any = Dispatcher.compile
    threads, outer = threading.RLock(), True

    def compile_when_free(self: Dispatcher, sig: Any) -> Any:
        nonlocal outer
        with threads:
            if not outer:
                return compile_now(self, sig)
            outer = False
            try:
                with file_lock(f"{run}.compiler", fcntl.LOCK_EX):
                    return compile_now(self, sig)
            finally:
                outer = True

    Dispatcher.compile = compile_when_free
