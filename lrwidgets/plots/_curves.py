"""Curves: FSC of every kind and direction, the history of a run, the Guinier plot."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from lrcore.maps.sharpening import fit_guinier as fitted
from lrcore.records import Fsc
from lrwidgets.plots._style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    SKY,
    SMALL,
    TEXT,
    figure_with_axes,
    new_figure,
    results_group,
    style_axes,
    title,
)

RAMP = LinearSegmentedColormap.from_list("iterations", ["#C6DBEF", SKY, BLUE, "#08306B"])
FSC_STYLES = {
    "unmasked": ("no mask", GREY, "-", 1.4),
    "spherical": ("sphere", SKY, "-.", 1.4),
    "loose": ("loose", GREEN, ":", 1.4),
    "tight": ("tight", GREEN, "-.", 1.4),
    "randomised": ("random phases", ORANGE, ":", 1.6),
    "masked": ("mask", BLUE, "-", 2.2),
    "corrected": ("mask, corrected", RED, "--", 1.8),
}
"""Kind of FSC → its words, colour, style and width of line."""

THRESHOLDS = (0.143, 0.5)
RESOLUTIONS_A = (100, 50, 30, 20, 15, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.8, 2.6, 2.4, 2.2, 2, 1.8, 1.6, 1.4, 1.2, 1)
LEGEND_LINES = 9

BELOW = 0.42
"""Inches from an axis down to its legend, below the label."""
Line = tuple[Fsc, str, str, str, float]
"""A curve, its words, colour, style and width of line."""


def fsc(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Every kind of FSC in the last iteration, and those inside the mask over the iterations.

    narrow: for a side panel.
    """
    data = results_group(tree, "fsc")
    figure, axes = figure_with_axes(3, 12.0, 4.6, narrow, sharey=True)
    last = int(data["iteration"][-1])
    curves = {kind: fsc_curve(data, kind) for kind in FSC_STYLES if kind in data}
    draw_curves(axes[0], [(curve, *FSC_STYLES[kind]) for kind, curve in curves.items()])
    title(axes[0], f"iteration {last}, all kinds")
    for ax, kind in zip(axes[1:], ("masked", "corrected"), strict=True):
        draw_curves(ax, _over_iterations(data, kind))
        title(ax, f"{FSC_STYLES[kind][0]}, by iteration")
    for ax in axes[: 3 if narrow else 1]:
        ax.set_ylabel("Fourier shell correlation", fontsize=TEXT)
    return figure


