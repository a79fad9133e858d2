"""Write to widgets on Qt's thread from any thread: the newest of each key, at most ten times a second."""

import threading
import time
from collections.abc import Callable, Hashable

from qtpy.QtCore import QEventLoop, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication

from lrwidgets.gui.threads import RATE_HZ, OnError, Task


class QtPublisher(QObject):
    """Counterpart of `threads.Publisher` for Qt. on_error: receives the error of a write that fails, on Qt's thread."""

    _update_requested = Signal()

    def __init__(self, on_error: OnError, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._on_error = on_error
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, Task] = {}
        self._served = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._serve)
        self._update_requested.connect(self._plan, Qt.ConnectionType.QueuedConnection)
        self.closed = False

    def publish(self, key: Hashable, write: Task) -> None:
        """Call `write` soon on Qt's thread, unless another one of the same key comes first; never blocks."""
        with self._lock:
            if self.closed:
                return
            idle = not self._waiting
            self._waiting[key] = write
        if idle:
            self._update_requested.emit()

    def flush(self, timeout: float = 10.0) -> bool:
        """Process events on Qt's thread until nothing is queued; return whether that was so within `timeout`, s."""
        end = time.monotonic() + timeout
        while self._waiting and time.monotonic() < end:
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 50)
        return not self._waiting

    def close(self) -> None:
        """Drop what is queued, and write nothing more."""
        with self._lock:
            self.closed = True
            self._waiting.clear()
        self._timer.stop()

    def _plan(self) -> None:
        if not self._timer.isActive() and not self.closed:
            rest = 1 / RATE_HZ - (time.monotonic() - self._served)
            self._timer.start(max(0, round(1000 * rest)))

    def _serve(self) -> None:
        with self._lock:
            tasks, self._waiting = list(self._waiting.values()), {}
        for task in tasks:
            run_guarded(task, self._on_error)
        self._served = time.monotonic()


def run_guarded(task: Callable[[], object], on_error: OnError) -> None:
    """Run a task and pass its exception to `on_error`."""
    try:
        task()
    except Exception as error:
        on_error(error)
