"""Euclidean distances near a set of voxels, fast enough for a slider: exact up to a reach, only where needed."""

import itertools

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Bool, Float32

Slices = tuple[slice, ...]


def squared_distance(inside: Bool, reach: int) -> npt.NDArray[np.unsignedinteger]:
    """(z, y, x) bool → squared distance in voxels to the nearest voxel inside; exact up to reach², reach² + 1 beyond.

    d²(x) = min over |k| ≤ reach of d²(x + k e) + k², one axis after the other (Felzenszwalb & Huttenlocher 2012, with
    the parabolas cut off): additions and minima of small integers, which run at the speed of memory.
    """
    beyond = reach * reach + 1
    kind = np.uint16 if 2 * beyond < 2**16 else np.uint32
    steps = _steps(inside, reach, kind)
    out = np.where(steps > reach, kind(beyond), steps * steps)
    for axis in (1, 2):
        out = _along(out, axis, reach)
        np.minimum(out, kind(beyond), out=out)
    return out


def _steps(inside: Bool, reach: int, kind: type[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """Voxels along the first axis to the nearest one inside, reach + 1 at most: planes hand on what they know."""
    out = np.where(inside, kind(0), kind(reach + 1))
    for planes in (out, out[::-1]):
        for before, plane in itertools.pairwise(planes):
            np.minimum(plane, before + kind(1), out=plane)
    return out


def _along(squares: npt.NDArray[np.unsignedinteger], axis: int, reach: int) -> npt.NDArray[np.unsignedinteger]:
    """The least of squares[x + k] + k² over |k| ≤ reach along an axis, not the first."""
    out = squares.copy()
    # In slabs, so that what is read again and again stays in a cache.
    for start in range(0, len(squares), 8):
        source = np.moveaxis(squares[start : start + 8], axis, 0)
        target = np.moveaxis(out[start : start + 8], axis, 0)
        raised = np.empty_like(source)
        for k in range(1, min(reach, len(source) - 1) + 1):
            np.add(source, source.dtype.type(k * k), out=raised)
            np.minimum(target[k:], raised[:-k], out=target[k:])
            np.minimum(target[:-k], raised[k:], out=target[:-k])
    return out


def bounds(inside: Bool, margin: int = 0) -> Slices:
    """The smallest block that holds all voxels inside, with a margin, cut at the box; empty if there are none."""
    out = []
    for axis, size in enumerate(inside.shape):
        held = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))).tolist()
        out.append(slice(max(0, held[0] - margin), min(size, held[-1] + 1 + margin)) if held else slice(0, 0))
    return tuple(out)


def apply_distance_table(inside: Bool, table: Float32) -> Float32:
    """(z, y, x) bool → table[d²] with d² the squared distance in voxels; 0 beyond the table's reach.

    table: (reach² + 2,), of the squared distances 0 … reach² + 1; its last must be 0.
    """
    reach = int(np.sqrt(len(table) - 2))
    out = np.zeros(inside.shape, np.float32)
    block = bounds(inside, reach)
    out[block] = table[squared_distance(inside[block], reach)]
    return out
