"""Convert steps to an xarray.DataTree by the schema (docs/results.md), and back bit for bit."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lrcore.analysis.pose_uncertainty import Uncertainty
from lrcore.arrays import Float32
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import pose_differences
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
from lrcore.results.fingerprints import input_fingerprints, package_versions
from lrcore.results.schema import SCHEMA, STAGE_VARIABLES, VERSION, VariableSchema, validate
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
        The results; they share no memory with the steps.
    """
    specs = [job.spec] * len(steps) if specs is None else specs
    masks = [job.mask] * len(steps) if masks is None else masks
    inputs = input_fingerprints(job) if inputs is None else inputs
    trees = []
    for step, spec, mask in zip(steps, specs, masks, strict=True):
        poses = before.expectation.poses if before else None
        trees.append(step_to_datatree(replace(job, spec=spec, mask=mask), step, poses, inputs))
        before = step
    return with_mask(join_iterations(trees), mask_dataset(masks[-1])).copy(deep=True)


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
        "/volumes": _volumes(step),
        "/history": _history(step.history),
        "/state": _state(step),
    }
    return xr.DataTree.from_dict(groups)


def join_iterations(trees: Sequence[xr.DataTree]) -> xr.DataTree:
    """Join trees of consecutive steps along `iteration`; history and variables without iteration come from the last."""
    last = trees[-1]
    groups = {"/": xr.Dataset(attrs=_join_attributes(trees))}
    for name in last.children:
        parts = [tree[name].to_dataset() for tree in trees]
        groups["/" + name] = parts[-1] if name in ("volumes", "history", "mask") else _along_iteration(parts)
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
    data = _dataset("uncertainty", values, ("uid", "half"), iteration=step.iteration)
    for name in ("covariance", "offset"):
        data[name].attrs |= {"unknowns": UNKNOWNS, "unknown_units": UNKNOWN_UNITS}
    return data


def to_step(tree: xr.DataTree) -> Step:
    """Return the last step in a tree, bit for bit as it was written."""
    particles, state = (tree[name].to_dataset().isel(iteration=-1) for name in ("particles", "state"))
    return Step(
        iteration=int(particles["iteration"]),
        expectation=Expectation(
            poses=Poses(_array(particles["rotation"]), _array(particles["origin"])),
            covariance=_array(particles["covariance"]),
            ess=_array(particles["ess"]),
            mode_probability=_array(particles["mode_probability"]),
            gain=_array(particles["log_likelihood_gain"]),
            flags=_array(particles["flags"]),
            scale=_array(particles["scale"]),
            **_other_modes(particles),
            curvature=_curvature(particles),
        ),
        half_maps=_half_maps(tree["volumes"].to_dataset()),
        fsc=_curves(tree["fsc"].to_dataset()),
        noise=_array(state["noise"]),
        initial_lowpass_A=float(state["initial_lowpass"]),
        history=history_from_dataset(tree["history"].to_dataset()),
        converged=bool(state["converged"]),
        search_key=str(state.attrs["question"]),
        intensity=tuple(state["intensity"].values.tolist()) if "intensity" in state else (),
        outside_fraction=_outside_fraction(state),
        search=_search_settings(state, tree.attrs),
        settings_key=str(state.attrs.get("settings", "")),
        settings_since=int(state.attrs.get("settings_since", 0)),
    )


def _curvature(particles: xr.Dataset) -> Float32:
    """Return the curvature at the poses; for a run that was written before it was stored, the inverse covariance."""
    if "curvature" in particles and np.isfinite(particles["curvature"]).all():
        return _array(particles["curvature"])
    covariance = _array(particles["covariance"])
    found = np.zeros(covariance.shape, np.float32)
    searched = np.linalg.det(covariance) > 0
    found[searched] = np.linalg.inv(covariance[searched])
    return found


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
    return {name: _array(particles[name]) for name in names}


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
    data = _dataset("mask", {"mask": mask.data, **_grid(mask.box, mask.pixel_size_A)})
    path = "" if mask.path is None else str(mask.path)
    return data.assign_attrs(
        pixel_size_angstrom=mask.pixel_size_A, header_origin_angstrom=list(mask.header_origin_A), path=path
    )


def to_mask(data: xr.Dataset) -> Volume:
    """Return the mask in a /mask group, as it was written."""
    x, y, z = (float(value) for value in data.attrs["header_origin_angstrom"])
    path = Path(data.attrs["path"]) if data.attrs["path"] else None
    return Volume(_array(data["mask"]), float(data.attrs["pixel_size_angstrom"]), (x, y, z), path)


