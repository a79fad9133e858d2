"""Define the schema of results (docs/results.md), every variable with dimensions, type and unit; validate trees."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from lrcore.errors import InputError

VERSION = 2
"""Version of the schema; it is incremented when a reader of the older schema would misread a tree."""

ATTRIBUTES = ("schema", "schema_version", "spec", "specs", "versions", "inputs", "seed", "fulcrum_angstrom")
"""Attributes of the root group."""


@dataclass(frozen=True)
class VariableSchema:
    """Schema of one variable.

    Attributes
    ----------
    dims : names of the dimensions
    dtype : NumPy type string without byte order, such as "f8"
    unit : angstrom, 1/angstrom, degree, 1 and so on
    long_name : description for people
    required : False if older runs or some steps lack the variable
    """

    dims: tuple[str, ...]
    dtype: str
    unit: str
    long_name: str
    required: bool = True


_WRITER = "lrcore.results.tree.to_tree"
_EACH = ("iteration", "particle")
_GRID = ("z", "y", "x")
_HALF = VariableSchema(("half",), "i8", "1", "Half set, 1 or 2")
_ITERATION = VariableSchema(("iteration",), "i8", "1", "Iteration; 0 is the start")
_AXES = {
    axis: VariableSchema((axis,), "f8", "angstrom", f"Distance of a voxel's centre from the box centre along {axis}")
    for axis in _GRID
}

SCHEMA: dict[str, dict[str, VariableSchema]] = {
    "fsc": {
        "iteration": _ITERATION,
        "frequency": VariableSchema(("shell",), "f8", "1/angstrom", "Spatial frequency"),
        "resolution": VariableSchema(("shell",), "f8", "angstrom", "Resolution, one over the frequency"),
        "unmasked": VariableSchema(("iteration", "shell"), "f8", "1", "FSC without a mask", False),
        "spherical": VariableSchema(("iteration", "shell"), "f8", "1", "FSC inside a soft sphere", False),
        "loose": VariableSchema(("iteration", "shell"), "f8", "1", "FSC inside a loose automatic mask", False),
        "tight": VariableSchema(("iteration", "shell"), "f8", "1", "FSC inside a tight automatic mask", False),
        "masked": VariableSchema(("iteration", "shell"), "f8", "1", "FSC inside the mask", False),
        "randomised": VariableSchema(
            ("iteration", "shell"), "f8", "1", "FSC inside the mask, phases randomised", False
        ),
        "corrected": VariableSchema(
            ("iteration", "shell"), "f8", "1", "FSC inside the mask, corrected for the mask", False
        ),
    },
    "particles": {
        "iteration": _ITERATION,
        "uid": VariableSchema(("particle",), "u8", "1", "Unique identifier of the particle"),
        "half": VariableSchema(("particle",), "i1", "1", "Half set, 1 or 2"),
        "rotation": VariableSchema((*_EACH, "row", "column"), "f8", "1", "Rotation matrix A, map to image"),
        "origin": VariableSchema(
            (*_EACH, "image_axis"), "f8", "angstrom", "Origin o = (x, y): a point r is projected to (A r)_xy - o"
        ),
        "angle_change": VariableSchema(_EACH, "f8", "degree", "Rotation angle from the input pose"),
        "angle_change_last": VariableSchema(_EACH, "f8", "degree", "Rotation angle since the last iteration"),
        "shift_change": VariableSchema(_EACH, "f8", "angstrom", "Shift of the fulcrum from the input pose"),
        "shift_change_last": VariableSchema(_EACH, "f8", "angstrom", "Shift of the fulcrum since the last iteration"),
        "rotation_sd": VariableSchema(
            (*_EACH, "map_axis"), "f8", "degree", "Standard deviation of the rotation about x, y, z"
        ),
        "shift_sd": VariableSchema(
            (*_EACH, "image_axis"), "f8", "angstrom", "Standard deviation of the shift along x, y"
        ),
        "covariance": VariableSchema(
            (*_EACH, "unknown", "unknown_"), "f8", "1", "Posterior covariance inside the extents, in unknown_units"
        ),
        "ess": VariableSchema(_EACH, "f8", "1", "Effective number of modes"),
        "mode_probability": VariableSchema(_EACH, "f8", "1", "Probability of the reported mode"),
        "log_likelihood_gain": VariableSchema(_EACH, "f8", "1", "Log-likelihood gain over the input pose"),
        "scale": VariableSchema(_EACH, "f8", "1", "Amplitude of the signal, relative to the scale in the file"),
        "other_modes": VariableSchema(
            (*_EACH, "mode", "unknown"),
            "f4",
            "1",
            "Other modes of the pose, relative to the reported one, in unknown_units; NaN: none",
            False,
        ),
        "other_probability": VariableSchema((*_EACH, "mode"), "f4", "1", "Probability of each other mode", False),
        "curvature": VariableSchema(
            (*_EACH, "unknown", "unknown_"),
            "f4",
            "1",
            "Curvature of the negative log posterior at the pose, before it is cut at the extents, in 1/unknown_units",
            False,
        ),
        "flags": VariableSchema(_EACH, "u1", "1", "Flags: bits of flag_masks"),
        "evidence": VariableSchema(
            _EACH, "f8", "1", "Log evidence of the body against no density; 0: not measured", False
        ),
        "misfit": VariableSchema(
            _EACH, "f8", "1", "Log evidence of something else against no density; 0: not measured", False
        ),
        "presence": VariableSchema(_EACH, "f8", "1", "Probability that the image holds the body", False),
    },
    "uncertainty": {
        "uid": VariableSchema(("particle",), "u8", "1", "Unique identifier of the particle"),
        "half": VariableSchema(("particle",), "i1", "1", "Half set, 1 or 2"),
        "rotation_sd": VariableSchema(
            ("particle", "map_axis"), "f8", "degree", "Expected error of the rotation about x, y, z"
        ),
        "shift_sd": VariableSchema(
            ("particle", "image_axis"), "f8", "angstrom", "Expected error of the shift along x, y"
        ),
        "covariance": VariableSchema(
            ("particle", "unknown", "unknown_"), "f8", "1", "Second moment of the error in unknown_units"
        ),
        "offset": VariableSchema(("particle", "unknown"), "f8", "1", "Mean of the error in unknown_units"),
        "draws": VariableSchema(("particle",), "f8", "1", "Effective number of draws from the posterior"),
    },
    "volumes": {
        "half": _HALF,
        **_AXES,
        "half_map": VariableSchema(
            ("half", *_GRID), "f4", "1", "Half map of the last iteration, unmasked and unfiltered"
        ),
        "pixel_size": VariableSchema(("half",), "f8", "angstrom", "Voxel size"),
        "header_origin": VariableSchema(("half", "map_axis"), "f8", "angstrom", "Origin x, y, z of the MRC header"),
    },
    "body": {
        "half": _HALF,
        **_AXES,
        "half_map": VariableSchema(
            ("half", *_GRID), "f4", "1", "Half map of the last iteration, unmasked and unfiltered"
        ),
        "held": VariableSchema(_GRID, "f4", "1", "Share of the start's density that the body's half maps hold"),
        "frequency": VariableSchema(("shell",), "f8", "1/angstrom", "Spatial frequency"),
        "corrected": VariableSchema(("shell",), "f8", "1", "Mask-corrected FSC of the body's half maps"),
    },
    "mask": {**_AXES, "mask": VariableSchema(_GRID, "f4", "1", "Mask of the region that is refined")},
    "history": {
        "iteration": _ITERATION,
        "resolution_masked": VariableSchema(
            ("iteration",), "f8", "angstrom", "Resolution at FSC 0.143 inside the mask"
        ),
        "resolution_corrected": VariableSchema(("iteration",), "f8", "angstrom", "Resolution at corrected FSC 0.143"),
        "align_resolution": VariableSchema(("iteration",), "f8", "angstrom", "Resolution limit of the alignment"),
        "angle_from_input": VariableSchema(("iteration",), "f8", "degree", "Median rotation angle from the input pose"),
        "shift_from_input": VariableSchema(("iteration",), "f8", "angstrom", "Median shift from the input pose"),
        "angle_since_last": VariableSchema(
            ("iteration",), "f8", "degree", "Median rotation angle since the last iteration"
        ),
        "shift_since_last": VariableSchema(("iteration",), "f8", "angstrom", "Median shift since the last iteration"),
        "change_in_sd": VariableSchema(
            ("iteration",), "f8", "1", "Median pose change in units of its standard deviation"
        ),
        "at_rotation_extent": VariableSchema(("iteration",), "f8", "1", "Share of particles at the rotation extent"),
        "at_shift_extent": VariableSchema(("iteration",), "f8", "1", "Share of particles at the shift extent"),
        "memory": VariableSchema(("iteration",), "f8", "megabyte", "Largest resident memory so far"),
        "lattice_share": VariableSchema(("iteration",), "f8", "1", "Share of particles searched on the whole lattice"),
        "skipped": VariableSchema(("iteration",), "i8", "1", "Particles skipped because of invalid images", False),
        "present_share": VariableSchema(("iteration",), "f8", "1", "Share of the particles that hold the body", False),
    },
    "state": {
        "iteration": _ITERATION,
        "half": _HALF,
        "noise": VariableSchema(
            ("iteration", "half", "optics_group", "shell"), "f8", "1", "Variance of an image's Fourier samples"
        ),
        "intensity": VariableSchema(
            ("iteration", "optics_group"),
            "f8",
            "1",
            "Amplitude of a group's signal, relative to the scale in the file",
            False,
        ),
        "outside_fraction": VariableSchema(
            ("iteration", "half"),
            "f8",
            "1",
            "Fraction of the density outside the mask that was in the images at the start",
            False,
        ),
        "fulcrum": VariableSchema(
            ("iteration", "map_axis"), "f8", "angstrom", "Fulcrum of the rotations, from the box centre", False
        ),
        "rotation_prior_sd": VariableSchema(
            ("iteration",), "f8", "degree", "Standard deviation of the rotation prior; infinite: no prior", False
        ),
        "shift_prior_sd": VariableSchema(
            ("iteration",), "f8", "angstrom", "Standard deviation of the shift prior; infinite: no prior", False
        ),
        "prior_covariance": VariableSchema(
            ("iteration", "motion", "motion_"),
            "f8",
            "1",
            "Covariance of the motion that is the prior: rotation x, y, z in radian, shift x, y, z in angstrom",
            False,
        ),
        "rotation_extent": VariableSchema(("iteration",), "f8", "degree", "Largest rotation that was searched", False),
        "shift_extent": VariableSchema(("iteration",), "f8", "angstrom", "Largest shift that was searched", False),
        "initial_lowpass": VariableSchema(("iteration",), "f8", "angstrom", "Low-pass of the next reference; 0: none"),
        "converged": VariableSchema(("iteration",), "b1", "1", "The convergence criterion was met"),
    },
}
"""Variables and coordinates by group. /history also has the variables of `STAGE_VARIABLES` for each stage."""

STAGE_VARIABLES = {
    "seconds_": VariableSchema(("iteration",), "f8", "s", "Wall time of the stage"),
    "particles_per_s_": VariableSchema(("iteration",), "f8", "1/s", "Particles per second in the stage"),
}
"""Variables of /history by their prefix, which the name of a stage follows."""
OPTIONAL_GROUPS = ("mask", "uncertainty", "body")
"""Groups that a valid tree may lack."""


def validate(tree: xr.DataTree) -> None:
    """Check a tree against the schema.

    Parameters
    ----------
    tree : results, from `lrcore.results.tree.to_tree` or a store

    Raises
    ------
    InputError
        If the tree departs from the schema; the message names the first attribute, group or variable that does.
    """
    for name in ATTRIBUTES:
        if name not in tree.attrs:
            raise InputError(f"results: attribute {name!r} of / is missing: write it with {_WRITER}")
    if int(tree.attrs["schema_version"]) != VERSION:
        raise InputError(
            f"results: schema version {tree.attrs['schema_version']} is not {VERSION}: use the lrwidgets that wrote it"
        )
    for name, schema in SCHEMA.items():
        if name in tree.children:
            _validate_group(name, tree[name].to_dataset(), schema)
        elif name not in OPTIONAL_GROUPS:
            raise InputError(f"results: group /{name} is missing: write it with {_WRITER}")
    unknown = set(tree.children) - set(SCHEMA)
    if unknown:
        raise InputError(f"results: group /{min(unknown)} is not in the schema: remove it")


def _validate_group(group: str, data: xr.Dataset, schema: dict[str, VariableSchema]) -> None:
    """Raise InputError naming the first variable of a group that departs from the schema."""
    for name, wanted in schema.items():
        if name in data.variables:
            _validate_variable(f"/{group}/{name}", data[name], wanted)
        elif wanted.required:
            raise InputError(f"results: variable /{group}/{name} is missing: write it with {_WRITER}")
    for name in sorted(set(map(str, data.variables)) - set(schema)):
        stages = [v for prefix, v in STAGE_VARIABLES.items() if group == "history" and name.startswith(prefix)]
        if not stages:
            raise InputError(f"results: variable /{group}/{name} is not in the schema: remove it")
        _validate_variable(f"/{group}/{name}", data[name], stages[0])


def _validate_variable(path: str, found: xr.DataArray, wanted: VariableSchema) -> None:
    """Raise InputError if a variable has other dimensions, type or units than the schema, or no long_name."""
    for what, value, expected in (
        ("dimensions", found.dims, wanted.dims),
        ("type", found.dtype, np.dtype(wanted.dtype)),
        ("units", found.attrs.get("units"), wanted.unit),
    ):
        if value != expected:
            raise InputError(f"results: {what} of {path} are {value}, not {expected}: write it with {_WRITER}")
    if not found.attrs.get("long_name"):
        raise InputError(f"results: {path} has no long_name: write it with {_WRITER}")
