"""Check parameters against the mask: raise for what cannot work, return warnings for what is unwise."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.errors import InputError
from lrcore.imaging.symmetry import symmetry_operators, symmetry_warnings
from lrcore.masks import centre_of_mass, operators_in_place
from lrcore.motion.fit import MIN_IMAGES
from lrcore.records import Volume
from lrcore.refinement.parameter_effects import effect_warnings
from lrcore.refinement.parameters import Point, RefineSpec, fulcrum_point

SYMMETRY_TOLERANCE_PX = 3.0
"""Distance up to which a point counts as on an axis of the symmetry."""
MAX_FULCRUM_DISTANCE = 2.0
"""A fulcrum further than this many box lengths from the box centre is taken for a mistake of unit or frame."""


def require_valid_fulcrum(mask: Volume, spec: RefineSpec, middle_A: Point | None = None) -> None:
    """Raise for a fulcrum that is too far from the box to be meant.

    Parameters
    ----------
    mask : (n, n, n)
    spec : parameters of the refinement
    middle_A : centre of mass of the mask, (x, y, z) in Å from the box centre, if known

    Raises
    ------
    InputError
        When the fulcrum is further than MAX_FULCRUM_DISTANCE boxes from the box centre along an axis.
    """
    fulcrum = _fulcrum_A(mask, spec, middle_A or mask_centre_A(mask))
    away, width = float(np.abs(fulcrum).max()), mask.box * mask.pixel_size_A
    if not away <= MAX_FULCRUM_DISTANCE * width:
        raise InputError(
            f"fulcrum = {spec.fulcrum}: lies {away:.4g} A from the centre of a box of {width:.4g} A: give 'x, y, z px' "
            "or 'x, y, z A' from the corner of the box, or 'x, y, z map' in the frame of the mask's header"
        )


def parameter_warnings(
    mask: Volume, spec: RefineSpec, middle_A: Point | None = None, half: npt.NDArray[np.int8] | None = None
) -> tuple[str, ...]:
    """Return a sentence for each setting that is unwise.

    Checked are a fulcrum outside the box, re-centring without a prior, a mask without the symmetry or a fulcrum off its
    axes, too few particles to estimate the motion, and parameters without effect.

    Parameters
    ----------
    mask : (n, n, n)
    spec : parameters of the refinement
    middle_A : centre of mass of the mask, (x, y, z) in Å from the box centre, if known
    half : (n,) half set of each particle, 1 or 2; None skips the check of their number

    Returns
    -------
    tuple of str
        Empty when nothing is unwise.
    """
    messages = []
    centre = middle_A or mask_centre_A(mask)
    fulcrum, apix = _fulcrum_A(mask, spec, centre), mask.pixel_size_A
    corner = fulcrum + mask.box // 2 * apix
    if np.any(corner < 0) or np.any(corner > (mask.box - 1) * apix):
        place = ", ".join(f"{x:.0f}" for x in corner)
        messages.append(
            f"fulcrum = {spec.fulcrum}: lies outside the box of {mask.box * apix:.0f} A, at {place} A from its corner: "
            "right if the hinge is there, otherwise check its unit (px or A)"
        )
    if spec.prior == "none" and (spec.recenter_rotations or spec.recenter_shifts):
        messages.append(
            "re-centring without a prior: poses may drift further with each iteration, beyond the extents about the "
            "input poses: set prior=gaussian, or switch recenter_rotations and recenter_shifts off"
        )
    fewest = MIN_IMAGES if half is None else min(int((half == number).sum()) for number in (1, 2))
    if spec.uses_estimated_motion and fewest < MIN_IMAGES:
        what = "prior=motion" if spec.prior == "motion" else "fulcrum=estimate"
        messages.append(
            f"{what} needs at least {MIN_IMAGES} particles in each half set, and one has {fewest}: the motion will not "
            "be estimated, and prior and fulcrum stay as given"
        )
    messages += effect_warnings(spec)
    return (*messages, *_symmetry_warnings(mask, spec, centre, fulcrum)[:1])


def _symmetry_warnings(mask: Volume, spec: RefineSpec, centre_A: Point, fulcrum_A: Float64) -> tuple[str, ...]:
    """Return a sentence about a mask that does not have the symmetry, or else about a fulcrum off its axes."""
    operators, tolerance_A = symmetry_operators(spec.symmetry), SYMMETRY_TOLERANCE_PX * mask.pixel_size_A
    imposed = len(operators_in_place(mask.data, operators))
    if imposed == len(operators):
        return symmetry_warnings(spec.symmetry, {"fulcrum": fulcrum_A}, tolerance_A)
    off_axis = symmetry_warnings(spec.symmetry, {"mask": np.array(centre_A)}, tolerance_A)
    where = off_axis[0].partition(":")[0] if off_axis else f"symmetry {spec.symmetry} does not leave the mask in place"
    return (
        f"{where}: the map is averaged over {imposed} of {len(operators)} operators, those that leave the mask in "
        "place; to use every copy of this region, expand the particles and refine them in C1 (lrwidgets expand)",
    )


def mask_centre_A(mask: Volume) -> Point:
    """Return the centre of mass of the mask, (x, y, z) in Å from the box centre; that centre for an empty mask.

    Parameters
    ----------
    mask : (n, n, n); an empty one is refused later, by `masks.validate_mask`
    """
    if not mask.data.any():
        return (0.0, 0.0, 0.0)
    x, y, z = (float(c) for c in centre_of_mass(mask.data) * mask.pixel_size_A)
    return (x, y, z)


def _fulcrum_A(mask: Volume, spec: RefineSpec, middle_A: Point) -> Float64:
    """Return the fulcrum (3,) in Å from the box centre."""
    return np.array(fulcrum_point(spec.fulcrum, mask.box, mask.pixel_size_A, middle_A, mask.header_origin_A))
