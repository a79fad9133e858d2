"""A matplotlib figure in the notebook: a picture that tells its values under the mouse, and saves itself."""

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
"""Of a curve that the mouse can read."""


class FigureView(anywidget.AnyWidget):
    """What figure.js shows.

    png: the picture. axes: for each of its axes the frame (left, top, width, height as shares of the picture), limits,
    labels and series, as `readable` gives them. title: what it is, in words. name: of saved files. code: Python that
    gives the data. wish: "svg N", asked by the browser; svg: the answer.
    """

    _esm = HERE / "figure.js"
    _css = HERE / "figure.css"
    png = t.Bytes(b"").tag(sync=True)
    axes = t.List(t.Dict()).tag(sync=True)
    title = t.Unicode("").tag(sync=True)
    name = t.Unicode("figure").tag(sync=True)
    code = t.Unicode("").tag(sync=True)
    wish = t.Unicode("").tag(sync=True)
    svg = t.Bytes(b"").tag(sync=True)

    def __init__(self, panel: Panel, **traits: Any) -> None:
        """panel: whose threads draw."""
        super().__init__(**traits)
        self._panel = panel
        self._figure: Figure | None = None
        self.observe(self._wished, "wish")

    def show_figure(
        self, make: Callable[[], Figure], title: str, name: str, code: str | Callable[[], str] = ""
    ) -> None:
        """Have a figure made, drawn and shown by the panel's threads; the newest asked for is shown."""

        def drawn() -> tuple[Figure, bytes, list[dict[str, Any]], str]:
            with RENDER_LOCK:
                figure = make()
                words = code if isinstance(code, str) else code()
                return figure, render_figure(figure, "png"), figure_axes_data(figure), words

        def show(found: tuple[Figure, bytes, list[dict[str, Any]], str]) -> None:
            self._figure, png, axes, words = found
            with self.hold_sync():
                self.axes, self.title, self.name, self.code, self.svg, self.png = axes, title, name, words, b"", png

        self._panel.latest.submit(drawn, show, (id(self), "figure"))

    def _wished(self, _: Any) -> None:
        figure = self._figure

        def drawn() -> bytes:
            with RENDER_LOCK:
                return render_figure(figure, "svg") if figure else b""

        self._panel.latest.submit(drawn, lambda svg: setattr(self, "svg", svg), (id(self), "svg"))


def render_figure(figure: Figure, kind: str) -> bytes:
    """The figure as a PNG or SVG file."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DPI)
    return file.getvalue()


def figure_axes_data(figure: Figure) -> list[dict[str, Any]]:
    """Frame, limits, labels and series of every axis of a figure that has been drawn."""
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
    """Curves of more than two points; a threshold or a median says what it is in the legend."""
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
    """Values of a two-dimensional histogram, row by row from below; empty where there is none."""
    for mesh in ax.collections:
        if isinstance(mesh, QuadMesh) and mesh.get_array() is not None:
            rows = len(np.asarray(mesh.get_coordinates())) - 1
            grid = np.asarray(mesh.get_array(), float).reshape(rows, -1)
            return {"columns": grid.shape[1], "values": _short(grid.ravel())}
    return {}


def _short(values: Any) -> list[float]:
    """Five digits: more are not seen."""
    return [float(f"{value:.5g}") for value in values]
