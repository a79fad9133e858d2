"""Give every section of the dock its threads, message line, rows and end, drawn with Qt."""

from collections.abc import Callable
from typing import Any

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from lrwidgets.gui.panel_base import PanelBase, Tone
from lrwidgets.napari_panel.qt_updates import QtPublisher

ON_DARK: dict[Tone, str] = {"good": "#5fd38d", "bad": "#ff8a5c", "neutral": ""}
ON_LIGHT: dict[Tone, str] = {"good": "#00603d", "bad": "#a02c00", "neutral": ""}
"""Colours of messages on the backgrounds of napari's themes, with a contrast of at least 4.5:1."""


MIDDLE_LIGHTNESS = 128


class Section(QWidget, PanelBase):
    """Part of the dock. message: one line, empty if all is well. rows: the layout, from top to bottom."""

    def __init__(self) -> None:
        super().__init__()
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.colours = ON_DARK
        self._tones: dict[QLabel, Tone] = {}
        self.start_threads(QtPublisher(self.show_error, self))
        self.rows = QVBoxLayout(self)
        self.rows.setContentsMargins(6, 6, 6, 6)
        self.rows.setSpacing(6)

    def write_message(self, text: str, tone: Tone) -> None:
        """Write the message line; an empty text clears it. On any thread."""

        def write() -> None:
            self.show_coloured(self.message, text, tone)

        self.publisher.publish("message", write)

    def use_theme(self, background: QColor) -> None:
        """Colour messages for the background of a theme."""
        self.colours = ON_LIGHT if background.lightness() > MIDDLE_LIGHTNESS else ON_DARK
        for label, tone in self._tones.items():
            self.show_coloured(label, label.text(), tone)

    def show_coloured(self, label: QLabel, text: str, tone: Tone) -> None:
        """Show a text in the colour of its tone."""
        self._tones[label] = tone
        label.setStyleSheet(f"color: {self.colours[tone]}" if self.colours[tone] else "")
        label.setText(text)

    def button(self, name: str, text: str, tip: str, act: Callable[[], Any]) -> QPushButton:
        """Make a button with a name by which tests find it."""
        button = QPushButton(text)
        button.setObjectName(f"lrw-{name}")
        button.setToolTip(tip)
        button.clicked.connect(self.on_press(act))
        return button

    def row(self, *widgets: QWidget) -> QHBoxLayout:
        """Put widgets side by side as the next row."""
        line = QHBoxLayout()
        line.setSpacing(4)
        for widget in widgets:
            line.addWidget(widget)
        self.rows.addLayout(line)
        return line

    def label(self, name: str = "") -> QLabel:
        """Put a label that wraps its text as the next row. name: by which tests find it."""
        label = QLabel()
        label.setObjectName(f"lrw-{name}" if name else "")
        label.setWordWrap(True)
        self.rows.addWidget(label)
        return label

    def shut_down(self) -> None:
        """Disconnect from the session and end the threads."""
        self.stop_threads()
