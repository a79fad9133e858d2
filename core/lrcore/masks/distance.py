"""Compute Euclidean distances near a set of voxels: exact up to a given distance, and fast enough for a slider."""

import itertools

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Bool, Float32

Slices = tuple[slice, ...]


def squared_distance(inside: Bool, reach: int) -> npt.NDArray[np.unsignedinteger]:
    """Return the squared distance in voxels to the nearest voxel inside; exact up to reach², reach² + 1 beyond.

        d²(x) = min over |k| ≤ reach of d²(x + k e) + k²

    One axis after the other; the parabolas are cut off at `reach`, so that there are only additions and minima of small
    integers, which run at the speed of memory.

    Parameters
    ----------
    inside : (z, y, x) bool
        The set of voxels.
    reach
        Largest distance in voxels, which decides whether the result is uint16 or uint32.

    References
    ----------
    Felzenszwalb & Huttenlocher 2012, Theory of Computing 8:415.
    """
    beyond = reach * reach + 1
    kind = np.uint16 if 2 * beyond < 2**16 else np.uint32
    steps = _first_axis_distance(inside, reach, kind)
    out = np.where(steps > reach, kind(beyond), steps * steps)
    for axis in (1, 2):
        out = _minimum_along(out, axis, reach)
        np.minimum(out, kind(beyond), out=out)
    return out


def _first_axis_distance(inside: Bool, reach: int, kind: type[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """Return the number of voxels along the first axis to the nearest one inside, at most reach + 1, by two sweeps."""
    out = np.where(inside, kind(0), kind(reach + 1))
    for planes in (out, out[::-1]):
        for before, plane in itertools.pairwise(planes):
            np.minimum(plane, before + kind(1), out=plane)
    return out


def _minimum_along(squares: npt.NDArray[np.unsignedinteger], axis: int, reach: int) -> npt.NDArray[np.unsignedinteger]:
    """Return the minimum of squares[x + k] + k² over |k| ≤ reach along an axis other than the first."""
    out = squares.copy()
    # In slabs, so that repeated reads come from the cache.
    for start in range(0, len(squares), 8):
        source = np.moveaxis(squares[start : start + 8], axis, 0)
        target = np.moveaxis(out[start : start + 8], axis, 0)
        raised = np.empty_like(source)
        for k in range(1, min(reach, len(source) - 1) + 1):
            np.add(source, source.dtype.type(k * k), out=raised)
            np.minimum(target[k:], raised[:-k], out=target[k:])
            np.minimum(target[:-k], raised[k:], out=target[:-k])
    return out


def bounding_block(inside: Bool, margin: int = 0) -> Slices:
    """Return the smallest block with all voxels inside and a margin, clipped to the box; empty if there are none."""
    out = []
    for axis, size in enumerate(inside.shape):
        used = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))).tolist()
        out.append(slice(max(0, used[0] - margin), min(size, used[-1] + 1 + margin)) if used else slice(0, 0))
    return tuple(out)


def smallest_window(weight: Float32) -> tuple[tuple[int, int, int], int]:
    """Return the smallest cubic window outside of which a weight (n, n, n) is 0, for `lrcore.imaging.grids.window_at`.

    Returns the voxel (z, y, x) at the origin size // 2 of the window, and its size: even, or the whole odd box.
    """
    n = len(weight)
    block = bounding_block(weight != 0)
    size = max(max(s.stop - s.start for s in block), 1)
    size = min(size + size % 2, n)
    starts = [min(max((s.start + s.stop - size + 1) // 2, 0), n - size) for s in block]
    z, y, x = (start + size // 2 for start in starts)
    return (z, y, x), size


def apply_distance_table(inside: Bool, table: Float32) -> Float32:
    """Return table[d²] with d² the squared distance in voxels to the nearest voxel inside; 0 beyond the table's reach.

    Parameters
    ----------
    inside : (z, y, x) bool
        The set of voxels.
    table : (reach² + 2,)
        Values for the squared distances 0 … reach² + 1; the last one must be 0.
    """
    reach = int(np.sqrt(len(table) - 2))
    out = np.zeros(inside.shape, np.float32)
    block = bounding_block(inside, reach)
    out[block] = table[squared_distance(inside[block], reach)]
    return out
