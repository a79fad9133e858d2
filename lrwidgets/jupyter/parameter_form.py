"""Draw a form of parameters with ipywidgets."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets as w

from lrwidgets.gui.parameter_form import SLIDERS, FieldValue, ParameterFormModel, control_kind
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.number import NumberControl
from lrwidgets.session.session import Session
from lrwidgets.text.fields import ParameterField

STYLE = {"description_width": "205px"}
FIELD_LAYOUT = w.Layout(width="385px")


class ParameterForm:
    """Controls of some fields of a session's spec, which they edit and follow. controls: by name of the field."""

    def __init__(self, panel: Panel, session: Session, names: Sequence[str], prefix: str) -> None:
        self.model = ParameterFormModel(panel, session, names, self._show_field)
        self.controls: dict[str, w.Widget] = {}
        for name, field in self.model.fields.items():
            control = make_control(field).add_class(f"lrw-{prefix}-{css_class(name)}")
            self.controls[name] = control
            if isinstance(control, NumberControl):
                control.on_hand(panel, partial(self.model.edit, name))
                continue
            control.observe(panel.catch_errors(lambda change, name=name: self.model.edit(name, change["new"])), "value")
        self.model.start()

    def _show_field(self, name: str, shown: FieldValue) -> None:
        control = self.controls[name]
        if isinstance(control, NumberControl):
            control.show(shown.value)
            return
        if isinstance(control, w.Text):
            control.placeholder = shown.placeholder
        control.value = shown.value


def make_control(field: ParameterField) -> w.Widget:
    """Make the control of a field with its label and help."""
    common: dict[str, Any] = {
        "description": field.title, "tooltip": field.help, "style": STYLE, "layout": FIELD_LAYOUT,
    }  # fmt: skip
    kind = control_kind(field)
    if kind == "choice":
        return w.Dropdown(options=field.choices, **common)
    if kind == "switch":
        return w.Checkbox(indent=False, **common)
    if kind == "slider":
        low, high, step = SLIDERS[field.name]
        return NumberControl(
            unit=field.unit, description=field.title, tooltip=field.help, label_width=STYLE["description_width"],
            layout=FIELD_LAYOUT, low=low, high=high, step=step,
        )  # fmt: skip
    return w.Text(continuous_update=False, **common)


def css_class(name: str) -> str:
    """Return the end of a control's class: the field's name without prior and unit."""
    stem = name.removesuffix("_deg").removesuffix("_A")
    return (stem.replace("_prior", "") or stem).replace("_", "-")
