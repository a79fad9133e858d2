"""Share colours, sizes, axes and histograms among all figures, read groups of results, and save figures."""

import textwrap
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrcore.arrays import Float64
from lrcore.io.paths import atomic_write

# The colours of Okabe & Ito can be distinguished with colour blindness; line styles differ as well.
BLUE, SKY, ORANGE, RED, GREEN, GREY, INK = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#8C8C8C", "#222222"

BINS = 40
HEADROOM = 1.4
"""Height of a histogram's axis over that of its bars, which makes room for the legend."""
NARROW_WIDTH_IN, NARROW_HEIGHT_FACTOR = 5.4, 0.85
"""Width in inches of a figure for a side panel, and the height of its axes relative to other figures."""
LETTERS_PER_INCH = 11
"""Letters of a headline per inch."""
SMALL, TEXT, LARGE = 8.5, 9.5, 11.5
"""Text sizes in points."""


def new_figure(width: float, height: float) -> Figure:
    """Create an empty white figure; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def figure_with_axes(
    count: int, width: float, height: float, narrow: bool = False, rows: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Create a figure with `count` axes in `rows` rows, or in one column if it is narrow (for a side panel).

    width, height: of the wide figure in inches. sharey: whether axes side by side share the y axis.
    """
    if narrow:
        figure = new_figure(NARROW_WIDTH_IN, NARROW_HEIGHT_FACTOR * count * height / rows)
        return figure, list(np.ravel(figure.subplots(count, 1)))
    figure = new_figure(width, height)
    return figure, list(np.ravel(figure.subplots(rows, count // rows, sharey=sharey)))


def save(figure: Figure, path: str | Path, dpi: float = 120) -> None:
    """Write a figure as PNG.

    Parameters
    ----------
    figure : the figure
    path : file to write
    dpi : resolution, pixels per inch

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with atomic_write(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, pil_kwargs={"optimize": True})


def style_axes(ax: Axes, x: str, y: str) -> None:
    """Set the labels of the axes, with units, and remove the frame at the top and right."""
    ax.set_xlabel(x, fontsize=TEXT)
    if y:
        ax.set_ylabel(y, fontsize=TEXT)
    ax.tick_params(labelsize=SMALL, color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(GREY)


def set_axis_title(ax: Axes, text: str) -> None:
    """Set the title of one axis."""
    ax.set_title(text, fontsize=TEXT, loc="left")


def set_figure_title(figure: Figure, text: str) -> None:
    """Set the title of the figure, wrapped to its width."""
    text = textwrap.fill(text, int(LETTERS_PER_INCH * figure.get_figwidth()))
    figure.suptitle(text, fontsize=LARGE, fontweight="bold", x=0.01, ha="left")


def histogram(ax: Axes, values: Float64, edges: Float64, unit: str, colour: str) -> None:
    """Draw a histogram and the median. unit: as it follows a number."""
    # Values that the search extent limits equal it up to rounding: count them below it.
    ax.hist(values * (1 - 1e-9), bins=list(edges), color=colour, alpha=0.75, edgecolor="white", linewidth=0.4)
    if len(values):
        median = float(np.median(values))
        ax.axvline(median, 0, 1 / HEADROOM, color=INK, lw=1.4, label=f"median {median:.2g}{unit}")
    outside = int(((values < edges[0]) | (values > edges[-1])).sum())
    if outside:
        ax.plot([], [], " ", label=f"{outside} outside")
    ax.set_xlim(edges[0], edges[-1])


def legend_above(ax: Axes) -> None:
    """Draw the legend above the bars, on white."""
    ax.set_ylim(top=HEADROOM * ax.get_ylim()[1])
    ax.legend(fontsize=SMALL, loc="upper right", framealpha=1, edgecolor="none", borderpad=0.1, labelspacing=0.25)


def results_group(tree: xr.DataTree, name: str) -> xr.Dataset:
    """Return a group of the results."""
    return tree.children[name].to_dataset()


def last_iteration(tree: xr.DataTree) -> int:
    """Return the number of the last iteration in the results."""
    return int(results_group(tree, "particles")["iteration"][-1])


def particle_count(tree: xr.DataTree) -> str:
    """Return the number of particles as text: "12,345 particles"."""
    return f"{results_group(tree, 'particles').sizes['particle']:,} particles"
