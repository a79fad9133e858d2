"""Settings looked at together with the mask: what cannot work is refused, what is unwise is told in a sentence."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.errors import InputError
from lrcore.imaging.symmetry import symmetry_warnings
from lrcore.masks import centre_of_mass
from lrcore.motion.fit import MIN_IMAGES
from lrcore.records import Volume
from lrcore.refinement.parameters import Point, RefineSpec, fulcrum_point

SYMMETRY_TOLERANCE_PX = 3.0
"""A mask whose middle is this near to the axes of a symmetry is one of the whole particle."""
MAX_FULCRUM_DISTANCE = 2.0
"""A fulcrum farther than so many boxes from the middle is a mistake: in units, or of the frame."""


def require_valid_fulcrum(mask: Volume, spec: RefineSpec, middle_A: Point | None = None) -> None:
    """Raise InputError for a fulcrum that can be no point about which what the box shows turns.

    middle_A: of the mask, if it is known.
    """
    fulcrum = _fulcrum_A(mask, spec, middle_A or mask_centre_A(mask))
    away, width = float(np.abs(fulcrum).max()), mask.box * mask.pixel_size_A
    if not away <= MAX_FULCRUM_DISTANCE * width:
        raise InputError(
            f"fulcrum = {spec.fulcrum}: lies {away:.4g} A from the middle of a box of {width:.4g} A: give 'x, y, z px' "
            "or 'x, y, z A' from the corner of the box, or 'x, y, z map' in the frame of the mask's header"
        )


def parameter_warnings(
    mask: Volume, spec: RefineSpec, middle_A: Point | None = None, half: npt.NDArray[np.int8] | None = None
) -> tuple[str, ...]:
    """What is unwise, a sentence for each.

    A fulcrum outside the box, drifting centres, parts off a symmetry's axes, and, if `half` (n,) of the particles is
    given, too few to learn from. middle_A: of the mask, if it is known.
    """
    found = []
    middle = middle_A or mask_centre_A(mask)
    fulcrum, apix = _fulcrum_A(mask, spec, middle), mask.pixel_size_A
    corner = fulcrum + mask.box // 2 * apix
    if np.any(corner < 0) or np.any(corner > (mask.box - 1) * apix):
        place = ", ".join(f"{x:.0f}" for x in corner)
        found.append(
            f"fulcrum = {spec.fulcrum}: lies outside the box of {mask.box * apix:.0f} A, at {place} A from its corner: "
            "right if the hinge is there, otherwise look at its unit (px or A)"
        )
    if spec.prior == "none" and (spec.recenter_rotations or spec.recenter_shifts):
        found.append(
            "re-centring without a prior: poses may drift further with every iteration, beyond the extents about their "
            "input; set prior=gaussian, or leave recenter_rotations and recenter_shifts off"
        )
    fewest = MIN_IMAGES if half is None else min(int((half == number).sum()) for number in (1, 2))
    if spec.uses_estimated_motion and fewest < MIN_IMAGES:
        what = "prior=motion" if spec.prior == "motion" else "fulcrum=estimate"
        found.append(
            f"{what} learns from {MIN_IMAGES} particles of each "
            f"half set or more, and one has {fewest}: nothing will be learned, and the settings hold as they are"
        )
    points = {"mask": np.array(middle), "fulcrum": fulcrum}
    return (*found, *symmetry_warnings(spec.symmetry, points, SYMMETRY_TOLERANCE_PX * apix)[:1])


def _fulcrum_A(mask: Volume, spec: RefineSpec, middle_A: Point) -> Float64:
    return np.array(fulcrum_point(spec.fulcrum, mask.box, mask.pixel_size_A, middle_A, mask.header_origin_A))


def mask_centre_A(mask: Volume) -> Point:
    """Middle of the mask; that of the box for an empty one, which `checked` refuses."""
    if not mask.data.any():
        return (0.0, 0.0, 0.0)
    x, y, z = (float(c) for c in centre_of_mass(mask.data) * mask.pixel_size_A)
    return (x, y, z)
