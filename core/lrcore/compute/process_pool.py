"""Run calls in processes on this machine, each with its own pipe, so that a killed process disturbs no other.

The processes of the executors in the standard library share one pipe for their results, and its lock: a process that
is killed while it writes leaves half a result there, and all others wait forever (docs/decisions/036).
"""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

EXIT_TIMEOUT_S = 1.0
"""Time that a process has to exit after its pipe closed, before it is killed: its own exit status is reported."""
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ProcessExecutor(Executor):
    """Executor of spawned processes, each with one call at a time; a lost process is replaced at its next call.

    The future of a call whose process is lost raises BrokenProcessPool; the other calls continue.
    """

    def __init__(self, count: int, begin: Callable[..., None], *arguments: Any) -> None:
        """Prepare `count` processes. `begin(*arguments)` is called first in each of them."""
        self._calls: queue.SimpleQueue[tuple[Future[Any], Call] | None] = queue.SimpleQueue()
        self._workers = [_Worker(begin, arguments) for _ in range(count)]
        self._threads = [threading.Thread(target=self._serve, args=(w,), daemon=True) for w in self._workers]
        self._closed = False
        for thread in self._threads:
            thread.start()

    @property
    def pids(self) -> list[int]:
        """Process ids of the running processes."""
        return [worker.pid for worker in self._workers if worker.pid]

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Schedule a call, as `concurrent.futures.Executor` does. Raises RuntimeError after `shutdown`."""
        if self._closed:
            raise RuntimeError("no call after shutdown")
        future: Future[Any] = Future()
        self._calls.put((future, (work, arguments, keywords)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes once their calls are done, as `concurrent.futures.Executor` does."""
        self._closed = True
        if cancel_futures:
            with suppress(queue.Empty):
                while item := self._calls.get_nowait():
                    item[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self, worker: "_Worker") -> None:
        """Pass queued calls to a worker, one after the other; runs in a thread of its own."""
        while item := self._calls.get():
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(worker.run(call))
            except Exception as error:  # reported to the caller
                future.set_exception(error)
            del item, future, call  # free the result: the next call may come much later
        worker.close()


class _Worker:
    """A process, started at the first call, and the parent's end of its pipe."""

    _starting = threading.Lock()

    def __init__(self, begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._begin, self._arguments = begin, arguments
        self._process: SpawnProcess | None = None
        self._pipe: Connection[Any, Any] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, or None when no process runs."""
        process = self._process
        return process.pid if process else None

    def run(self, call: Call) -> Any:
        """Return the result of a call. Raises what the call raised, BrokenProcessPool if the process is lost."""
        message = ForkingPickler.dumps(call)
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._pipe is not None
        try:
            self._pipe.send_bytes(message)
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            pid = self.pid
            self._process.join(EXIT_TIMEOUT_S)
            self._process.kill()
            raise BrokenProcessPool(f"process {pid} ended unexpectedly with status {self.close()}") from error
        succeeded, value = ForkingPickler.loads(answer)
        if not succeeded:
            raise value
        return value

    def _start(self) -> None:
        """Start the process and connect its pipe."""
        context = multiprocessing.get_context("spawn")
        with self._starting:
            self._pipe, child_end = context.Pipe()
            self._process = context.Process(
                target=_serve_calls, args=(child_end, self._begin, self._arguments), daemon=True
            )
            self._process.start()
            child_end.close()

    def close(self) -> int | None:
        """Close the pipe and wait for the process; returns its exit status."""
        process, self._process = self._process, None
        if process is None or self._pipe is None:
            return None
        self._pipe.close()
        process.join()
        return process.exitcode


def _serve_calls(pipe: "Connection[Any, Any]", begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Run calls from a pipe until it closes; executed in the child process. Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*arguments)
    with suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(_run_call(pipe.recv_bytes()))


def _run_call(message: bytes) -> Any:
    """Return the pickled (succeeded, result or exception) of a pickled call."""
    try:
        work, arguments, keywords = ForkingPickler.loads(message)
        return ForkingPickler.dumps((True, work(*arguments, **keywords)))
    except Exception as error:  # reported to the parent
        error.add_note(f"in process {os.getpid()}:\n{traceback.format_exc()}")
        try:
            return ForkingPickler.dumps((False, error))
        except Exception:  # an exception that cannot be pickled
            return ForkingPickler.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _end_with_parent() -> None:
    """End this process when its parent ends, for whatever reason."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
