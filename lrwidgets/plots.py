"""Figures of results: from the xarray tree (docs/results.md) to a matplotlib Figure; never pyplot, so on any thread."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from lrcore.fourier import filter_map
from lrcore.fsc import combined_gain
from lrcore.io.files import written_whole
from lrcore.masks import centre_of_mass
from lrcore.records import Fsc
from lrcore.spec import RefineSpec

Float64 = npt.NDArray[np.float64]

# The colours of Okabe & Ito, which stay apart for colour-blind eyes; styles of lines differ as well.
BLUE, SKY, ORANGE, RED, GREEN, GREY, INK = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#8C8C8C", "#222222"
RAMP = LinearSegmentedColormap.from_list("iterations", ["#C6DBEF", SKY, BLUE, "#08306B"])
GREYS = colormaps["gray"].resampled(48)
"""As many as an eye tells apart, and half the file."""
KINDS = {
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
BINS = 40
PLANES = (("x", "y", "z"), ("x", "z", "y"), ("y", "z", "x"))
"""Axes of a slice, and the one across it."""
UNITS = {"°": "degrees", " Å": "Å"}
"""Unit as it follows a number → as it labels an axis."""
HEADROOM = 1.4
"""Height of a histogram's axis over that of its bars: there stands the legend."""
MARGIN_A = 8.0
"""How far a slice shows what lies around the mask."""
SMALL, TEXT, LARGE = 8.5, 9.5, 11.5
"""Sizes of text in points."""


def fsc(tree: xr.DataTree) -> Figure:
    """Every kind of FSC in the last iteration, and those inside the mask over the iterations."""
    data = _group(tree, "fsc")
    figure = _figure(12.0, 4.6)
    axes = figure.subplots(1, 3, sharey=True)
    last = int(data["iteration"][-1])
    curves = {kind: _curve(data, kind) for kind in KINDS if kind in data}
    _draw_curves(axes[0], [(curve, *KINDS[kind]) for kind, curve in curves.items()])
    _title(axes[0], f"iteration {last}, all kinds")
    for ax, kind in zip(axes[1:], ("masked", "corrected"), strict=True):
        _draw_curves(ax, _over_iterations(data, kind))
        _title(ax, f"{KINDS[kind][0]}, by iteration")
    axes[0].set_ylabel("Fourier shell correlation", fontsize=TEXT)
    return figure


def changes(tree: xr.DataTree) -> Figure:
    """Rotation and shift of every particle in the last iteration: from the input pose, and since the last iteration.

    Prior and extent stand where they hold: about the input pose, or about the last one after re-centring.
    """
    figure = _figure(9.5, 6.2)
    axes = figure.subplots(2, 2)
    for i, since_last in enumerate((False, True)):
        _draw_change(axes[i, 0], tree, "angle", since_last)
        _draw_change(axes[i, 1], tree, "shift", since_last)
    _headline(figure, f"Pose changes of {_particles(tree)}, iteration {_last(tree)}")
    return figure


def slices(before: xr.DataArray, after: xr.DataArray, mask: xr.DataArray) -> Figure:
    """Three orthogonal slices of two maps through the middle of the mask: maps on (z, y, x) in Å, one contrast.

    `filtered_map(tree)` makes such a map from results.
    """
    figure = _figure(9.5, 6.6)
    _draw_slices(figure, {"before": before, "after": after}, mask)
    return figure


def history(tree: xr.DataTree) -> Figure:
    """Resolution and median changes of the poses over the iterations."""
    data = _group(tree, "history")
    moved = data.isel(iteration=data["iteration"] > 0)
    figure = _figure(12.0, 3.6)
    axes = figure.subplots(1, 3)
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


def uncertainty(tree: xr.DataTree) -> Figure:
    """Standard deviation of every particle's rotation and shift in the last iteration, over the axes' mean square."""
    figure = _figure(9.5, 3.6)
    axes = figure.subplots(1, 2)
    _draw_sd(axes[0], tree, "rotation")
    _draw_sd(axes[1], tree, "shift")
    _headline(figure, f"Uncertainty of the poses of {_particles(tree)}, iteration {_last(tree)}")
    return figure


