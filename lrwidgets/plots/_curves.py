"""Draw curves: FSC of every kind and direction, history of a run, Guinier plot."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from lrcore.maps.sharpening import fit_guinier
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
    set_axis_title,
    style_axes,
)

RAMP = LinearSegmentedColormap.from_list("iterations", ["#C6DBEF", SKY, BLUE, "#08306B"])
FSC_STYLES = {
    "unmasked": ("unmasked", GREY, "-", 1.4),
    "spherical": ("spherical mask", SKY, "-.", 1.4),
    "loose": ("loose mask", GREEN, ":", 1.4),
    "tight": ("tight mask", GREEN, "-.", 1.4),
    "randomised": ("phase-randomised", ORANGE, ":", 1.6),
    "masked": ("masked", BLUE, "-", 2.2),
    "corrected": ("corrected", RED, "--", 1.8),
}
"""Kind of FSC → label, colour, line style and line width."""

THRESHOLDS = (0.143, 0.5)
RESOLUTIONS_A = (100, 50, 30, 20, 15, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.8, 2.6, 2.4, 2.2, 2, 1.8, 1.6, 1.4, 1.2, 1)
LEGEND_LINES = 9

LEGEND_OFFSET_IN = 0.42
"""Distance in inches from an axis down to its legend, which is below the label."""
Line = tuple[Fsc, str, str, str, float]
"""A curve, its label, colour, line style and line width."""


def fsc(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Draw all FSC curves of the last iteration, and the masked and corrected ones of every iteration.

    Parameters
    ----------
    tree : results, as `Session.results` returns them
    narrow : draw for a side panel

    Returns
    -------
    Figure
        The resolutions at FSC 0.143 and 0.5 are in the legends.

    References
    ----------
    Corrected FSC: Chen et al. 2013, Ultramicroscopy 135, 24. Threshold 0.143: Rosenthal & Henderson 2003, J. Mol. Biol.
    333, 721.
    """
    data = results_group(tree, "fsc")
    figure, axes = figure_with_axes(3, 12.0, 4.6, narrow, sharey=True)
    last = int(data["iteration"][-1])
    curves = {kind: fsc_curve(data, kind) for kind in FSC_STYLES if kind in data}
    draw_curves(axes[0], [(curve, *FSC_STYLES[kind]) for kind, curve in curves.items()])
    set_axis_title(axes[0], f"all FSC curves, iteration {last}")
    for ax, kind in zip(axes[1:], ("masked", "corrected"), strict=True):
        draw_curves(ax, _over_iterations(data, kind))
        set_axis_title(ax, f"{FSC_STYLES[kind][0]} FSC, all iterations")
    for ax in axes[: 3 if narrow else 1]:
        ax.set_ylabel("Fourier shell correlation", fontsize=TEXT)
    return figure


def history(tree: xr.DataTree, narrow: bool = False) -> Figure:
    """Draw the resolution and the median pose changes of each iteration.

    Parameters
    ----------
    tree, narrow : see `fsc`

    Returns
    -------
    Figure
        Resolution; rotation changes; shift changes of the fulcrum.
    """
    data = results_group(tree, "history")
    iterated = data.isel(iteration=data["iteration"] > 0)
    figure, axes = figure_with_axes(3, 12.0, 3.6, narrow)
    changes = {"from_input": "from the input pose", "since_last": "since the last iteration"}
    resolutions = {
        "resolution_masked": "masked",
        "resolution_corrected": "corrected",
        "align_resolution": "alignment limit",
    }
    _draw_history(axes[0], data, resolutions, "resolution at FSC 0.143, Å")
    for ax, what, label in (
        (axes[1], "angle", "median rotation change, degrees"),
        (axes[2], "shift", "median shift change, Å"),
    ):
        _draw_history(ax, iterated, {f"{what}_{name}": words for name, words in changes.items()}, label)
        ax.set_ylim(bottom=0)
    return figure


def guinier(tree: xr.DataTree) -> Figure:
    """Draw the Guinier plot of the map, unweighted and weighted by the corrected FSC, and the fitted B-factor.

    Parameters
    ----------
    tree : results, as `Session.results` returns them

    Returns
    -------
    Figure
        Natural logarithm of the mean amplitude of each shell over the spatial frequency squared.

    Raises
    ------
    InputError
        If there are too few shells between 10 Å and the resolution.

    References
    ----------
    Rosenthal & Henderson 2003, J. Mol. Biol. 333, 721.
    """
    mean = results_group(tree, "volumes")["half_map"].mean("half").values
    fit = fit_guinier(mean, fsc_curve(results_group(tree, "fsc"), "corrected"))
    figure = new_figure(5.4, 4.2)
    ax = figure.subplots()
    squared = fit.frequency**2
    for values, label, colour, style in (
        (fit.log_amplitude, "unweighted", GREY, "--"),
        (fit.log_weighted, "FSC-weighted", BLUE, "-"),
    ):
        ax.plot(squared, np.where(np.isfinite(values), values, np.nan), color=colour, ls=style, label=label)
    ends = np.array([1 / resolution**2 for resolution in fit.range_A])
    line = fit.intercept + fit.bfactor_A2 / 4 * ends
    ax.plot(ends, line, color=RED, lw=2, label=f"B = {fit.bfactor_A2:.0f} Å², correlation {fit.correlation:.2f}")
    ax.set_xlim(0, 1.5 * ends[1])
    style_axes(ax, "spatial frequency squared, 1/Å²", "ln(mean amplitude)")
    ax.legend(fontsize=SMALL, frameon=False)
    return figure


