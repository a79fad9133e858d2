"""Draw the ranking of a parameter sweep."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from lrwidgets.plots._motion import MAX_SETTINGS_SHOWN
from lrwidgets.plots._style import BLUE, GREY, INK, NARROW_WIDTH_IN, SMALL, new_figure, set_figure_title, style_axes
from lrwidgets.text import fields


def sweep(ranking: xr.Dataset, narrow: bool = False) -> Figure:
    """Draw the log-likelihood gain of held-out images for the settings of a sweep, best first.

    Parameters
    ----------
    ranking : results of `lrwidgets.sweep`
    narrow : draw for a side panel

    Returns
    -------
    Figure
        Bars of the best settings with ± 2 standard errors; 0 is the first combination of the sweep.
    """
    frame = ranking.to_dataframe().sort_values("rank").reset_index().head(MAX_SETTINGS_SHOWN)
    names = [str(dim) for dim in ranking["rank"].dims]
    varied = [name for name in names if ranking.sizes[name] > 1] or names
    labels = [fields.describe_settings({name: row[name] for name in varied}) for row in frame.to_dict("records")]
    figure = new_figure(NARROW_WIDTH_IN if narrow else 8.4, 1.4 + 0.28 * len(frame))
    ax = figure.subplots()
    rows = np.arange(len(frame))[::-1]
    ax.barh(rows, frame["gain"], xerr=2 * frame["gain_standard_error"], color=BLUE, alpha=0.75, ecolor=INK, capsize=2)
    ax.axvline(0.0, color=GREY, lw=1.2)
    ax.set_yticks(rows, labels, fontsize=SMALL)
    style_axes(ax, "log-likelihood gain per image, over the first settings", "")
    set_figure_title(
        figure, f"{ranking['rank'].size} settings ranked by {ranking.attrs['images']} held-out images (mean ± 2 SE)"
    )
    return figure
