"""Define the parameters of a local refinement: `RefineSpec`, each field with its unit, bounds and help text."""

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lrcore.errors import InputError
from lrcore.html_repr import html_table
from lrcore.imaging.symmetry import ADVICE, canonical_group_name

FULCRUM_PATTERN = re.compile(
    r"^\s*(?P<x>[-+\d.eE]+)\s*,\s*(?P<y>[-+\d.eE]+)\s*,\s*(?P<z>[-+\d.eE]+)\s*(?P<unit>px|A|map)\s*$"
)
"""A fulcrum given as three coordinates and a unit."""

NAMED_POINTS = ("mask", "box", "estimate")
"""Fulcra that are given by a name."""

Point = tuple[float, float, float]
"""(x, y, z)."""

ActsFrom = Literal["first iteration", "next iteration", "second iteration", "end of the run"]
"""First iteration that a field acts on: only the first one, any, any but the first one, or none but when a run ends."""


def _is_number(text: str) -> bool:
    """Return True for the text of a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _meta(
    label: str,
    unit: str = "",
    group: str = "search",
    acts: ActsFrom = "next iteration",
    needs: dict[str, tuple[Any, ...]] | None = None,
) -> dict[str, Any]:
    """Return what the forms show of a field besides its help text, and when it acts.

    needs: other field → its values with which this field acts; None if it always does.
    """
    return {"label": label, "unit": unit, "group": group, "acts": acts, "needs": needs or {}}


def _of_dynamic_mask(label: str, unit: str = "") -> dict[str, Any]:
    """Return the metadata of a field of the dynamic mask."""
    return _meta(label, unit, "reference", "second iteration", {"mask_mode": ("dynamic",)})


class RefineSpec(BaseModel):
    """Parameters of a refinement, frozen and validated. Most names are those of CryoSPARC's local refinement.

    Each field describes itself (`description`, and in `json_schema_extra` label, unit, group, and when it acts). The
    command line, the notebook and the napari panel draw their forms from these descriptions, and `parameter_effects`
    says which fields are without effect.

    Raises
    ------
    pydantic.ValidationError
        When a value is out of bounds or two values contradict each other. The front ends turn it into an `InputError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prior: Literal["gaussian", "motion", "none"] = Field(
        default="gaussian",
        description="Prior on each pose about the centre of its search. gaussian: Gaussian in rotation angle and "
        "shift. motion: from the second iteration on, a Gaussian with the covariance of the motion that the last "
        "iteration found. none: no prior.",
        json_schema_extra=_meta("Pose prior"),
    )
    rotation_prior_sd_deg: float = Field(
        default=5.0,
        gt=0,
        le=90,
        description="Standard deviation of the rotation prior about each axis.",
        json_schema_extra=_meta("Rotation prior SD", "degree", needs={"prior": ("gaussian", "motion")}),
    )
    shift_prior_sd_A: float = Field(
        default=3.0,
        gt=0,
        le=200,
        description="Standard deviation of the shift prior along each image axis.",
        json_schema_extra=_meta("Shift prior SD", "angstrom", needs={"prior": ("gaussian", "motion")}),
    )
    rotation_extent_deg: float | None = Field(
        default=None,
        ge=0,
        le=90,
        description="Largest rotation from the centre of the search. Empty: 3 SD of the prior; 20 without a prior.",
        json_schema_extra=_meta("Rotation search extent", "degree"),
    )
    shift_extent_A: float | None = Field(
        default=None,
        ge=0,
        le=200,
        description="Largest shift from the centre of the search. Empty: 3 SD of the prior; 10 without a prior.",
        json_schema_extra=_meta("Shift search extent", "angstrom"),
    )
    recenter_rotations: bool = Field(
        default=False,
        description="Centre search and prior of the next iteration on the last rotation instead of the input rotation.",
        json_schema_extra=_meta("Re-centre rotations", acts="second iteration"),
    )
    recenter_shifts: bool = Field(
        default=False,
        description="Centre search and prior of the next iteration on the last shift instead of the input shift.",
        json_schema_extra=_meta("Re-centre shifts", acts="second iteration"),
    )
    fulcrum: str = Field(
        default="mask",
        description="Point about which rotations are searched: mask (its centre of mass), box (its centre), "
        "estimate (the fulcrum of the motion that the last iteration found, from the second iteration on), "
        "'x, y, z px' or 'x, y, z A' from the corner of the box, or 'x, y, z map' in the MRC frame of the mask, as an "
        "atomic model.",
        json_schema_extra=_meta("Fulcrum"),
    )
    max_align_resolution_A: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Finest resolution that is used to align. Empty: from the FSC inside the mask.",
        json_schema_extra=_meta("Alignment resolution limit", "angstrom"),
    )
    initial_lowpass_A: float | None = Field(
        default=None,
        gt=0,
        le=200,
        description="Low-pass of the reference in the first iteration, and of no later one. "
        "Empty: FSC 0.5 of the half maps inside the mask, plus 1 Å.",
        json_schema_extra=_meta("Initial low-pass", "angstrom", "reference", "first iteration"),
    )
    mask_mode: Literal["static", "dynamic"] = Field(
        default="static",
        description="static: the same mask in every iteration. dynamic: a new mask from the map of each iteration, "
        "near the given mask.",
        json_schema_extra=_meta("Mask", "", "reference"),
    )
    dynamic_mask_threshold: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Dynamic mask: density is above this fraction of the highest value of the map.",
        json_schema_extra=_of_dynamic_mask("Dynamic mask threshold"),
    )
    dynamic_mask_near_A: float = Field(
        default=3.0,
        ge=0,
        le=100,
        description="Dynamic mask: 1 up to this distance from density.",
        json_schema_extra=_of_dynamic_mask("Dynamic mask near", "angstrom"),
    )
    dynamic_mask_far_A: float = Field(
        default=12.0,
        ge=0,
        le=200,
        description="Dynamic mask: 0 from this distance on. Density further than this from the given mask is ignored.",
        json_schema_extra=_of_dynamic_mask("Dynamic mask far", "angstrom"),
    )
    dynamic_mask_start_A: float = Field(
        default=12.0,
        gt=0,
        le=200,
        description="Dynamic mask: the given mask is kept until the half maps agree to this resolution inside it.",
        json_schema_extra=_of_dynamic_mask("Dynamic mask start resolution", "angstrom"),
    )
    non_uniform: bool = Field(
        default=False,
        description="Low-pass each voxel of the reference at the resolution where one half map stops predicting the "
        "other.",
        json_schema_extra=_meta("Non-uniform regularisation", "", "reference"),
    )
    non_uniform_window_factor: float = Field(
        default=3.0,
        ge=1,
        le=20,
        description="Non-uniform: width of the window of the cross-validation, in wavelengths of the cut-off.",
        json_schema_extra=_meta("Non-uniform window factor", "", "reference", needs={"non_uniform": (True,)}),
    )
    noise_model: Literal["coloured", "symmetric", "white"] = Field(
        default="coloured",
        description="coloured: a noise spectrum for each optics group. symmetric: one spectrum for all groups. "
        "white: one number.",
        json_schema_extra=_meta("Noise model", "", "reference"),
    )
    per_particle_scale: bool = Field(
        default=False,
        description="Estimate the amplitude of the signal in each image, with a prior about 1, and weight the image "
        "by it.",
        json_schema_extra=_meta("Per-particle scale", "", "reference"),
    )
    weight_by_presence: bool = Field(
        default=True,
        description="Weight each image in the reconstruction by the probability that it holds the body, measured under "
        "the map of the other half set.",
        json_schema_extra=_meta("Weight by presence", "", "reference"),
    )
    subtract_outside: bool = Field(
        default=True,
        description="Subtract the density outside the mask from each image on the fly, at its input pose.",
        json_schema_extra=_meta("Subtract outside of mask", "", "reference"),
    )
    symmetry: str = Field(
        default="C1",
        description="Point group about the box centre, wherever the fulcrum is: Cn, Dn, T, O, I (as RELION's I2) or "
        "I1 to I4. The map is averaged over its operators that leave the mask in place; for a mask of a single unit, "
        "expand the particles instead (lrwidgets expand).",
        json_schema_extra=_meta("Symmetry", "", "reference"),
    )
    ewald: Literal["none", "positive", "negative"] = Field(
        default="none",
        description="Insert images onto the Ewald sphere, whose curvature matters for large particles at high "
        "resolution. The correct sign depends on the handedness of the images: try both.",
        json_schema_extra=_meta("Ewald sphere", "", "reference"),
    )
    max_iterations: int = Field(
        default=8,
        ge=1,
        le=200,
        description="Stop after this many iterations with the same settings and mask, converged or not.",
        json_schema_extra=_meta("Maximum iterations", "", "run", "end of the run"),
    )
    marginalize: bool = Field(
        default=True,
        description="Insert each image at several poses that represent its posterior, instead of at the best pose "
        "alone.",
        json_schema_extra=_meta("Marginalization", "", "reference"),
    )
    extra_final_passes: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Iterations to run after convergence, also beyond max_iterations.",
        json_schema_extra=_meta("Extra final passes", "", "run", "end of the run"),
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Seed of the random numbers (images that the start measures, subsets, new half sets).",
        json_schema_extra=_meta("Seed", "", "run", "first iteration"),
    )

    def _repr_html_(self) -> str:
        rows = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            rows[name] = f"{'auto' if value is None else value}{'' if value == info.default else '  (changed)'}"
        return html_table("Parameters", rows)

    @field_validator("fulcrum")
    @classmethod
    def _check_fulcrum(cls, value: str) -> str:
        match = FULCRUM_PATTERN.match(value)
        if value in NAMED_POINTS or (match and all(map(_is_number, match.group("x", "y", "z")))):
            return value
        raise ValueError(
            "write mask, box, estimate, 'x, y, z px' or 'x, y, z A' (from the corner of the box), "
            "or 'x, y, z map' (in Å, as in a model)"
        )

    @model_validator(mode="after")
    def _check_mask_distances(self) -> Self:
        if self.dynamic_mask_far_A < self.dynamic_mask_near_A:
            raise ValueError("dynamic_mask_far_A must not be less than dynamic_mask_near_A")
        return self

    @model_validator(mode="after")
    def _check_motion_prior(self) -> Self:
        if self.uses_estimated_motion and (self.recenter_rotations or self.recenter_shifts):
            raise ValueError(
                "prior=motion and fulcrum=estimate measure the motion from the input poses: switch recenter_rotations "
                "and recenter_shifts off"
            )
        return self

    @field_validator("symmetry")
    @classmethod
    def _check_symmetry(cls, value: str) -> str:
        try:
            return canonical_group_name(value)
        except InputError as error:
            raise ValueError(ADVICE) from error

    @property
    def uses_estimated_motion(self) -> bool:
        """True when iterations take their prior or fulcrum from the motion that the last one found."""
        return self.prior == "motion" or self.fulcrum == "estimate"

    @property
    def rotation_limit_deg(self) -> float:
        """Hard rotation extent in force, degree."""
        if self.rotation_extent_deg is not None:
            return self.rotation_extent_deg
        return min(90.0, 3 * self.rotation_prior_sd_deg) if self.prior != "none" else 20.0

    @property
    def shift_limit_A(self) -> float:
        """Hard shift extent in force, Å."""
        if self.shift_extent_A is not None:
            return self.shift_extent_A
        return 3 * self.shift_prior_sd_A if self.prior != "none" else 10.0


def spec_differences(a: RefineSpec, b: RefineSpec) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two sets of parameters differ.

    Parameters
    ----------
    a, b : parameters to compare

    Returns
    -------
    dict
        Name of the field → value in `a`, value in `b`.
    """
    pairs = ((name, getattr(a, name), getattr(b, name)) for name in RefineSpec.model_fields)
    return {name: (first, second) for name, first, second in pairs if first != second}


def fulcrum_point(
    text: str, box: int, pixel_size_A: float, mask_centre_A: Point, origin_A: Point = (0.0, 0.0, 0.0)
) -> Point:
    """Return the fulcrum (x, y, z) in Å from the box centre that a text stands for.

    Parameters
    ----------
    text : validated text of the field `fulcrum`
    box : n, voxels
    pixel_size_A : Å
    mask_centre_A : centre of mass of the mask, (x, y, z) in Å from the box centre
    origin_A : (x, y, z) in Å of the box corner (the centre of the first voxel) in the frame of the MRC header
    """
    if text in ("mask", "estimate"):  # an estimated fulcrum starts at the centre of the mask
        return mask_centre_A
    if text == "box":
        return (0.0, 0.0, 0.0)
    match = FULCRUM_PATTERN.match(text)
    assert match is not None  # the spec was validated
    unit = pixel_size_A if match["unit"] == "px" else 1.0
    corner = origin_A if match["unit"] == "map" else (0.0, 0.0, 0.0)
    x, y, z = (
        float(match[axis]) * unit - offset - (box // 2) * pixel_size_A
        for axis, offset in zip("xyz", corner, strict=True)
    )
    return (x, y, z)
