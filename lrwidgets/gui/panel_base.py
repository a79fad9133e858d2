"""Give every part of a panel its threads, message line, error handling and subscriptions to a session."""

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

from psygnal import SignalInstance

from lrwidgets.gui.threads import LatestTasks, PublisherLike
from lrwidgets.text.errors import DEBUG_VARIABLE, error_message, is_internal
from lrwidgets.text.interface_terms import in_interface_terms

log = logging.getLogger(__name__)

Tone = Literal["good", "bad", "neutral"]
"""How a message is coloured."""


class PanelBase:
    """Part of a panel. Subclasses call `start_threads` first and define `write_message`.

    Attributes
    ----------
    publisher
        Writes to the widgets, on the thread that the toolkit requires.
    latest
        Computes what a slider or a choice requests; only the newest request of each key counts.
    slow
        Computes what takes seconds or more, so that `latest` stays free.
    has_message, has_error
        Whether the message line has a text, and whether that says what is wrong.
    """

    has_message = False
    has_error = False

    publisher: PublisherLike
    latest: LatestTasks
    slow: LatestTasks

    def start_threads(self, publisher: PublisherLike) -> None:
        """Set up the threads, which start with their first task."""
        self.publisher = publisher
        self.latest = LatestTasks(publisher, self.show_error)
        self.slow = LatestTasks(publisher, self.show_error)
        self._subscriptions: list[tuple[SignalInstance, Callable[..., Any]]] = []

    def show_message(self, text: str, tone: Tone = "good") -> None:
        """Show a line in place of the last one; an empty text clears it. On any thread."""
        self.has_message, self.has_error = bool(text), bool(text) and tone == "bad"
        self.write_message(in_interface_terms(text), tone)

    def write_message(self, text: str, tone: Tone) -> None:
        """Write the message line; an empty text clears it. On any thread."""
        raise NotImplementedError

    def show_error(self, error: Exception) -> None:
        """Show an error as a sentence; log the traceback of an internal one if LRW_DEBUG is set."""
        if is_internal(error) and os.environ.get(DEBUG_VARIABLE):
            log.error("in a panel", exc_info=error)
        self.show_message(error_message(error), "bad")

    def catch_errors(self, callback: Callable[..., Any]) -> Callable[..., None]:
        """Return the callback with its errors shown in the message line."""

        @functools.wraps(callback)
        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:
                self.show_error(error)

        return call

    def on_press(self, act: Callable[[], Any]) -> Callable[..., None]:
        """Return the callback of a button: it clears an old error, and shows its own."""

        def press(*_: Any) -> None:
            if self.has_error:
                self.show_message("")
            act()

        return self.catch_errors(press)

    def subscribe(self, signal: SignalInstance, slot: Callable[..., Any]) -> None:
        """Subscribe to a signal until `disconnect_all` or `stop_threads`."""
        signal.connect(slot)
        self._subscriptions.append((signal, slot))

    def disconnect_all(self) -> None:
        """End all subscriptions."""
        for signal, slot in self._subscriptions:
            signal.disconnect(slot, missing_ok=True)
        self._subscriptions.clear()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until every request is computed and shown; return whether that was so within `timeout` seconds."""
        queues = (self.slow, self.latest, self.publisher)
        return all(queue.flush(timeout) for queue in 2 * queues)  # what is shown may request a figure

    def stop_threads(self) -> None:
        """End all subscriptions and threads."""
        self.disconnect_all()
        for queue in (self.slow, self.latest, self.publisher):
            queue.close()


class ProgrammaticChange:
    """Context in which changes of widgets come from the program, not from a person.

    Toolkits call back on the thread that sets a value, so the context holds for one thread only.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Mark changes on this thread as the program's."""
        with self._lock:
            before, self._thread = self._thread, threading.get_ident()
            try:
                yield
            finally:
                self._thread = before

    @property
    def is_active(self) -> bool:
        """True while a change on this thread comes from the program."""
        return self._thread == threading.get_ident()
