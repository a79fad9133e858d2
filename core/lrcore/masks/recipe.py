"""A mask by recipe: frozen settings in, every stage out, so that after a change only what follows it is done again."""

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
"""Of a thresholded map: its threshold lies within the density, not around it."""
DEFAULT_SOFT_EDGE_A = 15.0
"""Where no resolution is given: what the rule asks for at 3 Å."""
MASK_OPERATIONS: dict[MaskOperation, Callable[[Float32, Float32], Float32]] = {
    "and": intersect_masks,
    "or": unite_masks,
    "subtract": subtract_mask,
}


@dataclass(frozen=True)
class Sphere:
    """A sphere; centre_A: (x, y, z) from the box centre, as in every shape."""

    centre_A: Point
    radius_A: float


@dataclass(frozen=True)
class Cuboid:
    """A box of full size (x, y, z) along the axes."""

    centre_A: Point
    size_A: Point


@dataclass(frozen=True)
class Cylinder:
    """A cylinder along `axis` (x, y, z; any length)."""

    centre_A: Point
    axis: Point
    radius_A: float
    length_A: float


@dataclass(frozen=True, eq=False)
class Atoms:
    """What lies near atoms. places_A: (m, 3) in the frame of the map's file. name: what a person calls them."""

    places_A: Float64
    radius_A: float = 5.0
    name: str = "model"


@dataclass(frozen=True, eq=False)
class CombinedMask:
    """Another mask, (n, n, n), and how it is joined. name: what a person calls it."""

    operation: MaskOperation
    data: Float32
    name: str = "mask"


Shape = Sphere | Cuboid | Cylinder | Atoms


