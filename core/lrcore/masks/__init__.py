"""Masks: made, joined, looked at. An array is (n, n, n) float32 zyx in [0, 1]; `inside` is the same as bool.

Lengths are Å, points (x, y, z) in Å from the box centre, voxel n // 2. Every function is pure.
"""

from lrcore.masks.basics import (
    SUPPORT,
    centre_of_mass,
    cosine_edge,
    inscribed_sphere,
    reach,
    row_ends,
    soft_sphere,
)
from lrcore.masks.combine import both, either, inverse, without
from lrcore.masks.density import above, automatic_threshold, lowpass
from lrcore.masks.distance import squared_distance
from lrcore.masks.dynamic import dynamic_mask
from lrcore.masks.model import around_atoms, read_atoms
from lrcore.masks.quality import (
    EDGE_PER_RESOLUTION,
    Check,
    Measured,
    checked,
    edge_width,
    inspect,
    mass_kDa,
    measured,
    require_fit,
)
from lrcore.masks.recipe import Atoms, Block, Cylinder, Joined, Made, MaskRecipe, Shape, Sphere, Word, coarse, make
from lrcore.masks.regions import component_at, components, dilated, eroded, filled, grown, soft_edge
from lrcore.masks.shapes import box, cylinder, sphere

__all__ = [
    "EDGE_PER_RESOLUTION",
    "SUPPORT",
    "Atoms",
    "Block",
    "Check",
    "Cylinder",
    "Joined",
    "Made",
    "MaskRecipe",
    "Measured",
    "Shape",
    "Sphere",
    "Word",
    "above",
    "around_atoms",
    "automatic_threshold",
    "both",
    "box",
    "centre_of_mass",
    "checked",
    "coarse",
    "component_at",
    "components",
    "cosine_edge",
    "cylinder",
    "dilated",
    "dynamic_mask",
    "edge_width",
    "either",
    "eroded",
    "filled",
    "grown",
    "inscribed_sphere",
    "inspect",
    "inverse",
    "lowpass",
    "make",
    "mass_kDa",
    "measured",
    "reach",
    "read_atoms",
    "require_fit",
    "row_ends",
    "soft_edge",
    "soft_sphere",
    "sphere",
    "squared_distance",
    "without",
]
