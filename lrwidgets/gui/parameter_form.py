"""Edit parameters of a session in a form: what is typed becomes an edit, and every edit is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lrcore.refinement.parameters import RefineSpec
from lrwidgets.gui.panel_base import PanelBase, ProgrammaticChange
from lrwidgets.session.session import Session
from lrwidgets.text import fields
from lrwidgets.text.fields import ParameterField

SLIDERS = {"rotation_prior_sd_deg": (0.5, 30.0, 0.5), "shift_prior_sd_A": (0.25, 30.0, 0.25)}
"""Fields drawn as a slider: minimum, maximum and step. Typed values may lie outside."""
ControlKind = Literal["choice", "switch", "slider", "text"]


@dataclass(frozen=True)
class FieldValue:
    """Value that the control of a field shows. placeholder: what an empty text means."""

    value: Any
    placeholder: str = ""


def control_kind(field: ParameterField) -> ControlKind:
    """Return how a field is drawn. Numbers are typed as text, so that this program validates them."""
    if field.kind in ("choice", "switch"):
        return field.kind
    return "slider" if field.name in SLIDERS else "text"


def field_value(field: ParameterField, spec: RefineSpec) -> FieldValue:
    """Return what the control of a field shows for a spec."""
    value = getattr(spec, field.name)
    if control_kind(field) != "text":
        return FieldValue(value)
    placeholder = fields.automatic_text(spec, field.name) if field.optional else ""
    return FieldValue(fields.format_value(value), placeholder)


class ParameterFormModel:
    """Some fields of a session's spec. fields: by name, in the order of the form."""

    def __init__(
        self, panel: PanelBase, session: Session, names: Sequence[str], show_field: Callable[[str, FieldValue], None]
    ) -> None:
        """show_field: shows a value in the control of a field."""
        self.fields = {name: fields.parameter_field(name) for name in names}
        self._panel, self._session, self._show_field = panel, session, show_field
        self._silent = ProgrammaticChange()

    def start(self) -> None:
        """Show the session's spec in all controls, and follow it."""
        self.show()
        self._panel.subscribe(self._session.spec_changed, lambda _: self._publish())

    def edit(self, name: str, value: Any) -> None:
        """Edit a field as its control was changed. Raises InputError for a refused value, after the old one is back."""
        if self._silent.is_active:
            return
        now = getattr(self._session.spec, name)
        if isinstance(value, float):
            value = round(value, 6)  # a slider's steps add up to a little more or less
        elif isinstance(value, str):
            value = fields.without_unit(value, self.fields[name].unit)
        if value == now or value == fields.format_value(now):
            return
        try:
            self._session.edit(**{name: value if value != "" else None})
        except Exception:
            self._publish()
            raise
        self._panel.show_message("")

    def show(self) -> None:
        """Show the present spec in all controls."""
        with self._silent():
            for name, field in self.fields.items():
                self._show_field(name, field_value(field, self._session.spec))

    def _publish(self) -> None:
        """Show the spec of the moment at which the publisher writes."""
        self._panel.publisher.publish(self, self.show)