def overview(before: xr.DataTree, after: xr.DataTree) -> Figure:
    """One picture of a run: slices and FSC before and after, changes and uncertainty of the poses."""
    figure = _figure(10.0, 7.0)
    grid = figure.add_gridspec(2, 2, width_ratios=(2.0, 1.0), height_ratios=(2.3, 1.0))
    left, right, bottom = (figure.add_subfigure(part) for part in (grid[0, 0], grid[0, 1], grid[1, :]))
    maps = {"before": filtered_map(before), "after": filtered_map(after)}
    _draw_slices(left, maps, _group(after, "mask")["mask"])
    lines: list[Line] = [
        (_curve(_group(tree, "fsc"), kind), f"{when}, {KINDS[kind][0]}", colour, KINDS[kind][2], width)
        for when, tree, colour, width in (("before", before, GREY, 1.8), ("after", after, BLUE, 2.2))
        for kind in ("masked", "corrected")
    ]
    ax = right.subplots()
    _draw_curves(ax, lines, columns=1)
    ax.set_ylabel("Fourier shell correlation of the half maps", fontsize=TEXT)
    panels = bottom.subplots(1, 3)
    _draw_change(panels[0], after, "angle", since_last=False)
    _draw_change(panels[1], after, "shift", since_last=False)
    _draw_sd(panels[2], after, "rotation")
    first, last = (_curve(_group(tree, "fsc"), "masked").resolution_A() for tree in (before, after))
    _headline(figure, f"{_particles(after)}, {_last(after)} iterations: {first:.1f} Å → {last:.1f} Å inside the mask")
    return figure


def local_resolution(resolution: xr.DataArray, mask: xr.DataArray) -> Figure:
    """Slices of a map of local resolution inside its mask, and its histogram there: both on (z, y, x) in Å."""
    inside = resolution.where(mask > 0.5)
    values = resolution.values[mask.values > 0.5]
    low, high = np.quantile(values, (0.01, 0.99))
    figure = _figure(12.0, 3.6)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
    step = float(mask["x"][1] - mask["x"][0])
    centre = dict(zip("xyz", centre_of_mass(mask.values) * step, strict=True))
    for ax, (across, up, along) in zip(axes, PLANES, strict=False):
        plane = inside.sel({along: centre[along]}, method="nearest").transpose(up, across)
        ends = [edge for a in (across, up) for edge in (float(mask[a][0]) - step / 2, float(mask[a][-1]) + step / 2)]
        image = ax.imshow(plane, cmap="viridis_r", vmin=low, vmax=high, origin="lower", extent=ends)
        _dress(ax, f"{across}, Å", f"{up}, Å")
    figure.colorbar(image, ax=axes[2], label="Å")
    axes[3].hist(values, bins=np.linspace(low, max(high, low + 0.1), BINS), color=BLUE, alpha=0.75, edgecolor="white")
    middle = float(np.median(values))
    axes[3].axvline(middle, 0, 1 / HEADROOM, color=INK, lw=1.4, label=f"median {middle:.2f} Å")
    _dress(axes[3], "local resolution, Å", "voxels inside the mask")
    _legend(axes[3])
    return figure


def conical(data: xr.Dataset) -> Figure:
    """The FSC by direction, as `lrcore.conical.to_dataset` gives it: every cone, the best and the worst."""
    figure = _figure(5.4, 4.2)
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
    _dress(ax, "spatial frequency, 1/Å", "Fourier shell correlation in a cone")
    ax.legend(fontsize=SMALL, frameon=False)
    _title(ax, f"smallest over largest area {data.attrs['area_ratio']:.2f}")
    return figure


def save(figure: Figure, path: str | Path, dpi: float = 120) -> None:
    """Write a figure as PNG. Raises InputError if it cannot be written."""
    with written_whole(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, pil_kwargs={"optimize": True})


