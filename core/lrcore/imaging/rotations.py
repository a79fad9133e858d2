"""Rotations: Euler angles ⇄ matrices ⇄ rotation vectors, and lattices of rotation vectors.

Inside, a rotation is the matrix `A` that takes a map point to the image frame (RELION's A(rot, tilt, psi)).
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from lrcore.arrays import Float64


def from_euler(angles_deg: npt.ArrayLike) -> Float64:
    """(n, 3) RELION `rot, tilt, psi` in degrees → (n, 3, 3) map → image."""
    return Rotation.from_euler("ZYZ", np.atleast_2d(angles_deg), degrees=True).inv().as_matrix()


def to_euler(matrices: Float64) -> Float64:
    """(n, 3, 3) map → image → (n, 3) RELION `rot, tilt, psi` in degrees; rot = 0 at a pole."""
    matrices = np.asarray(matrices)
    # SciPy warns at the poles, where only rot + psi is defined; atan2 on the entries is silent and exact.
    tilt = np.arctan2(np.hypot(matrices[:, 2, 0], matrices[:, 2, 1]), matrices[:, 2, 2])
    pole = np.sin(tilt) < 1e-9
    rot = np.where(pole, 0.0, np.arctan2(matrices[:, 2, 1], matrices[:, 2, 0]))
    psi = np.where(
        pole, np.arctan2(matrices[:, 0, 1], matrices[:, 1, 1]), np.arctan2(matrices[:, 1, 2], -matrices[:, 0, 2])
    )
    return np.degrees(np.stack([rot, tilt, psi], axis=1))


def from_cryosparc(vectors: npt.ArrayLike) -> Float64:
    """(n, 3) `alignments3D/pose` rotation vectors (rad) → (n, 3, 3) map → image: A = R(v)ᵀ."""
    return Rotation.from_rotvec(np.atleast_2d(vectors)).inv().as_matrix()


def to_cryosparc(matrices: Float64) -> Float64:
    """(n, 3, 3) map → image → (n, 3) `alignments3D/pose` rotation vectors (rad)."""
    return Rotation.from_matrix(matrices).inv().as_rotvec()


def rotation_exp(vectors: npt.ArrayLike) -> Float64:
    """(n, 3) rotation vectors in rad → (n, 3, 3) matrices."""
    return Rotation.from_rotvec(np.asarray(vectors, dtype=np.float64)).as_matrix()


def rotation_log(matrices: Float64) -> Float64:
    """(n, 3, 3) matrices → (n, 3) rotation vectors in rad."""
    return Rotation.from_matrix(matrices).as_rotvec()


def relative_rotation(start: Float64, end: Float64) -> Float64:
    """Rotation vector ω (rad, map frame) with end = start · exp(ω): (n, 3, 3) twice → (n, 3)."""
    return rotation_log(np.einsum("nji,njk->nik", start, end))


def projected_motion(plane: Float64) -> Float64:
    """B (n, 5, 6), which makes θ = (ω, t) of a motion (ω, d): t is d in the plane whose axes are the rows (n, 2, 3)."""
    B = np.zeros((len(plane), 5, 6))
    B[:, :3, :3] = np.eye(3)
    B[:, 3:, 3:] = plane
    return B


def rotation_angle_deg(start: Float64, end: Float64) -> Float64:
    """Angle in degrees of the rotation between (n, 3, 3) and (n, 3, 3): (n,)."""
    return np.degrees(np.linalg.norm(relative_rotation(start, end), axis=1))


def ball_lattice(radius: float, spacing: float) -> Float64:
    """Body-centred lattice of rotation vectors (rad) within `radius`: (m, 3), the origin first, then by length.

    `spacing` is the edge of the cubic cell, which holds two points; its nearest neighbours are 0.87 spacing apart.
    """
    span = int(np.ceil(radius / spacing)) + 1
    corner = np.stack(np.meshgrid(*[np.arange(-span, span + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.concatenate([corner, corner + 0.5]) * spacing
    length = np.linalg.norm(points, axis=1)
    order = np.argsort(length, kind="stable")
    return points[order[length[order] <= radius * (1 + 1e-9)]]
