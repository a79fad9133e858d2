"""Process images on workers: those of any Executor, local processes, or those of a dask Client."""

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
"""A scheduler that does not answer for this long is considered lost."""
SCHEDULER_LOST = (
    "the dask scheduler is lost: complete steps are kept; start it again and continue from there (--resume)"
)


class _Workers(WorkerInterface):
    """Workers that all use one backend and number of threads, as for `get_backend`."""

    def __init__(self, backend: str, threads: int) -> None:
        self._settings = WorkerSettings(backend, threads)

    def map_reduce(self, work: Work, merge: Merge) -> MapReduce:
        """Open a map-reduce; see `lrcore.compute.backend.WorkerPool`."""
        return MapReduce(self, work, merge)

    def worker_settings(self) -> WorkerSettings:
        """Return the settings of the workers for a new map-reduce."""
        return self._settings


class ExecutorWorkers(_Workers):
    """Workers of a `concurrent.futures.Executor`, which the caller closes.

    Parameters
    ----------
    executor : its threads or processes do the work
    backend, threads : of each worker, as for `lrcore.get_backend`
    """

    lost_errors: tuple[type[BaseException], ...] = (BrokenExecutor,)

    def __init__(self, executor: Executor, backend: str = "auto", threads: int = 1) -> None:
        super().__init__(backend, threads)
        self._executor = executor

    def broadcast(self, value: Any) -> Any:
        """Return the value itself: it is sent with every part."""
        return value

    def submit(self, *call: Any) -> Any:
        """Start a call; returns its future. Raises BrokenExecutor if the executor has lost a worker."""
        return self._executor.submit(*call)

    def handle(self, future: Any) -> Any:
        """Return the result of a finished call; raises what the call raised."""
        return future.result()

    def merge(self, merge: Merge, a: Any, b: Any) -> Any:
        """Merge two results in this process."""
        return merge(a, b)

    def call_when_ready(self, handle: Any, call: Callable[[], None]) -> None:
        """Run `call` at once, since handles are results."""
        call()

    def fetch(self, handle: Any) -> Any:
        """Return the handle, which is the result."""
        return handle

    def cancel(self) -> None:
        """Do nothing: calls that are running finish, because an executor cannot stop them."""


_CANCELLED: Any = None
"""Shared value on a process of `LocalWorkers`: the number of the last map-reduce that was cancelled."""


