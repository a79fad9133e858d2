"""Convert between Euler angles, rotation matrices and rotation vectors, and make lattices of rotation vectors.

Inside, a rotation is the matrix `A` from the map to the frame of the image (RELION's A(rot, tilt, psi)).
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from lrcore.arrays import Float64


def from_euler(angles_deg: npt.ArrayLike) -> Float64:
    """Return rotations A (n, 3, 3), map → image, of RELION's `rot, tilt, psi` (n, 3) in degrees."""
    return Rotation.from_euler("ZYZ", np.atleast_2d(angles_deg), degrees=True).inv().as_matrix()


def to_euler(matrices: Float64) -> Float64:
    """Return RELION's `rot, tilt, psi` (n, 3) in degrees of rotations (n, 3, 3), map → image; rot = 0 at a pole."""
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
    """Return rotations A = R(v)ᵀ (n, 3, 3), map → image, of `alignments3D/pose` rotation vectors v (n, 3) in rad."""
    return Rotation.from_rotvec(np.atleast_2d(vectors)).inv().as_matrix()


def to_cryosparc(matrices: Float64) -> Float64:
    """Return `alignments3D/pose` rotation vectors (n, 3) in rad of rotations (n, 3, 3), map → image."""
    return Rotation.from_matrix(matrices).inv().as_rotvec()


def rotation_exp(vectors: npt.ArrayLike) -> Float64:
    """Return matrices (n, 3, 3) of rotation vectors (n, 3) in rad."""
    return Rotation.from_rotvec(np.asarray(vectors, dtype=np.float64)).as_matrix()


def rotation_log(matrices: Float64) -> Float64:
    """Return rotation vectors (n, 3) in rad of matrices (n, 3, 3)."""
    return Rotation.from_matrix(matrices).as_rotvec()


def relative_rotation(start: Float64, end: Float64) -> Float64:
    """Return the rotation vectors ω (n, 3) in rad, map frame, with end = start · exp(ω); `start`, `end`: (n, 3, 3)."""
    return rotation_log(np.einsum("nji,njk->nik", start, end))


def projected_motion(plane: Float64) -> Float64:
    """Return B (n, 5, 6) with B (ω, d) = (ω, t): the 3D shift d is projected to the shift t in the image.

    Parameters
    ----------
    plane : (n, 2, 3)
        Axes x and y of each image in the frame of the map, as rows.
    """
    B = np.zeros((len(plane), 5, 6))
    B[:, :3, :3] = np.eye(3)
    B[:, 3:, 3:] = plane
    return B


def rotation_angle_deg(start: Float64, end: Float64) -> Float64:
    """Return the angles in degrees (n,) of the rotations from `start` to `end`, (n, 3, 3) each."""
    return np.degrees(np.linalg.norm(relative_rotation(start, end), axis=1))


def ball_lattice(radius: float, spacing: float) -> Float64:
    """Return a body-centred lattice of rotation vectors (m, 3) in rad within `radius`, sorted by length.

    The first vector is 0. `spacing` is the edge of the cubic cell, which holds two points; nearest neighbours are 0.87
    spacing apart.
    """
    span = int(np.ceil(radius / spacing)) + 1
    corner = np.stack(np.meshgrid(*[np.arange(-span, span + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.concatenate([corner, corner + 0.5]) * spacing
    length = np.linalg.norm(points, axis=1)
    order = np.argsort(length, kind="stable")
    return points[order[length[order] <= radius * (1 + 1e-9)]]
