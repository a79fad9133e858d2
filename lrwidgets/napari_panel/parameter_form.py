"""Draw a form of parameters with Qt."""

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QWidget
from superqt import QLabeledDoubleSlider

from lrwidgets.gui.parameter_form import SLIDERS, FieldValue, ParameterFormModel, control_kind
from lrwidgets.napari_panel.section import Section
from lrwidgets.session.session import Session
from lrwidgets.text.fields import ParameterField

DECIMALS = 2


class ParameterFormLayout(QFormLayout):
    """Controls of some fields of a session's spec, which they edit and follow. controls: by name of the field."""

    def __init__(self, section: Section, session: Session, names: Sequence[str]) -> None:
        super().__init__()
        self.model = ParameterFormModel(section, session, names, self._show_field)
        self.controls: dict[str, QWidget] = {}
        for name, field in self.model.fields.items():
            control = make_control(field, section.catch_errors(lambda value, name=name: self.model.edit(name, value)))
            control.setObjectName(f"lrw-{name}")
            control.setToolTip(field.help)
            self.controls[name] = control
            self.addRow(field.title, control)
            self.labelForField(control).setToolTip(field.help)
        self.model.start()

    def _show_field(self, name: str, shown: FieldValue) -> None:
        control, value = self.controls[name], shown.value
        if isinstance(control, QComboBox):
            control.setCurrentText(value)
        elif isinstance(control, QCheckBox):
            control.setChecked(value)
        elif isinstance(control, QLabeledDoubleSlider):
            control.setRange(min(control.minimum(), value), max(control.maximum(), value))
            control.setValue(value)
        elif isinstance(control, QLineEdit):
            control.setPlaceholderText(shown.placeholder)
            control.setText(value)


def make_control(field: ParameterField, edit: Callable[[Any], None]) -> QWidget:
    """Make the control of a field. edit: is called with what a person sets."""
    kind = control_kind(field)
    if kind == "choice":
        choice = QComboBox()
        choice.addItems(field.choices)
        choice.currentTextChanged.connect(edit)
        return choice
    if kind == "switch":
        switch = QCheckBox()
        switch.toggled.connect(edit)
        return switch
    if kind == "slider":
        return _make_slider(field.name, edit)
    text = QLineEdit()
    text.editingFinished.connect(lambda: edit(text.text()))
    return text


def _make_slider(name: str, edit: Callable[[Any], None]) -> QLabeledDoubleSlider:
    low, high, step = SLIDERS[name]
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(low, high)
    slider.setSingleStep(step)  # type: ignore[arg-type]
    slider.setDecimals(DECIMALS)
    slider.valueChanged.connect(lambda value: edit(round(value, DECIMALS)))
    return slider
