"""One thread that does work chunk by chunk and obeys commands between two chunks. It knows nothing of refinement."""

import queue
import threading
from collections.abc import Callable, Generator
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field

from lrwidgets.session.state import Phase

INTERRUPTIBLE_S = 0.5
"""A signal that comes just before a lock is waited for does not end the wait: Ctrl-C is heard so much later at most."""

Command = Callable[[], None]
Chunks = Generator[None, None, None]


@dataclass
class Work:
    """Work that goes on by one chunk at a time. pausable: the run; a preview is not. waiting: who waits for its end."""

    chunks: Chunks
    pausable: bool
    waiting: list[Future[None]] = field(default_factory=list)


class Worker:
    """The thread, its inbox of commands and its unfinished work, of which the newest goes first.

    settled: called on the thread whenever the phase may have changed. failed: with what a command or work raised.
    """

    def __init__(self, settled: Command, failed: Callable[[Exception], None]) -> None:
        self._settled, self._failed = settled, failed
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        # From here on, only the thread's.
        self._work: list[Work] = []
        self._paused = False

    # --- on any thread ---

    def submit(self, command: Command, first: Command | None = None) -> None:
        """Have a command done after those asked before, between two chunks; the first one starts the thread.

        first: called before the thread can have begun it.
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
        """Ask for a command and, with `wait`, wait for `done`; Ctrl-C meanwhile calls `interrupted`."""
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
        """Drop unfinished work and end the thread."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            self._inbox.put(None)
            if thread is not threading.current_thread():
                thread.join()

    # --- on the thread ---

    @property
    def phase(self) -> Phase:
        """What the thread is at."""
        return "paused" if self._paused else "running" if self._work else "idle"

    def begin(self, chunks: Chunks, pausable: bool, done: Future[None]) -> None:
        """Take up work. Pausable work lies below what is not, so that a preview goes first."""
        self._work.insert(0 if pausable else len(self._work), Work(chunks, pausable, [done]))
        self._settled()

    def join_unfinished(self, done: Future[None]) -> bool:
        """Whether there is unfinished pausable work; `done` then waits for its end too."""
        unfinished = [work for work in self._work if work.pausable]
        for work in unfinished:
            work.waiting.append(done)
        return bool(unfinished)

    def pause(self) -> None:
        """Let pausable work rest."""
        self._paused = any(work.pausable for work in self._work)
        self._settled()

    def resume(self) -> None:
        """Go on with it."""
        self._paused = False
        self._settled()

    def drop(self) -> bool:
        """Give up all work: whether there was any. Who waits for it goes on."""
        dropped, self._work, self._paused = self._work, [], False
        for work in dropped:
            work.chunks.close()
        self._settled()
        for work in dropped:
            for done in work.waiting:
                done.set_result(None)
        return bool(dropped)

    def _serve(self) -> None:
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
        """The next chunk of the newest work."""
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
