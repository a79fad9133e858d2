"""A parameter of the spec as a control, and a form of them that edits a session and follows it."""

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QWidget
from superqt import QLabeledDoubleSlider

from lrcore.refinement.parameters import RefineSpec
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session
from lrwidgets.text import fields
from lrwidgets.text.fields import ParameterField

SLIDERS = {"rotation_prior_sd_deg": (0.5, 30.0, 0.5), "shift_prior_sd_A": (0.25, 30.0, 0.25)}
"""Fields that are drawn as a slider, and its ends and steps."""


class ParameterFormLayout(QFormLayout):
    """Controls of some fields in a section: a change edits the session, an edit from elsewhere is shown.

    controls: by name of the field.
    """

    def __init__(self, section: Section, session: Session, names: Sequence[str]) -> None:
        super().__init__()
        self._section, self._session = section, session
        self._fields = {name: fields.parameter_field(name) for name in names}
        self.controls: dict[str, QWidget] = {}
        self._silent = False
        for name, field in self._fields.items():
            control = self._draw(field)
            control.setObjectName(f"lrw-{name}")
            control.setToolTip(field.help)
            self.controls[name] = control
            self.addRow(field.title, control)
            self.labelForField(control).setToolTip(field.help)
        self._show()
        section.connect(session.spec_changed, self._follow)

    def _draw(self, field: ParameterField) -> QWidget:
        name = field.name
        if field.kind == "choice":
            control = QComboBox()
            control.addItems(field.choices)
            control.currentTextChanged.connect(self._section.catch_errors(lambda text: self._edit(name, text)))
        elif field.kind == "switch":
            control = QCheckBox()
            control.toggled.connect(self._section.catch_errors(lambda on: self._edit(name, on)))
        elif name in SLIDERS:
            low, high, step = SLIDERS[name]
            control = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
            control.setRange(low, high)
            control.setSingleStep(step)  # type: ignore[arg-type]
            control.setDecimals(2)
            control.valueChanged.connect(self._section.catch_errors(lambda value: self._edit(name, round(value, 2))))
        else:
            control = QLineEdit()
            control.editingFinished.connect(self._section.catch_errors(lambda: self._typed(name)))
        return control

    def _typed(self, name: str) -> None:
        control = self.controls[name]
        assert isinstance(control, QLineEdit)
        if control.text().strip() != fields.format_value(getattr(self._session.spec, name)):
            self._edit(name, control.text().strip() or None)

    def _edit(self, name: str, value: Any) -> None:
        if self._silent or value == getattr(self._session.spec, name):
            return
        try:
            self._session.edit(**{name: value})
        except Exception:
            self._follow(self._session.spec)
            raise
        self._section.show_message("")

    def _follow(self, _: RefineSpec) -> None:
        """Show the spec as it is when the relay comes to it."""
        self._section.relay.publish(self, self._show)

    def _show(self) -> None:
        self._silent = True
        try:
            for name, control in self.controls.items():
                update_control(control, self._fields[name], self._session.spec)
        finally:
            self._silent = False


def update_control(control: QWidget, field: ParameterField, spec: RefineSpec) -> None:
    """Show the spec's value in a control."""
    value = getattr(spec, field.name)
    if isinstance(control, QComboBox):
        control.setCurrentText(value)
    elif isinstance(control, QCheckBox):
        control.setChecked(value)
    elif isinstance(control, QLabeledDoubleSlider):
        control.setRange(min(control.minimum(), value), max(control.maximum(), value))
        control.setValue(value)
    elif isinstance(control, QLineEdit):
        control.setPlaceholderText(fields.automatic_text(spec, field.name) if field.optional else "")
        control.setText(fields.format_value(value))
