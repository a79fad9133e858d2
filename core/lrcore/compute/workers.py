"""Who shares the work on the images with this process: any Executor, processes of our own, workers of a dask Client."""

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from types import TracebackType
from typing import Any

from lrcore.compute.process_pool import ProcessExecutor
from lrcore.compute.task_tree import MapReduce, Merge, Work, WorkerInterface, WorkerSettings
from lrcore.errors import InputError

RECONNECT_S = 10.0
"""A scheduler that does not answer for so long is gone."""
SCHEDULER_LOST = "the dask scheduler is gone: whole steps are kept; start it again and go on from there (--resume)"


class _Workers(WorkerInterface):
    """Workers that compute alike. backend, threads: of each, as for `pick`."""

    def __init__(self, backend: str, threads: int) -> None:
        self._computing = WorkerSettings(backend, threads)

    def map_reduce(self, work: Work, merge: Merge) -> MapReduce:
        """See `lrcore.compute.backend.WorkerPool`."""
        return MapReduce(self, work, merge)

    def worker_settings(self) -> WorkerSettings:
        """How the workers of a new errand compute."""
        return self._computing


class ExecutorWorkers(_Workers):
    """The workers of an executor, which is the caller's to close. backend, threads: of each worker, as for `pick`."""

    lost_errors: tuple[type[BaseException], ...] = (BrokenExecutor,)

    def __init__(self, executor: Executor, backend: str = "auto", threads: int = 1) -> None:
        super().__init__(backend, threads)
        self._executor = executor

    def broadcast(self, value: Any) -> Any:
        """It goes with every part."""
        return value

    def submit(self, *call: Any) -> Any:
        """The future of a call. Raises BrokenExecutor for an executor that has lost a worker."""
        return self._executor.submit(*call)

    def handle(self, future: Any) -> Any:
        """The result itself."""
        return future.result()

    def merge(self, merge: Merge, a: Any, b: Any) -> Any:
        """Two results as one, made here."""
        return merge(a, b)

    def call_when_ready(self, handle: Any, call: Callable[[], None]) -> None:
        """At once."""
        call()

    def fetch(self, handle: Any) -> Any:
        """Itself."""
        return handle

    def cancel(self) -> None:
        """What runs goes on to its end, for an executor cannot be told."""


_CANCELLED: Any = None
"""On a worker of `LocalCrew`: the number of the last errand that nobody waits for."""


class _IsCancelled:
    """Whether the errand of that number is called off, on a worker."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> bool:
        return bool(_CANCELLED.value >= self.number)


class LocalWorkers(ExecutorWorkers):
    """Processes on this machine; one that is lost is replaced. To be closed, or used in a with block."""

    _executor: ProcessExecutor

    def __init__(self, workers: int, backend: str = "auto", threads: int | None = None) -> None:
        """workers: how many. threads: of each; by default they share the cores of this process."""
        self._last = multiprocessing.get_context("spawn").Value("q", -1, lock=False)
        self._number = -1
        processes = ProcessExecutor(workers, _watch_cancellation, self._last)
        super().__init__(processes, backend, threads or max(1, len(os.sched_getaffinity(0)) // workers))

    def __enter__(self) -> "LocalWorkers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def worker_settings(self) -> WorkerSettings:
        """How the workers of a new errand compute."""
        self._number += 1
        return WorkerSettings(self._computing.backend, self._computing.threads, _IsCancelled(self._number))

    def cancel(self) -> None:
        """The processes stop between two batches of images."""
        self._last.value = self._number

    def close(self) -> None:
        """End the processes."""
        self.cancel()
        self._executor.shutdown(cancel_futures=True)

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there."""
        return self._executor.pids


def _watch_cancellation(last: Any) -> None:
    """In a new process: see what is called off."""
    global _CANCELLED
    _CANCELLED = last


class DaskWorkers(_Workers):
    """The workers of a `distributed.Client`, which is the caller's. backend, threads: of each, as for `pick`.

    What all ranges share is sent to every worker once; results are merged where they are, and only the last one comes
    here. A worker should have one thread of dask's: it holds a volume for each.
    """

    def __init__(self, client: Any, backend: str = "auto", threads: int = 1) -> None:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        super().__init__(backend, threads)
        self.lost_errors = (KilledWorker, CancelledError, CommClosedError)
        self._closed = CommClosedError
        self._client = client

    def broadcast(self, value: Any) -> Any:
        """The future of a copy on every worker. Raises InputError where there are none."""
        self._require_scheduler()
        try:
            return self._client.scatter(value, broadcast=True, hash=False)
        except TimeoutError as error:
            raise InputError(f"{self._address}: the scheduler has no workers: start some, then go on") from error
        except self._closed as error:
            raise self._explain_error(error) from error

    def submit(self, *call: Any) -> Any:
        """The future of a call."""
        self._require_scheduler()
        return self._client.submit(*call, pure=False)

    def handle(self, future: Any) -> Any:
        """The future itself, once it is done."""
        if future.status == "error":
            raise self._explain_error(future.exception())
        if future.status != "finished":
            raise CancelledError(f"{future.key} was {future.status}")
        return future

    def merge(self, merge: Merge, a: Any, b: Any) -> Any:
        """Two results as one, made on a worker that has one of them."""
        return self._client.submit(merge, a, b, pure=False)

    def call_when_ready(self, handle: Any, call: Callable[[], None]) -> None:
        """When the future is done."""
        handle.add_done_callback(lambda _: call())

    def fetch(self, handle: Any) -> Any:
        """The result; raises what its work raised."""
        return self.handle(handle).result()

    def cancel(self) -> None:
        """What runs goes on to the end of its range; nothing else is begun."""

    def _explain_error(self, error: BaseException) -> BaseException:
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
                raise InputError(SCHEDULER_LOST)
            time.sleep(0.1)

    def _require_answer(self) -> None:
        """Raise InputError if the scheduler does not answer: its client may not have noticed that it is gone."""
        self._require_scheduler()
        try:
            self._client.sync(self._client.scheduler.identity, callback_timeout=RECONNECT_S)
        except (OSError, RuntimeError, AttributeError) as error:  # no line to it, or none any more
            raise InputError(SCHEDULER_LOST) from error


def as_workers(workers: Any, backend: str = "auto", threads: int = 1) -> Any:
    """The crew of an Executor or a `distributed.Client`; a crew is itself, and None is this process alone."""
    if workers is None or hasattr(workers, "map_reduce"):
        return workers
    kind = ExecutorWorkers if isinstance(workers, Executor) else DaskWorkers
    return kind(workers, backend, threads)


def connect_scheduler(address: str, timeout_s: float = 10.0) -> Any:
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
