"""Describe the parameters of RefineSpec as form fields, which each interface draws in its own way."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from lrcore.errors import InputError
from lrcore.refinement.parameters import RefineSpec

Kind = Literal["number", "count", "switch", "choice", "text"]

SYMBOLS = {"degree": "°", "angstrom": "Å"}
"""Unit in the metadata → symbol to display."""


@dataclass(frozen=True)
class ParameterField:
    """A parameter as a field of a form.

    Attributes
    ----------
    name : field of `RefineSpec`
    label, unit, help : texts to display; unit may be empty
    group : search, reference or run
    kind : type of the control
    default : value before any edit
    optional : True if the field may be empty, which means automatic
    choices : values of a "choice"
    low, high : bounds of a number; None for none
    """

    name: str
    label: str
    unit: str
    group: str
    help: str
    kind: Kind
    default: Any
    optional: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def title(self) -> str:
        """Label with the unit: "Shift prior SD, Å"."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


@cache
def parameter_fields(group: str | None = None) -> tuple[ParameterField, ...]:
    """Return the fields of a group (search, reference or run), or all (None), in the order of the spec."""
    fields = [_field(name, info) for name, info in RefineSpec.model_fields.items()]
    return tuple(field for field in fields if group in (None, field.group))


def parameter_field(name: str) -> ParameterField:
    """Return the field of a parameter. Raises StopIteration for an unknown name."""
    return next(field for field in parameter_fields() if field.name == name)


def automatic_text(spec: RefineSpec, name: str) -> str:
    """Return the text of an empty field: "auto: " and the value or source that the spec implies."""
    values = {
        "rotation_extent_deg": f"{spec.rotation_limit_deg:g}",
        "shift_extent_A": f"{spec.shift_limit_A:g}",
        "max_align_resolution_A": "from the FSC",
        "initial_lowpass_A": "from the half maps",
    }
    return f"auto: {values[name]}" if name in values else "auto"


def format_value(value: Any) -> str:
    """Format a value as it is typed; empty for None."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


UNIT_NAMES = {"Å": ("Å", "\N{ANGSTROM SIGN}", "A"), "°": ("°", "degrees", "degree", "deg")}
"""Symbol of a unit → how it is typed."""


def without_unit(text: str, unit: str) -> str:
    """Return a typed text without its unit: "12 Å" → "12". unit: as a symbol; empty for none."""
    text = text.strip()
    for name in UNIT_NAMES.get(unit, (unit,)):
        if name and text.endswith(name):
            return text.removesuffix(name).rstrip()
    return text


def parse_number(text: str, label: str, unit: str = "", whole: bool = False) -> float:
    """Return a number as it is typed, with or without its unit. Raises InputError for another text.

    label: of the field, for the message. whole: only whole numbers are read.
    """
    try:
        number = float(without_unit(text, unit))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        raise InputError(f"{label}: {text.strip() or 'nothing'} typed: type a {'whole ' if whole else ''}number")
    return int(number) if whole else number


def describe_settings(values: Mapping[str, Any]) -> str:
    """Format parameters with labels and units: "Rotation prior SD 5°, Pose prior motion"."""
    return ", ".join(
        f"{parameter_field(name).label} {_with_unit(value, parameter_field(name).unit)}"
        for name, value in values.items()
    )


def _with_unit(value: Any, unit: str) -> str:
    """Format a value with its unit; "auto" for None."""
    text = format_value(value) or "auto"
    return text if not unit or text == "auto" else f"{text}{unit}" if unit == "°" else f"{text} {unit}"


def _field(name: str, info: FieldInfo) -> ParameterField:
    """Convert the metadata of one parameter."""
    extra: Any = info.json_schema_extra
    kind, optional, choices = _kind(info.annotation)
    bounds = {type(bound): bound for bound in info.metadata}
    low = next((getattr(bounds[t], a) for t, a in _LOWER if t in bounds), None)
    high = next((getattr(bounds[t], a) for t, a in _UPPER if t in bounds), None)
    unit, text = SYMBOLS.get(extra["unit"], extra["unit"]), info.description or ""
    return ParameterField(
        name, extra["label"], unit, extra["group"], text, kind, info.default, optional, choices, low, high
    )


_LOWER = ((annotated_types.Gt, "gt"), (annotated_types.Ge, "ge"))
_UPPER = ((annotated_types.Lt, "lt"), (annotated_types.Le, "le"))


def _kind(annotation: Any) -> tuple[Kind, bool, tuple[str, ...]]:
    """Return the kind of control for a type, whether the field may be empty, and its choices."""
    if get_origin(annotation) is Literal:
        return "choice", False, get_args(annotation)
    types = get_args(annotation) or (annotation,)
    optional = type(None) in types
    kinds: dict[Any, Kind] = {bool: "switch", int: "count", float: "number", str: "text"}
    return next((kinds[t] for t in types if t in kinds), "text"), optional, ()
