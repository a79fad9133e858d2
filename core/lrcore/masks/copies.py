"""Compare a mask with its copies under a point group, and unite them."""

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.imaging.symmetry import largest_subgroup
from lrcore.masks.combine import unite_masks
from lrcore.masks.geometry import SUPPORT_THRESHOLD

MIN_OVERLAP = 0.8
"""Overlap of a mask with a copy from which the operator is taken to leave the mask in place."""
MAX_SAMPLES = 4096
"""Voxels of the mask, evenly spread, at which it is compared with its copies."""
MAX_SAMPLES_PER_AXIS = 64
"""Planes of the box along an axis, evenly spread, from which these voxels are taken."""
MAX_UNION_PER_AXIS = 80
"""Planes of the box along an axis from which a union is made: an edge of a mask is wider than their distance."""


def overlaps_with_copies(mask: Float32, operators: Float64) -> Float64:
    """Return how much of a mask m each of its copies under a point group covers: (N,).

        overlap_k = Σ m(x) m(S_k x) / Σ m(x)²

    The mean over k is the amplitude that is left of density inside the mask when all other density is removed before
    the average over the operators: 1 for a mask with the symmetry, 1 / N for one whose N copies lie apart.

    Parameters
    ----------
    mask : (n, n, n)
        The mask.
    operators : (N, 3, 3)
        Rotations S_k of (x, y, z) about the box centre n // 2.
    """
    from scipy.ndimage import map_coordinates

    n = mask.shape[-1]
    step = -(-n // MAX_SAMPLES_PER_AXIS)
    first = n // 2 % step
    voxels = np.argwhere(mask[first::step, first::step, first::step] > SUPPORT_THRESHOLD) * step + first
    if len(voxels) == 0:
        return np.ones(len(operators))
    voxels = voxels[:: -(-len(voxels) // MAX_SAMPLES)]
    values, points = mask[tuple(voxels.T)].astype(np.float64), (voxels - n // 2)[:, ::-1]
    copies = [map_coordinates(mask, (points @ s.T)[:, ::-1].T + n // 2, np.float64, order=1) for s in operators]
    return np.asarray(np.stack(copies) @ values / (values @ values))


def operators_in_place(mask: Float32, operators: Float64) -> Float64:
    """Return the subgroup of a point group that leaves a mask in place: all operators, some, or the identity alone.

    Parameters
    ----------
    mask : (n, n, n)
        The mask.
    operators : (N, 3, 3)
        The group, the identity first; rotations of (x, y, z) about the box centre n // 2.

    Returns
    -------
    (m, 3, 3), the identity first.
    """
    if len(operators) == 1:
        return operators
    overlaps = overlaps_with_copies(mask, operators)
    return largest_subgroup(operators, np.where(overlaps >= MIN_OVERLAP, overlaps, 0.0))


def union_of_copies(mask: Float32, operators: Float64) -> Float32:
    """Return the union of a mask's copies under a point group, the maximum over m(S_k x).

    Copies are made from up to MAX_UNION_PER_AXIS planes of the box, evenly spread, and interpolated between them.

    Parameters
    ----------
    mask : (n, n, n)
        The mask.
    operators : (N, 3, 3)
        Rotations S_k of (x, y, z) about the box centre n // 2.

    Returns
    -------
    (n, n, n) in [0, 1]
    """
    from scipy.ndimage import affine_transform

    n = mask.shape[-1]
    step = -(-n // MAX_UNION_PER_AXIS)
    first = n // 2 % step
    coarse = np.ascontiguousarray(mask[first::step, first::step, first::step])
    middle, union = np.full(3, n // 2 // step), np.zeros_like(coarse)
    for operator in operators:
        rotation = operator[::-1, ::-1]  # of (z, y, x)
        union = unite_masks(union, affine_transform(coarse, rotation, middle - rotation @ middle, order=1))
    return unite_masks(mask, union if step == 1 else _upsampled(union, n, step, first))


def _upsampled(coarse: Float32, n: int, step: int, first: int) -> Float32:
    """Return planes `first`, `first + step`, … of a box, linearly interpolated to all planes along each axis."""
    place = np.clip((np.arange(n) - first) / step, 0, len(coarse) - 1)
    low = np.minimum(place.astype(int), max(len(coarse) - 2, 0))
    high, weight = np.minimum(low + 1, len(coarse) - 1), (place - low).astype(np.float32)
    for axis in range(3):
        share = np.expand_dims(weight, tuple({0, 1, 2} - {axis}))
        coarse = (1 - share) * coarse.take(low, axis) + share * coarse.take(high, axis)
    return coarse
