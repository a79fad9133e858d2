"""Draw figures of results: from the xarray tree (docs/results.md) to a matplotlib Figure.

pyplot is never imported, so that figures can be drawn on any thread.
"""

from lrwidgets.plots._comparison import compare, overview, preview
from lrwidgets.plots._curves import conical, fsc, guinier, history
from lrwidgets.plots._maps import filtered_map, local_resolution, slices
from lrwidgets.plots._motion import motion
from lrwidgets.plots._poses import changes, directions, presence, prior, uncertainty
from lrwidgets.plots._style import save
from lrwidgets.plots._sweep import sweep

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
    "presence",
    "preview",
    "prior",
    "save",
    "slices",
    "sweep",
    "uncertainty",
]
