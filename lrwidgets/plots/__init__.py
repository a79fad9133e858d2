"""Figures of results: from the xarray tree (docs/results.md) to a matplotlib Figure; never pyplot, so on any thread."""

from lrwidgets.plots.both import compare, overview
from lrwidgets.plots.curves import conical, fsc, guinier, history
from lrwidgets.plots.dress import save
from lrwidgets.plots.learned import motion, sweep
from lrwidgets.plots.maps import filtered_map, local_resolution, slices
from lrwidgets.plots.poses import changes, directions, prior, uncertainty

__all__ = [
    "changes",
    "compare",
    "conical",
    "directions",
    "filtered_map",
    "fsc",
    "guinier",
    "history",
    "local_resolution",
    "motion",
    "overview",
    "prior",
    "save",
    "slices",
    "sweep",
    "uncertainty",
]