def filtered_map(tree: xr.DataTree) -> xr.DataArray:
    """Mean of the half maps of the last iteration, filtered by their corrected FSC, not masked: (z, y, x) in Å."""
    mean = _group(tree, "volumes")["half_map"].mean("half")
    gain = combined_gain(_curve(_group(tree, "fsc"), "corrected").value)
    return mean.copy(data=filter_map(mean.values, gain))


# --- panels ---

Line = tuple[Fsc, str, str, str, float]
"""A curve, its words, colour, style and width of line."""


def _curve(data: xr.Dataset, kind: str, row: int = -1) -> Fsc:
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
        lines.append((_curve(data, kind, row), words, colour, style, 2.2 if newest else 1.4))
    return lines


def _draw_curves(ax: Axes, lines: Sequence[Line], columns: int = 2) -> None:
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
    _dress(ax, "spatial frequency, 1/Å", "")
    _top_axis(ax, frequency[-1])
    legend = ax.legend(
        title="Å at FSC 0.143 / 0.5",
        fontsize=SMALL,
        title_fontsize=SMALL,
        frameon=False,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.48, -0.13),
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
    _dress(ax, "iteration (0: the start)" if 0 in data["iteration"] else "iteration", label)
    ax.legend(fontsize=SMALL, frameon=False)