def history(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Resolution and median changes of the poses over the iterations. narrow: for a side panel."""
    data = results_group(tree, "history")
    moved = data.isel(iteration=data["iteration"] > 0)
    figure, axes = figure_with_axes(3, 12.0, 3.6, narrow)
    changed = {"from_input": "from the input pose", "since_last": "since the last iteration"}
    found = {
        "resolution_masked": "mask",
        "resolution_corrected": "mask, corrected",
        "align_resolution": "used for the poses",
    }
    _draw_history(axes[0], data, found, "resolution, Å (FSC 0.143)")
    for ax, what, label in ((axes[1], "angle", "median rotation, degrees"), (axes[2], "shift", "median shift, Å")):
        _draw_history(ax, moved, {f"{what}_{name}": words for name, words in changed.items()}, label)
        ax.set_ylim(bottom=0)
    return figure


def guinier(tree: xr.DataTree) -> Figure:
    """Mean amplitude of the map by resolution, as it is and weighted by the corrected FSC, and the B-factor it has.

    Raises InputError where too few shells lie between 10 Å and the resolution.
    """
    mean = results_group(tree, "volumes")["half_map"].mean("half").values
    found = fitted(mean, fsc_curve(results_group(tree, "fsc"), "corrected"))
    figure = new_figure(5.4, 4.2)
    ax = figure.subplots()
    squared = found.frequency**2
    for values, words, colour, style in (
        (found.log_amplitude, "as it is", GREY, "--"),
        (found.log_weighted, "weighted by the FSC", BLUE, "-"),
    ):
        ax.plot(squared, np.where(np.isfinite(values), values, np.nan), color=colour, ls=style, label=words)
    ends = np.array([1 / resolution**2 for resolution in found.range_A])
    fit = found.intercept + found.bfactor_A2 / 4 * ends
    ax.plot(ends, fit, color=RED, lw=2, label=f"B = {found.bfactor_A2:.0f} Å², correlation {found.correlation:.2f}")
    ax.set_xlim(0, 1.5 * ends[1])
    style_axes(ax, "spatial frequency squared, 1/Å²", "logarithm of the amplitude")
    ax.legend(fontsize=SMALL, frameon=False)
    return figure


def conical(data: xr.Dataset) -> Figure:
    """The FSC by direction, as `lrcore.maps.conical_fsc.to_dataset` gives it: every cone, the best and the worst."""
    figure = new_figure(5.4, 4.2)
    ax = figure.subplots()
    ax.plot(data["frequency"], data["fsc"].T, color=GREY, lw=0.4, alpha=0.5)
    for where, words, colour in (
        (int(data["area"].values.argmax()), "best", BLUE),
        (int(data["area"].values.argmin()), "worst", RED),
    ):
        cone = data.isel(direction=where)
        label = (
            f"{words}, {float(cone['resolution']):.2f} Å along ({', '.join(f'{x:.2f}' for x in cone['axis'].values)})"
        )
        ax.plot(cone["frequency"], cone["fsc"], color=colour, lw=2, label=label)
    ax.axhline(THRESHOLDS[0], color=INK, lw=0.8, ls=":")
    style_axes(ax, "spatial frequency, 1/Å", "Fourier shell correlation in a cone")
    ax.legend(fontsize=SMALL, frameon=False)
    title(ax, f"smallest over largest area {data.attrs['area_ratio']:.2f}")
    return figure


def fsc_curve(data: xr.Dataset, kind: str, row: int = -1) -> Fsc:
    """One curve of the group /fsc, of the last iteration unless told otherwise."""
    return Fsc(kind, data["frequency"].values, data[kind].isel(iteration=row).values)


def _over_iterations(data: xr.Dataset, kind: str) -> list[Line]:
    """One line for each iteration, paler the older; the start is dashed."""
    n = data.sizes["iteration"]
    named = set(np.linspace(0, n - 1, min(n, LEGEND_LINES)).round().astype(int))
    lines: list[Line] = []
    for row in range(n):
        number, newest = int(data["iteration"][row]), row == n - 1
        words = ("0, the start" if number == 0 else str(number)) if row in named else ""
        colour, style = (GREY, "--") if number == 0 else (to_hex(RAMP(0.15 + 0.85 * row / max(n - 1, 1))), "-")
        lines.append((fsc_curve(data, kind, row), words, colour, style, 2.2 if newest else 1.4))
    return lines


def draw_curves(ax: Axes, lines: Sequence[Line], columns: int = 2) -> None:
    """FSC curves; where they cross the thresholds is marked and stands in the legend, unless a line has no words."""
    for curve, words, colour, style, width in lines:
        crossed = {t: curve.resolution_A(t) for t in THRESHOLDS if np.any(curve.value[1:] < t)}
        label = f"{words}: {' / '.join(f'{crossed[t]:.2f}' if t in crossed else '–' for t in THRESHOLDS)}"
        if curve.kind == "randomised":
            crossed, label = {}, words  # its fall is made, not measured
        ax.plot(curve.frequency, curve.value, color=colour, ls=style, lw=width, label=label if words else None)
        at = [1 / resolution for resolution in crossed.values()]
        ax.plot(at, list(crossed), ls="", marker="o", ms=4, mfc="white", mec=colour, zorder=3)
    frequency = lines[0][0].frequency
    ax.set_xlim(0, frequency[-1])
    ax.set_ylim(-0.06, 1.04)
    for threshold in THRESHOLDS:
        ax.axhline(threshold, color=INK, lw=0.8, ls=(0, (1, 2)), zorder=0)
        ax.text(0.004 * frequency[-1], threshold + 0.01, f"{threshold:g}", fontsize=SMALL, color=INK)
    ax.axhline(0, color=GREY, lw=0.6, zorder=0)
    style_axes(ax, "spatial frequency, 1/Å", "")
    _top_axis(ax, frequency[-1])
    legend = ax.legend(
        title="Å at FSC 0.143 / 0.5",
        fontsize=SMALL,
        title_fontsize=SMALL,
        frameon=False,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.48, 0.0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -BELOW, ax.figure.dpi_scale_trans),
        columnspacing=1.0,
        labelspacing=0.3,
    )
    legend.get_title().set_color(INK)


def _top_axis(ax: Axes, nyquist: float) -> None:
    """Resolutions in Å along the top, as many as have room."""
    marks: list[float] = []
    for resolution in RESOLUTIONS_A:
        if 1 / resolution <= 1.001 * nyquist and 1 / resolution - (1 / marks[-1] if marks else 0) >= 0.09 * nyquist:
            marks.append(resolution)
    top = ax.secondary_xaxis("top")
    top.set_xticks([1 / mark for mark in marks], [f"{mark:g}" for mark in marks])
    top.tick_params(labelsize=SMALL, color=GREY)
    top.spines["top"].set_color(GREY)
    top.set_xlabel("resolution, Å", fontsize=TEXT)


def _draw_history(ax: Axes, data: xr.Dataset, lines: dict[str, str], label: str) -> None:
    """Variables over the iterations. lines: variable → words."""
    styles = ((BLUE, "-", "o"), (RED, "--", "s"), (GREY, ":", "^"))
    for (name, words), (colour, style, marker) in zip(lines.items(), styles, strict=False):
        ax.plot(data["iteration"], data[name], color=colour, ls=style, marker=marker, ms=4.5, label=words)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style_axes(ax, "iteration (0: the start)" if 0 in data["iteration"] else "iteration", label)
    ax.legend(fontsize=SMALL, frameon=False)
