"""Run work on one thread, chunk by chunk, and commands between two chunks. Independent of refinement."""

import queue
import threading
from collections.abc import Callable, Generator
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field

from lrwidgets.session.state import Phase

INTERRUPTIBLE_S = 0.5
"""Interval of checks for Ctrl-C: a signal that arrives just before a wait for a lock does not end the wait."""

Command = Callable[[], None]
Chunks = Generator[None, None, None]


@dataclass
class Work:
    """Work that is done one chunk at a time.

    Attributes
    ----------
    chunks : generator that does one chunk per step
    pausable : True for the run, False for a preview
    waiting : futures that are resolved when it ends
    """

    chunks: Chunks
    pausable: bool
    waiting: list[Future[None]] = field(default_factory=list)


class Worker:
    """A thread with an inbox of commands and a stack of unfinished work, of which the newest is done first.

    settled: called on the thread whenever the phase may have changed. failed: called with the exception that a command
    or work raised.
    """

    def __init__(self, settled: Command, failed: Callable[[Exception], None]) -> None:
        self._settled, self._failed = settled, failed
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        # Only the thread itself uses what follows.
        self._work: list[Work] = []
        self._paused = False

    # --- on any thread ---

    def submit(self, command: Command, first: Command | None = None) -> None:
        """Queue a command, which is called between two chunks; the first command starts the thread.

        first: called now, before the thread can begin the command. Raises RuntimeError after `close`.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the session is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="lrwidgets-session", daemon=True)
                self._thread.start()
            if first is not None:
                first()
            self._inbox.put(command)

    def request(
        self, command: Command, done: Future[None], wait: bool, interrupted: Command, first: Command | None = None
    ) -> None:
        """Queue a command and, with `wait`, wait for `done`; Ctrl-C during the wait calls `interrupted`.

        Raises RuntimeError if the worker's own thread would wait, and the exception of `done`.
        """
        if wait and threading.current_thread() is self._thread:
            raise RuntimeError("a listener of a session cannot wait for it")
        try:
            self.submit(command, first)
            if wait:
                while not futures.wait([done], INTERRUPTIBLE_S).done:
                    pass
                done.result()
        except KeyboardInterrupt:
            interrupted()
            raise

    def close(self) -> None:
        """Discard unfinished work and end the thread."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            self._inbox.put(None)
            if thread is not threading.current_thread():
                thread.join()

    # --- on the thread ---

    @property
    def phase(self) -> Phase:
        """Phase of the work: "idle", "running" or "paused"."""
        return "paused" if self._paused else "running" if self._work else "idle"

    def begin(self, chunks: Chunks, pausable: bool, done: Future[None]) -> None:
        """Add work. Pausable work is placed below other work, so that a preview is done first."""
        self._work.insert(0 if pausable else len(self._work), Work(chunks, pausable, [done]))
        self._settled()

    def join_unfinished(self, done: Future[None]) -> bool:
        """Return whether there is unfinished pausable work; if so, its end also resolves `done`."""
        unfinished = [work for work in self._work if work.pausable]
        for work in unfinished:
            work.waiting.append(done)
        return bool(unfinished)

    def pause(self) -> None:
        """Pause pausable work."""
        self._paused = any(work.pausable for work in self._work)
        self._settled()

    def resume(self) -> None:
        """Continue paused work."""
        self._paused = False
        self._settled()

    def drop(self) -> bool:
        """Discard all work and resolve its futures; return whether there was any."""
        dropped, self._work, self._paused = self._work, [], False
        for work in dropped:
            work.chunks.close()
        self._settled()
        for work in dropped:
            for done in work.waiting:
                done.set_result(None)
        return bool(dropped)

    def _serve(self) -> None:
        """Alternate between commands and chunks of work until the worker is closed."""
        while True:
            resting = not self._work or (self._paused and self._work[-1].pausable)
            try:
                command = self._inbox.get(block=resting)
            except queue.Empty:
                self._run_next_chunk()
                continue
            if command is None:
                self.drop()
                return
            try:
                command()
            except Exception as error:
                self._failed(error)

    def _run_next_chunk(self) -> None:
        """Run the next chunk of the newest work."""
        work = self._work[-1]
        try:
            next(work.chunks)
        except StopIteration:
            self._work.pop()
            self._settled()
            for done in work.waiting:
                done.set_result(None)
        except Exception as error:
            self._work.pop()
            self._failed(error)
            for done in work.waiting:
                done.set_exception(error)
