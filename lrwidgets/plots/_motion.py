"""What is learned of a body, its fulcrum and principal motions; and settings that were tried, by their worth."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from lrwidgets.plots._maps import GREYS, PLANES
from lrwidgets.plots._style import (
    BINS,
    BLUE,
    GREEN,
    ORANGE,
    RED,
    SMALL,
    headline,
    legend_above,
    new_figure,
    style_axes,
)
from lrwidgets.plots._style import histogram as bars

SHOWN = 24
"""Settings that are drawn, the best ones."""
INSIDE = 2.795
"""Radius of the ellipsoid that holds 95 % of a Gaussian in three dimensions, SD."""


def motion(found: xr.Dataset, volume: xr.DataArray, mask: xr.DataArray) -> Figure:
    """Fulcrum and axis of the largest motion in slices through the fulcrum, shares, and the particles' places on it.

    found: of `principal.to_dataset`. volume, mask: on (z, y, x) in Å about the box centre.
    """
    figure = new_figure(11.0, 6.6)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.5, 1))
    fulcrum = dict(zip("xyz", found["fulcrum"].values, strict=True))
    turn = dict(zip("xyz", found["turn"].sel(motion=1).values, strict=True))
    low, high = np.quantile(volume.values[mask.values > 0.5], (0.005, 0.998))
    for i, (across, up, along) in enumerate(PLANES):
        ax = figure.add_subplot(grid[0, i])
        plane = volume.sel({along: fulcrum[along]}, method="nearest").transpose(up, across)
        shade = mask.sel({along: fulcrum[along]}, method="nearest").transpose(up, across)
        sides = [(float(mask[a][0]), float(mask[a][-1])) for a in (across, up)]
        ax.imshow(plane, cmap=GREYS, vmin=low, vmax=high, origin="lower", extent=(*sides[0], *sides[1]))
        if float(shade.max()) > 0.5:
            ax.contour(mask[across], mask[up], shade, levels=[0.5], colors=[ORANGE], linewidths=1.2)
        ax.add_patch(_ellipse(found["fulcrum_covariance"], across, up, fulcrum))
        ax.plot(fulcrum[across], fulcrum[up], "+", color=RED, ms=11, mew=2, label="fulcrum, 95 %")
        length = 0.35 * (sides[0][1] - sides[0][0]) / max(float(np.linalg.norm(list(turn.values()))), 1e-9)
        tip = [(fulcrum[a] - length * turn[a], fulcrum[a] + length * turn[a]) for a in (across, up)]
        ax.plot(*tip, color=GREEN, lw=1.6, label="axis of motion 1")
        ax.set_xlim(sides[0])
        ax.set_ylim(sides[1])
        style_axes(ax, f"{across}, Å", f"{up}, Å")
        if i == 0:
            ax.legend(fontsize=SMALL, loc="upper right", framealpha=0.9, edgecolor="none")
    ax = figure.add_subplot(grid[1, 0])
    ax.bar(found["motion"], found["displacement"], color=BLUE, alpha=0.75)
    style_axes(ax, "principal motion", "displacement of the body, Å")
    ax = figure.add_subplot(grid[1, 1])
    one = found.sel(motion=1)
    bars(ax, one["coordinate"].values, np.linspace(-3.2, 3.2, BINS), " SD", BLUE)
    style_axes(ax, "place on motion 1, SD of the motion", "particles")
    legend_above(ax)
    ax = figure.add_subplot(grid[1, 2])
    bars(ax, one["coordinate_sd"].values, np.linspace(0, 1.05, BINS), " SD", GREEN)
    style_axes(ax, "error of that place (1: nothing is known)", "particles")
    legend_above(ax)
    angle, shift = float(np.linalg.norm(one["turn"])), float(np.linalg.norm(one["shift"]))
    share = 100 * float(one["share"])
    headline(figure, f"Motion 1: {angle:.1f}° and {shift:.1f} Å (SD), {share:.0f} % of the displacement")
    return figure


def _ellipse(covariance: xr.DataArray, across: str, up: str, at: dict[str, float]) -> Ellipse:
    """The shadow, in a plane, of the ellipsoid that holds the fulcrum with 95 %."""
    both = covariance.sel(map_axis=[across, up], map_axis_=[across, up]).values
    values, vectors = np.linalg.eigh(both)
    width, height = 2 * INSIDE * np.sqrt(np.maximum(values, 0.0))
    turned = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
    return Ellipse((at[across], at[up]), width, height, angle=turned, fill=False, color=RED, lw=1.4)
