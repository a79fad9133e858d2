"""Draw slices of maps and of local resolution."""

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure, SubFigure

from lrcore.arrays import Float64
from lrcore.imaging.fourier_volume import filter_map
from lrcore.maps.fsc import combined_gain
from lrcore.masks import centre_of_mass
from lrwidgets.plots._curves import fsc_curve
from lrwidgets.plots._style import (
    BINS,
    BLUE,
    HEADROOM,
    INK,
    ORANGE,
    legend_above,
    new_figure,
    results_group,
    set_axis_title,
    style_axes,
)

GREYS = colormaps["gray"].resampled(48)
"""As many grey levels as the eye distinguishes, which halves the size of the file."""
PLANES = (("x", "y", "z"), ("x", "z", "y"), ("y", "z", "x"))
"""Horizontal and vertical axis of a slice, and its normal."""
MARGIN_A = 8.0
"""Margin that a slice shows around the mask."""


def slices(before: xr.DataArray, after: xr.DataArray, mask: xr.DataArray) -> Figure:
    """Draw three orthogonal slices of two maps through the centre of the mask, with the same contrast.

    Parameters
    ----------
    before : map, (z, y, x), coordinates in Å from the box centre; `filtered_map` returns one from results
    after : map on the same grid
    mask : mask on the same grid; its outline is drawn

    Returns
    -------
    Figure
        A row for each map, a column for each plane.
    """
    figure = new_figure(9.5, 6.6)
    draw_slices(figure, {"before": before, "after": after}, mask)
    return figure


def local_resolution(resolution: xr.DataArray, mask: xr.DataArray) -> Figure:
    """Draw slices and a histogram of the local resolution inside a mask.

    Parameters
    ----------
    resolution : local resolution in Å, (z, y, x), coordinates in Å from the box centre
    mask : mask on the same grid

    Returns
    -------
    Figure
        Three orthogonal slices through the centre of the mask, and the histogram.
    """
    inside = resolution.where(mask > 0.5)
    values = resolution.values[mask.values > 0.5]
    low, high = np.quantile(values, (0.01, 0.99))
    figure = new_figure(12.0, 3.6)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
    step = float(mask["x"][1] - mask["x"][0])
    centre = dict(zip("xyz", centre_of_mass(mask.values) * step, strict=True))
    for ax, (across, up, along) in zip(axes, PLANES, strict=False):
        plane = inside.sel({along: centre[along]}, method="nearest").transpose(up, across)
        ends = [edge for a in (across, up) for edge in (float(mask[a][0]) - step / 2, float(mask[a][-1]) + step / 2)]
        image = ax.imshow(plane, cmap="viridis_r", vmin=low, vmax=high, origin="lower", extent=ends)
        style_axes(ax, f"{across}, Å", f"{up}, Å")
    figure.colorbar(image, ax=axes[2], label="local resolution, Å")
    axes[3].hist(values, bins=np.linspace(low, max(high, low + 0.1), BINS), color=BLUE, alpha=0.75, edgecolor="white")
    median = float(np.median(values))
    axes[3].axvline(median, 0, 1 / HEADROOM, color=INK, lw=1.4, label=f"median {median:.2f} Å")
    style_axes(axes[3], "local resolution, Å", "voxels inside the mask")
    legend_above(axes[3])
    return figure


def filtered_map(tree: xr.DataTree) -> xr.DataArray:
    """Return the mean of the last iteration's half maps, filtered by the corrected FSC, not masked.

    Parameters
    ----------
    tree : results, as `Session.results` returns them

    Returns
    -------
    xarray.DataArray
        The map, (z, y, x), coordinates in Å from the box centre.

    References
    ----------
    The filter is √(2 FSC / (1 + FSC)): Rosenthal & Henderson 2003, J. Mol. Biol. 333, 721.
    """
    mean = results_group(tree, "volumes")["half_map"].mean("half")
    gain = combined_gain(fsc_curve(results_group(tree, "fsc"), "corrected").value)
    return mean.copy(data=filter_map(mean.values, gain))


def draw_slices(figure: Figure | SubFigure, maps: dict[str, xr.DataArray], mask: xr.DataArray) -> None:
    """Draw a row for each map and a column for each plane through the centre of the mask; contrast of the last map."""
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
            style_axes(ax, f"{across}, Å", f"{up}, Å")
            position = f"{centre[along]:.0f} Å".replace("-", "\N{MINUS SIGN}")
            set_axis_title(ax, f"{name}, {along} = {position}")


def _window(grid: Float64, centre: float, reach: float) -> tuple[float, float]:
    """Return the limits of an axis: `reach` to both sides of the centre, moved into the box, or the whole box."""
    low, high = float(grid[0]), float(grid[-1])
    if 2 * reach >= high - low:
        return low, high
    start = min(max(centre - reach, low), high - 2 * reach)
    return start, start + 2 * reach
