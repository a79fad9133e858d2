"""Say when a parameter acts: which are without effect and why, and which settings decide the result of an iteration."""

import hashlib
from typing import Any

import numpy as np

from lrcore.errors import InputError
from lrcore.records import Volume
from lrcore.refinement.parameters import ActsFrom, RefineSpec, spec_differences


def acts_from(name: str) -> ActsFrom:
    """Return the first iteration that a field acts on.

    Parameters
    ----------
    name : field of `RefineSpec`
    """
    acts: ActsFrom = _metadata(name)["acts"]
    return acts


def fields_that_act(when: ActsFrom) -> tuple[str, ...]:
    """Return the fields whose `acts_from` is `when`, in the order of the spec."""
    return tuple(name for name in RefineSpec.model_fields if acts_from(name) == when)


def unmet_need(name: str, spec: RefineSpec) -> str:
    """Return why a field has no effect beside the other fields of a spec; empty if it has one.

    Parameters
    ----------
    name : field of `RefineSpec`
    spec : parameters of the refinement

    Returns
    -------
    str
        Such as "has no effect with mask_mode=static: set mask_mode=dynamic with it".
    """
    for other, values in _metadata(name)["needs"].items():
        if getattr(spec, other) not in values:
            return f"has no effect with {other}={_text(getattr(spec, other))}: set {other}={_text(values[0])} with it"
    return ""


def effect_warnings(spec: RefineSpec) -> tuple[str, ...]:
    """Return a sentence for each field that differs from its default and has no effect beside the others."""
    changed = spec_differences(RefineSpec.model_validate({}), spec)
    reasons = {name: unmet_need(name, spec) for name in changed}
    return tuple(f"{name} = {_text(getattr(spec, name))}: {reason}" for name, reason in reasons.items() if reason)


def require_effect(before: RefineSpec, after: RefineSpec, iteration: int = 0, subtracted_images: bool = False) -> None:
    """Raise for a changed field that would have no effect.

    Parameters
    ----------
    before, after : parameters before and after the change
    iteration : number of the iteration that is done or in progress; 0 before the first one
    subtracted_images : the density outside the mask is subtracted from the images already

    Raises
    ------
    InputError
        For a field that another one switches off, and for a field of the first iteration after that. Let through are a
        field that is set back to its default, and one that is switched off by the same change.
    """
    for name in spec_differences(before, after):
        is_default = getattr(after, name) == RefineSpec.model_fields[name].default
        reason = unmet_need(name, after) if unmet_need(name, before) and not is_default else ""
        if iteration > 0 and acts_from(name) == "first iteration":
            reason = (
                f"acts on the first iteration only, and iteration {iteration} has begun: "
                "rewind to the start of the run, or branch from it"
            )
        if subtracted_images and name == "subtract_outside":
            reason = "has no effect: the density outside the mask is already subtracted from these images"
        if reason:
            raise InputError(f"{name} = {_text(getattr(after, name))}: {reason}")


def settings_key(spec: RefineSpec, mask: Volume) -> str:
    """Return a digest of what decides the result of an iteration: mask and parameters, at their defaults or not.

    Parameters that are without effect, or act on the first iteration only or on the end of the run, do not count.

    Parameters
    ----------
    spec : parameters of the refinement
    mask : (n, n, n), as it was given
    """
    aside = {*fields_that_act("first iteration"), *fields_that_act("end of the run")}
    aside |= {name for name in RefineSpec.model_fields if unmet_need(name, spec)}
    digest = hashlib.blake2b(spec.model_dump_json(exclude=aside, exclude_defaults=True).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(mask.data).data)
    return digest.hexdigest()


def _metadata(name: str) -> dict[str, Any]:
    """Return the metadata of a field."""
    extra = RefineSpec.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra


def _text(value: Any) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, float):
        return f"{value:g}"
    return "auto" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
