"""Threads of a panel: one writes its widgets, one computes what its sliders ask for. A callback only enqueues.

Front ends call back on any thread and wait for it, so nothing there may take longer than the eye sees; and a slider
sends more values than can be drawn, of which only the newest matters.
"""

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any, Protocol

log = logging.getLogger(__name__)

Task = Callable[[], None]
OnError = Callable[[Exception], None]

RATE_HZ = 10.0
"""Rounds of writing in a second, at most: more is not seen, and floods the line to the browser."""


class _NewestTaskThread:
    """A thread that does the newest task of every key, in the order in which the keys were first asked for.

    It starts with the first task and ends with `close`; a task that fails is told of by `on_error` and forgotten.
    """

    pause_s = 0.0
    """Between two rounds of tasks."""

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, Task] = {}
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is left to do: whether that came to pass within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self) -> None:
        """Drop what waits and end the thread, after the task that it is at."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._waiting.clear()
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _put(self, key: Hashable, task: Task) -> None:
        """Have a task done, in place of the one of that key that still waits; nothing after `close`."""
        with self._changed:
            if self._closed:
                return
            self._waiting[key] = task
            if self._thread is None:
                name = f"lrwidgets-{type(self).__name__.lower()}"
                self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                tasks, self._waiting, self._busy = list(self._waiting.values()), {}, True
            for task in tasks:
                self._do(task)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed, self.pause_s)

    def _do(self, task: Task) -> None:
        try:
            task()
        except Exception as error:
            try:
                self._on_error(error)
            except Exception:
                log.exception("an error could not be told: %s", error)


class PublisherLike(Protocol):
    """Queue of writes to widgets, done on the thread that the toolkit wants."""

    def publish(self, key: Hashable, write: Task) -> None:
        """Have `write` called soon, unless another one of the same key comes first; never blocks."""

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is queued; return whether that was so within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Drop what is queued, and write nothing more."""


class Publisher(_NewestTaskThread):
    """Writes the traits of a panel's widgets: the newest value of each key, in at most `RATE_HZ` rounds a second.

    on_error: told of a write that fails, on the publisher's thread.
    """

    pause_s = 1 / RATE_HZ

    def publish(self, key: Hashable, write: Task) -> None:
        """Have `write` called soon, unless another of the same key comes first; never blocks."""
        self._put(key, write)


class LatestTasks(_NewestTaskThread):
    """Computes what sliders ask for, one thing at a time, without a backlog; a publisher writes the results.

    on_error: told of a computation that fails, on this thread.
    """

    def __init__(self, publisher: PublisherLike, on_error: OnError) -> None:
        super().__init__(on_error)
        self._publisher = publisher

    def submit(self, task: Callable[[], Any], then: Callable[[Any], None] | None = None, key: Hashable = "") -> None:
        """Have `then(task())` published, unless another request of the same key comes first; never blocks.

        then: None for a task that publishes by itself, if anything.
        """

        def compute() -> None:
            result = task()
            if then is not None:
                self._publisher.publish((id(self), key), lambda: then(result))

        self._put(key, compute)