@dataclass(frozen=True)
class MaskRecipe:
    """How a mask is made, in this order. Lengths in Å, points (x, y, z) in Å from the box centre.

    lowpass_A: of the map; 0: none. threshold: of the low-passed map, "auto" to find one; None: shapes alone are the
    region (of a recipe without shapes, as "auto"). shapes: together they say where density counts. components: the
    largest parts to keep, 0 for all; None: one of density, all of shapes. at_A: keep the part that holds this point
    instead. dilate_A, soft_A: None for the defaults that `edges_A` has. joined: in this order.
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
    def dense(self) -> bool:
        """Whether the region is what is dense, and not all that shapes hold."""
        return self.threshold is not None or not self.shapes

    @property
    def edges_A(self) -> tuple[float, float]:
        """Dilation and width of the soft edge in force."""
        dilate = self.dilate_A if self.dilate_A is not None else DEFAULT_DILATION_A * self.dense
        if self.soft_A is not None:
            return dilate, self.soft_A
        return dilate, DEFAULT_SOFT_EDGE_A if self.resolution_A is None else EDGE_PER_RESOLUTION * self.resolution_A


@dataclass(frozen=True)
class MaskResult:
    """A mask with all that it came from; arrays are (n, n, n).

    filtered: the low-passed map, and `dense` what is above `threshold`; None for a map without any voxel above 0, of
    which nothing was asked. shapes: all of them together, None without. region: the voxels that the mask is grown from,
    chosen of `parts` parts; grown: the mask before others are joined with it.
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
        """The low-passed map, 0 below its threshold."""
        if self.lowpassed is None or self.above_threshold is None:
            return None
        return np.where(self.above_threshold, self.lowpassed, np.float32(0))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is inside."""
        return not self.mask.max() > SUPPORT_THRESHOLD

    def checks(self) -> tuple[MaskCheck, ...]:
        """What to know of the mask before it is used."""
        return check_mask(self.mask, self.volume.pixel_size_A, self.recipe.resolution_A, self.density)


def make_mask(volume: Volume, recipe: MaskRecipe, last: MaskResult | None = None, workers: int = 1) -> MaskResult:
    """The mask of a map (or mean of two half maps) by a recipe.

    last: what was made before; of the same map, every stage is taken from it whose settings are the same. Raises
    InputError for a threshold that holds nothing or everything, or for shapes, parts or edges that leave nothing.
    """
    last = last if last is not None and last.volume is volume else None
    same = _UnchangedSettings(last, recipe)
    filtered, threshold, dense = _density(volume, recipe, same, workers)
    shapes = last.shapes if last and same("shapes") else _draw_shapes(volume, recipe.shapes)
    unmoved = last is not None and last.above_threshold is dense and last.shapes is shapes
    if last and unmoved and same("dense", "components", "at_A"):
        region, parts = last.region, last.component_count
    else:
        region, parts = _region(volume, recipe, threshold, dense, shapes)
    if last and last.region is region and same("edges_A", "fill"):
        mask = last.uncombined_mask
    else:
        mask = mask_from_region(region, volume.pixel_size_A, *recipe.edges_A, recipe.fill)
    whole = _combine_masks(mask, recipe)
    return MaskResult(volume, recipe, filtered, threshold, dense, shapes, region, parts, mask, whole)


@dataclass(frozen=True)
class _UnchangedSettings:
    """Whether settings are what they were."""

    last: MaskResult | None
    recipe: MaskRecipe

    def __call__(self, *names: str) -> bool:
        if self.last is None:
            return False
        return all(getattr(self.last.recipe, name) == getattr(self.recipe, name) for name in names)


def _density(
    volume: Volume, recipe: MaskRecipe, same: _UnchangedSettings, workers: int
) -> tuple[Float32 | None, float | None, Bool | None]:
    """The low-passed map, the threshold, and what is above it."""
    last = same.last
    if last and last.lowpassed is not None and same("lowpass_A"):
        filtered = last.lowpassed
    elif recipe.dense or volume.data.max() > 0:
        filtered = lowpass(volume.data, volume.pixel_size_A, recipe.lowpass_A, workers)
    else:
        return None, None, None
    threshold = recipe.threshold
    if threshold is None or threshold == "auto":
        kept = last and last.lowpassed is filtered and last.recipe.threshold in (None, "auto")
        threshold = last.threshold if last and kept else automatic_threshold(filtered)
    if last and last.lowpassed is filtered and last.threshold == threshold:
        return filtered, threshold, last.above_threshold
    assert threshold is not None
    return filtered, threshold, voxels_above_threshold(filtered, threshold)


def _draw_shapes(volume: Volume, shapes: tuple[Shape, ...]) -> Bool | None:
    """All shapes together; None if there are none."""
    return np.logical_or.reduce([_draw_shape(volume, shape) for shape in shapes]) if shapes else None


def _draw_shape(volume: Volume, shape: Shape) -> Bool:
    grid = (volume.box, volume.pixel_size_A)
    match shape:
        case Sphere():
            return sphere_mask(*grid, shape.centre_A, shape.radius_A) > 0
        case Cuboid():
            return box_mask(*grid, shape.centre_A, shape.size_A) > 0
        case Cylinder():
            return cylinder_mask(*grid, shape.centre_A, shape.axis, shape.radius_A, shape.length_A) > 0
        case Atoms():
            return voxels_near_atoms(volume, shape.places_A, shape.radius_A)


def _region(
    volume: Volume, recipe: MaskRecipe, threshold: float | None, dense: Bool | None, shapes: Bool | None
) -> tuple[Bool, int]:
    """The parts asked for, and how many there were to choose from."""
    if not recipe.dense:
        assert shapes is not None
        within = shapes
    else:
        assert dense is not None
        within = dense if shapes is None else dense & shapes
        if not within.any():
            raise InputError(f"threshold {threshold:.4g}: nothing above it lies in the shapes: lower it or move them")
    if recipe.at_A is not None:
        _, parts = largest_components(within, 0)
        return component_at(within, volume.pixel_size_A, recipe.at_A), parts
    return largest_components(within, int(recipe.dense) if recipe.components is None else recipe.components)


def _combine_masks(mask: Float32, recipe: MaskRecipe) -> Float32:
    for other in recipe.joined:
        mask = MASK_OPERATIONS[other.operation](mask, other.data)
    return invert_mask(mask) if recipe.invert else mask


def downsample_volume(volume: Volume, size: int, workers: int = 1) -> Volume:
    """The map in `size` voxels instead of n ≥ `size`, without what these cannot hold: box and centre stay in place."""
    n = volume.box
    if size >= n:
        return volume
    part = ift(crop_ft(ft(volume.data, 3, workers), n, size) * np.float32((size / n) ** 3), size, 3, workers)
    pixel = volume.pixel_size_A * n / size
    # The first voxel of the file moves, for the centre is the one that stays.
    x, y, z = (o + (n // 2) * volume.pixel_size_A - (size // 2) * pixel for o in volume.header_origin_A)
    return Volume(part.astype(np.float32, copy=False), pixel, (x, y, z), volume.path)
