"""Prior and search: their widths beside a picture of what they allow, over how far the particles have moved."""

import html

import ipywidgets as w
import xarray as xr

from lrcore.spec import RefineSpec
from lrwidgets import plots
from lrwidgets.jupyter.base import BAD, Panel
from lrwidgets.jupyter.fields import Form
from lrwidgets.jupyter.figures import FigureView
from lrwidgets.session import Session
from lrwidgets.state import RunState

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
        self.form = Form(self, session, NAMES, "prior")
        self.figure = FigureView(self).add_class("lrw-prior-figure")
        self.warning = w.HTML().add_class("lrw-prior-warning")
        self.figure.layout = w.Layout(flex="1 1 auto", min_width="0")
        fixed = w.Layout(flex="0 0 auto", max_width="340px")
        controls = w.VBox([*self.form.controls.values(), self.warning, self.message], layout=fixed)
        self.widget = w.HBox([controls, self.figure], layout=w.Layout(align_items="flex-start")).add_class("lrw-prior")
        self.connect(session.spec_changed, self._changed)
        self.connect(session.state_changed, self._moved_on)
        self._draw()

    def _changed(self, _: RefineSpec) -> None:
        self._draw()

    def _moved_on(self, state: RunState) -> None:
        if state.node != self._node:
            self._node = state.node
            self._draw()

    def _draw(self) -> None:
        session = self.session
        self.publisher.publish("warning", lambda: setattr(self.warning, "value", warned(session.spec)))
        title = "Prior, extents and how far the particles have moved"
        self.figure.ask(lambda: plots.prior(session.spec, moved(session)), title, "prior", CODE)


def moved(session: Session) -> xr.Dataset | None:
    """How far the particles are from the centres of the next search; None before the first iteration."""
    if session.state.node is None:
        return None
    last = session.results()["particles"].to_dataset().isel(iteration=-1)
    if int(last["iteration"]) == 0:
        return None
    spec = session.spec
    names = {"angle_change": spec.recenter_rotations, "shift_change": spec.recenter_shifts}
    return xr.Dataset({name: last[name + "_last" * recentred] for name, recentred in names.items()})


def warned(spec: RefineSpec) -> str:
    """What to know of re-centring, as HTML; empty without it."""
    if not (spec.recenter_rotations or spec.recenter_shifts):
        return ""
    text, colour = "Re-centred: prior and extents hold about the last pose. Watch the change from the input.", "inherit"
    if spec.prior == "none":
        text, colour = "Re-centring without a prior: poses may drift further with every iteration.", BAD
    return f'<span style="color: {colour}">{html.escape(text)}</span>'
