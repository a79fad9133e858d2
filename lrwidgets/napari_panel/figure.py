"""A matplotlib figure in the panel, and larger in a window of its own."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QSizePolicy, QVBoxLayout

from lrwidgets.gallery import RENDER
from lrwidgets.napari_panel.section import Section

SMALLEST_DPI, DPI = 33.0, 100.0
"""A figure is drawn at its own size in inches, so that nothing in it is cut off; its dots are as small as need be."""


@dataclass(frozen=True)
class Drawn:
    """A figure and its picture, (height, width, 4) bytes."""

    figure: Figure
    picture: npt.NDArray[np.uint8]


class FigureBox(QLabel):
    """Shows the newest figure that it was asked for; section: whose thread draws it. A double click enlarges it.

    figure: the one that is shown, or None.
    """

    def __init__(self, section: Section) -> None:
        super().__init__()
        self._section = section
        self._make: Callable[[], Figure] | None = None
        self.figure: Figure | None = None
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setToolTip("double-click to see it larger")

    def ask(self, make: Callable[[], Figure]) -> None:
        """Have a figure made and drawn on the section's thread, and shown."""
        self._make = make
        seen = self._section.parentWidget()  # the scroll area's window on the section
        width = (seen or self._section).width()
        self._section.latest.ask(lambda: drawn(make, width), self._show, (id(self), "figure"))

    def mouseDoubleClickEvent(self, _: object) -> None:
        """Show the figure in a window of its own."""
        make = self._make
        if make is not None:
            self._section.latest.ask(lambda: drawn(make), self._enlarge, (id(self), "larger"))

    def _enlarge(self, found: Drawn) -> None:
        window = QDialog(self)
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.setWindowTitle("lrwidgets")
        label = QLabel()
        label.setPixmap(_pixmap(found.picture))
        QVBoxLayout(window).addWidget(label)
        window.show()

    def _show(self, found: Drawn) -> None:
        self.figure = found.figure
        self.setPixmap(_pixmap(found.picture))


def drawn(make: Callable[[], Figure], width: int | None = None) -> Drawn:
    """A figure with its picture; width: in pixels, that of its own size if None. On any thread."""
    with RENDER:
        figure = make()
        dpi = DPI if width is None else float(np.clip((width - 16) / figure.get_size_inches()[0], SMALLEST_DPI, DPI))
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Drawn(figure, np.array(canvas.buffer_rgba()))


def _pixmap(picture: npt.NDArray[np.uint8]) -> QPixmap:
    height, width, _ = picture.shape
    return QPixmap.fromImage(QImage(picture.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888))
