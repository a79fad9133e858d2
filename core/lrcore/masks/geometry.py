"""Where the middle of a mask is and how far it reaches; spheres, and the raised cosine of every edge."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.imaging.grids import radius_grid

SUPPORT_THRESHOLD = 1e-3
"""Mask value below which a voxel counts as outside."""


def centre_of_mass(data: Float32) -> npt.NDArray[np.float64]:
    """(x, y, z) in voxels from the box centre n // 2, weighted by the mask."""
    total = float(data.sum(dtype=np.float64))
    n = data.shape[-1]
    marginals = [data.sum(axis=axes, dtype=np.float64) for axes in ((0, 1), (0, 2), (1, 2))]
    return np.array([m @ (np.arange(n) - n // 2) / total for m in marginals])


def row_ends(data: Float32) -> npt.NDArray[np.float64]:
    """First and last voxel inside the mask of every row along x: (m, 3), (x, y, z) voxels from the box centre.

    The voxel farthest from any point is one of them.
    """
    inside = data > SUPPORT_THRESHOLD
    rows = np.argwhere(inside.any(axis=2))
    held = inside[tuple(rows.T)]
    n = data.shape[-1]
    first, last = held.argmax(axis=1), n - 1 - held[:, ::-1].argmax(axis=1)
    ends = [np.column_stack([x, rows[:, ::-1]]) for x in (first, last)]
    return np.concatenate(ends).astype(np.float64) - n // 2


def farthest_voxel_distance(data: Float32, centre_xyz: npt.ArrayLike) -> float:
    """Distance in voxels from a point (x, y, z from the box centre) to the farthest voxel inside the mask."""
    return float(np.sqrt(((row_ends(data) - np.asarray(centre_xyz)) ** 2).sum(axis=1).max()))


def soft_sphere(n: int, radius: float, edge: float) -> Float32:
    """A sphere of `radius` voxels about the box centre that falls by a cosine over `edge` voxels: (n, n, n)."""
    return cosine_edge(radius_grid(n, 3), radius, edge)


def inscribed_sphere(n: int) -> Float32:
    """The largest soft sphere in a box of n voxels, edge included: (n, n, n)."""
    return soft_sphere(n, 0.5 * n - 4, 4.0)


def cosine_edge(distance: Float32, start: float, width: float) -> Float32:
    """1 up to `start`, 0 beyond `start + width`, a raised cosine between; any shape."""
    phase = np.clip((distance - start) / width, 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * phase)).astype(np.float32)
