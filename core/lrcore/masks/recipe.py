"""Make a mask from a recipe, and keep every stage, so that after a change only the affected stages are repeated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lrcore.arrays import Bool, Float32, Float64
from lrcore.errors import InputError
from lrcore.imaging.grids import crop_ft, ft, ift
from lrcore.masks.atomic_model import voxels_near_atoms
from lrcore.masks.checks import EDGE_PER_RESOLUTION, MaskCheck, check_mask
from lrcore.masks.combine import intersect_masks, invert_mask, subtract_mask, unite_masks
from lrcore.masks.geometry import SUPPORT_THRESHOLD
from lrcore.masks.regions import component_at, largest_components, mask_from_region
from lrcore.masks.shapes import box_mask, cylinder_mask, sphere_mask
from lrcore.masks.threshold import automatic_threshold, lowpass, voxels_above_threshold
from lrcore.records import Volume

Point = tuple[float, float, float]
MaskOperation = Literal["and", "or", "subtract"]

DEFAULT_DILATION_A = 3.0
"""Default dilation of thresholded density, whose threshold lies within the particle, not at its surface."""
DEFAULT_SOFT_EDGE_A = 15.0
"""Default width of the soft edge if no resolution is given: the recommended one for 3 Å."""
MASK_OPERATIONS: dict[MaskOperation, Callable[[Float32, Float32], Float32]] = {
    "and": intersect_masks,
    "or": unite_masks,
    "subtract": subtract_mask,
}


@dataclass(frozen=True)
class Sphere:
    """Sphere.

    Attributes
    ----------
    centre_A
        (x, y, z) in Å from the box centre, as for all shapes.
    radius_A
        Radius in Å.
    """

    centre_A: Point
    radius_A: float


@dataclass(frozen=True)
class Cuboid:
    """Box along the axes.

    Attributes
    ----------
    centre_A
        (x, y, z) in Å from the box centre.
    size_A
        Full size (x, y, z) in Å.
    """

    centre_A: Point
    size_A: Point


@dataclass(frozen=True)
class Cylinder:
    """Cylinder.

    Attributes
    ----------
    centre_A
        (x, y, z) in Å from the box centre.
    axis
        Direction (x, y, z) of any length.
    radius_A, length_A
        Radius and length in Å.
    """

    centre_A: Point
    axis: Point
    radius_A: float
    length_A: float


@dataclass(frozen=True, eq=False)
class Atoms:
    """Voxels near the atoms of a model.

    Attributes
    ----------
    positions_A : (m, 3)
        Positions (x, y, z) in Å in the frame of the map's file.
    radius_A
        Distance in Å.
    name
        Name that is shown to the user.
    """

    positions_A: Float64
    radius_A: float = 5.0
    name: str = "model"


@dataclass(frozen=True, eq=False)
class CombinedMask:
    """Another mask, and how it is combined with the mask of the recipe.

    Attributes
    ----------
    operation
        "and", "or" or "subtract".
    data : (n, n, n)
        The other mask.
    name
        Name that is shown to the user.
    """

    operation: MaskOperation
    data: Float32
    name: str = "mask"


Shape = Sphere | Cuboid | Cylinder | Atoms


@dataclass(frozen=True)
class MaskRecipe:
    """Settings of a mask, in the order in which they are applied.

    Attributes
    ----------
    lowpass_A
        Low-pass of the map in Å; 0 for none.
    threshold
        Threshold of the low-passed map; "auto" to find one; None to use the shapes alone as the region (in a recipe
        without shapes it means "auto").
    shapes
        Their union limits where density counts.
    components
        Number of largest connected parts to keep, 0 for all; None for the default: one part of density, all of shapes.
    at_A
        Keep the part that contains this point, (x, y, z) in Å from the box centre, instead of the largest ones.
    dilate_A, soft_A
        Dilation (negative: erosion) and width of the soft edge in Å; None for the defaults in `edges_A`.
    fill
        Fill holes.
    resolution_A
        Expected resolution in Å, which determines the default width of the soft edge.
    joined
        Masks to combine with, in this order.
    invert
        Invert the mask at the end.
    """

    lowpass_A: float = 12.0
    threshold: float | Literal["auto"] | None = None
    shapes: tuple[Shape, ...] = ()
    components: int | None = None
    at_A: Point | None = None
    dilate_A: float | None = None
    fill: bool = False
    soft_A: float | None = None
    resolution_A: float | None = None
    joined: tuple[CombinedMask, ...] = ()
    invert: bool = False

    @property
    def uses_density(self) -> bool:
        """True if the region is density above the threshold, False if it is the whole of the shapes."""
        return self.threshold is not None or not self.shapes

    @property
    def edges_A(self) -> tuple[float, float]:
        """Dilation and width of the soft edge in Å, with the defaults filled in."""
        dilate = self.dilate_A if self.dilate_A is not None else DEFAULT_DILATION_A * self.uses_density
        if self.soft_A is not None:
            return dilate, self.soft_A
        return dilate, DEFAULT_SOFT_EDGE_A if self.resolution_A is None else EDGE_PER_RESOLUTION * self.resolution_A


@dataclass(frozen=True)
class MaskResult:
    """A mask and the stages that led to it; arrays are (n, n, n).

    Attributes
    ----------
    volume, recipe
        The map and the settings.
    lowpassed
        The low-passed map; None for a map without a voxel above 0 in a recipe without density.
    threshold
        Threshold that was applied to it.
    above_threshold
        Voxels above it.
    shapes
        Union of the shapes; None without shapes.
    region
        Voxels from which the mask is grown.
    component_count
        Number of connected parts from which the region was chosen.
    uncombined_mask
        The mask before it is combined with others.
    mask
        The result.
    """

    volume: Volume
    recipe: MaskRecipe
    lowpassed: Float32 | None
    threshold: float | None
    above_threshold: Bool | None
    shapes: Bool | None
    region: Bool
    component_count: int
    uncombined_mask: Float32
    mask: Float32

    @property
    def density(self) -> Float32 | None:
        """The low-passed map, 0 below its threshold; None if there is no threshold."""
        if self.lowpassed is None or self.above_threshold is None:
            return None
        return np.where(self.above_threshold, self.lowpassed, np.float32(0))

    @property
    def is_empty(self) -> bool:
        """True if no voxel is inside the mask."""
        return not self.mask.max() > SUPPORT_THRESHOLD

    def checks(self) -> tuple[MaskCheck, ...]:
        """Check the mask before it is used; see `check_mask`."""
        return check_mask(self.mask, self.volume.pixel_size_A, self.recipe.resolution_A, self.density)


def make_mask(volume: Volume, recipe: MaskRecipe, last: MaskResult | None = None, workers: int = 1) -> MaskResult:
    """Make a mask from a map, or from the mean of two half maps, by a recipe.

    Parameters
    ----------
    volume : Volume
        The map.
    recipe
        Settings.
    last
        An earlier result for the same map; stages whose settings are unchanged are taken from it.
    workers
        Threads of the FFT.

    Returns
    -------
    The mask with all its stages.

    Raises
    ------
    InputError
        If the threshold selects no voxel or all, or if shapes, parts or edges leave no voxel.
    """
    last = last if last is not None and last.volume is volume else None
    same = _UnchangedSettings(last, recipe)
    lowpassed, threshold, above = _density(volume, recipe, same, workers)
    shapes = last.shapes if last and same("shapes") else _draw_shapes(volume, recipe.shapes)
    unchanged = last is not None and last.above_threshold is above and last.shapes is shapes
    if last and unchanged and same("uses_density", "components", "at_A"):
        region, parts = last.region, last.component_count
    else:
        region, parts = _region(volume, recipe, threshold, above, shapes)
    if last and last.region is region and same("edges_A", "fill"):
        mask = last.uncombined_mask
    else:
        mask = mask_from_region(region, volume.pixel_size_A, *recipe.edges_A, recipe.fill)
    combined = _combine_masks(mask, recipe)
    return MaskResult(volume, recipe, lowpassed, threshold, above, shapes, region, parts, mask, combined)


@dataclass(frozen=True)
class _UnchangedSettings:
    """Compare the settings of an earlier recipe with those of a new one."""

    last: MaskResult | None
    recipe: MaskRecipe

    def __call__(self, *names: str) -> bool:
        """Return whether the named settings are unchanged."""
        if self.last is None:
            return False
        return all(getattr(self.last.recipe, name) == getattr(self.recipe, name) for name in names)


def _density(
    volume: Volume, recipe: MaskRecipe, same: _UnchangedSettings, workers: int
) -> tuple[Float32 | None, float | None, Bool | None]:
    """Return the low-passed map, the threshold, and the voxels above it."""
    last = same.last
    if last and last.lowpassed is not None and same("lowpass_A"):
        lowpassed = last.lowpassed
    elif recipe.uses_density or volume.data.max() > 0:
        lowpassed = lowpass(volume.data, volume.pixel_size_A, recipe.lowpass_A, workers)
    else:
        return None, None, None
    threshold = recipe.threshold
    if threshold is None or threshold == "auto":
        reusable = last and last.lowpassed is lowpassed and last.recipe.threshold in (None, "auto")
        threshold = last.threshold if last and reusable else automatic_threshold(lowpassed)
    if last and last.lowpassed is lowpassed and last.threshold == threshold:
        return lowpassed, threshold, last.above_threshold
    assert threshold is not None
    return lowpassed, threshold, voxels_above_threshold(lowpassed, threshold)


def _draw_shapes(volume: Volume, shapes: tuple[Shape, ...]) -> Bool | None:
    """Return the union of all shapes, or None if there are none."""
    return np.logical_or.reduce([_draw_shape(volume, shape) for shape in shapes]) if shapes else None


def _draw_shape(volume: Volume, shape: Shape) -> Bool:
    """Return the voxels of one shape."""
    grid = (volume.box, volume.pixel_size_A)
    match shape:
        case Sphere():
            return sphere_mask(*grid, shape.centre_A, shape.radius_A) > 0
        case Cuboid():
            return box_mask(*grid, shape.centre_A, shape.size_A) > 0
        case Cylinder():
            return cylinder_mask(*grid, shape.centre_A, shape.axis, shape.radius_A, shape.length_A) > 0
        case Atoms():
            return voxels_near_atoms(volume, shape.positions_A, shape.radius_A)


def _region(
    volume: Volume, recipe: MaskRecipe, threshold: float | None, above: Bool | None, shapes: Bool | None
) -> tuple[Bool, int]:
    """Return the voxels of the selected parts, and the number of parts to choose from."""
    if not recipe.uses_density:
        assert shapes is not None
        within = shapes
    else:
        assert above is not None
        within = above if shapes is None else above & shapes
        if not within.any():
            raise InputError(
                f"threshold {threshold:.4g}: no density above it lies inside the shapes: lower it or move the shapes"
            )
    if recipe.at_A is not None:
        _, parts = largest_components(within, 0)
        return component_at(within, volume.pixel_size_A, recipe.at_A), parts
    return largest_components(within, int(recipe.uses_density) if recipe.components is None else recipe.components)


def _combine_masks(mask: Float32, recipe: MaskRecipe) -> Float32:
    """Combine the mask with those of the recipe, and invert it if the recipe says so."""
    for other in recipe.joined:
        mask = MASK_OPERATIONS[other.operation](mask, other.data)
    return invert_mask(mask) if recipe.invert else mask


def downsample_volume(volume: Volume, size: int, workers: int = 1) -> Volume:
    """Resample a map to fewer voxels by Fourier cropping; box and centre stay in place.

    Parameters
    ----------
    volume : Volume
        The map of n voxels.
    size
        Box of the result in voxels; the map is returned unchanged if it is n or more.
    workers
        Threads of the FFT.
    """
    n = volume.box
    if size >= n:
        return volume
    part = ift(crop_ft(ft(volume.data, 3, workers), n, size) * np.float32((size / n) ** 3), size, 3, workers)
    pixel = volume.pixel_size_A * n / size
    # The first voxel of the file moves, because the centre stays in place.
    x, y, z = (o + (n // 2) * volume.pixel_size_A - (size // 2) * pixel for o in volume.header_origin_A)
    return Volume(part.astype(np.float32, copy=False), pixel, (x, y, z), volume.path)
