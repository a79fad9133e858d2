"""Work on many parts whose results are merged into one, done by whoever there is. It knows nothing of refinement.

Results are merged along one fixed tree, so that what comes out depends neither on the number of workers nor on who is
done first. A part whose worker is lost is done again.
"""

import os
import platform
import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from lrcore.compute.backend import Backend, get_backend
from lrcore.errors import InputError

Work = Callable[[Any, Any, Backend], Generator[int, None, Any]]
"""(what all parts share, a part, backend) → how far it is, now and then; returns the result."""
Merge = Callable[[Any, Any], Any]

POLL_INTERVAL_S = 0.5
"""Whoever watches is called so often at least, and can stop."""
MAX_ATTEMPTS = 4
"""A part whose worker is lost is tried so often."""


class Cancelled(Exception):
    """Nobody waits for this work any more."""


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker computes. backend, threads: as for `pick`. called_off: asked between two pieces of the work."""

    backend: str
    threads: int
    is_cancelled: Callable[[], bool] | None = None


class WorkerInterface(Protocol):
    """Those who do the work. A handle is what they give for a result: itself, or a future where it is elsewhere."""

    lost_errors: tuple[type[BaseException], ...]
    """Exceptions that say that a worker is gone, not that its work is wrong."""

    def worker_settings(self) -> WorkerSettings:
        """How the workers of a new errand compute."""

    def broadcast(self, value: Any) -> Any:
        """A value that many parts need, as an argument of `submit`."""

    def submit(self, *call: Any) -> Any:
        """The future of a call, with `add_done_callback` and `cancel`."""

    def handle(self, future: Any) -> Any:
        """The handle of what is done; raises what it raised."""

    def merge(self, merge: Merge, a: Any, b: Any) -> Any:
        """The handle of two results as one."""

    def call_when_ready(self, handle: Any, call: Callable[[], None]) -> None:
        """Call once a result can be fetched."""

    def fetch(self, handle: Any) -> Any:
        """The result; raises what its work raised."""

    def cancel(self) -> None:
        """Nobody waits for what was begun any more."""


class MergeTree:
    """The results of a number of leaves, merged pair by pair in one shape, whatever the order in which they come."""

    def __init__(self, leaves: int, merged: Merge) -> None:
        self._widths = [leaves]
        while self._widths[-1] > 1:
            self._widths.append((self._widths[-1] + 1) // 2)
        self._merged = merged
        self._waiting: dict[tuple[int, int], Any] = {}

    def put(self, at: int, value: Any) -> list[Any]:
        """Take the result of a leaf; with the last of all leaves comes the root, alone in the list."""
        for level, width in enumerate(self._widths[:-1]):
            other = at ^ 1
            if other < width:
                if (level, other) not in self._waiting:
                    self._waiting[level, at] = value
                    return []
                pair = (self._waiting.pop((level, other)), value)
                value = self._merged(*(pair if other < at else pair[::-1]))
            at //= 2
        return [value]


@dataclass
class _Group:
    """Parts whose results become one. shared: the handle of `value`. root: of that one, alone."""

    value: Any
    parts: Sequence[Any]
    weights: Sequence[int]
    tree: MergeTree
    tries: list[int]
    shared: Any = None
    futures: dict[int, Any] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    root: list[Any] = field(default_factory=list)
    result: list[Any] = field(default_factory=list)


class MapReduce:
    """Map-reduce over groups of parts, open until its with block ends; see `MapReduceInterface`."""

    def __init__(self, hands: WorkerInterface, work: Work, merge: Merge) -> None:
        self._hands, self._work, self._merge = hands, work, merge
        self._computing = hands.worker_settings()
        self._groups: list[_Group] = []
        self._events: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()

    def __enter__(self) -> "MapReduce":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unfinished = [future for group in self._groups for future in group.futures.values()]
        self._groups.clear()
        for future in unfinished:
            future.cancel()
        if unfinished:
            self._hands.cancel()

    def add_group(self, shared: Any, parts: Sequence[Any], weights: Sequence[int]) -> None:
        """Have a group worked on. weights: of the parts, for `done`."""
        self._groups.append(_Group(shared, parts, weights, self._tree(len(parts)), [0] * len(parts)))
        self._begin(len(self._groups) - 1, range(len(parts)))

    @property
    def done(self) -> int:
        """Sum of the weights of all parts that are done."""
        return sum(group.weights[i] for group in self._groups for i in group.done)

    def wait(self, number: int) -> Iterator[None]:
        """Until a group is done: comes back whenever something has happened, and every TICK_S."""
        group = self._groups[number]
        while not group.result:
            with suppress(queue.Empty):
                self._take(*self._events.get(timeout=POLL_INTERVAL_S))
            yield

    def result(self, number: int) -> Any:
        """What a group has come to; once, for it is not kept."""
        return self._groups[number].result.pop()

    def _tree(self, leaves: int) -> MergeTree:
        return MergeTree(leaves, lambda a, b: self._hands.merge(self._merge, a, b))

    def _begin(self, number: int, parts: Sequence[int]) -> None:
        group = self._groups[number]
        try:
            if group.shared is None:
                group.shared = self._hands.broadcast(group.value)
            for i in parts:
                group.tries[i] += 1
                future = self._hands.submit(_run_part, self._computing, self._work, group.shared, group.parts[i])
                group.futures[i] = future
                future.add_done_callback(lambda done, i=i: self._events.put((number, i, done)))
        except self._hands.lost_errors as error:
            raise _workers_lost_error(error) from error

    def _take(self, number: int, part: int, future: Any) -> None:
        """Something has come: a part, or the root of a group."""
        group = self._groups[number]
        if group.root:
            try:
                group.result = [self._hands.fetch(group.root[0])]
            except self._hands.lost_errors as error:
                self._start_again(number, error)
            return
        if group.futures.get(part) is not future:
            return
        del group.futures[part]
        try:
            group.root = group.tree.put(part, self._hands.handle(future))
        except self._hands.lost_errors as error:
            self._try_again(number, [part], error)
            return
        group.done.add(part)
        if group.root:
            self._hands.call_when_ready(group.root[0], lambda: self._events.put((number, part, None)))

    def _try_again(self, number: int, parts: Sequence[int], error: BaseException) -> None:
        group = self._groups[number]
        if max(group.tries[i] for i in parts) >= MAX_ATTEMPTS:
            raise _workers_lost_error(error) from error
        group.shared = None
        self._begin(number, parts)

    def _start_again(self, number: int, error: BaseException) -> None:
        """What was merged is lost: the whole group once more."""
        group = self._groups[number]
        group.tree, group.root = self._tree(len(group.parts)), []
        group.done.clear()
        self._try_again(number, range(len(group.parts)), error)


def _workers_lost_error(error: BaseException) -> InputError:
    name = type(error).__name__
    return InputError(
        f"workers were lost again and again ({name}: {str(error)[:120]}): see that they have memory enough, then go on "
        "from the last whole step"
    )


def _run_part(computing: WorkerSettings, work: Work, shared: Any, part: Any) -> Any:
    """Do a part, on the worker. What goes wrong there is told with the name of the worker."""
    who = f"worker {platform.node()}, process {os.getpid()}"
    try:
        pieces = work(shared, part, get_backend(computing.backend, computing.threads))
        while True:
            if computing.is_cancelled and computing.is_cancelled():
                raise Cancelled(who)
            next(pieces)
    except StopIteration as end:
        return end.value
    except InputError as error:
        raise InputError(f"{who}: {error}") from None
    except OSError as error:
        what = f"{error.filename or 'system'}: {error.strerror or error}"
        raise InputError(f"{who}: {what}: see that the worker can read it") from None
