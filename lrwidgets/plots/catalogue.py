"""The figures of a step that every face offers, by name."""

import threading
from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from lrwidgets import plots

RENDER_LOCK = threading.Lock()
"""Matplotlib draws one figure at a time, whichever face asks."""


def before_after_slices(tree: xr.DataTree, start: xr.DataTree) -> Figure:
    """Slices of the map at the start and of that of `tree`."""
    before, after = plots.filtered_map(start), plots.filtered_map(tree)
    return plots.slices(before, after, tree.children["mask"].to_dataset()["mask"])


UNCERTAINTY = "Uncertainty"
SDS = '["particles"].to_dataset()[["rotation_sd", "shift_sd"]]'
DRAWN = SDS.replace("particles", "uncertainty")
FIGURES: dict[str, tuple[Callable[..., Figure], str, str]] = {
    "FSC": (plots.fsc, "Fourier shell correlation", '["fsc"]'),
    "Pose changes": (lambda tree, **how: plots.changes(tree, by_half=True, **how), "Pose changes", '["particles"]'),
    UNCERTAINTY: (plots.uncertainty, "Posterior SD of the poses", SDS),
    "Directions": (plots.directions, "Viewing directions", '["particles"]["rotation"]'),
    "History": (plots.history, "Resolution and changes by iteration", '["history"]'),
    "Guinier": (lambda tree, **_: plots.guinier(tree), "Guinier plot", '["volumes"]["half_map"]'),
}
"""Name → figure of a tree of results (narrow: for a side panel), what it is, and where in the results its data are."""
MOTION, MAPS = "Motion", "Before / after"
_EVIDENCE = {
    "FSC": "overfitting halves_share half_maps_share initial_lowpass",
    "Pose changes": "at_rotation_extent at_shift_extent off_centre rotation_prior_tight rotation_prior_wide "
    "shift_prior_tight shift_prior_wide",
    "History": "drift_of_rotations drift_of_shifts not_converging still_improving resolution_limit",
    MOTION: "fulcrum_off prior_uneven",
    MAPS: "mask_edge mask_small mask_still other_hand other_scale",
}
FIGURE_OF_FINDING = {finding: figure for figure, findings in _EVIDENCE.items() for finding in findings.split()}
"""Finding of `lrcore.analysis.advice.advise` → the figure in which it can be seen."""


def data_code(name: str, tree: xr.DataTree) -> str:
    """Where in these results the data of a figure are, as Python."""
    return DRAWN if name == UNCERTAINTY and "uncertainty" in tree.children else FIGURES[name][2]
