"""Prior and search: their widths beside a picture of what they allow, over how far the particles have moved."""

import html

import ipywidgets as w

from lrcore.refinement.parameters import RefineSpec
from lrwidgets import plots
from lrwidgets.gui.threads import LatestTasks
from lrwidgets.jupyter.base import BAD, Panel
from lrwidgets.jupyter.figure_view import FigureView
from lrwidgets.jupyter.parameter_form import ParameterForm
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.step_analysis import MotionWidths, changes_from_search_centres, current_motion_widths

NAMES = (
    "prior", "rotation_prior_sd_deg", "shift_prior_sd_A", "rotation_extent_deg", "shift_extent_A",
    "recenter_rotations", "recenter_shifts", "max_align_resolution_A",
)  # fmt: skip
CODE = 'session.results()["particles"].to_dataset()[["angle_change", "shift_change"]]'


class PriorWidget(Panel):
    """Edits the session's prior, extents and re-centring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._node: str | None = None
        self._learned: MotionWidths | None = None
        self._slow = LatestTasks(self.publisher, self.show_error)
        self.form = ParameterForm(self, session, NAMES, "prior")
        self.figure = FigureView(self).add_class("lrw-prior-figure")
        self.warning = w.HTML().add_class("lrw-prior-warning")
        self.learned = w.HTML().add_class("lrw-prior-learned")
        tip = "make the prior as wide as the motion of the last step was"
        self.use = w.Button(description="Use learned widths", tooltip=tip, disabled=True)
        self.use.add_class("lrw-prior-learned-apply").on_click(self.catch_errors(lambda _: self._use()))
        self.figure.layout = w.Layout(flex="1 1 auto", min_width="0")
        fixed = w.Layout(flex="0 0 auto", max_width="375px")
        more = [self.learned, self.use, self.warning, self.message]
        controls = w.VBox([*self.form.controls.values(), *more], layout=fixed)
        self.widget = w.HBox([controls, self.figure], layout=w.Layout(align_items="flex-start")).add_class("lrw-prior")
        self.connect(session.spec_changed, self._changed)
        self.connect(session.state_changed, self._moved_on)
        self._draw()
        self._moved_on(session.state)

    def close(self) -> None:
        """Let go of the session, and end the threads."""
        self._slow.close()
        super().close()

    def _changed(self, _: RefineSpec) -> None:
        self._draw()

    def _moved_on(self, state: RunState) -> None:
        if state.node != self._node:
            self._node = state.node
            self._draw()
            self._slow.submit(lambda: current_motion_widths(self.session), self._show_learned, "learned")

    def _show_learned(self, found: MotionWidths | None) -> None:
        self._learned, self.use.disabled = found, found is None
        self.learned.value = str(found or "")
        self._draw()

    def _use(self) -> None:
        """Make the prior as wide as the motion was."""
        if self._learned is not None:
            self.session.edit(**self._learned.prior_settings)

    def _draw(self) -> None:
        session = self.session
        self.publisher.publish("warning", lambda: setattr(self.warning, "value", recentring_warning_html(session.spec)))
        title = "Prior, extents and how far the particles have moved"
        self.figure.show_figure(
            lambda: plots.prior(session.spec, changes_from_search_centres(session), self._learned), title, "prior", CODE
        )


def recentring_warning_html(spec: RefineSpec) -> str:
    """What to know of re-centring, as HTML; empty without it."""
    if not (spec.recenter_rotations or spec.recenter_shifts):
        return ""
    text, colour = "Re-centred: prior and extents hold about the last pose. Watch the change from the input.", "inherit"
    if spec.prior == "none":
        text, colour = "Re-centring without a prior: poses may drift further with every iteration.", BAD
    return f'<span style="color: {colour}">{html.escape(text)}</span>'