def conical(data: xr.Dataset) -> Figure:
    """Draw the conical FSC: the curve of every direction, with the best and the worst marked.

    Parameters
    ----------
    data : as `lrcore.maps.conical_fsc.conical_fsc_dataset` returns it

    Returns
    -------
    Figure
        The title gives the ratio of the smallest to the largest area under the curves; 1 is isotropic.
    """
    figure = new_figure(5.4, 4.2)
    ax = figure.subplots()
    ax.plot(data["frequency"], data["fsc"].T, color=GREY, lw=0.4, alpha=0.5)
    for direction, name, colour in (
        (int(data["area"].values.argmax()), "best", BLUE),
        (int(data["area"].values.argmin()), "worst", RED),
    ):
        cone = data.isel(direction=direction)
        label = (
            f"{name}, {float(cone['resolution']):.2f} Å along ({', '.join(f'{x:.2f}' for x in cone['axis'].values)})"
        )
        ax.plot(cone["frequency"], cone["fsc"], color=colour, lw=2, label=label)
    ax.axhline(THRESHOLDS[0], color=INK, lw=0.8, ls=":")
    style_axes(ax, "spatial frequency, 1/Å", "Fourier shell correlation in a cone")
    ax.legend(fontsize=SMALL, frameon=False)
    set_axis_title(ax, f"area under the FSC, worst over best cone: {data.attrs['area_ratio']:.2f}")
    return figure


def fsc_curve(data: xr.Dataset, kind: str, row: int = -1) -> Fsc:
    """Return one curve of the group /fsc; row: of the iterations, the last by default."""
    return Fsc(kind, data["frequency"].values, data[kind].isel(iteration=row).values)


def _over_iterations(data: xr.Dataset, kind: str) -> list[Line]:
    """Return one line for each iteration, the newest darkest; the start is dashed."""
    n = data.sizes["iteration"]
    labelled = set(np.linspace(0, n - 1, min(n, LEGEND_LINES)).round().astype(int))
    lines: list[Line] = []
    for row in range(n):
        number, newest = int(data["iteration"][row]), row == n - 1
        label = ("0 (start)" if number == 0 else str(number)) if row in labelled else ""
        colour, style = (GREY, "--") if number == 0 else (to_hex(RAMP(0.15 + 0.85 * row / max(n - 1, 1))), "-")
        lines.append((fsc_curve(data, kind, row), label, colour, style, 2.2 if newest else 1.4))
    return lines


def draw_curves(ax: Axes, lines: Sequence[Line], columns: int = 2) -> None:
    """Draw FSC curves with marks where they cross the thresholds; those resolutions are added to non-empty labels."""
    for curve, name, colour, style, width in lines:
        crossed = {t: curve.resolution_A(t) for t in THRESHOLDS if np.any(curve.value[1:] < t)}
        label = f"{name}: {' / '.join(f'{crossed[t]:.2f}' if t in crossed else '–' for t in THRESHOLDS)}"
        if curve.kind == "randomised":
            crossed, label = {}, name  # it falls because phases were randomised, which is not a resolution
        ax.plot(curve.frequency, curve.value, color=colour, ls=style, lw=width, label=label if name else None)
        crossings = [1 / resolution for resolution in crossed.values()]
        ax.plot(crossings, list(crossed), ls="", marker="o", ms=4, mfc="white", mec=colour, zorder=3)
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
        title="resolution at FSC 0.143 / 0.5, Å",
        fontsize=SMALL,
        title_fontsize=SMALL,
        frameon=False,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.48, 0.0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -LEGEND_OFFSET_IN, ax.figure.dpi_scale_trans),
        columnspacing=1.0,
        labelspacing=0.3,
    )
    legend.get_title().set_color(INK)


def _top_axis(ax: Axes, nyquist: float) -> None:
    """Label the top axis with resolutions in Å, as many as fit."""
    ticks: list[float] = []
    for resolution in RESOLUTIONS_A:
        if 1 / resolution <= 1.001 * nyquist and 1 / resolution - (1 / ticks[-1] if ticks else 0) >= 0.09 * nyquist:
            ticks.append(resolution)
    top = ax.secondary_xaxis("top")
    top.set_xticks([1 / tick for tick in ticks], [f"{tick:g}" for tick in ticks])
    top.tick_params(labelsize=SMALL, color=GREY)
    top.spines["top"].set_color(GREY)
    top.set_xlabel("resolution, Å", fontsize=TEXT)


def _draw_history(ax: Axes, data: xr.Dataset, lines: dict[str, str], label: str) -> None:
    """Draw variables over the iterations. lines: variable → label in the legend."""
    styles = ((BLUE, "-", "o"), (RED, "--", "s"), (GREY, ":", "^"))
    for (name, words), (colour, style, marker) in zip(lines.items(), styles, strict=False):
        ax.plot(data["iteration"], data[name], color=colour, ls=style, marker=marker, ms=4.5, label=words)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style_axes(ax, "iteration (0 = start)" if 0 in data["iteration"] else "iteration", label)
    ax.legend(fontsize=SMALL, frameon=False)
