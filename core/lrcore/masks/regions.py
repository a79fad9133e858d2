"""Sets of voxels: their connected parts, grown, shrunk and filled by Euclidean distance, and given a soft edge."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Bool, Float32
from lrcore.errors import InputError
from lrcore.masks.distance import apply_distance_table, bounds
from lrcore.masks.geometry import cosine_edge


def largest_components(inside: Bool, count: int = 1) -> tuple[Bool, int]:
    """The `count` largest parts connected by faces (0: all of them), and how many parts there are.

    Of equally large ones, the first in memory order is kept.
    """
    labels, found, block = _label_components(inside)
    if count <= 0 or found <= count:
        return inside, found
    size = np.bincount(labels[inside[block]], minlength=found + 1)
    kept = np.zeros(found + 1, bool)
    kept[np.argsort(-size[1:], kind="stable")[:count] + 1] = True
    return _place_in_box(kept[labels], inside.shape, block), found


def component_at(inside: Bool, pixel_size_A: float, point_A: npt.ArrayLike) -> Bool:
    """The part that holds a point (x, y, z). Raises InputError if the point is in none."""
    n = inside.shape[-1]
    voxel = tuple(np.rint(np.asarray(point_A, float) / pixel_size_A).astype(int)[::-1] + n // 2)
    if not all(0 <= i < n for i in voxel):
        raise InputError(f"point {_voxel_text(voxel)}: lies outside the box of {n} voxels")
    if not inside[voxel]:
        raise InputError(
            f"point {_voxel_text(voxel)}: is not in the region: lower the threshold, or choose another point"
        )
    labels, _, block = _label_components(inside)
    local = tuple(i - part.start for i, part in zip(voxel, block, strict=True))
    return _place_in_box(labels == labels[local], inside.shape, block)


def dilate(inside: Bool, pixel_size_A: float, radius_A: float) -> Bool:
    """All voxels within `radius_A` of one inside."""
    return soft_edge(inside, pixel_size_A, 0.0, radius_A) > 0


def erode(inside: Bool, pixel_size_A: float, radius_A: float) -> Bool:
    """The voxels farther than `radius_A` from every one outside; what lies beyond the box is outside."""
    block = bounds(inside)
    outside = np.pad(~inside[block], 1, constant_values=True)
    return _place_in_box(~dilate(outside, pixel_size_A, radius_A)[1:-1, 1:-1, 1:-1], inside.shape, block)


def fill_holes(inside: Bool) -> Bool:
    """With every hole that no path by faces joins to the outside."""
    from scipy.ndimage import label

    block = bounds(inside)
    outside = np.pad(~inside[block], 1, constant_values=True)
    labels, _ = label(outside)
    return _place_in_box((labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1], inside.shape, block)


def soft_edge(inside: Bool, pixel_size_A: float, width_A: float, start_A: float = 0.0) -> Float32:
    """1 up to `start_A` from the voxels inside, 0 from `start_A + width_A` on, a raised cosine between: outward only.

    Distances are Euclidean, between centres of voxels. width 0 gives a binary mask.
    """
    reach = int(np.ceil((start_A + width_A) / pixel_size_A))
    # The tolerance: a distance of 3 voxels of 1.1 Å is within 3.3 Å, whatever the last bit says.
    distance = (np.sqrt(np.arange(reach * reach + 2)) * pixel_size_A - 1e-6).astype(np.float32)
    table = cosine_edge(distance, start_A, width_A) if width_A > 0 else (distance <= start_A).astype(np.float32)
    table[-1] = 0.0
    return apply_distance_table(inside, table)


def mask_from_region(inside: Bool, pixel_size_A: float, dilate_A: float, soft_A: float, fill: bool = False) -> Float32:
    """The mask of a set: dilated (negative: eroded) by `dilate_A`, holes filled if asked, edge `soft_A` wide.

    Dilation and edge share one distance transform, so the edge begins at `dilate_A` to a fraction of a voxel. Raises
    InputError if erosion leaves nothing.
    """
    if dilate_A < 0:
        inside = erode(inside, pixel_size_A, -dilate_A)
        if not inside.any():
            raise InputError(f"dilate {dilate_A:g} A: nothing is left after this erosion: erode by less")
    mask = soft_edge(inside, pixel_size_A, soft_A, max(dilate_A, 0.0))
    if fill:
        mask[fill_holes(mask == 1)] = 1
    return mask


def _label_components(inside: Bool) -> tuple[npt.NDArray[np.int32], int, tuple[slice, ...]]:
    """Labels 1 … of the parts in the block that holds them all, their number, and the block."""
    from scipy.ndimage import label

    block = bounds(inside)
    labels, found = label(inside[block])
    return labels, int(found), block


def _place_in_box(part: Bool, shape: tuple[int, ...], block: tuple[slice, ...]) -> Bool:
    out = np.zeros(shape, bool)
    out[block] = part
    return out


def _voxel_text(voxel: tuple[int, ...]) -> str:
    return ", ".join(str(i) for i in voxel[::-1]) + " px"
