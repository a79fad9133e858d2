"""Distribute work on many parts to workers and merge the results into one; independent of refinement.

Results are merged along a fixed tree, so that the outcome depends neither on the number of workers nor on the order in
which they finish. A part whose worker is lost is computed again.
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
"""Generator function work(shared, part, backend): yields progress now and then, and returns the result of the part."""
Merge = Callable[[Any, Any], Any]
"""merge(a, b): the combination of two results."""

POLL_INTERVAL_S = 0.5
"""`MapReduce.wait` yields at least this often, so that the caller can stop."""
MAX_ATTEMPTS = 4
"""Attempts at a part whose worker is lost."""


class Cancelled(Exception):
    """The work was cancelled: nothing waits for its result."""


@dataclass(frozen=True)
class WorkerSettings:
    """Backend and threads of a worker, as for `get_backend`. is_cancelled is checked at every progress report."""

    backend: str
    threads: int
    is_cancelled: Callable[[], bool] | None = None


class WorkerInterface(Protocol):
    """Workers of one kind. A handle stands for a result: the result itself, or a future when it is on a worker."""

    lost_errors: tuple[type[BaseException], ...]
    """Exceptions that mean a lost worker, not an error of the work."""

    def worker_settings(self) -> WorkerSettings:
        """Return the settings of the workers for a new map-reduce."""

    def broadcast(self, value: Any) -> Any:
        """Return a value that many parts need in the form in which `submit` takes it."""

    def submit(self, *call: Any) -> Any:
        """Start a call; returns its future, with `add_done_callback` and `cancel`."""

    def handle(self, future: Any) -> Any:
        """Return the handle of a finished call; raises what the call raised."""

    def merge(self, merge: Merge, a: Any, b: Any) -> Any:
        """Merge two results; returns the handle of the merged one."""

    def call_when_ready(self, handle: Any, call: Callable[[], None]) -> None:
        """Run `call` once the result can be fetched."""

    def fetch(self, handle: Any) -> Any:
        """Return the result of a handle; raises what its work raised."""

    def cancel(self) -> None:
        """Stop the calls that were started: their results are no longer needed."""


class MergeTree:
    """Merge the results of numbered leaves pair by pair along a fixed binary tree, in whatever order they arrive."""

    def __init__(self, leaves: int, merge: Merge) -> None:
        self._widths = [leaves]
        while self._widths[-1] > 1:
            self._widths.append((self._widths[-1] + 1) // 2)
        self._merge_pair = merge
        self._waiting: dict[tuple[int, int], Any] = {}

    def put(self, leaf: int, value: Any) -> list[Any]:
        """Add the result of a leaf. Returns [root] once all leaves are in, otherwise an empty list."""
        for level, width in enumerate(self._widths[:-1]):
            other = leaf ^ 1
            if other < width:
                if (level, other) not in self._waiting:
                    self._waiting[level, leaf] = value
                    return []
                pair = (self._waiting.pop((level, other)), value)
                value = self._merge_pair(*(pair if other < leaf else pair[::-1]))
            leaf //= 2
        return [value]


@dataclass
class _Group:
    """Parts whose results are merged into one.

    Attributes
    ----------
    shared_value, shared_handle : what all parts need, and its form for `submit` (None until it is sent)
    parts : input of each part
    weights : of the parts, for `MapReduce.done`
    tree : merges the results of the parts
    attempts : how often each part was started
    futures : running calls, by part
    done : finished parts
    root : handle of the merged result, alone in the list; empty until all parts are merged
    result : the merged result, alone in the list; empty until it is fetched
    """

    shared_value: Any
    parts: Sequence[Any]
    weights: Sequence[int]
    tree: MergeTree
    attempts: list[int]
    shared_handle: Any = None
    futures: dict[int, Any] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    root: list[Any] = field(default_factory=list)
    result: list[Any] = field(default_factory=list)


class MapReduce:
    """Map-reduce over groups of parts, open until its with block ends; see `MapReduceInterface`."""

    def __init__(self, workers: WorkerInterface, work: Work, merge: Merge) -> None:
        self._workers, self._work, self._merge = workers, work, merge
        self._settings = workers.worker_settings()
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
            self._workers.cancel()

    def add_group(self, shared: Any, parts: Sequence[Any], weights: Sequence[int]) -> None:
        """Start to work on a group. weights: contribution of each part to `done`."""
        self._groups.append(_Group(shared, parts, weights, self._tree(len(parts)), [0] * len(parts)))
        self._submit(len(self._groups) - 1, range(len(parts)))

    @property
    def done(self) -> int:
        """Sum of the weights of all finished parts."""
        return sum(group.weights[i] for group in self._groups for i in group.done)

    def wait(self, number: int) -> Iterator[None]:
        """Wait until a group is done; yields after every event, and at least every POLL_INTERVAL_S."""
        group = self._groups[number]
        while not group.result:
            with suppress(queue.Empty):
                self._handle_event(*self._events.get(timeout=POLL_INTERVAL_S))
            yield

    def result(self, number: int) -> Any:
        """Return the merged result of a group. It can be taken once, since it is not kept."""
        return self._groups[number].result.pop()

    def _tree(self, leaves: int) -> MergeTree:
        return MergeTree(leaves, lambda a, b: self._workers.merge(self._merge, a, b))

    def _submit(self, number: int, parts: Sequence[int]) -> None:
        """Start parts of a group on the workers."""
        group = self._groups[number]
        try:
            if group.shared_handle is None:
                group.shared_handle = self._workers.broadcast(group.shared_value)
            for i in parts:
                group.attempts[i] += 1
                future = self._workers.submit(
                    _run_part, self._settings, self._work, group.shared_handle, group.parts[i]
                )
                group.futures[i] = future
                future.add_done_callback(lambda done, i=i: self._events.put((number, i, done)))
        except self._workers.lost_errors as error:
            raise _workers_lost_error(error) from error

    def _handle_event(self, number: int, part: int, future: Any) -> None:
        """Process an event: a part is finished, or the merged result of a group can be fetched."""
        group = self._groups[number]
        if group.root:
            try:
                group.result = [self._workers.fetch(group.root[0])]
            except self._workers.lost_errors as error:
                self._restart_group(number, error)
            return
        if group.futures.get(part) is not future:
            return
        del group.futures[part]
        try:
            group.root = group.tree.put(part, self._workers.handle(future))
        except self._workers.lost_errors as error:
            self._retry(number, [part], error)
            return
        group.done.add(part)
        if group.root:
            self._workers.call_when_ready(group.root[0], lambda: self._events.put((number, part, None)))

    def _retry(self, number: int, parts: Sequence[int], error: BaseException) -> None:
        """Start parts again after a worker was lost; raises InputError after MAX_ATTEMPTS."""
        group = self._groups[number]
        if max(group.attempts[i] for i in parts) >= MAX_ATTEMPTS:
            raise _workers_lost_error(error) from error
        group.shared_handle = None
        self._submit(number, parts)

    def _restart_group(self, number: int, error: BaseException) -> None:
        """Start all parts of a group again, because merged results were lost."""
        group = self._groups[number]
        group.tree, group.root = self._tree(len(group.parts)), []
        group.done.clear()
        self._retry(number, range(len(group.parts)), error)


def _workers_lost_error(error: BaseException) -> InputError:
    """Explain that workers were lost too often."""
    name = type(error).__name__
    return InputError(
        f"workers were lost repeatedly ({name}: {str(error)[:120]}): check that they have enough memory, then continue "
        "from the last complete step"
    )


def _run_part(settings: WorkerSettings, work: Work, shared: Any, part: Any) -> Any:
    """Compute a part on the worker; error messages name the worker."""
    worker = f"worker {platform.node()}, process {os.getpid()}"
    try:
        progress = work(shared, part, get_backend(settings.backend, settings.threads))
        while True:
            if settings.is_cancelled and settings.is_cancelled():
                raise Cancelled(worker)
            next(progress)
    except StopIteration as end:
        return end.value
    except InputError as error:
        raise InputError(f"{worker}: {error}") from None
    except OSError as error:
        reason = f"{error.filename or 'system'}: {error.strerror or error}"
        raise InputError(f"{worker}: {reason}: check that the worker can read it") from None
