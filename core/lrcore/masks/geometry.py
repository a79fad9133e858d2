"""Measure the centre and the extent of a mask, and make spheres and raised-cosine edges."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, IdentityCache
from lrcore.imaging.grids import radius_grid

SUPPORT_THRESHOLD = 1e-3
"""Mask value up to which a voxel counts as outside."""
# Of the masks in use: an iteration asks for the geometry of the search again, and sums over a box take long.
_centres, _row_ends = IdentityCache[npt.NDArray[np.float64]](), IdentityCache[npt.NDArray[np.float64]]()
_sums = IdentityCache[float]()


def centre_of_mass(data: Float32) -> npt.NDArray[np.float64]:
    """Return the centre of mass of a mask in voxels from the box centre n // 2.

    Parameters
    ----------
    data : (n, n, n)
        The mask; its values are the weights.

    Returns
    -------
    (3,), (x, y, z).
    """
    return _centres.get(data, lambda: _centre_of_mass(data)).copy()


def _centre_of_mass(data: Float32) -> npt.NDArray[np.float64]:
    """Return `centre_of_mass`, computed anew."""
    total = sum_of_mask(data)
    n = data.shape[-1]
    marginals = [data.sum(axis=axes, dtype=np.float64) for axes in ((0, 1), (0, 2), (1, 2))]
    return np.array([m @ (np.arange(n) - n // 2) / total for m in marginals])


def sum_of_mask(data: Float32) -> float:
    """Return the sum of the values of a mask (n, n, n), its volume in voxels."""
    return _sums.get(data, lambda: float(data.sum(dtype=np.float64)))


def row_ends(data: Float32) -> npt.NDArray[np.float64]:
    """Return the first and the last voxel inside the mask of each row along x, in voxels from the box centre.

    The voxel farthest from any given point is one of them.

    Parameters
    ----------
    data : (n, n, n)
        The mask.

    Returns
    -------
    (m, 3), (x, y, z).
    """
    return _row_ends.get(data, lambda: _find_row_ends(data))


def _find_row_ends(data: Float32) -> npt.NDArray[np.float64]:
    """Return `row_ends`, computed anew."""
    inside = data > SUPPORT_THRESHOLD
    rows = np.argwhere(inside.any(axis=2))
    lines = inside[tuple(rows.T)]
    n = data.shape[-1]
    first, last = lines.argmax(axis=1), n - 1 - lines[:, ::-1].argmax(axis=1)
    ends = [np.column_stack([x, rows[:, ::-1]]) for x in (first, last)]
    return np.concatenate(ends).astype(np.float64) - n // 2


def farthest_voxel_distance(data: Float32, centre_xyz: npt.ArrayLike) -> float:
    """Return the distance in voxels from a point to the farthest voxel inside the mask.

    Parameters
    ----------
    data : (n, n, n)
        The mask.
    centre_xyz : (3,)
        The point (x, y, z) in voxels from the box centre.
    """
    return float(np.sqrt(((row_ends(data) - np.asarray(centre_xyz)) ** 2).sum(axis=1).max()))


def soft_sphere(n: int, radius: float, edge: float) -> Float32:
    """Make a sphere about the box centre with a raised-cosine edge: (n, n, n).

    Parameters
    ----------
    n
        Box in voxels.
    radius, edge
        Radius and width of the edge in voxels.
    """
    return cosine_edge(radius_grid(n, 3), radius, edge)


def inscribed_sphere(n: int, m: int | None = None) -> Float32:
    """Make the largest soft sphere, with its edge, that fits into a box.

    Parameters
    ----------
    n : voxels of the box along an axis
    m : voxels of the grid along an axis, if it is another one

    Returns
    -------
    (m, m, m) in [0, 1]
    """
    size = m or n
    voxel = n / size
    return soft_sphere(size, (0.5 * n - 4) / voxel, 4.0 / voxel)


def cosine_edge(distance: Float32, start: float, width: float) -> Float32:
    """Return 1 up to `start`, 0 beyond `start + width` and a raised cosine between.

    Parameters
    ----------
    distance
        Distances of any unit and shape.
    start, width
        Start and width of the edge in the same unit.
    """
    phase = (distance - start) / width
    out = np.asarray(phase <= 0, np.float32)
    edge = (phase > 0) & (phase < 1)
    out[edge] = 0.5 + 0.5 * np.cos(np.pi * phase[edge])
    return out
