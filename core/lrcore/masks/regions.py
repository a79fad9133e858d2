"""Select, dilate, erode and fill sets of voxels, and give them a soft edge."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Bool, Float32
from lrcore.errors import InputError
from lrcore.masks.distance import apply_distance_table, bounding_block
from lrcore.masks.geometry import cosine_edge


def largest_components(inside: Bool, count: int = 1) -> tuple[Bool, int]:
    """Return the largest parts that are connected by faces, and the number of all parts.

    Of equally large parts, the first in memory order is kept.

    Parameters
    ----------
    inside : (n, n, n) bool
        The set of voxels.
    count
        Number of parts to keep; 0 for all.
    """
    labels, parts, block = _label_components(inside)
    if count <= 0 or parts <= count:
        return inside, parts
    size = np.bincount(labels[inside[block]], minlength=parts + 1)
    kept = np.zeros(parts + 1, bool)
    kept[np.argsort(-size[1:], kind="stable")[:count] + 1] = True
    return _place_in_box(kept[labels], inside.shape, block), parts


def component_at(inside: Bool, pixel_size_A: float, point_A: npt.ArrayLike) -> Bool:
    """Return the connected part that contains a point.

    Parameters
    ----------
    inside, pixel_size_A
        The set of voxels, (n, n, n) bool, and the voxel size in Å.
    point_A : (3,)
        The point (x, y, z) in Å from the box centre.

    Raises
    ------
    InputError
        If the point lies in no part, or outside the box.
    """
    n = inside.shape[-1]
    voxel = tuple(np.rint(np.asarray(point_A, float) / pixel_size_A).astype(int)[::-1] + n // 2)
    if not all(0 <= i < n for i in voxel):
        raise InputError(f"point {_voxel_text(voxel)}: lies outside the box of {n} voxels: choose another point")
    if not inside[voxel]:
        raise InputError(
            f"point {_voxel_text(voxel)}: is not in the region: lower the threshold, or choose another point"
        )
    labels, _, block = _label_components(inside)
    local = tuple(i - part.start for i, part in zip(voxel, block, strict=True))
    return _place_in_box(labels == labels[local], inside.shape, block)


def dilate(inside: Bool, pixel_size_A: float, radius_A: float) -> Bool:
    """Return all voxels within a distance of a voxel inside.

    Parameters
    ----------
    inside, pixel_size_A
        The set of voxels, (n, n, n) bool, and the voxel size in Å.
    radius_A
        Distance in Å.
    """
    return soft_edge(inside, pixel_size_A, 0.0, radius_A) > 0


def erode(inside: Bool, pixel_size_A: float, radius_A: float) -> Bool:
    """Return the voxels that are farther than a distance from every voxel outside the set or the box.

    Parameters
    ----------
    inside, pixel_size_A, radius_A
        See `dilate`.
    """
    block = bounding_block(inside)
    outside = np.pad(~inside[block], 1, constant_values=True)
    return _place_in_box(~dilate(outside, pixel_size_A, radius_A)[1:-1, 1:-1, 1:-1], inside.shape, block)


def fill_holes(inside: Bool) -> Bool:
    """Return the set with its holes filled: voxels that no path across faces connects to the outside.

    Parameters
    ----------
    inside : (n, n, n) bool
        The set of voxels.
    """
    from scipy.ndimage import label

    block = bounding_block(inside)
    outside = np.pad(~inside[block], 1, constant_values=True)
    labels, _ = label(outside)
    return _place_in_box((labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1], inside.shape, block)


def soft_edge(inside: Bool, pixel_size_A: float, width_A: float, start_A: float = 0.0) -> Float32:
    """Make a mask that falls from 1 to 0 outside a set of voxels by a raised cosine.

    It is 1 up to `start_A` from the set and 0 from `start_A + width_A` on. Distances are Euclidean, between centres of
    voxels.

    Parameters
    ----------
    inside, pixel_size_A
        The set of voxels, (n, n, n) bool, and the voxel size in Å.
    width_A
        Width of the edge in Å; 0 for a binary mask.
    start_A
        Distance in Å from the set at which the edge starts.
    """
    reach = int(np.ceil((start_A + width_A) / pixel_size_A))
    # The tolerance absorbs rounding: a distance of 3 voxels of 1.1 Å must count as within 3.3 Å.
    distance = (np.sqrt(np.arange(reach * reach + 2)) * pixel_size_A - 1e-6).astype(np.float32)
    table = cosine_edge(distance, start_A, width_A) if width_A > 0 else (distance <= start_A).astype(np.float32)
    table[-1] = 0.0
    return apply_distance_table(inside, table)


def mask_from_region(inside: Bool, pixel_size_A: float, dilate_A: float, soft_A: float, fill: bool = False) -> Float32:
    """Make a mask from a set of voxels by dilation or erosion, filling of holes and a soft edge.

    Dilation and edge share one distance transform, so the edge starts at `dilate_A` to a fraction of a voxel.

    Parameters
    ----------
    inside, pixel_size_A
        The set of voxels, (n, n, n) bool, and the voxel size in Å.
    dilate_A
        Dilation in Å; negative for an erosion.
    soft_A
        Width of the soft edge in Å.
    fill
        Fill holes.

    Raises
    ------
    InputError
        If the erosion leaves no voxel.
    """
    if dilate_A < 0:
        inside = erode(inside, pixel_size_A, -dilate_A)
        if not inside.any():
            raise InputError(f"dilate {dilate_A:g} A: nothing is left after this erosion: erode less")
    mask = soft_edge(inside, pixel_size_A, soft_A, max(dilate_A, 0.0))
    if fill:
        mask[fill_holes(mask == 1)] = 1
    return mask


def _label_components(inside: Bool) -> tuple[npt.NDArray[np.int32], int, tuple[slice, ...]]:
    """Return labels from 1 of the connected parts in the block that contains them, their number, and the block."""
    from scipy.ndimage import label

    block = bounding_block(inside)
    labels, parts = label(inside[block])
    return labels, int(parts), block


def _place_in_box(part: Bool, shape: tuple[int, ...], block: tuple[slice, ...]) -> Bool:
    """Return a block of voxels in an empty box of the given shape."""
    out = np.zeros(shape, bool)
    out[block] = part
    return out


def _voxel_text(voxel: tuple[int, ...]) -> str:
    """Format a voxel [z, y, x] as "x, y, z px"."""
    return ", ".join(str(i) for i in voxel[::-1]) + " px"