class _IsCancelled:
    """Function that returns, on a worker, whether the map-reduce of a number was cancelled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> bool:
        return bool(_CANCELLED.value >= self.number)


class LocalWorkers(ExecutorWorkers):
    """Processes on this machine; a lost one is replaced. Close it, or use it in a with block.

    Parameters
    ----------
    workers : number of processes
    backend : of each process, as for `lrcore.get_backend`
    threads : of each process; by default the processes share the cores that this process may use
    """

    _executor: ProcessExecutor

    def __init__(self, workers: int, backend: str = "auto", threads: int | None = None) -> None:
        self._last_cancelled = multiprocessing.get_context("spawn").Value("q", -1, lock=False)
        self._number = -1
        processes = ProcessExecutor(workers, _watch_cancellation, self._last_cancelled)
        super().__init__(processes, backend, threads or max(1, len(os.sched_getaffinity(0)) // workers))

    def __enter__(self) -> "LocalWorkers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def worker_settings(self) -> WorkerSettings:
        """Return the settings of the workers for a new map-reduce, which `cancel` can stop."""
        self._number += 1
        return WorkerSettings(self._settings.backend, self._settings.threads, _IsCancelled(self._number))

    def cancel(self) -> None:
        """Stop the processes at their next progress report, that is between two batches of images."""
        self._last_cancelled.value = self._number

    def close(self) -> None:
        """End the processes."""
        self.cancel()
        self._executor.shutdown(cancel_futures=True)

    @property
    def pids(self) -> list[int]:
        """Process ids of the running processes."""
        return self._executor.pids


def _watch_cancellation(last_cancelled: Any) -> None:
    """Keep the shared number of the last cancelled map-reduce; called first in a new process."""
    global _CANCELLED
    _CANCELLED = last_cancelled


class DaskWorkers(_Workers):
    """Workers of a `distributed.Client`, which the caller closes.

    What all parts share is sent to every worker once. Results are merged on the workers, and only the last one is
    sent here. Start each dask worker with one thread: it holds a volume for each of its threads.

    Parameters
    ----------
    client : `distributed.Client` that is connected to the scheduler
    backend, threads : of each worker, as for `lrcore.get_backend`
    """

    def __init__(self, client: Any, backend: str = "auto", threads: int = 1) -> None:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        super().__init__(backend, threads)
        self.lost_errors = (KilledWorker, CancelledError, CommClosedError)
        self._closed = CommClosedError
        self._client = client

    def broadcast(self, value: Any) -> Any:
        """Send a value to every worker; returns its future. Raises InputError when there are no workers."""
        self._require_scheduler()
        try:
            return self._client.scatter(value, broadcast=True, hash=False)
        except TimeoutError as error:
            raise InputError(f"{self._address}: the scheduler has no workers: start some, then continue") from error
        except self._closed as error:
            raise self._explain_error(error) from error

    def submit(self, *call: Any) -> Any:
        """Start a call; returns its future."""
        self._require_scheduler()
        return self._client.submit(*call, pure=False)

    def handle(self, future: Any) -> Any:
        """Return the future of a finished call; raises what the call raised."""
        if future.status == "error":
            raise self._explain_error(future.exception())
        if future.status != "finished":
            raise CancelledError(f"{future.key} was {future.status}")
        return future

    def merge(self, merge: Merge, a: Any, b: Any) -> Any:
        """Merge two results on a worker that holds one of them; returns the future."""
        return self._client.submit(merge, a, b, pure=False)

    def call_when_ready(self, handle: Any, call: Callable[[], None]) -> None:
        """Run `call` once the future is done."""
        handle.add_done_callback(lambda _: call())

    def fetch(self, handle: Any) -> Any:
        """Return the result of a future; raises what its work raised."""
        return self.handle(handle).result()

    def cancel(self) -> None:
        """Do nothing: parts that are running finish, and the futures of all others are already cancelled."""

    def _explain_error(self, error: BaseException) -> BaseException:
        """Return the error to raise; raises InputError if the scheduler is lost."""
        if isinstance(error, self._closed):
            self._require_answer()
        if isinstance(error, ModuleNotFoundError):
            return InputError(
                f"{self._address}: a worker cannot import {error.name}: install there the same packages as here"
            )
        return error

    @property
    def _address(self) -> str:
        return str(self._client.scheduler.address if self._client.scheduler else "dask")

    def _require_scheduler(self) -> None:
        """Raise InputError if the client has lost the scheduler."""
        end = time.monotonic() + RECONNECT_S
        while self._client.status != "running":
            if self._client.status == "closed" or time.monotonic() > end:
                raise InputError(SCHEDULER_LOST)
            time.sleep(0.1)

    def _require_answer(self) -> None:
        """Raise InputError if the scheduler does not answer; the client may not have noticed that it is lost."""
        self._require_scheduler()
        try:
            self._client.sync(self._client.scheduler.identity, callback_timeout=RECONNECT_S)
        except (OSError, RuntimeError, AttributeError) as error:  # the connection is lost or was never open
            raise InputError(SCHEDULER_LOST) from error


def as_workers(workers: Any, backend: str = "auto", threads: int = 1) -> Any:
    """Return the workers of an Executor or a dask Client.

    Parameters
    ----------
    workers : `concurrent.futures.Executor`, `distributed.Client`, workers of this module, or None
    backend, threads : of each worker of an Executor or Client, as for `lrcore.get_backend`

    Returns
    -------
    Workers for `Backend.workers`; workers and None (this process alone) are returned as they are.
    """
    if workers is None or hasattr(workers, "map_reduce"):
        return workers
    kind = ExecutorWorkers if isinstance(workers, Executor) else DaskWorkers
    return kind(workers, backend, threads)


def connect_scheduler(address: str, timeout_s: float = 10.0) -> Any:
    """Connect to a dask scheduler.

    Parameters
    ----------
    address : of the scheduler, such as tcp://host:8786
    timeout_s : how long to wait for its answer, seconds

    Returns
    -------
    The `distributed.Client`.

    Raises
    ------
    InputError
        When dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a scheduler needs dask: pip install 'lrwidgets[cluster]'") from None
    try:
        client: Any = Client
        return client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"{address}: no dask scheduler answers there ({error}): check the address") from error
