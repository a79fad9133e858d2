"""Show a matplotlib figure in the dock, and larger in a window of its own."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QSizePolicy, QVBoxLayout

from lrwidgets.napari_panel.section import Section
from lrwidgets.plots.catalogue import RENDER_LOCK

SMALLEST_DPI, DPI = 33.0, 100.0
"""A figure is drawn at its own size in inches, so that nothing is cut off, with the resolution that fits."""

SLACK = 4
"""Change of width in pixels for which a figure is not redrawn."""


@dataclass(frozen=True)
class RenderedFigure:
    """A figure and its picture, (height, width, 4) bytes."""

    figure: Figure
    picture: npt.NDArray[np.uint8]


class FigureBox(QLabel):
    """Label with the newest requested figure, drawn by a section's thread. A double click enlarges it.

    figure: the figure shown, or None.
    """

    def __init__(self, section: Section) -> None:
        super().__init__()
        self._section = section
        self._make: Callable[[], Figure] | None = None
        self._larger: Callable[[], Figure] | None = None
        self._width = 0
        self.figure: Figure | None = None
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setToolTip("double-click to enlarge")

    def show_figure(self, make: Callable[[], Figure], larger: Callable[[], Figure] | None = None) -> None:
        """Make and draw a figure on the section's thread and show it. larger: makes the figure for a double click."""
        self._make, self._larger = make, larger or make
        self._draw()

    def _draw(self) -> None:
        """Draw for the present width, or that of the parent before the section was visible."""
        make = self._make
        if make is None:
            return
        seen = self._section.parentWidget()  # the scroll area's window on the section
        self._width = width = self.width() if self.isVisible() else (seen or self._section).width()
        self._section.latest.submit(lambda: render_figure(make, width), self._show, (id(self), "figure"))

    def resizeEvent(self, _: object) -> None:
        """Redraw for another width."""
        if abs(self.width() - self._width) > SLACK:
            self._draw()

    def mouseDoubleClickEvent(self, _: object) -> None:
        """Show the figure in a window of its own."""
        make = self._larger
        if make is not None:
            self._section.latest.submit(lambda: render_figure(make), self._enlarge, (id(self), "larger"))

    def _enlarge(self, found: RenderedFigure) -> None:
        window = QDialog(self)
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.setWindowTitle("lrwidgets")
        label = QLabel()
        label.setPixmap(_pixmap(found.picture))
        QVBoxLayout(window).addWidget(label)
        window.show()

    def _show(self, found: RenderedFigure) -> None:
        self.figure = found.figure
        self.setPixmap(_pixmap(found.picture))


def render_figure(make: Callable[[], Figure], width: int | None = None) -> RenderedFigure:
    """Return a figure with its picture. width: in pixels; None: from its own size. On any thread."""
    with RENDER_LOCK:
        figure = make()
        dpi = DPI if width is None else float(np.clip(width / figure.get_size_inches()[0], SMALLEST_DPI, DPI))
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return RenderedFigure(figure, np.array(canvas.buffer_rgba()))


def _pixmap(picture: npt.NDArray[np.uint8]) -> QPixmap:
    height, width, _ = picture.shape
    return QPixmap.fromImage(QImage(picture.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888))
