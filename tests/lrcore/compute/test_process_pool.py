"""Processes with a pipe each: what they give back, what is told of them, and one that dies at its worst moment."""

import multiprocessing
import operator
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pytest

from lrcore.compute.process_pool import ProcessExecutor
from lrcore.errors import InputError

SOON_S = 30.0


def nothing() -> None:
    """Of no use to anybody."""


@pytest.fixture
def two() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2, nothing) as made:
        yield made


def die_in_the_middle_of_a_result() -> None:
    """In a process: the length of a result and its first bytes are in the pipe when it is killed."""
    frame: Any = sys._getframe()
    while "pipe" not in frame.f_locals:
        frame = frame.f_back
    os.write(frame.f_locals["pipe"].fileno(), struct.pack("!i", 100_000) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def large(seconds: float = 0.0) -> np.ndarray:
    """A result that does not fit into a pipe."""
    time.sleep(seconds)
    return np.arange(1_000_000.0)


def refuse() -> None:
    raise InputError("particles.star: no")


def unsendable() -> Any:
    return threading.Lock()


def test_results_are_those_of_the_calls(two: ProcessExecutor) -> None:
    assert list(two.map(operator.add, range(40), range(40))) == list(range(0, 80, 2))
    assert len(two.pids) == 2
    assert os.getpid() not in two.pids


@pytest.mark.slow
def test_one_killed_while_it_writes_takes_nobody_with_it(two: ProcessExecutor) -> None:
    """Both are busy with results too large for a pipe; the one that is left, and the one in its place, do the rest."""
    for _ in range(3):
        dying = two.submit(die_in_the_middle_of_a_result)
        others = [two.submit(large, 0.1) for _ in range(4)]
        with pytest.raises(BrokenProcessPool, match=r"process \d+ ended unexpectedly with status -9"):
            dying.result(SOON_S)
        for one in others:
            assert one.result(SOON_S)[-1] == 999_999.0
    assert two.submit(os.getpid).result(SOON_S) in two.pids


def test_one_killed_while_it_waits_or_works(two: ProcessExecutor) -> None:
    first = two.submit(os.getpid).result(SOON_S)
    os.kill(first, signal.SIGKILL)
    multiprocessing.connection.wait([process.sentinel for process in multiprocessing.active_children()], 1.0)
    lost = 0
    for _ in range(4):
        try:
            assert two.submit(os.getpid).result(SOON_S) != first
        except BrokenProcessPool:
            lost += 1
    assert lost <= 1
    working = two.submit(time.sleep, 60.0)
    while not working.running():
        time.sleep(0.01)
    for pid in two.pids:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        working.result(SOON_S)


def test_what_a_call_raises_is_raised_here_with_where_it_was(two: ProcessExecutor) -> None:
    with pytest.raises(InputError, match=r"particles.star: no") as told:
        two.submit(refuse).result(SOON_S)
    assert str(told.value) == "particles.star: no"
    assert "in refuse" in told.value.__notes__[0]
    assert f"in process {os.getpid()}" not in told.value.__notes__[0]


def test_what_cannot_be_sent_is_told(two: ProcessExecutor) -> None:
    with pytest.raises(TypeError, match="pickle"):
        two.submit(unsendable).result(SOON_S)
    with pytest.raises(TypeError, match="pickle"):
        two.submit(len, threading.Lock()).result(SOON_S)
    assert two.submit(len, "abc").result(SOON_S) == 3


def test_what_was_not_begun_can_be_called_off() -> None:
    one = ProcessExecutor(1, nothing)
    running, waiting, other = one.submit(time.sleep, 0.5), one.submit(os.getpid), one.submit(os.getpid)
    while not running.running():
        time.sleep(0.01)
    assert other.cancel()
    one.shutdown(cancel_futures=True)
    assert running.result() is None
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(RuntimeError, match="after shutdown"):
        one.submit(os.getpid)
    assert one.pids == []


def test_one_that_cannot_begin_is_told() -> None:
    with ProcessExecutor(1, operator.truediv, 1, 0) as broken, pytest.raises(BrokenProcessPool, match="status 1"):
        broken.submit(os.getpid).result(SOON_S)
