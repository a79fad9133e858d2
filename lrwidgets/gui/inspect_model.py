"""Inspect a step of a session: figures, maps, local resolution, motion and pose uncertainty."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from lrcore.maps.local_resolution import LocalResolution
from lrcore.records import Progress, Volume
from lrcore.refinement.density import final_map
from lrcore.results.tree import mask_dataset
from lrwidgets import plots
from lrwidgets.gui.motion_surface import MotionSurfaces, motion_surfaces_of
from lrwidgets.gui.panel_base import PanelBase
from lrwidgets.plots.catalogue import FIGURES, before_after_slices, data_code
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import local_resolution_of, maps_before_and_after, motion_plot_data, start_node

UNCERTAINTY_TIP = "validate posteriors against the map of the other half set, which does not contain the image: slow"
MOTION_CODE = "from lrwidgets import motion_plot_data\nmotions, whole, mask = motion_plot_data(session, {})"


@dataclass(frozen=True)
class LocalResolutionMap:
    """Local resolution of a step with its map and mask."""

    local: LocalResolution
    volume: Volume
    mask: Volume

    def arrays(self) -> tuple[xr.DataArray, xr.DataArray]:
        """Return local resolution and mask on (z, y, x) in Å about the box centre."""
        mask = mask_dataset(self.mask)["mask"]
        return mask.copy(data=self.local.map.data), mask


class InspectModel:
    """Compute what is shown of a step; what takes seconds runs on `panel.slow`."""

    def __init__(self, session: Session, panel: PanelBase) -> None:
        self.session = session
        self._panel = panel
        self._choice = 0

    def present_node(self) -> str | None:
        """Return the present step; without one, say so."""
        node = self.session.state.node
        if node is None:
            self._panel.show_message("No results yet: run a step", "neutral")
        return node

    def new_choice(self) -> None:
        """Drop the results of what was chosen before."""
        self._choice += 1

    # --- requests

    def request_maps(self, node: str, show: Callable[[tuple[Volume, Volume]], None]) -> None:
        """Request the maps at the start and at a step."""
        self._request(lambda: maps_before_and_after(self.session, node), show, "maps")

    def request_half_maps(self, node: str, show: Callable[[tuple[Volume, Volume]], None]) -> None:
        """Request the half maps of a step."""

        def load() -> tuple[Volume, Volume]:
            halves = self.session.load_step(node)[1].half_maps
            return halves.first, halves.second

        self._request(load, show, "maps")

    def request_motion_surfaces(self, node: str, number: int, show: Callable[[MotionSurfaces], None]) -> None:
        """Request the body of a step moved along a principal motion, as surfaces."""
        self._request(lambda: motion_surfaces_of(self.session, node, number), show, "motion")

    def request_comparison(self, node: str, other: str, show: Callable[[Any], None]) -> None:
        """Request the comparison of two steps."""
        self._request(lambda: self.session.compare(node, other), show, "compare")

    def request_local_resolution(
        self, node: str, show: Callable[[Any], None], convert: Callable[[LocalResolutionMap], Any] = lambda found: found
    ) -> None:
        """Request the local resolution of a step, converted on the slow thread; the message line shows the progress."""

        def compute() -> Any:
            local = local_resolution_of(self.session, node, self._report)
            found, step = self.session.load_step(node)
            job = self.session.job_of(found)
            return convert(LocalResolutionMap(local, final_map(job, step), job.mask))

        self._report("local resolution …")
        self._request(compute, show, "local", slow=True)

    def request_uncertainty(self, node: str, show: Callable[[], None]) -> None:
        """Validate the posteriors of a step against the other half map; the message line shows the progress."""

        def report(at: Progress) -> None:
            self._report(f"posteriors: {at.done} of {at.total} particles …")

        self._report("posteriors …")
        self._request(lambda: self.session.uncertainty(node, report), lambda _: show(), "uncertainty", slow=True)

    def _request(self, task: Callable[[], Any], show: Callable[[Any], None], key: str, slow: bool = False) -> None:
        """Compute and show, unless something else is chosen in the meantime."""
        choice = self._choice

        def show_if_chosen(result: Any) -> None:
            if self._choice == choice:
                show(result)

        (self._panel.slow if slow else self._panel.latest).submit(task, show_if_chosen, key)

    def _report(self, text: str) -> None:
        self._panel.show_message(text, "neutral")

    # --- figures, drawn on any thread

    def results_figure(self, name: str, node: str, results: xr.DataTree | None = None, narrow: bool = False) -> Figure:
        """Draw a figure of FIGURES. narrow: for a side panel."""
        make, *_ = FIGURES[name]
        tree = self.session.results(node) if results is None else results
        return make(tree, narrow=True) if narrow else make(tree)

    def results_code(self, name: str, chosen: str, results: xr.DataTree) -> str:
        """Return Python that gives the data of a figure. chosen: step as Python; empty for the present one."""
        return f"session.results({chosen}){data_code(name, results)}"

    def motion_figure(self, node: str) -> Figure:
        """Draw fulcrum and principal motions of a step."""
        return plots.motion(*motion_plot_data(self.session, node))

    def before_after_figure(self, node: str) -> Figure:
        """Draw slices of the maps at the start and at a step."""
        start = start_node(self.session, node)
        return before_after_slices(self.session.results(node), self.session.results(start))
