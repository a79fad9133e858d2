"""What all figures share: colours, sizes, axes, histograms, and how they are read from a tree and written."""

import textwrap
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrcore.arrays import Float64
from lrcore.io.paths import atomic_write

# The colours of Okabe & Ito, which stay apart for colour-blind eyes; styles of lines differ as well.
BLUE, SKY, ORANGE, RED, GREEN, GREY, INK = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#8C8C8C", "#222222"

BINS = 40
HEADROOM = 1.4
"""Height of a histogram's axis over that of its bars: there stands the legend."""
NARROW, LOWER = 5.4, 0.85
"""Width in inches of a figure for a side panel, and the height of its axes over what it is elsewhere."""
LETTERS = 11
"""Of a headline in an inch."""
SMALL, TEXT, LARGE = 8.5, 9.5, 11.5
"""Sizes of text in points."""


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure; inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def figure_with_axes(
    count: int, width: float, height: float, narrow: bool = False, rows: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes side by side, in rows; narrow: one below the other, to be read in a side panel.

    sharey: whether those side by side have one y axis.
    """
    if narrow:
        figure = new_figure(NARROW, LOWER * count * height / rows)
        return figure, list(np.ravel(figure.subplots(count, 1)))
    figure = new_figure(width, height)
    return figure, list(np.ravel(figure.subplots(rows, count // rows, sharey=sharey)))


def save(figure: Figure, path: str | Path, dpi: float = 120) -> None:
    """Write a figure as PNG. Raises InputError if it cannot be written."""
    with atomic_write(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, pil_kwargs={"optimize": True})


def style_axes(ax: Axes, x: str, y: str) -> None:
    """Labels with their units, and no more ink than needed."""
    ax.set_xlabel(x, fontsize=TEXT)
    if y:
        ax.set_ylabel(y, fontsize=TEXT)
    ax.tick_params(labelsize=SMALL, color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(GREY)


def title(ax: Axes, text: str) -> None:
    """A line above an axis."""
    ax.set_title(text, fontsize=TEXT, loc="left")


def headline(figure: Figure, text: str) -> None:
    """A line above all axes, or two where the figure is narrow."""
    text = textwrap.fill(text, int(LETTERS * figure.get_figwidth()))
    figure.suptitle(text, fontsize=LARGE, fontweight="bold", x=0.01, ha="left")


def histogram(ax: Axes, values: Float64, edges: Float64, unit: str, colour: str) -> None:
    """Bars and the median. unit: as it follows a number."""
    # What the extent stopped lies at it to rounding: counted below it.
    ax.hist(values * (1 - 1e-9), bins=list(edges), color=colour, alpha=0.75, edgecolor="white", linewidth=0.4)
    if len(values):
        middle = float(np.median(values))
        ax.axvline(middle, 0, 1 / HEADROOM, color=INK, lw=1.4, label=f"median {middle:.2g}{unit}")
    outside = int(((values < edges[0]) | (values > edges[-1])).sum())
    if outside:
        ax.plot([], [], " ", label=f"{outside} outside")
    ax.set_xlim(edges[0], edges[-1])


def legend_above(ax: Axes) -> None:
    """Above the bars, on white."""
    ax.set_ylim(top=HEADROOM * ax.get_ylim()[1])
    ax.legend(fontsize=SMALL, loc="upper right", framealpha=1, edgecolor="none", borderpad=0.1, labelspacing=0.25)


def results_group(tree: xr.DataTree, name: str) -> xr.Dataset:
    """A group of results."""
    return tree.children[name].to_dataset()


def last_iteration(tree: xr.DataTree) -> int:
    """Number of the last iteration in it."""
    return int(results_group(tree, "particles")["iteration"][-1])


def particle_count(tree: xr.DataTree) -> str:
    """How many particles, in words."""
    return f"{results_group(tree, 'particles').sizes['particle']:,} particles"
