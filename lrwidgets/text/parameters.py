"""Parse parameters from text or TOML into a RefineSpec, with errors that name field, bound and remedy."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lrcore.errors import InputError
from lrcore.refinement.parameters import RefineSpec

DEFAULT_SPEC = RefineSpec.model_validate({})
POINT_FORMS = "box, 'x, y, z px' or 'x, y, z A' (from the corner of the box), or 'x, y, z map' (in Å, as in a model)"
"""How a point is written, for messages."""
BOUND_SIGNS = {annotated_types.Gt: (">", "gt"), annotated_types.Ge: (">=", "ge"), annotated_types.Le: ("<=", "le")}


def edit_spec(spec: RefineSpec, changes: Mapping[str, Any]) -> RefineSpec:
    """Return the spec with some fields changed.

    Parameters
    ----------
    spec : the spec to change
    changes : field → new value, typed or as text

    Returns
    -------
    RefineSpec
        The new, validated spec.

    Raises
    ------
    InputError
        If a name or a value is invalid; the message names the field, the value and what is valid.
    """
    for name in changes:
        _field(name)
    try:
        return RefineSpec.model_validate({**spec.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:  # a rule about several fields, which the reason names
            given = ", ".join(f"{name} = {value}" for name, value in changes.items())
            raise InputError(f"{given}: {reason}") from error
        name = str(first["loc"][0])
        reason = reason[0].lower() + reason[1:]
        raise InputError(f"{name} = {first['input']}: {reason}{_valid(RefineSpec.model_fields[name])}") from error


def changes_from_text(settings: list[str]) -> dict[str, Any]:
    """Parse `name=value` texts into changes of a spec.

    An empty value unsets the field; so does "none", unless that is one of the field's choices. Raises InputError for a
    text without "=" or an unknown field.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write name=value")
        name, value = name.strip(), value.strip()
        unset = value == "" or (value.lower() == "none" and _field(name).default is None)
        changes[name] = None if unset else value
    return changes


def changes_from_toml(path: Path) -> dict[str, Any]:
    """Read changes of a spec from a TOML file. Raises InputError if it cannot be read or a value is invalid."""
    try:
        with path.open("rb") as file:
            changes = tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML ({error}): write one name = value per line") from error
    try:
        edit_spec(DEFAULT_SPEC, changes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return changes


def _field(name: str) -> FieldInfo:
    """Return the metadata of a field. Raises InputError with a suggestion for an unknown name."""
    fields = RefineSpec.model_fields
    if name not in fields:
        close = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose among {', '.join(fields)}"
        raise InputError(f"{name} is not a parameter: {hint}")
    return fields[name]


def _valid(field: FieldInfo) -> str:
    """Return the bounds of a numeric field, such as ` (valid: > 0 and <= 90 degree)`; empty for other fields."""
    bounds = [
        f"{BOUND_SIGNS[type(m)][0]} {getattr(m, BOUND_SIGNS[type(m)][1])}"
        for m in field.metadata
        if type(m) in BOUND_SIGNS
    ]
    extra = field.json_schema_extra
    unit = f" {extra['unit']}" if isinstance(extra, dict) and extra.get("unit") else ""
    return f" (valid: {' and '.join(bounds)}{unit})" if bounds else ""
