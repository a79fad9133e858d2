"""What is learned of a body, its fulcrum and principal motions; and settings that were tried, by their worth."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from lrwidgets import form
from lrwidgets.plots.dress import (
    BINS,
    BLUE,
    GREEN,
    GREY,
    INK,
    NARROW,
    ORANGE,
    RED,
    SMALL,
    dress,
    headline,
    legend_above,
    new_figure,
)
from lrwidgets.plots.dress import histogram as bars
from lrwidgets.plots.maps import GREYS, PLANES

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
        dress(ax, f"{across}, Å", f"{up}, Å")
        if i == 0:
            ax.legend(fontsize=SMALL, loc="upper right", framealpha=0.9, edgecolor="none")
    ax = figure.add_subplot(grid[1, 0])
    ax.bar(found["motion"], found["displacement"], color=BLUE, alpha=0.75)
    dress(ax, "principal motion", "displacement of the body, Å")
    ax = figure.add_subplot(grid[1, 1])
    one = found.sel(motion=1)
    bars(ax, one["coordinate"].values, np.linspace(-3.2, 3.2, BINS), " SD", BLUE)
    dress(ax, "place on motion 1, SD of the motion", "particles")
    legend_above(ax)
    ax = figure.add_subplot(grid[1, 2])
    bars(ax, one["coordinate_sd"].values, np.linspace(0, 1.05, BINS), " SD", GREEN)
    dress(ax, "error of that place (1: nothing is known)", "particles")
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


def sweep(found: xr.Dataset, narrow: bool = False) -> Figure:
    """The settings of a sweep by how probable they make a held-out image, best first. narrow: for a side panel."""
    frame = found.to_dataframe().sort_values("rank").reset_index().head(SHOWN)
    names = [str(dim) for dim in found["rank"].dims]
    varied = [name for name in names if found.sizes[name] > 1] or names
    words = [form.words({name: row[name] for name in varied}) for row in frame.to_dict("records")]
    figure = new_figure(NARROW if narrow else 8.4, 1.4 + 0.28 * len(frame))
    ax = figure.subplots()
    at = np.arange(len(frame))[::-1]
    ax.barh(at, frame["gain"], xerr=2 * frame["gain_standard_error"], color=BLUE, alpha=0.75, ecolor=INK, capsize=2)
    ax.axvline(0.0, color=GREY, lw=1.2)
    ax.set_yticks(at, words, fontsize=SMALL)
    dress(ax, "log-likelihood of an image, over the first settings", "")
    headline(figure, f"{found['rank'].size} settings by {found.attrs['images']} held-out images, ± 2 SE")
    return figure
