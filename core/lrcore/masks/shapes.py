"""Make spheres, boxes and cylinders with soft edges.

Distances are analytic, so that edges are exact to a fraction of a voxel.
"""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.errors import InputError
from lrcore.masks.geometry import cosine_edge

Point = npt.ArrayLike
"""(x, y, z) in Å; a position is relative to the box centre."""


def sphere_mask(n: int, pixel_size_A: float, centre_A: Point, radius_A: float, soft_A: float = 0.0) -> Float32:
    """Make a sphere with a soft edge outwards: (n, n, n).

    Parameters
    ----------
    n
        Box in voxels.
    pixel_size_A
        Voxel size in Å.
    centre_A : (3,)
        (x, y, z) in Å from the box centre.
    radius_A
        Radius in Å.
    soft_A
        Width of the raised-cosine edge in Å; 0 for a binary mask.

    Raises
    ------
    InputError
        If the radius is not positive, or no voxel is inside.
    """
    _require_positive("sphere", radius_A)
    block, (z, y, x) = _block_about(n, pixel_size_A, centre_A, radius_A + soft_A)
    return _mask_from_distance("sphere", n, block, np.sqrt(x**2 + y**2 + z**2) - np.float32(radius_A), soft_A)


def box_mask(n: int, pixel_size_A: float, centre_A: Point, size_A: Point, soft_A: float = 0.0) -> Float32:
    """Make a box along the axes with a soft edge outwards, rounded at the corners: (n, n, n).

    Parameters
    ----------
    n, pixel_size_A, centre_A, soft_A
        See `sphere_mask`.
    size_A : (3,)
        Full size (x, y, z) in Å.

    Raises
    ------
    InputError
        If a size is not positive, or no voxel is inside.
    """
    half = np.asarray(size_A, np.float64) / 2
    _require_positive("box", *half)
    block, (z, y, x) = _block_about(n, pixel_size_A, centre_A, float(np.linalg.norm(half)) + soft_A)
    over = [np.maximum(abs(a) - np.float32(h), 0) ** 2 for a, h in zip((x, y, z), half, strict=True)]
    return _mask_from_distance("box", n, block, np.sqrt(over[0] + over[1] + over[2]), soft_A)


def cylinder_mask(
    n: int,
    pixel_size_A: float,
    centre_A: Point,
    axis: Point,
    radius_A: float,
    length_A: float,
    soft_A: float = 0.0,
) -> Float32:
    """Make a cylinder with a soft edge outwards, rounded at the rims: (n, n, n).

    Parameters
    ----------
    n, pixel_size_A, centre_A, soft_A
        See `sphere_mask`.
    axis : (3,)
        Direction (x, y, z) of any length.
    radius_A, length_A
        Radius and length in Å.

    Raises
    ------
    InputError
        If the radius, the length or the axis is 0, or no voxel is inside.
    """
    _require_positive("cylinder", radius_A, length_A, float(np.linalg.norm(axis)))
    along = (np.asarray(axis, np.float64) / np.linalg.norm(axis)).astype(np.float32)
    block, (z, y, x) = _block_about(n, pixel_size_A, centre_A, float(np.hypot(radius_A, length_A / 2)) + soft_A)
    height = x * along[0] + y * along[1] + z * along[2]
    aside = np.sqrt(np.maximum(x**2 + y**2 + z**2 - height**2, 0))
    over = [np.maximum(a - np.float32(limit), 0) for a, limit in ((aside, radius_A), (abs(height), length_A / 2))]
    return _mask_from_distance("cylinder", n, block, np.hypot(*over), soft_A)


def _block_about(
    n: int, pixel_size_A: float, centre_A: Point, reach_A: float
) -> tuple[tuple[slice, ...], tuple[Float32, Float32, Float32]]:
    """Return the block of voxels up to `reach_A` from a centre along each axis, and its (z, y, x) in Å from it."""
    centre = np.asarray(centre_A, np.float64)[::-1] / pixel_size_A + n // 2
    low = np.clip(np.floor(centre - reach_A / pixel_size_A), 0, n).astype(int)
    high = np.clip(np.ceil(centre + reach_A / pixel_size_A) + 1, 0, n).astype(int)
    axes = [
        ((np.arange(a, b) - c) * pixel_size_A).astype(np.float32) for a, b, c in zip(low, high, centre, strict=True)
    ]
    return tuple(map(slice, low, high)), tuple(np.ix_(*axes))


def _mask_from_distance(name: str, n: int, block: tuple[slice, ...], distance: Float32, soft_A: float) -> Float32:
    """Make a mask from distances in Å to a shape within a block, with a tolerance for the rounding of float32."""
    out = np.zeros((n, n, n), np.float32)
    distance = distance - np.float32(1e-4)
    out[block] = cosine_edge(distance, 0.0, soft_A) if soft_A > 0 else distance <= 0
    if not out.any():
        raise InputError(f"{name}: no voxel of the box is inside: check its centre and size")
    return out


def _require_positive(name: str, *values: float) -> None:
    """Raise InputError unless all sizes of a shape are positive."""
    if not all(value > 0 for value in values):
        raise InputError(f"{name}: radius, size, length and axis must be above 0")
