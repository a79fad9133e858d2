"""Displace poses and measure their differences: degrees of rotation, and Å of the particle at the fulcrum.

The argument `lens` of these functions is the anisotropic magnification L from
`lrcore.imaging.aberrations.magnification_in_3d`, (n, 3, 3), or None where there is none. Rotations A become L A.
"""

import numpy as np

from lrcore.arrays import Float64
from lrcore.imaging.rotations import rotation_angle_deg, rotation_exp
from lrcore.records import Poses


def magnified_rotation(rotation: Float64, lens: Float64 | None) -> Float64:
    """Return L A (B, ..., 3, 3), the rotations A with anisotropic magnification.

    Parameters
    ----------
    rotation : (B, ..., 3, 3)
        A, map → image.
    lens : (B, 3, 3) or None
        L, see the module.
    """
    if lens is None:
        return rotation
    return lens.reshape(len(lens), *(1,) * (rotation.ndim - 3), 3, 3) @ rotation


def recentred_poses(turned: Poses, placed: Poses, fulcrum_A: Float64, lens: Float64 | None = None) -> Poses:
    """Return the rotations A' of one set of poses with origins o' at which a map point keeps its place in the image.

    With A, o of `placed` and f the fulcrum, o' = o + ((A' − A) f)_xy.

    Parameters
    ----------
    turned : Poses
        Poses with the rotations A'; their origins are not used.
    placed : Poses
        Poses A, o that place the fulcrum in the images.
    fulcrum_A : (3,)
        f, (x, y, z) in Å from the box centre.
    lens : (n, 3, 3) or None
        Anisotropic magnification, see the module.
    """
    if turned is placed:
        return turned
    displacement = magnified_rotation(turned.rotation - placed.rotation, lens) @ fulcrum_A
    return Poses(turned.rotation, placed.origin_A + displacement[:, :2])


def displaced_poses(poses: Poses, delta: Float64, fulcrum_A: Float64, lens: Float64 | None = None) -> Poses:
    """Return poses displaced by δ = (ω, t) about the fulcrum: A' = A exp(ω), o' = o + ((A' − A) f)_xy − t.

    Parameters
    ----------
    poses : Poses
        A, o of n particles.
    delta : (n, 5)
        ω in rad in the frame of the map, t in Å in the image.
    fulcrum_A : (3,)
        f, (x, y, z) in Å from the box centre.
    lens : (n, 3, 3) or None
        Anisotropic magnification, see the module.
    """
    rotation = poses.rotation @ rotation_exp(delta[:, :3])
    displacement = magnified_rotation(rotation - poses.rotation, lens) @ fulcrum_A
    return Poses(rotation, poses.origin_A + displacement[:, :2] - delta[:, 3:])


def pose_differences(
    before: Poses, after: Poses, fulcrum_A: tuple[float, float, float], lens: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Return the rotation angle in degrees and the displacement of the fulcrum in Å from one set of poses to another.

    With A, o before and A', o' after, the shift in the image is t = o + ((A' − A) f)_xy − o': the distance by which the
    image of the fulcrum f moves, that is the residual shift of a rotation about f.

    Parameters
    ----------
    before, after : Poses
        Poses of the same n particles.
    fulcrum_A
        f, (x, y, z) in Å from the box centre.
    lens : (n, 3, 3) or None
        Anisotropic magnification, see the module.

    Returns
    -------
    Angles in degrees (n,) and lengths |t| in Å (n,).
    """
    displacement = magnified_rotation(after.rotation - before.rotation, lens) @ np.asarray(fulcrum_A, dtype=np.float64)
    shift = before.origin_A + displacement[:, :2] - after.origin_A
    return rotation_angle_deg(before.rotation, after.rotation), np.hypot(shift[:, 0], shift[:, 1])
