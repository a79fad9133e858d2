"""The poses of the last iteration: how far they moved, how sure they are, from where the particles are seen."""

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrcore.spec import RefineSpec
from lrwidgets.plots.dress import (
    BINS,
    BLUE,
    GREEN,
    HEADROOM,
    INK,
    ORANGE,
    RED,
    Float64,
    dress,
    group,
    headline,
    histogram,
    last_iteration,
    legend_above,
    new_figure,
    particle_count,
)

UNITS = {"°": "degrees", " Å": "Å"}
"""Unit as it follows a number → as it labels an axis."""
TILTS = (0, 30, 60, 90, 120, 150, 180)


def changes(tree: xr.DataTree, by_half: bool = False) -> Figure:
    """Rotation and shift of every particle in the last iteration: from the input pose, and since the last iteration.

    Prior and extent stand where they hold: about the input pose, or about the last one after re-centring. by_half:
    whether the two half sets are drawn as well, as lines.
    """
    figure = new_figure(9.5, 6.2)
    axes = figure.subplots(2, 2)
    for i, since_last in enumerate((False, True)):
        draw_change(axes[i, 0], tree, "angle", since_last, by_half)
        draw_change(axes[i, 1], tree, "shift", since_last, by_half)
    headline(figure, f"Pose changes of {particle_count(tree)}, iteration {last_iteration(tree)}")
    return figure


def uncertainty(tree: xr.DataTree) -> Figure:
    """Standard deviation of every particle's rotation and shift in the last iteration, over the axes' mean square."""
    figure = new_figure(9.5, 3.6)
    axes = figure.subplots(1, 2)
    draw_sd(axes[0], tree, "rotation")
    draw_sd(axes[1], tree, "shift")
    headline(figure, f"Uncertainty of the poses of {particle_count(tree)}, iteration {last_iteration(tree)}")
    return figure


def directions(tree: xr.DataTree) -> Figure:
    """From where the particles are seen in the last iteration, by the map's axes; equal areas, equal solid angles."""
    toward = group(tree, "particles")["rotation"].isel(iteration=-1).values[:, 2]
    rot, height = np.degrees(np.arctan2(toward[:, 1], toward[:, 0])), np.clip(toward[:, 2], -1, 1)
    figure = new_figure(7.4, 4.0)
    ax = figure.subplots()
    counts, _, _, image = ax.hist2d(rot, height, bins=(36, 18), range=((-180, 180), (-1, 1)), cmap="viridis")
    figure.colorbar(image, ax=ax, label="particles")
    ax.set_yticks(np.cos(np.radians(TILTS)), [str(tilt) for tilt in TILTS])
    ax.set_xticks(range(-180, 181, 60))
    dress(ax, "rot, degrees", "tilt, degrees")
    seen = float((counts > 0).mean())
    headline(figure, f"Viewing directions of {particle_count(tree)}, iteration {last_iteration(tree)}: {seen:.0%} seen")
    return figure


def draw_change(ax: Axes, tree: xr.DataTree, what: str, since_last: bool, by_half: bool = False) -> None:
    """Histogram of one change in the last iteration. what: angle or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    values = group(tree, "particles")[f"{what}_change" + "_last" * since_last].isel(iteration=-1).values
    sd, extent, unit, words, recentred = {
        "angle": (spec.rotation_prior_sd_deg, spec.rotation_limit_deg, "°", "rotation", spec.recenter_rotations),
        "shift": (spec.shift_prior_sd_A, spec.shift_limit_A, " Å", "shift", spec.recenter_shifts),
    }[what]
    bounded = since_last == recentred
    edges = _edges(values, extent if bounded else None)
    histogram(ax, values, edges, unit, GREEN if since_last else BLUE)
    if by_half:
        half = group(tree, "particles")["half"].values
        for number, style in ((1, "-"), (2, "--")):
            values_there, words_there = values[half == number] * (1 - 1e-9), f"half set {number}"
            ax.hist(values_there, bins=list(edges), histtype="step", color=INK, ls=style, lw=1.1, label=words_there)
    if bounded and spec.prior == "gaussian":
        x = np.linspace(0, edges[-1], 300)
        density = len(values) * edges[1] / sd * _length_density(x / sd, 3 if what == "angle" else 2)
        ax.plot(x, density, color=ORANGE, lw=2, label=f"prior, SD {sd:g}{unit} per axis")
    if bounded:
        ax.axvline(extent, 0, 1 / HEADROOM, color=RED, lw=1.6, ls="--", label=f"extent {extent:g}{unit}")
    now = last_iteration(tree)
    since = "from the input pose"
    if since_last:
        since = f"since the last iteration ({f'{now - 1} to {now}' if now else 'none yet'})"
    dress(ax, f"{words} {since}, {UNITS[unit]}", "particles")
    legend_above(ax)


def draw_sd(ax: Axes, tree: xr.DataTree, what: str) -> None:
    """Histogram of one standard deviation in the last iteration. what: rotation or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    each = group(tree, "particles")[f"{what}_sd"].isel(iteration=-1).values
    prior, unit = (spec.rotation_prior_sd_deg, "°") if what == "rotation" else (spec.shift_prior_sd_A, " Å")
    values = np.sqrt((each**2).mean(axis=-1))
    low, high = np.quantile(values, (0.01, 0.99))
    histogram(ax, values, np.linspace(0.8 * low, 1.2 * high or 1.0, BINS), f"{unit} per axis", BLUE)
    if spec.prior == "gaussian":
        where = "" if prior < ax.get_xlim()[1] else ", beyond"
        ax.axvline(prior, 0, 1 / HEADROOM, color=ORANGE, lw=2, label=f"prior {prior:g}{unit}{where}")
    dress(ax, f"uncertainty (SD) of the {what}, {UNITS[unit]}", "particles")
    legend_above(ax)


def _edges(values: Float64, extent: float | None) -> Float64:
    """Edges of bars from 0 to past most of the values and the extent, which is one of them."""
    most = 1.15 * float(np.quantile(values, 0.99)) if len(values) else 0.0
    width = (extent or most or 1.0) / BINS
    count = max(BINS + 3, math.ceil(most / width) + 1)
    return np.arange(count, dtype=np.float64) * width


def _length_density(x: Float64, dimensions: int) -> Float64:
    """Density of the length of a standard Gaussian vector in 2 or 3 dimensions."""
    scale = math.sqrt(2 / math.pi) if dimensions == 3 else 1.0
    density: Float64 = scale * x ** (dimensions - 1) * np.exp(-0.5 * x**2)
    return density
