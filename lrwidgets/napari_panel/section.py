"""What every section of the panel has: a session, threads, a line for what went wrong, and an end."""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from psygnal import SignalInstance
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from lrwidgets.gui.threads import LatestTasks
from lrwidgets.napari_panel.qt_updates import QtPublisher
from lrwidgets.text.errors import DEBUG_VARIABLE, error_message, is_internal

log = logging.getLogger(__name__)

GOOD, BAD = "#5fd38d", "#ff8a5c"
"""On napari's dark background and its light one."""


class Section(QWidget):
    """A part of the panel. relay: writes, on Qt's thread. latest: computes. message: one line, empty if all is well."""

    def __init__(self) -> None:
        super().__init__()
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.relay = QtPublisher(self.show_error, self)
        self.latest = LatestTasks(self.relay, self.show_error)
        self.rows = QVBoxLayout(self)
        self.rows.setContentsMargins(6, 6, 6, 6)
        self.rows.setSpacing(6)
        self._connected: list[tuple[SignalInstance, Callable[..., Any]]] = []

    def show_message(self, text: str, colour: str = GOOD) -> None:
        """Show a line in place of the last one; an empty text clears it. On any thread."""

        def write() -> None:
            self.message.setStyleSheet(f"color: {colour}" if colour else "")
            self.message.setText(text)

        self.relay.publish("message", write)

    def show_error(self, error: Exception) -> None:
        """Show an error as a sentence. One of ours goes to the log as well when LRW_DEBUG is set."""
        if is_internal(error) and os.environ.get(DEBUG_VARIABLE):
            log.error("in the panel", exc_info=error)
        self.show_message(error_message(error), BAD)

    def catch_errors(self, callback: Callable[..., Any]) -> Callable[..., None]:
        """The callback, whose errors are told in the panel."""

        @functools.wraps(callback)
        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:
                self.show_error(error)

        return call

    def button(self, name: str, text: str, tip: str, act: Callable[[], Any]) -> QPushButton:
        """A button with a name by which tests find it."""
        made = QPushButton(text)
        made.setObjectName(f"lrw-{name}")
        made.setToolTip(tip)
        made.clicked.connect(self.catch_errors(lambda *_: act()))
        return made

    def row(self, *widgets: QWidget) -> QHBoxLayout:
        """Widgets side by side, as the next row."""
        line = QHBoxLayout()
        line.setSpacing(4)
        for widget in widgets:
            line.addWidget(widget)
        self.rows.addLayout(line)
        return line

    def connect(self, signal: SignalInstance, slot: Callable[..., Any]) -> None:
        """Listen to a session until `leave`."""
        signal.connect(slot)
        self._connected.append((signal, slot))

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything asked for is computed and written: whether it is. On Qt's thread."""
        return self.latest.flush(timeout) and self.relay.flush(timeout)

    def shut_down(self) -> None:
        """Let go of the session, and end the threads."""
        for signal, slot in self._connected:
            signal.disconnect(slot, missing_ok=True)
        self._connected.clear()
        self.latest.close()
        self.relay.close()
