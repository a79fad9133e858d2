"""RefineSpec's metadata as fields of a form: described once, drawn by each face in its own way."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from lrcore.refinement.parameters import RefineSpec

Kind = Literal["number", "count", "switch", "choice", "text"]

SYMBOLS = {"degree": "°", "angstrom": "Å"}
"""Unit of the metadata → as a person reads it."""


@dataclass(frozen=True)
class ParameterField:
    """One parameter. low, high: bounds, None for none. optional: may be empty, which means automatic."""

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
        """Label and unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


@cache
def parameter_fields(group: str | None = None) -> tuple[ParameterField, ...]:
    """The fields of a group (search, reference, run), or all, in the order of the spec."""
    made = [_field(name, info) for name, info in RefineSpec.model_fields.items()]
    return tuple(field for field in made if group in (None, field.group))


def parameter_field(name: str) -> ParameterField:
    """The field of that name."""
    return next(field for field in parameter_fields() if field.name == name)


def automatic_text(spec: RefineSpec, name: str) -> str:
    """What an empty field means now, in words."""
    values = {
        "rotation_extent_deg": f"{spec.rotation_limit_deg:g}",
        "shift_extent_A": f"{spec.shift_limit_A:g}",
        "max_align_resolution_A": "from the FSC",
        "initial_lowpass_A": "from the half maps",
    }
    return f"auto: {values[name]}" if name in values else "auto"


def format_value(value: Any) -> str:
    """A value as a person types it; empty for one that is not set."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_settings(values: Mapping[str, Any]) -> str:
    """Fields and their values as a person reads them: "Rotation prior SD 5°, Prior motion"."""
    return ", ".join(
        f"{parameter_field(name).label} {_with_unit(value, parameter_field(name).unit)}"
        for name, value in values.items()
    )


def _with_unit(value: Any, unit: str) -> str:
    said = format_value(value) or "auto"
    return said if not unit or said == "auto" else f"{said}{unit}" if unit == "°" else f"{said} {unit}"


def _field(name: str, info: FieldInfo) -> ParameterField:
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
    """What a type is drawn as, whether it may be empty, and what there is to choose."""
    if get_origin(annotation) is Literal:
        return "choice", False, get_args(annotation)
    types = get_args(annotation) or (annotation,)
    optional = type(None) in types
    kinds: dict[Any, Kind] = {bool: "switch", int: "count", float: "number", str: "text"}
    return next((kinds[t] for t in types if t in kinds), "text"), optional, ()
