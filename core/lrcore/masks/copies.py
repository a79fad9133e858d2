"""Compare a mask with its copies under a point group, and unite them."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64
from lrcore.imaging.symmetry import largest_subgroup
from lrcore.masks.combine import unite_masks
from lrcore.masks.geometry import SUPPORT_THRESHOLD, farthest_voxel_distance

MIN_OVERLAP = 0.8
"""Overlap of a mask with a copy from which the operator is taken to leave the mask in place."""
MAX_SAMPLES = 4096
"""Voxels of the mask, evenly spread, at which it is compared with its copies."""
MAX_SAMPLES_PER_AXIS = 64
"""Planes of the box, evenly spread, from which these voxels are taken."""


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

    A copy is computed inside the cube about its sphere alone, so that the cost follows the mask and not the box.

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
    n, out = mask.shape[-1], mask.copy()
    inside = [np.nonzero((mask > SUPPORT_THRESHOLD).any(axis=axes))[0] for axes in ((0, 1), (0, 2), (1, 2))]
    if not all(len(extent) for extent in inside):
        return out
    centre = np.array([0.5 * (extent[0] + extent[-1]) - n // 2 for extent in inside])
    radius = farthest_voxel_distance(mask, centre) + 1
    for operator in operators:
        middle = (operator.T @ centre)[::-1] + n // 2
        low = np.clip(np.floor(middle - radius), 0, n).astype(int)
        high = np.clip(np.ceil(middle + radius) + 1, 0, n).astype(int)
        block = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        out[block] = unite_masks(out[block], _rotated_block(mask, operator[::-1, ::-1], low, high - low))
    return out


def _rotated_block(
    mask: Float32, rotation: Float64, start: npt.NDArray[np.integer], shape: npt.NDArray[np.integer]
) -> Float32:
    """Return m(S x) at the voxels of a block that begins at voxel `start`; the rotation acts on (z, y, x)."""
    from scipy.ndimage import affine_transform

    middle = np.full(3, mask.shape[-1] // 2)
    block: Float32 = affine_transform(
        mask, rotation, middle + rotation @ (start - middle), tuple(shape.tolist()), order=1
    )
    return block
