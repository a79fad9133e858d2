"""A matplotlib figure in the panel."""

from collections.abc import Callable

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from lrwidgets.napari_panel.section import Section

LEAST = 240
"""Height of a figure in pixels."""


class FigureBox(QWidget):
    """Shows the newest figure that it was asked for; section: whose threads make it.

    figure: the one that is shown, or None.
    """

    def __init__(self, section: Section) -> None:
        super().__init__()
        self._section = section
        self.figure: Figure | None = None
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self.setMinimumHeight(LEAST)

    def ask(self, make: Callable[[], Figure]) -> None:
        """Have a figure made on the section's thread, and shown."""
        self._section.latest.ask(make, self._show, (id(self), "figure"))

    def _show(self, figure: Figure) -> None:
        canvas = FigureCanvasQTAgg(figure)
        width, height = figure.get_size_inches()
        canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        canvas.setMinimumHeight(int(max(LEAST, min(480, self.width() * height / width))))
        while self._rows.count():
            old = self._rows.takeAt(0).widget()
            old.setParent(None)
            old.deleteLater()
        self._rows.addWidget(canvas)
        self.figure = figure
