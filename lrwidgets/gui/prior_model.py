"""Edit prior and search extents of a session, with a figure and the widths estimated from the last step."""

from typing import Protocol

from matplotlib.figure import Figure

from lrcore.refinement.parameters import RefineSpec
from lrwidgets import plots
from lrwidgets.gui.panel_base import PanelBase, Tone
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.step_analysis import MotionWidths, changes_from_search_centres, current_motion_widths

PRIOR_FIELDS = (
    "prior", "rotation_prior_sd_deg", "shift_prior_sd_A", "rotation_extent_deg", "shift_extent_A",
    "recenter_rotations", "recenter_shifts", "max_align_resolution_A",
)  # fmt: skip
"""Parameters of the form."""
USE_WIDTHS = ("Use learned widths", "make the prior as wide as the motion of the last step")
"""Label and tooltip of the button."""


class PriorView(Protocol):
    """View of a `PriorModel`."""

    def show_widths(self, text: str, available: bool) -> None:
        """Show the estimated widths, and whether they can be used."""

    def show_warning(self, text: str, tone: Tone) -> None:
        """Show what re-centring implies; an empty text clears it."""

    def draw(self) -> None:
        """Show the model's figure."""


class PriorModel:
    """Prior, extents and re-centring of a session. widths: as estimated from the present step, or None."""

    def __init__(self, session: Session, panel: PanelBase, view: PriorView) -> None:
        self.session = session
        self.widths: MotionWidths | None = None
        self._panel, self._view = panel, view
        self._node: str | None = None

    def start(self) -> None:
        """Show the session, and follow it."""
        self._panel.subscribe(self.session.spec_changed, lambda _: self._update())
        self._panel.subscribe(self.session.state_changed, self._state_changed)
        self._update()
        self._state_changed(self.session.state)

    def use_widths(self) -> None:
        """Make the prior as wide as the estimated motion. Raises InputError as `Session.edit` does."""
        if self.widths is not None:
            self.session.edit(**self.widths.prior_settings)

    def figure(self, narrow: bool = False) -> Figure:
        """Draw prior and extents over how far the particles have moved. narrow: for a side panel."""
        return plots.prior(self.session.spec, changes_from_search_centres(self.session), self.widths, narrow)

    def _state_changed(self, state: RunState) -> None:
        if state.node != self._node:
            self._node = state.node
            self._update()
            self._panel.slow.submit(lambda: current_motion_widths(self.session), self._show_widths, "widths")

    def _show_widths(self, widths: MotionWidths | None) -> None:
        self.widths = widths
        self._view.show_widths(str(widths or ""), widths is not None)
        self._update()

    def _update(self) -> None:
        def show() -> None:
            self._view.show_warning(*recentring_warning(self.session.spec))
            self._view.draw()

        self._panel.publisher.publish("prior", show)


def recentring_warning(spec: RefineSpec) -> tuple[str, Tone]:
    """Return what re-centring implies, and its tone; an empty text without re-centring."""
    if not (spec.recenter_rotations or spec.recenter_shifts):
        return "", "neutral"
    if spec.prior == "none":
        return "Re-centring without a prior: poses may drift further with every iteration.", "bad"
    return "Re-centred: prior and extents are relative to the last pose. Watch the change from the input.", "neutral"
