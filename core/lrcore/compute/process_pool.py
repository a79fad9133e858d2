"""An executor of processes on this machine, each with a pipe of its own: one that is killed takes nobody with it.

Those of the standard library share one pipe for their results, and the lock before it: a process that is killed while
it writes leaves half a result there, and everybody waits (docs/decisions/036).
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
"""A process whose pipe has ended has so long to end by itself, so that its own status is told."""
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ProcessExecutor(Executor):
    """Fresh processes (spawned), one call at a time each; one that is lost is replaced when the next call comes.

    The future of a call whose process is lost raises BrokenProcessPool; the other calls go on.
    """

    def __init__(self, count: int, begin: Callable[..., None], *arguments: Any) -> None:
        """count: how many. begin: called with the arguments in each of them, before anything else."""
        self._calls: queue.SimpleQueue[tuple[Future[Any], Call] | None] = queue.SimpleQueue()
        self._workers = [_Worker(begin, arguments) for _ in range(count)]
        self._threads = [threading.Thread(target=self._serve, args=(w,), daemon=True) for w in self._workers]
        self._closed = False
        for thread in self._threads:
            thread.start()

    @property
    def pids(self) -> list[int]:
        """Of those that are there."""
        return [worker.pid for worker in self._workers if worker.pid]

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """See `concurrent.futures.Executor`. Raises RuntimeError after `shutdown`."""
        if self._closed:
            raise RuntimeError("no call after shutdown")
        future: Future[Any] = Future()
        self._calls.put((future, (work, arguments, more)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`."""
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
        """Have a worker do one call after the other, in a thread of its own."""
        while item := self._calls.get():
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(worker.ask(call))
            except Exception as error:  # it is the caller's
                future.set_exception(error)
            del item, future, call  # it may wait for the next one for long
        worker.close()


class _Worker:
    """A process and this side of its pipe; there from the first call on."""

    _starting = threading.Lock()

    def __init__(self, begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._begin, self._arguments = begin, arguments
        self._process: SpawnProcess | None = None
        self._pipe: Connection[Any, Any] | None = None

    @property
    def pid(self) -> int | None:
        """Its number, if it is there."""
        process = self._process
        return process.pid if process else None

    def ask(self, call: Call) -> Any:
        """The result of a call. Raises what the call raised, BrokenProcessPool if the process is lost."""
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
            raise BrokenProcessPool(f"process {pid} ended unasked, status {self.close()}") from error
        done, value = ForkingPickler.loads(answer)
        if not done:
            raise value
        return value

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        with self._starting:
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve_calls, args=(theirs, self._begin, self._arguments), daemon=True
            )
            self._process.start()
            theirs.close()

    def close(self) -> int | None:
        """Wait for its end; returns its status."""
        process, self._process = self._process, None
        if process is None or self._pipe is None:
            return None
        self._pipe.close()
        process.join()
        return process.exitcode


def _serve_calls(pipe: "Connection[Any, Any]", begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In the process: answer one call after the other, until nobody asks. Ctrl-C is for the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*arguments)
    with suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(_run_call(pipe.recv_bytes()))


def _run_call(message: bytes) -> Any:
    try:
        work, arguments, more = ForkingPickler.loads(message)
        return ForkingPickler.dumps((True, work(*arguments, **more)))
    except Exception as error:  # it is for the one that asked
        error.add_note(f"in process {os.getpid()}:\n{traceback.format_exc()}")
        try:
            return ForkingPickler.dumps((False, error))
        except Exception:  # what cannot be sent is told
            return ForkingPickler.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _end_with_parent() -> None:
    """It ends when the process that started it does, however that does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
