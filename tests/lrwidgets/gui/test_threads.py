"""The threads of a panel: the newest of each key is done, nothing piles up, and an error is told, not lost."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from lrwidgets.gui.threads import RATE_HZ, LatestTasks, Publisher


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def publisher(errors: list[Exception]) -> Iterator[Publisher]:
    publisher = Publisher(errors.append)
    yield publisher
    publisher.close()


@pytest.fixture
def latest(publisher: Publisher, errors: list[Exception]) -> Iterator[LatestTasks]:
    latest = LatestTasks(publisher, errors.append)
    yield latest
    latest.close()


def test_only_the_newest_of_a_key_is_written_and_every_key_is(publisher: Publisher) -> None:
    written: list[tuple[str, int]] = []
    gate, entered = threading.Event(), threading.Event()
    publisher.publish("gate", lambda: (entered.set(), gate.wait()))
    assert entered.wait(60)  # or the first of the others would be written in the same round
    for i in range(100):
        for key in ("a", "b"):
            publisher.publish(key, lambda key=key, i=i: written.append((key, i)))
    gate.set()
    assert publisher.flush()
    assert written == [("a", 99), ("b", 99)]


@pytest.mark.alone
def test_writes_come_at_ten_rounds_a_second_at_most(publisher: Publisher) -> None:
    rounds: list[float] = []
    end = time.monotonic() + 0.55
    while time.monotonic() < end:
        publisher.publish("a", lambda: rounds.append(time.monotonic()))
        time.sleep(0.002)
    assert publisher.flush()
    assert 2 <= len(rounds) <= 0.55 * RATE_HZ + 2
    assert min(b - a for a, b in itertools.pairwise(rounds)) >= 0.95 / RATE_HZ


@pytest.mark.alone
def test_asking_never_waits_and_leaves_no_backlog(latest: LatestTasks) -> None:
    """200 moves of a slider, each of which would take 20 ms: the last one is shown, few are computed."""
    computed: list[int] = []
    shown: list[int] = []

    def compute(i: int) -> int:
        time.sleep(0.02)
        computed.append(i)
        return i

    slowest = 0.0
    for i in range(200):
        began = time.monotonic()
        latest.submit(lambda i=i: compute(i), shown.append)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.001)
    assert latest.flush()
    assert latest._publisher.flush()
    assert shown[-1] == 199
    assert len(computed) < 100
    assert slowest < 0.1


def test_keys_of_one_worker_do_not_push_each_other_out(latest: LatestTasks) -> None:
    shown: dict[str, int] = {}
    for key in "abc":
        latest.submit(lambda: 1, lambda value, key=key: shown.update({key: value}), key)
    assert latest.flush()
    assert latest._publisher.flush()
    assert shown == {"a": 1, "b": 1, "c": 1}


def test_an_error_is_told_and_the_thread_goes_on(
    publisher: Publisher, latest: LatestTasks, errors: list[Exception]
) -> None:
    shown: list[int] = []
    publisher.publish("a", lambda: 1 / 0)
    latest.submit(lambda: [][1], shown.append)
    assert latest.flush()
    latest.submit(lambda: 3, shown.append)
    assert latest.flush()
    assert publisher.flush()
    assert sorted(type(error).__name__ for error in errors) == ["IndexError", "ZeroDivisionError"]
    assert shown == [3]


def test_an_error_that_cannot_be_told_does_not_end_the_thread() -> None:
    def deaf(error: Exception) -> None:
        raise RuntimeError("deaf") from error

    publisher = Publisher(deaf)
    written: list[int] = []
    publisher.publish("a", lambda: 1 / 0)
    publisher.publish("b", lambda: written.append(1))
    assert publisher.flush()
    publisher.close()
    assert written == [1]


def test_after_the_end_nothing_is_done(publisher: Publisher) -> None:
    written: list[int] = []
    before = threading.active_count()
    publisher.publish("a", lambda: written.append(1))
    assert publisher.flush()
    assert threading.active_count() == before + 1
    publisher.close()
    publisher.publish("a", lambda: written.append(2))
    assert publisher.flush()
    assert written == [1]
    assert threading.active_count() == before


def test_it_may_be_closed_on_its_own_thread(publisher: Publisher) -> None:
    publisher.publish("a", publisher.close)
    until = time.monotonic() + 60
    while publisher._thread is None or publisher._thread.is_alive():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.alone
def test_a_task_without_a_result_takes_no_round_of_writing(latest: LatestTasks, publisher: Publisher) -> None:
    """Else what is written next would wait for the round after."""
    done = threading.Event()
    latest.submit(done.set)
    assert latest.flush()
    assert done.is_set()
    began = time.monotonic()
    publisher.publish("a", lambda: None)
    assert publisher.flush()
    assert time.monotonic() - began < 0.5 / RATE_HZ
