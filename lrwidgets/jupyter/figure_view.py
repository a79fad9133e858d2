"""Show a matplotlib figure in the notebook as a picture, with values under the mouse and buttons to save it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets as t
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lrwidgets.jupyter.base import Panel
from lrwidgets.plots.catalogue import RENDER_LOCK

HERE = Path(__file__).parent
DPI = 110
MOST_POINTS = 400
"""Largest number of points of a curve that are sent for reading values."""


class FigureView(anywidget.AnyWidget):
    """Figure drawn by figure.js.

    Attributes
    ----------
    png
        The picture.
    axes
        Frame, limits, labels and series of each of its axes, from `figure_axes_data`.
    title, name
        Description of the figure, and name of saved files.
    code
        Python that gives the data.
    busy
        What is computed in place of the figure, which is dimmed; empty: nothing.
    request, svg
        Request of the browser, "svg N", and the reply.
    """

    _esm = HERE / "figure.js"
    _css = HERE / "figure.css"
    png = t.Bytes(b"").tag(sync=True)
    axes = t.List(t.Dict()).tag(sync=True)
    title = t.Unicode("").tag(sync=True)
    name = t.Unicode("figure").tag(sync=True)
    code = t.Unicode("").tag(sync=True)
    busy = t.Unicode("").tag(sync=True)
    request = t.Unicode("").tag(sync=True)
    svg = t.Bytes(b"").tag(sync=True)

    def __init__(self, panel: Panel, **traits: Any) -> None:
        """panel: its threads draw the figure."""
        super().__init__(**traits)
        self._panel = panel
        self._figure: Figure | None = None
        self.observe(self._send_svg, "request")

    def show_figure(
        self, make: Callable[[], Figure], title: str, name: str, code: str | Callable[[], str] = ""
    ) -> None:
        """Make, draw and show a figure on the panel's threads; of several requests only the newest is shown.

        Parameters
        ----------
        make
            Makes the figure.
        title, name
            Description, and name of saved files.
        code
            Python that gives the data, or a function that returns it.
        """

        def drawn() -> tuple[Figure, bytes, list[dict[str, Any]], str]:
            try:
                with RENDER_LOCK:
                    figure = make()
                    words = code if isinstance(code, str) else code()
                    return figure, render_figure(figure, "png"), figure_axes_data(figure), words
            except Exception:
                self.busy = ""
                raise

        def show(found: tuple[Figure, bytes, list[dict[str, Any]], str]) -> None:
            self._figure, png, axes, words = found
            with self.hold_sync():
                self.busy = ""
                self.axes, self.title, self.name, self.code, self.svg, self.png = axes, title, name, words, b"", png

        self.busy = f"drawing {title[:1].lower()}{title[1:]} …"
        self._panel.latest.submit(drawn, show, (id(self), "figure"))

    def _send_svg(self, _: Any) -> None:
        figure = self._figure

        def drawn() -> bytes:
            with RENDER_LOCK:
                return render_figure(figure, "svg") if figure else b""

        self._panel.latest.submit(drawn, lambda svg: setattr(self, "svg", svg), (id(self), "svg"))


def render_figure(figure: Figure, kind: str) -> bytes:
    """Return the figure as the bytes of a PNG or SVG file."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DPI)
    return file.getvalue()


def figure_axes_data(figure: Figure) -> list[dict[str, Any]]:
    """Return frame, limits, labels and series of all axes of a figure that has been drawn.

    A frame is (left, top, width, height) as fractions of the picture.
    """
    return [_axis(ax, figure) for ax in figure.axes if ax.get_label() != "<colorbar>"]


def _axis(ax: Axes, figure: Figure) -> dict[str, Any]:
    frame, whole = ax.get_window_extent(), figure.bbox
    share = [
        frame.x0 / whole.width,
        1 - frame.y1 / whole.height,
        frame.width / whole.width,
        frame.height / whole.height,
    ]
    return {
        "frame": _short(share),
        "x": [ax.get_xlabel(), *_short(ax.get_xlim())],
        "y": [ax.get_ylabel(), *_short(ax.get_ylim())],
        "series": [*_lines(ax), *_bars(ax)],
        "cells": _cells(ax),
    }


def _lines(ax: Axes) -> list[dict[str, Any]]:
    """Return the curves of more than two points; straight lines such as thresholds are named in the legend."""
    found = []
    for line in ax.lines:
        x, y = (np.asarray(values, float) for values in line.get_data())
        whole = np.isfinite(x) & np.isfinite(y)
        if whole.sum() > 2 and line.get_linestyle() != "None":
            every = slice(None, None, 1 + len(x) // MOST_POINTS)
            label = str(line.get_label())
            found.append({
                "label": "" if label.startswith("_") else label.partition(":")[0],
                "x": _short(x[whole][every]),
                "y": _short(y[whole][every]),
            })  # fmt: skip
    return found


def _bars(ax: Axes) -> list[dict[str, Any]]:
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    if not bars:
        return []
    middles = [bar.get_x() + 0.5 * bar.get_width() for bar in bars]
    return [{"label": "bar", "x": _short(middles), "y": _short([bar.get_height() for bar in bars])}]


def _cells(ax: Axes) -> dict[str, Any]:
    """Return the values of a two-dimensional histogram, row by row from below; empty without one."""
    for mesh in ax.collections:
        if isinstance(mesh, QuadMesh) and mesh.get_array() is not None:
            rows = len(np.asarray(mesh.get_coordinates())) - 1
            grid = np.asarray(mesh.get_array(), float).reshape(rows, -1)
            return {"columns": grid.shape[1], "values": _short(grid.ravel())}
    return {}


def _short(values: Any) -> list[float]:
    """Round to five digits; more cannot be seen."""
    return [float(f"{value:.5g}") for value in values]
