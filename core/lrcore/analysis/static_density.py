"""What in a mask does not move with its body, by where the half maps agreed better before the body was refined.

A consensus refinement has its poses from the largest body, and blurs what moves against that; a local refinement of
what moves sharpens it, and blurs a piece of the rest that its mask holds. So where the half maps of the step agree less
than those of the start, the density stays behind. As part of the reference it holds back every pose.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.maps.fsc import bandpass_maps
from lrcore.masks import soft_edge
from lrcore.masks.distance import bounds
from lrcore.records import HalfMaps, Volume

WINDOW_A = 8.0
"""SD of the Gaussian within which two maps are correlated."""
COARSEST_A, FINEST_A = 40.0, 8.0
"""Of the density that is compared, or as fine as both agree."""
MIN_POWER_SHARE = 0.05
"""Density that is weaker than this share of the strongest says nothing."""


@dataclass(frozen=True)
class StaticDensity:
    """share: of the density in the mask that agreed better at the start. gained: by how much all of it agrees better.

    where: (n, n, n) voxels of the mask that hold the former.
    """

    share: float
    agreement_gain: float
    where: npt.NDArray[np.bool_]


def find_static_density(
    before: HalfMaps, after: HalfMaps, mask: Volume, resolution_A: float, workers: int = 1
) -> StaticDensity:
    """Compare the half maps of the start of a run with those of a step. resolution_A: to which the latter agree."""
    inside = mask.data > 0.5
    sd = WINDOW_A / mask.pixel_size_A
    part = bounds(inside, int(np.ceil(4 * sd)))
    both = (bandpass_maps(maps, COARSEST_A, max(resolution_A, FINEST_A), workers) for maps in (before, after))
    (then, strong), (now, strong_now) = (_local_correlation(a[part], b[part], sd) for a, b in both)
    power = np.where(inside[part], np.maximum(np.maximum(strong, strong_now), 0.0), 0.0)
    worse = now < then
    share = float(power[worse].sum() / max(power.sum(), 1e-30))
    gained = float(np.average(now - then, weights=power)) if power.any() else 0.0
    where = np.zeros(inside.shape, np.bool_)
    where[part] = worse & (power > MIN_POWER_SHARE * power.max(initial=0.0))
    return StaticDensity(share, gained, where)


def mask_without(mask: Volume, where: npt.NDArray[np.bool_], edge_A: float) -> Volume:
    """The mask without these voxels, with an edge of this width towards them."""
    kept = mask.data * (1.0 - soft_edge(where, mask.pixel_size_A, edge_A))
    return Volume(kept.astype(np.float32), mask.pixel_size_A, mask.header_origin_A)


def _local_correlation(a: Float32, b: Float32, sd: float) -> tuple[Float32, Float32]:
    """Correlation of two maps about each voxel, and the power that both share there."""
    from scipy.ndimage import gaussian_filter

    shared, first, second = (gaussian_filter(product, sd) for product in (a * b, a * a, b * b))
    return shared / np.sqrt(np.maximum(first * second, 1e-30)), shared
