"""Create, combine and check masks.

Masks are (n, n, n) float32 zyx in [0, 1]; sets of voxels (`inside`) are bool arrays of that shape. Lengths are in Å,
points are (x, y, z) in Å from the box centre, voxel n // 2. No function changes its arguments.
"""

from lrcore.masks.atomic_model import read_atoms, voxels_near_atoms
from lrcore.masks.checks import (
    EDGE_PER_RESOLUTION,
    MaskCheck,
    MaskSize,
    check_mask,
    edge_width,
    mask_warnings,
    mass_kDa,
    measure_mask,
    require_mask_fits,
    validate_mask,
)
from lrcore.masks.combine import intersect_masks, invert_mask, subtract_mask, unite_masks
from lrcore.masks.copies import operators_in_place, overlaps_with_copies, union_of_copies
from lrcore.masks.distance import squared_distance
from lrcore.masks.dynamic import dynamic_mask
from lrcore.masks.geometry import (
    SUPPORT_THRESHOLD,
    centre_of_mass,
    cosine_edge,
    farthest_voxel_distance,
    inscribed_sphere,
    row_ends,
    soft_sphere,
)
from lrcore.masks.recipe import (
    Atoms,
    CombinedMask,
    Cuboid,
    Cylinder,
    MaskOperation,
    MaskRecipe,
    MaskResult,
    Shape,
    Sphere,
    downsample_volume,
    make_mask,
)
from lrcore.masks.regions import (
    component_at,
    dilate,
    erode,
    fill_holes,
    largest_components,
    mask_from_region,
    soft_edge,
)
from lrcore.masks.shapes import box_mask, cylinder_mask, sphere_mask
from lrcore.masks.threshold import automatic_threshold, lowpass, voxels_above_threshold

__all__ = [
    "EDGE_PER_RESOLUTION",
    "SUPPORT_THRESHOLD",
    "Atoms",
    "CombinedMask",
    "Cuboid",
    "Cylinder",
    "MaskCheck",
    "MaskOperation",
    "MaskRecipe",
    "MaskResult",
    "MaskSize",
    "Shape",
    "Sphere",
    "automatic_threshold",
    "box_mask",
    "centre_of_mass",
    "check_mask",
    "component_at",
    "cosine_edge",
    "cylinder_mask",
    "dilate",
    "downsample_volume",
    "dynamic_mask",
    "edge_width",
    "erode",
    "farthest_voxel_distance",
    "fill_holes",
    "inscribed_sphere",
    "intersect_masks",
    "invert_mask",
    "largest_components",
    "lowpass",
    "make_mask",
    "mask_from_region",
    "mask_warnings",
    "mass_kDa",
    "measure_mask",
    "operators_in_place",
    "overlaps_with_copies",
    "read_atoms",
    "require_mask_fits",
    "row_ends",
    "soft_edge",
    "soft_sphere",
    "sphere_mask",
    "squared_distance",
    "subtract_mask",
    "union_of_copies",
    "unite_masks",
    "validate_mask",
    "voxels_above_threshold",
    "voxels_near_atoms",
]
