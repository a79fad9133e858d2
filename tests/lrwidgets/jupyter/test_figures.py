"""A figure in a browser: its values under the mouse, and its files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import pytest
from matplotlib.figure import Figure

from lrwidgets import plots
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.figure_view import FigureView
from tests.lrwidgets.jupyter.browser import render
from tests.lrwidgets.plots.test_plots import made


@pytest.fixture
def panel() -> Iterator[Panel]:
    panel = Panel()
    panel.widget = w.VBox([panel.message])
    yield panel
    panel.close()


def parabola() -> Figure:
    """Two curves on 0 … 0.2 1/Å: 25 k² and 1 − 25 k²."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    k = np.linspace(0, 0.2, 41)
    ax.plot(k, 25 * k**2, label="rising")
    ax.plot(k, 1 - 25 * k**2, label="falling: 3.4 / 4.5")
    ax.set_xlabel("spatial frequency, 1/Å")
    return figure


def shown(panel: Panel, figure: Figure, name: str = "parabola") -> FigureView:
    view = FigureView(panel)
    view.show_figure(lambda: figure, "Two curves", name, "session.results()")
    assert panel.flush(30)
    return view


def hover(page: Any, axis: dict[str, Any], x: float, y: float) -> str:
    """What is told where a value of an axis is drawn."""
    box = page.locator(".lrw-figure-image").bounding_box()
    left, top, width, height = axis["frame"]
    (_, x0, x1), (_, y0, y1) = axis["x"], axis["y"]
    page.mouse.move(
        box["x"] + box["width"] * (left + width * (x - x0) / (x1 - x0)),
        box["y"] + box["height"] * (top + height * (1 - (y - y0) / (y1 - y0))),
    )
    output = page.locator(".lrw-figure-value")
    return str(output.inner_text()) if output.is_visible() else ""


def test_the_value_under_the_mouse_is_told(panel: Panel, page: Any) -> None:
    view = shown(panel, parabola())
    render(page, view)
    page.wait_for_function("() => document.querySelector('.lrw-figure-image').complete")
    (axis,) = view.axes
    assert hover(page, axis, 0.1, 0.27) == "rising: 0.25 at 0.1 1/Å (10 Å)"
    assert hover(page, axis, 0.05, 0.95) == "falling: 0.9375 at 0.05 1/Å (20 Å)"
    assert hover(page, axis, -0.05, 0.5) == "", "outside of the axes"
    assert page.locator(".lrw-figure-image").get_attribute("alt") == "Two curves"
    assert page.locator(".lrw-figure-code").inner_text() == "session.results()"


def test_bars_and_cells_are_read_too(panel: Panel, page: Any) -> None:
    tree = made(1)
    view = shown(panel, plots.changes(tree))
    render(page, view)
    page.wait_for_function("() => document.querySelector('.lrw-figure-image').complete")
    bars = next(series for series in view.axes[0]["series"] if series["label"] == "bar")
    tallest = int(np.argmax(bars["y"]))
    words = hover(page, view.axes[0], bars["x"][tallest], bars["y"][tallest])
    assert words.startswith(f"{bars['y'][tallest]:g} at ")
    view = shown(panel, plots.directions(tree))
    render(page, view)
    page.wait_for_function("() => document.querySelector('.lrw-figure-image').complete")
    values = np.reshape(view.axes[0]["cells"]["values"], (18, 36))
    row, column = np.unravel_index(values.argmax(), values.shape)
    at = (-180 + 10 * (column + 0.5), -1 + (row + 0.5) / 9)
    assert hover(page, view.axes[0], *at) == f"{values.max():g}"


def test_it_saves_itself(panel: Panel, page: Any, tmp_path: Path) -> None:
    view = shown(panel, parabola())
    render(page, view)
    with page.expect_download() as saved:
        page.locator(".lrw-figure-png").click()
    assert saved.value.suggested_filename == "parabola.png"
    saved.value.save_as(tmp_path / "parabola.png")
    assert (tmp_path / "parabola.png").read_bytes() == view.png
    page.locator(".lrw-figure-svg").hover()
    view.request = page.evaluate("() => model.get('request')")
    assert panel.flush(30)
    page.evaluate("text => model.set('svg', new DataView(new TextEncoder().encode(text).buffer))", view.svg.decode())
    with page.expect_download() as saved:
        page.locator(".lrw-figure-svg").click()
    assert saved.value.suggested_filename == "parabola.svg"
    saved.value.save_as(tmp_path / "parabola.svg")
    assert (tmp_path / "parabola.svg").read_bytes() == view.svg


def test_an_empty_figure_takes_no_room(panel: Panel, page: Any) -> None:
    render(page, FigureView(panel))
    assert not page.locator(".lrw-figure-bar").is_visible()
