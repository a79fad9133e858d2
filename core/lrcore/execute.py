"""Who shares the work on the images with this process: any Executor, processes of our own, workers of a dask Client."""

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from types import TracebackType
from typing import Any

from lrcore.errands import Computing, Errand, Hands, Merge, Work
from lrcore.errors import InputError
from lrcore.processes import Processes

RECONNECT_S = 10.0
"""A scheduler that does not answer for so long is gone."""
GONE = "the dask scheduler is gone: whole steps are kept; start it again and go on from there (--resume)"


class _Crew(Hands):
    """Workers that compute alike. backend, threads: of each, as for `pick`."""

    def __init__(self, backend: str, threads: int) -> None:
        self._computing = Computing(backend, threads)

    def errand(self, work: Work, merge: Merge) -> Errand:
        """See `lrcore.backend.Crew`."""
        return Errand(self, work, merge)

    def computing(self) -> Computing:
        """How the workers of a new errand compute."""
        return self._computing


class ExecutorCrew(_Crew):
    """The workers of an executor, which is the caller's to close. backend, threads: of each worker, as for `pick`."""

    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)

    def __init__(self, executor: Executor, backend: str = "auto", threads: int = 1) -> None:
        super().__init__(backend, threads)
        self._executor = executor

    def share(self, value: Any) -> Any:
        """It goes with every part."""
        return value

    def submit(self, *call: Any) -> Any:
        """The future of a call. Raises BrokenExecutor for an executor that has lost a worker."""
        return self._executor.submit(*call)

    def handle(self, future: Any) -> Any:
        """The result itself."""
        return future.result()

    def merged(self, merge: Merge, a: Any, b: Any) -> Any:
        """Two results as one, made here."""
        return merge(a, b)

    def when_there(self, handle: Any, call: Callable[[], None]) -> None:
        """At once."""
        call()

    def fetched(self, handle: Any) -> Any:
        """Itself."""
        return handle

    def call_off(self) -> None:
        """What runs goes on to its end, for an executor cannot be told."""


_CALLED_OFF: Any = None
"""On a worker of `LocalCrew`: the number of the last errand that nobody waits for."""


class _IsCalledOff:
    """Whether the errand of that number is called off, on a worker."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> bool:
        return bool(_CALLED_OFF.value >= self.number)


class LocalCrew(ExecutorCrew):
    """Processes on this machine; one that is lost is replaced. To be closed, or used in a with block."""

    _executor: Processes

    def __init__(self, workers: int, backend: str = "auto", threads: int | None = None) -> None:
        """workers: how many. threads: of each; by default they share the cores of this process."""
        self._last = multiprocessing.get_context("spawn").Value("q", -1, lock=False)
        self._number = -1
        processes = Processes(workers, _watch, self._last)
        super().__init__(processes, backend, threads or max(1, len(os.sched_getaffinity(0)) // workers))

    def __enter__(self) -> "LocalCrew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def computing(self) -> Computing:
        """How the workers of a new errand compute."""
        self._number += 1
        return Computing(self._computing.backend, self._computing.threads, _IsCalledOff(self._number))

    def call_off(self) -> None:
        """The processes stop between two batches of images."""
        self._last.value = self._number

    def close(self) -> None:
        """End the processes."""
        self.call_off()
        self._executor.shutdown(cancel_futures=True)

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there."""
        return self._executor.pids


def _watch(last: Any) -> None:
    """In a new process: see what is called off."""
    global _CALLED_OFF
    _CALLED_OFF = last


class DaskCrew(_Crew):
    """The workers of a `distributed.Client`, which is the caller's. backend, threads: of each, as for `pick`.

    What all ranges share is sent to every worker once; results are merged where they are, and only the last one comes
    here. A worker should have one thread of dask's: it holds a volume for each.
    """

    def __init__(self, client: Any, backend: str = "auto", threads: int = 1) -> None:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        super().__init__(backend, threads)
        self.lost = (KilledWorker, CancelledError, CommClosedError)
        self._closed = CommClosedError
        self._client = client

    def share(self, value: Any) -> Any:
        """The future of a copy on every worker. Raises InputError where there are none."""
        self._require_scheduler()
        try:
            return self._client.scatter(value, broadcast=True, hash=False)
        except TimeoutError as error:
            raise InputError(f"{self._address}: the scheduler has no workers: start some, then go on") from error
        except self._closed as error:
            raise self._told(error) from error

    def submit(self, *call: Any) -> Any:
        """The future of a call."""
        self._require_scheduler()
        return self._client.submit(*call, pure=False)

    def handle(self, future: Any) -> Any:
        """The future itself, once it is done."""
        if future.status == "error":
            raise self._told(future.exception())
        if future.status != "finished":
            raise CancelledError(f"{future.key} was {future.status}")
        return future

    def merged(self, merge: Merge, a: Any, b: Any) -> Any:
        """Two results as one, made on a worker that has one of them."""
        return self._client.submit(merge, a, b, pure=False)

    def when_there(self, handle: Any, call: Callable[[], None]) -> None:
        """When the future is done."""
        handle.add_done_callback(lambda _: call())

    def fetched(self, handle: Any) -> Any:
        """The result; raises what its work raised."""
        return self.handle(handle).result()

    def call_off(self) -> None:
        """What runs goes on to the end of its range; nothing else is begun."""

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, self._closed):
            self._require_answer()
        if isinstance(error, ModuleNotFoundError):
            return InputError(f"{self._address}: a worker cannot import {error.name}: install what is installed here")
        return error

    @property
    def _address(self) -> str:
        return str(self._client.scheduler.address if self._client.scheduler else "dask")

    def _require_scheduler(self) -> None:
        """Raise InputError if there is no scheduler any more."""
        end = time.monotonic() + RECONNECT_S
        while self._client.status != "running":
            if self._client.status == "closed" or time.monotonic() > end:
                raise InputError(GONE)
            time.sleep(0.1)

    def _require_answer(self) -> None:
        """Raise InputError if the scheduler does not answer: its client may not have noticed that it is gone."""
        self._require_scheduler()
        try:
            self._client.sync(self._client.scheduler.identity, callback_timeout=RECONNECT_S)
        except (OSError, RuntimeError, AttributeError) as error:  # no line to it, or none any more
            raise InputError(GONE) from error


def crew_of(workers: Any, backend: str = "auto", threads: int = 1) -> Any:
    """The crew of an Executor or a `distributed.Client`; a crew is itself, and None is this process alone."""
    if workers is None or hasattr(workers, "errand"):
        return workers
    kind = ExecutorCrew if isinstance(workers, Executor) else DaskCrew
    return kind(workers, backend, threads)


def connected(address: str, timeout_s: float = 10.0) -> Any:
    """A `distributed.Client` of the scheduler at an address. Raises InputError if it is not there."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a scheduler needs dask: pip install 'lrwidgets[cluster]'") from None
    try:
        client: Any = Client
        return client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"{address}: no dask scheduler answers there ({error}): look at its address") from error