def _draw_change(ax: Axes, tree: xr.DataTree, what: str, since_last: bool) -> None:
    """Histogram of one change in the last iteration. what: angle or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    values = _group(tree, "particles")[f"{what}_change" + "_last" * since_last].isel(iteration=-1).values
    sd, extent, unit, words, recentred = {
        "angle": (spec.rotation_prior_sd_deg, spec.rotation_limit_deg, "°", "rotation", spec.recenter_rotations),
        "shift": (spec.shift_prior_sd_A, spec.shift_limit_A, " Å", "shift", spec.recenter_shifts),
    }[what]
    bounded = since_last == recentred
    edges = _edges(values, extent if bounded else None)
    _histogram(ax, values, edges, unit, GREEN if since_last else BLUE)
    if bounded and spec.prior == "gaussian":
        x = np.linspace(0, edges[-1], 300)
        density = len(values) * edges[1] / sd * _length_density(x / sd, 3 if what == "angle" else 2)
        ax.plot(x, density, color=ORANGE, lw=2, label=f"prior, SD {sd:g}{unit} per axis")
    if bounded:
        ax.axvline(extent, 0, 1 / HEADROOM, color=RED, lw=1.6, ls="--", label=f"extent {extent:g}{unit}")
    now = _last(tree)
    since = "from the input pose"
    if since_last:
        since = f"since the last iteration ({f'{now - 1} to {now}' if now else 'none yet'})"
    _dress(ax, f"{words} {since}, {UNITS[unit]}", "particles")
    _legend(ax)


def _draw_sd(ax: Axes, tree: xr.DataTree, what: str) -> None:
    """Histogram of one standard deviation in the last iteration. what: rotation or shift."""
    spec = RefineSpec.model_validate_json(tree.attrs["spec"])
    each = _group(tree, "particles")[f"{what}_sd"].isel(iteration=-1).values
    prior, unit = (spec.rotation_prior_sd_deg, "°") if what == "rotation" else (spec.shift_prior_sd_A, " Å")
    values = np.sqrt((each**2).mean(axis=-1))
    low, high = np.quantile(values, (0.01, 0.99))
    _histogram(ax, values, np.linspace(0.8 * low, 1.2 * high or 1.0, BINS), f"{unit} per axis", BLUE)
    if spec.prior == "gaussian":
        where = "" if prior < ax.get_xlim()[1] else ", beyond"
        ax.axvline(prior, 0, 1 / HEADROOM, color=ORANGE, lw=2, label=f"prior {prior:g}{unit}{where}")
    _dress(ax, f"uncertainty (SD) of the {what}, {UNITS[unit]}", "particles")
    _legend(ax)


def _edges(values: Float64, extent: float | None) -> Float64:
    """Edges of bars from 0 to past most of the values and the extent, which is one of them."""
    most = 1.15 * float(np.quantile(values, 0.99)) if len(values) else 0.0
    width = (extent or most or 1.0) / BINS
    count = max(BINS + 3, math.ceil(most / width) + 1)
    return np.arange(count, dtype=np.float64) * width


def _histogram(ax: Axes, values: Float64, edges: Float64, unit: str, colour: str) -> None:
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


def _legend(ax: Axes) -> None:
    """Above the bars, on white."""
    ax.set_ylim(top=HEADROOM * ax.get_ylim()[1])
    ax.legend(fontsize=SMALL, loc="upper right", framealpha=1, edgecolor="none", borderpad=0.1, labelspacing=0.25)


def _length_density(x: Float64, dimensions: int) -> Float64:
    """Density of the length of a standard Gaussian vector in 2 or 3 dimensions."""
    scale = math.sqrt(2 / math.pi) if dimensions == 3 else 1.0
    density: Float64 = scale * x ** (dimensions - 1) * np.exp(-0.5 * x**2)
    return density


def _draw_slices(figure: Figure | SubFigure, maps: dict[str, xr.DataArray], mask: xr.DataArray) -> None:
    """A row for each map, a column for each plane through the middle of the mask; contrast from the last map."""
    grid = {axis: mask[axis].values for axis in "xyz"}
    step = grid["x"][1] - grid["x"][0]
    centre = dict(zip("xyz", centre_of_mass(mask.values) * step, strict=True))
    inside = mask.values > 0.5
    reach = MARGIN_A + max(
        np.abs(grid[axis][inside.any(axis=others)] - centre[axis]).max()
        for axis, others in (("x", (0, 1)), ("y", (0, 2)), ("z", (1, 2)))
    )
    low, high = np.quantile(list(maps.values())[-1].values[inside], (0.005, 0.998))
    axes = figure.subplots(len(maps), 3)
    for row, (name, volume) in zip(axes, maps.items(), strict=True):
        for ax, (across, up, along) in zip(row, PLANES, strict=True):
            at = {along: centre[along]}
            edges = [edge for a in (across, up) for edge in (grid[a][0] - step / 2, grid[a][-1] + step / 2)]
            image = volume.sel(at, method="nearest").transpose(up, across)
            ax.imshow(
                image,
                cmap=GREYS,
                vmin=low,
                vmax=high,
                origin="lower",
                extent=edges,
                interpolation="bicubic",
                interpolation_stage="data",
            )
            outline = mask.sel(at, method="nearest").transpose(up, across)
            ax.contour(grid[across], grid[up], outline, levels=[0.5], colors=[ORANGE], linewidths=1.2)
            ax.set_xlim(_window(grid[across], centre[across], reach))
            ax.set_ylim(_window(grid[up], centre[up], reach))
            ax.locator_params(nbins=4)
            _dress(ax, f"{across}, Å", f"{up}, Å")
            _title(ax, f"{name}, {along} = {centre[along]:.0f} Å".replace("-", "\N{MINUS SIGN}"))


def _window(grid: Float64, centre: float, reach: float) -> tuple[float, float]:
    """What to show of an axis: `reach` to both sides, moved into the box, or all of it."""
    low, high = float(grid[0]), float(grid[-1])
    if 2 * reach >= high - low:
        return low, high
    start = min(max(centre - reach, low), high - 2 * reach)
    return start, start + 2 * reach


# --- dress ---


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _dress(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=TEXT)
    if y:
        ax.set_ylabel(y, fontsize=TEXT)
    ax.tick_params(labelsize=SMALL, color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(GREY)


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, fontsize=TEXT, loc="left")


def _headline(figure: Figure, text: str) -> None:
    figure.suptitle(text, fontsize=LARGE, fontweight="bold", x=0.01, ha="left")


def _group(tree: xr.DataTree, name: str) -> xr.Dataset:
    return tree.children[name].to_dataset()


def _last(tree: xr.DataTree) -> int:
    return int(_group(tree, "particles")["iteration"][-1])


def _particles(tree: xr.DataTree) -> str:
    return f"{_group(tree, 'particles').sizes['particle']:,} particles"