def _dataset(group: str, values: dict[str, Any], coordinates: Sequence[str] = (), **attrs: Any) -> xr.Dataset:
    """Make a data set by the schema; `coordinates` names those that are not named like a dimension."""
    schema = SCHEMA[group]
    variables = {name: _variable(schema[name], value) for name, value in values.items()}
    names = [name for name, v in variables.items() if v.dims == (name,) or name in coordinates]
    data = xr.Dataset({k: v for k, v in variables.items() if k not in names}, {k: variables[k] for k in names})
    return data.assign_attrs(attrs)


def _variable(schema: VariableSchema, value: Any) -> xr.Variable:
    """Return a variable with the type and attributes of the schema."""
    array = np.asarray(value, dtype=np.dtype(schema.dtype))
    return xr.Variable(schema.dims, array, {"long_name": schema.long_name, "units": schema.unit})


def _grid(n: int, pixel_size_A: float) -> dict[str, Any]:
    """Return the coordinates z, y, x of voxel centres, Å from the box centre."""
    return dict.fromkeys("zyx", (np.arange(n) - n // 2) * pixel_size_A)


def _fsc(step: Step) -> xr.Dataset:
    """Return the /fsc group of a step."""
    frequency = next(iter(step.fsc.values())).frequency
    with np.errstate(divide="ignore"):
        resolution = 1.0 / frequency
    values: dict[str, Any] = {kind: curve.value[None] for kind, curve in step.fsc.items()}
    values |= {"iteration": [step.iteration], "frequency": frequency, "resolution": resolution}
    return _dataset("fsc", values, ("frequency", "resolution"), kinds=" ".join(step.fsc))


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
    }
    each = {name: value[None] for name, value in values.items()}
    known = {"iteration": [step.iteration], "uid": job.particles.uid, "half": job.particles.half}
    data = _dataset("particles", {**known, **each}, ("uid", "half"))
    for name in ("covariance", "other_modes", "curvature"):
        data[name].attrs |= {"unknowns": UNKNOWNS, "unknown_units": UNKNOWN_UNITS}
    data["flags"].attrs |= {"flag_masks": list(FLAG_NAMES), "flag_meanings": " ".join(FLAG_NAMES.values())}
    return data


def _volumes(step: Step) -> xr.Dataset:
    """Return the /volumes group of a step."""
    both = (step.half_maps.first, step.half_maps.second)
    values: dict[str, Any] = {
        "half": [1, 2],
        "half_map": np.stack([v.data for v in both]),
        "pixel_size": [v.pixel_size_A for v in both],
        "header_origin": [v.header_origin_A for v in both],
        **_grid(both[0].box, both[0].pixel_size_A),
    }
    paths = json.dumps([None if v.path is None else str(v.path) for v in both])
    return _dataset("volumes", values, iteration=step.iteration, paths=paths)


def _half_maps(data: xr.Dataset) -> HalfMaps:
    """Return the half maps in a /volumes group."""
    paths = [None if path is None else Path(path) for path in json.loads(data.attrs["paths"])]
    origins = [(float(x), float(y), float(z)) for x, y, z in data["header_origin"].values]
    sizes = [float(size) for size in data["pixel_size"].values]
    first, second = (Volume(_array(data["half_map"][i]), sizes[i], origins[i], paths[i]) for i in (0, 1))
    return HalfMaps(first, second)


def _curves(data: xr.Dataset) -> dict[str, Fsc]:
    """Return the curves of the last iteration in their original order, which attribute `kinds` stores."""
    frequency = _array(data["frequency"])
    return {kind: Fsc(kind, frequency, _array(data[kind].isel(iteration=-1))) for kind in data.attrs["kinds"].split()}


def _history(history: Sequence[IterationSummary]) -> xr.Dataset:
    """Return the /history group."""
    values: dict[str, Any] = {name: [getattr(s, field) for s in history] for name, field in _HISTORY.items()}
    data = _dataset("history", {"iteration": [s.iteration for s in history], **values})
    for prefix, field in (("seconds_", "seconds"), ("particles_per_s_", "particles_per_s")):
        stages = list(dict.fromkeys(stage for s in history for stage in getattr(s, field)))
        for stage in stages:
            column = [getattr(s, field).get(stage, np.nan) for s in history]
            data[prefix + stage] = _variable(STAGE_VARIABLES[prefix], column)
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
    data = _dataset("state", values, question=step.search_key)
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


def _array(variable: xr.DataArray) -> Any:
    """Return the values as a contiguous array in memory."""
    return np.ascontiguousarray(variable.values)
