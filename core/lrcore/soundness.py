"""Settings looked at together with the mask: what cannot work is refused, what is unwise is told in a sentence."""

import numpy as np

from lrcore.errors import InputError
from lrcore.masks import centre_of_mass
from lrcore.records import Float64, Volume
from lrcore.spec import Point, RefineSpec, fulcrum_point
from lrcore.symmetry import findings

SYMMETRIC_PX = 3.0
"""A mask whose middle is this near to the axes of a symmetry is one of the whole particle."""
FARTHEST = 2.0
"""A fulcrum farther than so many boxes from the middle is a mistake: in units, or of the frame."""


def require_sound(mask: Volume, spec: RefineSpec) -> None:
    """Raise InputError for a fulcrum that can be no point about which what the box shows turns."""
    away, width = float(np.abs(_fulcrum_A(mask, spec)).max()), mask.box * mask.pixel_size_A
    if not away <= FARTHEST * width:
        raise InputError(
            f"fulcrum = {spec.fulcrum}: lies {away:.4g} A from the middle of a box of {width:.4g} A: give 'x, y, z px' "
            "or 'x, y, z A' from the corner of the box, or 'x, y, z map' in the frame of the mask's header"
        )


def doubts(mask: Volume, spec: RefineSpec) -> tuple[str, ...]:
    """What is unwise, a sentence for each: a fulcrum outside the box, drifting centres, parts off a symmetry's axes."""
    found = []
    fulcrum, apix = _fulcrum_A(mask, spec), mask.pixel_size_A
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
    points = {"mask": np.array(_middle_A(mask)), "fulcrum": fulcrum}
    return (*found, *findings(spec.symmetry, points, SYMMETRIC_PX * apix)[:1])


def _fulcrum_A(mask: Volume, spec: RefineSpec) -> Float64:
    return np.array(fulcrum_point(spec.fulcrum, mask.box, mask.pixel_size_A, _middle_A(mask), mask.header_origin_A))


def _middle_A(mask: Volume) -> Point:
    """Middle of the mask; that of the box for an empty one, which `checked` refuses."""
    if not mask.data.any():
        return (0.0, 0.0, 0.0)
    x, y, z = (float(c) for c in centre_of_mass(mask.data) * mask.pixel_size_A)
    return (x, y, z)
