"""Draw the estimated motion of a body: fulcrum, axis, and the particles' positions along it."""

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
    legend_above,
    new_figure,
    set_figure_title,
    style_axes,
)
from lrwidgets.plots._style import histogram as bars

MAX_SETTINGS_SHOWN = 24
"""Number of settings of a sweep that are drawn, best first."""
RADIUS_95_PERCENT_SD = 2.795
"""Radius in SD of the ellipsoid that contains 95 % of a Gaussian in three dimensions."""


def motion(motions: xr.Dataset, volume: xr.DataArray, mask: xr.DataArray) -> Figure:
    """Draw the fulcrum and the axis of motion 1 on slices, the size of all motions, and the particles along motion 1.

    Parameters
    ----------
    motions : principal motions, as `lrcore.principal_motions` returns them
    volume : map, (z, y, x), coordinates in Å from the box centre
    mask : mask of the body, on the same grid

    Returns
    -------
    Figure
        Three slices through the fulcrum with its 95 % region; displacement of the body by motion;
        histograms of the position of each particle along motion 1 and of its error.
    """
    figure = new_figure(11.0, 6.6)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.5, 1))
    fulcrum = dict(zip("xyz", motions["fulcrum"].values, strict=True))
    turn = dict(zip("xyz", motions["turn"].sel(motion=1).values, strict=True))
    low, high = np.quantile(volume.values[mask.values > 0.5], (0.005, 0.998))
    for i, (across, up, along) in enumerate(PLANES):
        ax = figure.add_subplot(grid[0, i])
        plane = volume.sel({along: fulcrum[along]}, method="nearest").transpose(up, across)
        outline = mask.sel({along: fulcrum[along]}, method="nearest").transpose(up, across)
        sides = [(float(mask[a][0]), float(mask[a][-1])) for a in (across, up)]
        ax.imshow(plane, cmap=GREYS, vmin=low, vmax=high, origin="lower", extent=(*sides[0], *sides[1]))
        if float(outline.max()) > 0.5:
            ax.contour(mask[across], mask[up], outline, levels=[0.5], colors=[ORANGE], linewidths=1.2)
        ax.add_patch(_ellipse(motions["fulcrum_covariance"], across, up, fulcrum))
        ax.plot(fulcrum[across], fulcrum[up], "+", color=RED, ms=11, mew=2, label="fulcrum, 95 % region")
        length = 0.35 * (sides[0][1] - sides[0][0]) / max(float(np.linalg.norm(list(turn.values()))), 1e-9)
        tip = [(fulcrum[a] - length * turn[a], fulcrum[a] + length * turn[a]) for a in (across, up)]
        ax.plot(*tip, color=GREEN, lw=1.6, label="axis of motion 1")
        ax.set_xlim(sides[0])
        ax.set_ylim(sides[1])
        style_axes(ax, f"{across}, Å", f"{up}, Å")
        if i == 0:
            ax.legend(fontsize=SMALL, loc="upper right", framealpha=0.9, edgecolor="none")
    ax = figure.add_subplot(grid[1, 0])
    ax.bar(motions["motion"], motions["displacement"], color=BLUE, alpha=0.75)
    style_axes(ax, "principal motion", "RMS displacement of the body, Å")
    ax = figure.add_subplot(grid[1, 1])
    first = motions.sel(motion=1)
    bars(ax, first["coordinate"].values, np.linspace(-3.2, 3.2, BINS), " SD", BLUE)
    style_axes(ax, "position along motion 1, SD of the motion", "particles")
    legend_above(ax)
    ax = figure.add_subplot(grid[1, 2])
    bars(ax, first["coordinate_sd"].values, np.linspace(0, 1.05, BINS), " SD", GREEN)
    style_axes(ax, "error of that position, SD (1: not determined)", "particles")
    legend_above(ax)
    angle, shift = float(np.linalg.norm(first["turn"])), float(np.linalg.norm(first["shift"]))
    share = 100 * float(first["share"])
    set_figure_title(
        figure, f"Motion 1: {angle:.1f}° and {shift:.1f} Å (SD), {share:.0f} % of the mean square displacement"
    )
    return figure


def _ellipse(covariance: xr.DataArray, across: str, up: str, centre: dict[str, float]) -> Ellipse:
    """Return the projection onto a plane of the 95 % confidence ellipsoid of the fulcrum."""
    in_plane = covariance.sel(map_axis=[across, up], map_axis_=[across, up]).values
    values, vectors = np.linalg.eigh(in_plane)
    width, height = 2 * RADIUS_95_PERCENT_SD * np.sqrt(np.maximum(values, 0.0))
    angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
    return Ellipse((centre[across], centre[up]), width, height, angle=angle, fill=False, color=RED, lw=1.4)
