"""Convert steps to an xarray.DataTree by the schema (docs/results.md), and back bit for bit."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lrcore.analysis.pose_uncertainty import Uncertainty
from lrcore.arrays import Float32, Float64
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import pose_differences
from lrcore.maps.body_maps import MapsAmidStart
from lrcore.records import (
    FLAG_NAMES,
    Expectation,
    Fsc,
    HalfMaps,
    IterationSummary,
    Particles,
    Poses,
    SearchSettings,
    Step,
    Volume,
    empty_other_modes,
)
from lrcore.refinement.geometry import fulcrum_A, step_fulcrum_A
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.whole_maps import has_whole_maps
from lrcore.results.datasets import grid_axes, make_dataset, make_variable, to_array
from lrcore.results.fingerprints import input_fingerprints, package_versions
from lrcore.results.map_groups import body_dataset, body_of, half_maps_of, volumes_dataset
from lrcore.results.schema import STAGE_VARIABLES, VERSION, validate
from lrcore.units import DEGREE

__all__ = [
    "covariance_in_degrees",
    "fulcrum_A",
    "history_from_dataset",
    "join_iterations",
    "mask_dataset",
    "step_fulcrum_A",
    "step_to_datatree",
    "to_mask",
    "to_step",
    "to_tree",
    "uncertainty_dataset",
    "validate",
    "with_group",
    "with_mask",
]

LAST_ONLY = ("volumes", "body", "history", "mask")
"""Groups that are those of the last step."""
UNKNOWNS = "rotation_x rotation_y rotation_z shift_x shift_y"
"""Names of the five pose parameters, in the order of covariances and offsets."""
UNKNOWN_UNITS = "radian radian radian angstrom angstrom"
"""Units of the five pose parameters."""

_HISTORY = {
    "resolution_masked": "resolution_masked_A",
    "resolution_corrected": "resolution_corrected_A",
    "align_resolution": "align_resolution_A",
    "angle_from_input": "angle_from_input_deg",
    "shift_from_input": "shift_from_input_A",
    "angle_since_last": "angle_since_last_deg",
    "shift_since_last": "shift_since_last_A",
    "change_in_sd": "change_in_sd",
    "at_rotation_extent": "at_rotation_extent",
    "at_shift_extent": "at_shift_extent",
    "memory": "memory_MB",
    "lattice_share": "lattice_share",
    "skipped": "skipped",
    "present_share": "present_share",
}
"""Variable of /history → field of IterationSummary."""


_SEARCH_SETTINGS = {
    "fulcrum": "fulcrum_A",
    "rotation_prior_sd": "rotation_sd_deg",
    "shift_prior_sd": "shift_sd_A",
    "rotation_extent": "rotation_extent_deg",
    "shift_extent": "shift_extent_A",
}
"""Variable of /state → field of SearchSettings."""


def to_tree(
    job: Job,
    steps: Sequence[Step],
    *,
    specs: Sequence[RefineSpec] | None = None,
    masks: Sequence[Volume] | None = None,
    before: Step | None = None,
    inputs: dict[str, Any] | None = None,
) -> xr.DataTree:
    """Convert consecutive steps to a tree by the schema; maps, mask and history are those of the last step.

    Parameters
    ----------
    job : the job of the run
    steps : steps in order, each computed from the one before
    specs : parameters that each step was run with; by default those of the job
    masks : mask that each step was run with; by default that of the job
    before : step that steps[0] was computed from; None if it is step 0 or if its parent is unknown
    inputs : result of `input_fingerprints(job)`, if it is already known

    Returns
    -------
    xarray.DataTree
        The results; they share no memory with the steps. Whole half maps that are those of the start with a body in
        them are made when they are read.
    """
    specs = [job.spec] * len(steps) if specs is None else specs
    masks = [job.mask] * len(steps) if masks is None else masks
    inputs = input_fingerprints(job) if inputs is None else inputs
    trees = []
    for step, spec, mask in zip(steps, specs, masks, strict=True):
        poses = before.expectation.poses if before else None
        trees.append(step_to_datatree(replace(job, spec=spec, mask=mask), step, poses, inputs))
        before = step
    tree = with_mask(join_iterations(trees), mask_dataset(masks[-1])).copy(deep=True)
    return with_group(tree, "volumes", volumes_dataset(steps[-1].half_maps, steps[-1].iteration))


def step_to_datatree(job: Job, step: Step, before: Poses | None, inputs: dict[str, Any]) -> xr.DataTree:
    """Convert one step to a tree by the schema, without /mask.

    Parameters
    ----------
    job : the job that the step was run with
    step : the step
    before : poses of the step it was computed from; None for the input poses
    inputs : result of `input_fingerprints`

    Returns
    -------
    xarray.DataTree
        The step; variables by iteration have one iteration.
    """
    fulcrum = step_fulcrum_A(job, step)
    attributes = {
        "schema": "lrwidgets results, docs/results.md",
        "schema_version": VERSION,
        "spec": job.spec.model_dump_json(),
        "specs": json.dumps([job.spec.model_dump()]),
        "versions": json.dumps(package_versions()),
        "inputs": json.dumps(inputs),
        "seed": job.spec.seed,
        "fulcrum_angstrom": list(fulcrum),
    }
    groups = {
        "/": xr.Dataset(attrs=attributes),
        "/fsc": _fsc(step),
        "/particles": _particles(job, step, before, fulcrum),
        "/history": _history(step.history),
        "/state": _state(step),
    }
    if has_whole_maps(step):
        groups["/volumes"] = volumes_dataset(step.half_maps, step.iteration)
    if step.body:
        groups["/body"] = body_dataset(step.body, step.iteration)
    return xr.DataTree.from_dict(groups)


def join_iterations(trees: Sequence[xr.DataTree]) -> xr.DataTree:
    """Join trees of consecutive steps along `iteration`; history and variables without iteration come from the last."""
    last = trees[-1]
    groups = {"/": xr.Dataset(attrs=_join_attributes(trees))}
    for name in last.children:
        if name in LAST_ONLY:
            groups["/" + name] = last[name].to_dataset()
            continue
        parts = [tree[name].to_dataset() for tree in trees]
        groups["/" + name] = _along_iteration(parts)
    return xr.DataTree.from_dict(groups)


def _join_attributes(trees: Sequence[xr.DataTree]) -> dict[str, Any]:
    """Return the root attributes of the last tree with the specs of all."""
    specs = [spec for tree in trees for spec in json.loads(tree.attrs["specs"])]
    attributes = {str(name): value for name, value in trees[-1].attrs.items()}
    return {**attributes, "specs": json.dumps(specs)}


def _along_iteration(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Concatenate the variables that have an iteration; a curve that a step lacks is NaN there."""
    fixed = [name for name, variable in parts[-1].variables.items() if "iteration" not in variable.dims]
    varying = xr.concat(
        [part.drop_vars(fixed, errors="ignore") for part in parts],
        dim="iteration",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    whole = varying.assign_coords({str(name): parts[-1].variables[name] for name in fixed})
    return whole.assign_attrs(parts[-1].attrs)


def whole_maps_datatree(step: Step) -> xr.DataTree:
    """Return the groups /volumes and /fsc of a step with whole half maps, as they are stored beside the step."""
    return xr.DataTree.from_dict({"/volumes": volumes_dataset(step.half_maps, step.iteration), "/fsc": _fsc(step)})


def with_whole_maps(step: Step, tree: xr.DataTree) -> Step:
    """Return a step with the whole half maps and the FSC curves of a tree by `whole_maps_datatree`."""
    half_maps, fsc = half_maps_of(tree["volumes"].to_dataset()), _curves(tree["fsc"].to_dataset())
    return replace(step, half_maps=half_maps, fsc=fsc)


def replace_curves(tree: xr.DataTree, data: xr.Dataset) -> xr.DataTree:
    """Return the results with the FSC curves of the last iteration from another /fsc group of that iteration."""
    before = tree["fsc"].to_dataset().isel(iteration=slice(0, -1))
    parts = [before, data] if before.sizes["iteration"] else [data]
    return with_group(tree, "fsc", _along_iteration(parts))


def with_mask(tree: xr.DataTree, mask: xr.Dataset) -> xr.DataTree:
    """Return the tree with its /mask group."""
    return with_group(tree, "mask", mask)


def with_group(tree: xr.DataTree, name: str, data: xr.Dataset) -> xr.DataTree:
    """Return the tree with one more group."""
    groups = {node.path: node.to_dataset() for node in tree.subtree}
    return xr.DataTree.from_dict({**groups, f"/{name}": data})


def uncertainty_dataset(particles: Particles, step: Step, result: Uncertainty) -> xr.Dataset:
    """Return the /uncertainty group of a step.

    Parameters
    ----------
    particles : all particles of the run
    step : the step whose poses were sampled
    result : result of `lrcore.analysis.pose_uncertainty.uncertainty`

    Returns
    -------
    xarray.Dataset
        SDs, covariances and offsets by particle.
    """
    sd = np.sqrt(np.diagonal(result.covariance, axis1=1, axis2=2))
    values = {
        "uid": particles.uid,
        "half": particles.half,
        "rotation_sd": sd[:, :3] / DEGREE,
        "shift_sd": sd[:, 3:],
        "covariance": result.covariance,
        "offset": result.offset,
        "draws": result.ess,
    }
    data = make_dataset("uncertainty", values, ("uid", "half"), iteration=step.iteration)
    for name in ("covariance", "offset"):
        data[name].attrs |= {"unknowns": UNKNOWNS, "unknown_units": UNKNOWN_UNITS}
    return data


def to_step(tree: xr.DataTree, start: Callable[[], HalfMaps] | None = None) -> Step:
    """Return the last step in a tree, bit for bit as it was written.

    Parameters
    ----------
    tree : of a step, or the results up to it
    start : returns the half maps of the start, for a step whose tree has no whole half maps
    """
    body = body_of(tree["body"].to_dataset()) if "body" in tree.children else None
    if "volumes" in tree.children or body is None or start is None:
        half_maps = half_maps_of(tree["volumes"].to_dataset())
    else:
        half_maps = MapsAmidStart(start(), body)
    particles, state = (tree[name].to_dataset().isel(iteration=-1) for name in ("particles", "state"))
    return Step(
        iteration=int(particles["iteration"]),
        expectation=Expectation(
            poses=Poses(to_array(particles["rotation"]), to_array(particles["origin"])),
            covariance=to_array(particles["covariance"]),
            ess=to_array(particles["ess"]),
            mode_probability=to_array(particles["mode_probability"]),
            gain=to_array(particles["log_likelihood_gain"]),
            flags=to_array(particles["flags"]),
            scale=to_array(particles["scale"]),
            **_other_modes(particles),
            curvature=_curvature(particles),
            evidence=_known(particles, "evidence", 0.0),
            misfit=_known(particles, "misfit", 0.0),
            presence=_known(particles, "presence", 1.0),
        ),
        half_maps=half_maps,
        fsc=_curves(tree["fsc"].to_dataset()),
        noise=to_array(state["noise"]),
        initial_lowpass_A=float(state["initial_lowpass"]),
        history=history_from_dataset(tree["history"].to_dataset()),
        converged=bool(state["converged"]),
        search_key=str(state.attrs["question"]),
        intensity=tuple(state["intensity"].values.tolist()) if "intensity" in state else (),
        outside_fraction=_outside_fraction(state),
        search=_search_settings(state, tree.attrs),
        settings_key=str(state.attrs.get("settings", "")),
        settings_since=int(state.attrs.get("settings_since", 0)),
        body=body,
    )


def _curvature(particles: xr.Dataset) -> Float32:
    """Return the curvature at the poses; for a run that was written before it was stored, the inverse covariance."""
    if "curvature" in particles and np.isfinite(particles["curvature"]).all():
        return to_array(particles["curvature"])
    covariance = to_array(particles["covariance"])
    found = np.zeros(covariance.shape, np.float32)
    searched = np.linalg.det(covariance) > 0
    found[searched] = np.linalg.inv(covariance[searched])
    return found


def _known(particles: xr.Dataset, name: str, otherwise: float) -> Float64:
    """Return a column of the particles; `otherwise` for a run that was written before it was measured."""
    return to_array(particles[name]) if name in particles else np.full(particles.sizes["particle"], otherwise)


def _outside_fraction(state: xr.Dataset) -> tuple[float, float]:
    """Return the fraction by half set; 1 for a run that was written before it was measured."""
    if "outside_fraction" not in state or not np.isfinite(state["outside_fraction"]).all():
        return 1.0, 1.0
    first, second = state["outside_fraction"].values.tolist()
    return first, second


def _other_modes(particles: xr.Dataset) -> dict[str, Any]:
    """Return the other modes; empty ones for a run that was written before they were stored."""
    names = ("other_modes", "other_probability")
    if names[0] not in particles:
        return dict(zip(names, empty_other_modes(particles.sizes["particle"]), strict=True))
    return {name: to_array(particles[name]) for name in names}


def covariance_in_degrees(tree: xr.DataTree) -> xr.DataArray:
    """Return the posterior covariances (iteration, particle, 5, 5) with rotations in degrees and shifts in Å.

    Parameters
    ----------
    tree : results by the schema

    Returns
    -------
    xarray.DataArray
        The covariances; attribute `unknown_units` has their units.
    """
    factor = np.array([1 / DEGREE] * 3 + [1.0] * 2)
    covariance = tree["particles"]["covariance"]
    scaled = covariance * xr.DataArray(np.outer(factor, factor), dims=("unknown", "unknown_"))
    units = UNKNOWN_UNITS.replace("radian", "degree")
    return scaled.assign_attrs({**covariance.attrs, "unknown_units": units})


def mask_dataset(mask: Volume) -> xr.Dataset:
    """Return the /mask group: the mask on its grid in Å about the box centre."""
    data = make_dataset("mask", {"mask": mask.data, **grid_axes(mask.box, mask.pixel_size_A)})
    path = "" if mask.path is None else str(mask.path)
    return data.assign_attrs(
        pixel_size_angstrom=mask.pixel_size_A, header_origin_angstrom=list(mask.header_origin_A), path=path
    )


def to_mask(data: xr.Dataset) -> Volume:
    """Return the mask in a /mask group, as it was written."""
    x, y, z = (float(value) for value in data.attrs["header_origin_angstrom"])
    path = Path(data.attrs["path"]) if data.attrs["path"] else None
    return Volume(to_array(data["mask"]), float(data.attrs["pixel_size_angstrom"]), (x, y, z), path)


def _fsc(step: Step) -> xr.Dataset:
    """Return the /fsc group of a step."""
    frequency = next(iter(step.fsc.values())).frequency
    with np.errstate(divide="ignore"):
        resolution = 1.0 / frequency
    values: dict[str, Any] = {kind: curve.value[None] for kind, curve in step.fsc.items()}
    values |= {"iteration": [step.iteration], "frequency": frequency, "resolution": resolution}
    return make_dataset("fsc", values, ("frequency", "resolution"), kinds=" ".join(step.fsc))


def _particles(job: Job, step: Step, before: Poses | None, fulcrum: tuple[float, float, float]) -> xr.Dataset:
    """Return the /particles group of a step."""
    found, start = step.expectation, job.particles.poses
    behind = magnification_in_3d(job.particles, np.arange(len(start)))
    angle, shift = pose_differences(start, found.poses, fulcrum, behind)
    angle_last, shift_last = pose_differences(start if before is None else before, found.poses, fulcrum, behind)
    sd = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
    values = {
        "rotation": found.poses.rotation,
        "origin": found.poses.origin_A,
        "angle_change": angle,
        "angle_change_last": angle_last,
        "shift_change": shift,
        "shift_change_last": shift_last,
        "rotation_sd": sd[:, :3] / DEGREE,
        "shift_sd": sd[:, 3:],
        "covariance": found.covariance,
        "ess": found.ess,
        "mode_probability": found.mode_probability,
        "log_likelihood_gain": found.gain,
        "flags": found.flags,
        "scale": found.scale,
        "other_modes": found.other_modes,
        "other_probability": found.other_probability,
        "curvature": found.curvature,
        "evidence": found.evidence,
        "misfit": found.misfit,
        "presence": found.presence,
    }
    each = {name: value[None] for name, value in values.items()}
    known = {"iteration": [step.iteration], "uid": job.particles.uid, "half": job.particles.half}
    data = make_dataset("particles", {**known, **each}, ("uid", "half"))
    for name in ("covariance", "other_modes", "curvature"):
        data[name].attrs |= {"unknowns": UNKNOWNS, "unknown_units": UNKNOWN_UNITS}
    data["flags"].attrs |= {"flag_masks": list(FLAG_NAMES), "flag_meanings": " ".join(FLAG_NAMES.values())}
    return data


def _curves(data: xr.Dataset) -> dict[str, Fsc]:
    """Return the curves of the last iteration in their original order, which attribute `kinds` stores."""
    frequency = to_array(data["frequency"])
    return {kind: Fsc(kind, frequency, to_array(data[kind].isel(iteration=-1))) for kind in data.attrs["kinds"].split()}


def _history(history: Sequence[IterationSummary]) -> xr.Dataset:
    """Return the /history group."""
    values: dict[str, Any] = {name: [getattr(s, field) for s in history] for name, field in _HISTORY.items()}
    data = make_dataset("history", {"iteration": [s.iteration for s in history], **values})
    for prefix, field in (("seconds_", "seconds"), ("particles_per_s_", "particles_per_s")):
        stages = list(dict.fromkeys(stage for s in history for stage in getattr(s, field)))
        for stage in stages:
            column = [getattr(s, field).get(stage, np.nan) for s in history]
            data[prefix + stage] = make_variable(STAGE_VARIABLES[prefix], column)
        data.attrs[field] = " ".join(stages)
    return data


def history_from_dataset(data: xr.Dataset) -> tuple[IterationSummary, ...]:
    """Return the summaries of the iterations in a /history group."""
    return tuple(_summary(data.isel(iteration=i)) for i in range(data.sizes["iteration"]))


def _summary(row: xr.Dataset) -> IterationSummary:
    """Return the summary of one iteration of a /history group."""
    plain: dict[str, float] = {field: float(row[name]) for name, field in _HISTORY.items() if name in row}
    plain |= {"skipped": int(plain.get("skipped", 0))}
    stages = {
        field: {s: float(row[prefix + s]) for s in row.attrs[field].split() if not np.isnan(row[prefix + s])}
        for prefix, field in (("seconds_", "seconds"), ("particles_per_s_", "particles_per_s"))
    }
    return IterationSummary(iteration=int(row["iteration"]), **plain, **stages)  # type: ignore[arg-type]


def _state(step: Step) -> xr.Dataset:
    """Return the /state group of a step."""
    values: dict[str, Any] = {
        "iteration": [step.iteration],
        "half": [1, 2],
        "noise": step.noise[None],
        "initial_lowpass": [step.initial_lowpass_A],
        "converged": [step.converged],
    }
    values["outside_fraction"] = [step.outside_fraction]
    if step.intensity:
        values["intensity"] = [step.intensity]
    values |= {name: [getattr(step.search, field)] for name, field in _SEARCH_SETTINGS.items() if step.search}
    if step.search and step.search.covariance:
        values["prior_covariance"] = np.reshape(step.search.covariance, (1, 6, 6))
    data = make_dataset("state", values, question=step.search_key)
    return data.assign_attrs(settings=step.settings_key, settings_since=step.settings_since)


def _search_settings(state: xr.Dataset, attributes: dict[Any, Any]) -> SearchSettings | None:
    """Return the settings of a step's search; None at the start, or if the run was written before they were stored."""
    if "fulcrum" not in state or not np.isfinite(state["fulcrum"]).all():
        return None
    numbers: dict[str, Any] = {
        field: float(state[name]) for name, field in _SEARCH_SETTINGS.items() if name != "fulcrum"
    }
    x, y, z = state["fulcrum"].values.tolist()
    spec = json.loads(attributes["spec"])
    covariance = None
    if "prior_covariance" in state and np.isfinite(state["prior_covariance"]).all():
        covariance = tuple(state["prior_covariance"].values.ravel().tolist())
    return SearchSettings(
        (x, y, z), **numbers, recentred=spec["recenter_rotations"] or spec["recenter_shifts"], covariance=covariance
    )
