"""List the figures of a step that every interface offers, by name."""

import threading
from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from lrwidgets import plots

RENDER_LOCK = threading.Lock()
"""Matplotlib renders one figure at a time; all interfaces take this lock."""


def before_after_slices(tree: xr.DataTree, start: xr.DataTree) -> Figure:
    """Draw slices of the map of a step (`tree`) and of the map of the start."""
    before, after = plots.filtered_map(start), plots.filtered_map(tree)
    return plots.slices(before, after, tree.children["mask"].to_dataset()["mask"])


UNCERTAINTY = "Uncertainty"
SDS = '["particles"].to_dataset()[["rotation_sd", "shift_sd"]]'
SAMPLED_SDS = SDS.replace("particles", "uncertainty")
FIGURES: dict[str, tuple[Callable[..., Figure], str, str]] = {
    "FSC": (plots.fsc, "Fourier shell correlation", '["fsc"]'),
    "Pose changes": (lambda tree, **how: plots.changes(tree, by_half=True, **how), "Pose changes", '["particles"]'),
    UNCERTAINTY: (plots.uncertainty, "Posterior SD of the poses", SDS),
    "Presence": (plots.presence, "Is the body in the images", '["particles"]["evidence"]'),
    "Directions": (plots.directions, "Viewing directions", '["particles"]["rotation"]'),
    "History": (plots.history, "Resolution and changes by iteration", '["history"]'),
    "Guinier": (lambda tree, **_: plots.guinier(tree), "Guinier plot", '["volumes"]["half_map"]'),
}
"""Name → function (results tree, narrow) → Figure, its description, and the Python index of its data in the results."""
MOTION, MAPS = "Motion", "Before / after"
_EVIDENCE = {
    "FSC": "overfitting halves_share half_maps_share initial_lowpass",
    "Pose changes": "at_rotation_extent at_shift_extent off_centre rotation_prior_tight rotation_prior_wide "
    "shift_prior_tight shift_prior_wide",
    "Directions": "unaligned",
    "Presence": "body_missing",
    "History": "drift_of_rotations drift_of_shifts not_converging still_improving resolution_limit",
    MOTION: "fulcrum_off prior_uneven",
    MAPS: "mask_edge mask_small mask_still other_hand other_scale contrast",
}
FIGURE_OF_FINDING = {finding: figure for figure, findings in _EVIDENCE.items() for finding in findings.split()}
"""Name of a finding of `lrcore.analysis.advice.advise` → name of the figure that shows it."""


def data_code(name: str, tree: xr.DataTree) -> str:
    """Return the Python index of a figure's data in these results."""
    return SAMPLED_SDS if name == UNCERTAINTY and "uncertainty" in tree.children else FIGURES[name][2]
