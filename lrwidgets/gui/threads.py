"""Run the threads of a panel: one writes to its widgets, others compute. A callback only queues.

Front ends call back on any thread and wait for the result, so a callback has to be short. A slider sends more values
than can be drawn, of which only the newest matters.
"""

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any, Protocol

log = logging.getLogger(__name__)

Task = Callable[[], None]
OnError = Callable[[Exception], None]

RATE_HZ = 10.0
"""Largest number of rounds of writing in a second: more cannot be seen and floods the connection to the browser."""


class _NewestTaskThread:
    """Thread that runs the newest task of every key, in the order in which the keys were first requested.

    It starts with the first task and ends with `close`. The error of a task that fails goes to `on_error`.
    """

    pause_s = 0.0
    """Pause between two rounds of tasks, s."""

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, Task] = {}
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until no task is left; return whether that was so within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self) -> None:
        """Drop the queued tasks and end the thread after the present one."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._waiting.clear()
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _put(self, key: Hashable, task: Task) -> None:
        """Queue a task in place of the queued one of the same key; does nothing after `close`."""
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
                log.exception("an error could not be shown: %s", error)


class PublisherLike(Protocol):
    """Queue of writes to widgets, done on the thread that the toolkit requires."""

    def publish(self, key: Hashable, write: Task) -> None:
        """Call `write` soon, unless another one of the same key comes first; never blocks."""

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is queued; return whether that was so within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Drop what is queued, and write nothing more."""


class Publisher(_NewestTaskThread):
    """Write the traits of a panel's widgets: the newest value of each key, in at most `RATE_HZ` rounds a second.

    on_error: receives the error of a write that fails, on the publisher's thread.
    """

    pause_s = 1 / RATE_HZ

    def publish(self, key: Hashable, write: Task) -> None:
        """Call `write` soon, unless another one of the same key comes first; never blocks."""
        self._put(key, write)


class LatestTasks(_NewestTaskThread):
    """Compute what controls request, one task at a time and without a backlog; a publisher writes the results.

    on_error: receives the error of a computation that fails, on this thread.
    """

    def __init__(self, publisher: PublisherLike, on_error: OnError) -> None:
        super().__init__(on_error)
        self._publisher = publisher

    def submit(self, task: Callable[[], Any], then: Callable[[Any], None] | None = None, key: Hashable = "") -> None:
        """Publish `then(task())`, unless another request of the same key comes first; never blocks.

        then: None for a task that publishes its own results, if any.
        """

        def compute() -> None:
            result = task()
            if then is not None:
                self._publisher.publish((id(self), key), lambda: then(result))

        self._put(key, compute)
