"""Changes between two sets of poses, as a person reads them: degrees of rotation, Å of the body at the fulcrum."""

import numpy as np

from lrcore.arrays import Float64
from lrcore.imaging.rotations import rotation_angle_deg, rotation_exp
from lrcore.records import Poses


def magnified_rotation(rotation: Float64, lens: Float64 | None) -> Float64:
    """L A (B, ..., 3, 3), by which the map is seen at rotations A. lens: L (B, 3, 3) of `aberrations.lens`, or None."""
    if lens is None:
        return rotation
    return lens.reshape(len(lens), *(1,) * (rotation.ndim - 3), 3, 3) @ rotation


def recentred_poses(turned: Poses, placed: Poses, fulcrum_A: Float64, lens: Float64 | None = None) -> Poses:
    """The rotations of `turned`, with the point f seen where `placed` has it: o = o' + ((A − A') f)_xy.

    fulcrum_A: f, (x, y, z) in Å from the box centre. lens: (n, 3, 3), see `seen_through`, or None.
    """
    if turned is placed:
        return turned
    moved = magnified_rotation(turned.rotation - placed.rotation, lens) @ fulcrum_A
    return Poses(turned.rotation, placed.origin_A + moved[:, :2])


def displaced_poses(poses: Poses, delta: Float64, fulcrum_A: Float64, lens: Float64 | None = None) -> Poses:
    """Poses that are δ = (ω, t) away: A' = A exp(ω), o' = o + ((A' − A) f)_xy − t.

    delta: (n, 5), rad and Å. fulcrum_A: f, (x, y, z) in Å from the box centre. lens: see `seen_through`, or None.
    """
    rotation = poses.rotation @ rotation_exp(delta[:, :3])
    moved = magnified_rotation(rotation - poses.rotation, lens) @ fulcrum_A
    return Poses(rotation, poses.origin_A + moved[:, :2] - delta[:, 3:])


def pose_differences(
    before: Poses, after: Poses, fulcrum_A: tuple[float, float, float], lens: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Rotation angle in degrees and displacement of the fulcrum in Å from `before` to `after`: (n,), (n,).

    fulcrum_A: (x, y, z) in Å from the box centre. lens: (n, 3, 3), see `seen_through`, or None. With A, o before and
    A', o' after, the body's shift in the image is t = o + ((A' − A) f)_xy − o', the residual shift of a rotation about
    f: how the image of the point f moves.
    """
    moved = magnified_rotation(after.rotation - before.rotation, lens) @ np.asarray(fulcrum_A, dtype=np.float64)
    shift = before.origin_A + moved[:, :2] - after.origin_A
    return rotation_angle_deg(before.rotation, after.rotation), np.hypot(shift[:, 0], shift[:, 1])
