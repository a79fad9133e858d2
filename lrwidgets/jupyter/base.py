"""What every widget of ours has: its threads, a line for what went wrong, and an end."""

import functools
import html
import logging
import os
from collections.abc import Callable
from typing import Any

import ipywidgets as w
from psygnal import SignalInstance

from lrwidgets.gui.threads import LatestTasks, Publisher
from lrwidgets.jupyter.subshell import route_to_subshell
from lrwidgets.text.errors import DEBUG_VARIABLE, error_message, is_internal

log = logging.getLogger(__name__)

GOOD, BAD = "var(--jp-success-color1, #009E73)", "var(--jp-error-color1, #D55E00)"


class Panel:
    """A widget with its threads. Subclasses set `widget`, and put `message` into it.

    publisher: writes traits. latest: computes. message: one line, empty while all is well.
    """

    widget: w.Widget

    def __init__(self) -> None:
        self.message = w.HTML().add_class("lrw-message")
        self.publisher = Publisher(self.show_error)
        self.latest = LatestTasks(self.publisher, self.show_error)
        self._heard = False
        self._connected: list[tuple[SignalInstance, Callable[..., Any]]] = []

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if not self._heard:
            self._heard = True
            route_to_subshell(self.widget)
        return self.widget._repr_mimebundle_(**options)

    def show_message(self, text: str, colour: str = GOOD) -> None:
        """Show a line in place of the last one; an empty text clears it. On any thread."""
        shown = f'<span style="color: {colour}">{html.escape(text)}</span>' if text else ""
        self.publisher.publish(self.message, lambda: setattr(self.message, "value", shown))

    def show_error(self, error: Exception) -> None:
        """Show an error as a sentence. One of ours goes to the log as well when LRW_DEBUG is set."""
        if is_internal(error) and os.environ.get(DEBUG_VARIABLE):
            log.error("in a widget", exc_info=error)
        self.show_message(error_message(error), BAD)

    def catch_errors(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, whose errors are told in the panel instead of lost in a log."""

        @functools.wraps(callback)
        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:
                self.show_error(error)

        return call

    def connect(self, signal: SignalInstance, slot: Callable[..., Any]) -> None:
        """Listen to a session until `close`."""
        signal.connect(slot)
        self._connected.append((signal, slot))

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything asked for is computed and written: whether it is."""
        return self.latest.flush(timeout) and self.publisher.flush(timeout)

    def disconnect(self) -> None:
        """Listen to nothing any more."""
        for signal, slot in self._connected:
            signal.disconnect(slot, missing_ok=True)
        self._connected.clear()

    def close(self) -> None:
        """Let go of the session, and end the threads."""
        self.disconnect()
        self.latest.close()
        self.publisher.close()
