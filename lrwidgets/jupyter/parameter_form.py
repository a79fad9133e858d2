"""A parameter of the spec as a control, and a form of them that edits a session and follows it."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as w

from lrcore.refinement.parameters import RefineSpec
from lrwidgets.jupyter.base import Panel
from lrwidgets.session.session import Session
from lrwidgets.text import fields
from lrwidgets.text.fields import ParameterField

STYLE = {"description_width": "185px"}
ROW = w.Layout(width="365px")
SLIDERS = {"rotation_prior_sd_deg": (0.5, 30.0, 0.5), "shift_prior_sd_A": (0.25, 30.0, 0.25)}
"""Fields that are drawn as a slider, and its ends and steps: typed values may lie beyond."""


def css_class(name: str) -> str:
    """The end of a control's class: without prior and unit, which the field's name has."""
    stem = name.removesuffix("_deg").removesuffix("_A")
    return (stem.replace("_prior", "") or stem).replace("_", "-")


def make_control(field: ParameterField, spec: RefineSpec) -> w.Widget:
    """The control of a field, with its label, help and value. Numbers are typed as text, so that refusals are ours."""
    common: dict[str, Any] = {"description": field.title, "tooltip": field.help, "style": STYLE, "layout": ROW}
    if field.kind == "choice":
        control = w.Dropdown(options=field.choices, **common)
    elif field.kind == "switch":
        control = w.Checkbox(indent=False, **common)
    elif field.name in SLIDERS:
        low, high, step = SLIDERS[field.name]
        control = w.FloatSlider(min=low, max=high, step=step, readout_format=".2f", **common)
    else:
        control = w.Text(continuous_update=False, **common)
    update_control(control, field, spec)
    return control


def update_control(control: w.Widget, field: ParameterField, spec: RefineSpec) -> None:
    """Show the spec's value in a control."""
    value = getattr(spec, field.name)
    if isinstance(control, w.Text):
        control.placeholder = fields.automatic_text(spec, field.name) if field.optional else ""
        control.value = fields.format_value(value)
    else:
        if isinstance(control, w.FloatSlider):
            control.min, control.max = min(control.min, value), max(control.max, value)
        control.value = value


class ParameterForm:
    """Controls of some fields in a panel: a change edits the session, an edit from elsewhere is shown.

    controls: by name of the field.
    """

    def __init__(self, panel: Panel, session: Session, names: Sequence[str], prefix: str) -> None:
        self._panel, self._session = panel, session
        self._fields = {name: fields.parameter_field(name) for name in names}
        self.controls: dict[str, w.Widget] = {}
        for name, field in self._fields.items():
            control = make_control(field, session.spec).add_class(f"lrw-{prefix}-{css_class(name)}")
            control.observe(panel.catch_errors(lambda change, name=name: self._edit(name, change["new"])), "value")
            self.controls[name] = control
        panel.connect(session.spec_changed, self._follow)

    def _edit(self, name: str, value: Any) -> None:
        field, now = self._fields[name], getattr(self._session.spec, name)
        if isinstance(value, float):
            value = round(value, 6)  # a slider's steps add up to a little more or less
        if value == now or (isinstance(value, str) and value == fields.format_value(now)):
            return
        if isinstance(value, str) and field.kind != "choice":
            value = value.strip() or None
        try:
            self._session.edit(**{name: value})
        except Exception:
            self._follow(self._session.spec)
            raise
        self._panel.show_message("")

    def _follow(self, _: RefineSpec) -> None:
        """Show the spec as it is when the publisher comes to it, not as it was when it was told of."""
        self._panel.publisher.publish(self, self._show)

    def _show(self) -> None:
        for name, control in self.controls.items():
            update_control(control, self._fields[name], self._session.spec)
