"""Compare two steps in one figure: the start and the end of a run, or any two steps."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrcore.analysis.comparison import Comparison
from lrcore.records import Fsc
from lrwidgets.plots._curves import FSC_STYLES, Line, draw_curves, fsc_curve
from lrwidgets.plots._maps import draw_slices, filtered_map
from lrwidgets.plots._poses import draw_change, draw_sd
from lrwidgets.plots._style import (
    BINS,
    BLUE,
    GREY,
    HEADROOM,
    ORANGE,
    TEXT,
    figure_with_axes,
    histogram,
    last_iteration,
    legend_above,
    new_figure,
    particle_count,
    results_group,
    set_figure_title,
    style_axes,
)


def overview(before: xr.DataTree, after: xr.DataTree) -> Figure:
    """Draw an overview of a run: slices and FSC before and after, pose changes and pose uncertainty.

    Parameters
    ----------
    before : results of the start, as `Session.results` returns them
    after : results of the last step

    Returns
    -------
    Figure
        Its title gives the masked resolutions.
    """
    figure = new_figure(10.0, 7.0)
    grid = figure.add_gridspec(2, 2, width_ratios=(2.0, 1.0), height_ratios=(2.3, 1.0))
    left, right, bottom = (figure.add_subfigure(part) for part in (grid[0, 0], grid[0, 1], grid[1, :]))
    maps = {"before": filtered_map(before), "after": filtered_map(after)}
    draw_slices(left, maps, results_group(after, "mask")["mask"])
    lines: list[Line] = [
        (
            fsc_curve(results_group(tree, "fsc"), kind),
            f"{when}, {FSC_STYLES[kind][0]}",
            colour,
            FSC_STYLES[kind][2],
            width,
        )
        for when, tree, colour, width in (("before", before, GREY, 1.8), ("after", after, BLUE, 2.2))
        for kind in ("masked", "corrected")
    ]
    ax = right.subplots()
    draw_curves(ax, lines, columns=1)
    ax.set_ylabel("Fourier shell correlation of the half maps", fontsize=TEXT)
    panels = bottom.subplots(1, 3)
    draw_change(panels[0], after, "angle", since_last=False)
    draw_change(panels[1], after, "shift", since_last=False)
    draw_sd(panels[2], after, "rotation")
    first, last = (fsc_curve(results_group(tree, "fsc"), "masked").resolution_A() for tree in (before, after))
    set_figure_title(
        figure,
        f"{particle_count(after)}, {last_iteration(after)} iterations: {first:.1f} Å → {last:.1f} Å inside the mask",
    )
    return figure


def preview(tree: xr.DataTree, present: xr.DataTree | None = None, narrow: bool = False) -> Figure:
    """Draw a preview: its FSC with that of the present step, and the pose changes from the input.

    Parameters
    ----------
    tree : results of the preview, a step of a subset of the particles
    present : results of the present step; None before the start
    narrow : draw for a side panel

    Returns
    -------
    Figure
        Corrected and masked FSC; rotation and shift changes.
    """
    figure, axes = figure_with_axes(3, 12.0, 3.6, narrow)
    shown = [("present step", present, GREY, 1.8), (f"preview, {particle_count(tree)}", tree, BLUE, 2.2)]
    lines: list[Line] = [
        (
            fsc_curve(results_group(one, "fsc"), kind),
            f"{when}, {FSC_STYLES[kind][0]}",
            colour,
            FSC_STYLES[kind][2],
            width,
        )
        for when, one, colour, width in shown
        if one is not None
        for kind in ("masked", "corrected")
    ]
    draw_curves(axes[0], lines, columns=1)
    axes[0].set_ylabel("Fourier shell correlation", fontsize=TEXT)
    draw_change(axes[1], tree, "angle", since_last=False)
    draw_change(axes[2], tree, "shift", since_last=False)
    return figure


def compare(comparison: Comparison) -> Figure:
    """Draw two steps side by side: slices of their maps, FSC, pose differences and held-out likelihood.

    Parameters
    ----------
    comparison : as `Session.compare` returns it

    Returns
    -------
    Figure
        Its title is the verdict or, without one, the summary.
    """
    figure = new_figure(10.0, 7.0)
    grid = figure.add_gridspec(2, 2, width_ratios=(2.0, 1.0), height_ratios=(2.3, 1.0))
    left, right, bottom = (figure.add_subfigure(part) for part in (grid[0, 0], grid[0, 1], grid[1, :]))
    maps = {
        f"{which}: {name.partition(' of the ')[0]}": comparison.maps["map"][row]
        for row, (which, name) in enumerate(_step_labels(comparison))
    }
    draw_slices(left, maps, comparison.maps["mask"])
    frequency = comparison.fsc["frequency"].values
    lines: list[Line] = [
        (
            Fsc(kind, frequency, comparison.fsc[kind].values[row]),
            f"{which}, {FSC_STYLES[kind][0]}",
            colour,
            FSC_STYLES[kind][2],
            width,
        )
        for row, (which, colour, width) in enumerate((("a", GREY, 1.8), ("b", BLUE, 2.2)))
        for kind in ("masked", "corrected")
        if kind in comparison.fsc
    ]
    ax = right.subplots()
    draw_curves(ax, lines, columns=1)
    ax.set_ylabel("Fourier shell correlation of the half maps", fontsize=TEXT)
    panels = bottom.subplots(1, 2 if comparison.held_out is None else 3)
    if comparison.held_out is not None:
        _draw_held_out(panels[2], comparison.held_out)
    for ax, name, label, unit in (
        (panels[0], "angle_difference", "rotation from a to b, degrees", "°"),
        (panels[1], "shift_difference", "shift of the fulcrum from a to b, Å", " Å"),
    ):
        values = comparison.poses[name].values
        histogram(ax, values, np.linspace(0, 1.15 * float(np.quantile(values, 0.99)) or 1.0, BINS), unit, BLUE)
        style_axes(ax, label, "particles")
        legend_above(ax)
    set_figure_title(
        figure, (comparison.verdict or comparison.summary).partition(" (" if comparison.verdict else ";")[0]
    )
    return figure


def _draw_held_out(ax: Axes, scores: xr.Dataset) -> None:
    """Draw the log-likelihood gain of each held-out image with step b over step a, and the mean ± 2 SE."""
    gains = np.diff(scores["log_likelihood"].values, axis=0)[0]
    low, high = np.quantile(gains, (0.01, 0.99))
    histogram(ax, gains, np.linspace(min(low, 0.0), max(high, 0.0) or 1.0, BINS), "", BLUE)
    gain, error = scores.attrs["gain"], scores.attrs["gain_standard_error"]
    ax.axvline(0.0, 0, 1 / HEADROOM, color=GREY, lw=1.6, ls="--", label="no difference")
    ax.axvspan(gain - 2 * error, gain + 2 * error, 0, 1 / HEADROOM, color=ORANGE, alpha=0.5, label="mean ± 2 SE")
    style_axes(ax, "log-likelihood gain of an image, b over a", "particles")
    legend_above(ax)


def _step_labels(comparison: Comparison) -> list[tuple[str, str]]:
    """Return ("a", name) and ("b", name)."""
    return list(zip("ab", comparison.names, strict=True))
