"""Find density in a mask that does not move with its body, by comparing the half maps before and after refinement.

A consensus refinement has the poses of the largest body, and blurs whatever moves relative to it. A local refinement of
a moving body sharpens that body, and blurs any part of the rest that its mask contains. So where the half maps of a
step agree less than those of the start, the density is static. As part of the reference it biases every pose.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.maps.fsc import bandpass_maps
from lrcore.masks import soft_edge
from lrcore.masks.distance import bounding_block
from lrcore.records import HalfMaps, Volume

WINDOW_A = 8.0
"""SD, Å, of the Gaussian window of the local correlation."""
COARSEST_A, FINEST_A = 40.0, 8.0
"""Band, Å, in which maps are compared; its fine end is no finer than the resolution."""
MIN_POWER_SHARE = 0.05
"""Share of the largest power below which density is ignored."""


@dataclass(frozen=True)
class StaticDensity:
    """Static density in a mask.

    Attributes
    ----------
    share : share of the power in the mask where the half maps agreed better at the start
    agreement_gain : mean gain in local correlation since the start, over all density in the mask
    where : (n, n, n), True for voxels of the mask with static density
    """

    share: float
    agreement_gain: float
    where: npt.NDArray[np.bool_]


def find_static_density(
    before: HalfMaps, after: HalfMaps, mask: Volume, resolution_A: float, workers: int = 1
) -> StaticDensity:
    """Find density in the mask where the half maps agreed better at the start of a run than in a step.

    Parameters
    ----------
    before : half maps of step 0
    after : half maps of the step
    mask : mask of the body
    resolution_A : resolution of the step
    workers : number of threads

    Returns
    -------
    StaticDensity
        Share and voxels of the static density, and the gain in agreement of the rest.
    """
    inside = mask.data > 0.5
    sd = WINDOW_A / mask.pixel_size_A
    part = bounding_block(inside, int(np.ceil(4 * sd)))
    both = (bandpass_maps(maps, COARSEST_A, max(resolution_A, FINEST_A), workers) for maps in (before, after))
    (then, strong), (now, strong_now) = (_local_correlation(a[part], b[part], sd) for a, b in both)
    power = np.where(inside[part], np.maximum(np.maximum(strong, strong_now), 0.0), 0.0)
    worse = now < then
    share = float(power[worse].sum() / max(power.sum(), 1e-30))
    gain = float(np.average(now - then, weights=power)) if power.any() else 0.0
    where = np.zeros(inside.shape, np.bool_)
    where[part] = worse & (power > MIN_POWER_SHARE * power.max(initial=0.0))
    return StaticDensity(share, gain, where)


def mask_without(mask: Volume, where: npt.NDArray[np.bool_], edge_A: float) -> Volume:
    """Return the mask without the voxels `where` (n, n, n), with a soft edge of this width, Å, towards them."""
    kept = mask.data * (1.0 - soft_edge(where, mask.pixel_size_A, edge_A))
    return Volume(kept.astype(np.float32), mask.pixel_size_A, mask.header_origin_A)


def _local_correlation(a: Float32, b: Float32, sd: float) -> tuple[Float32, Float32]:
    """Return the local correlation of two maps at each voxel, and the power that they share there."""
    from scipy.ndimage import gaussian_filter

    shared, first, second = (gaussian_filter(product, sd) for product in (a * b, a * a, b * b))
    return shared / np.sqrt(np.maximum(first * second, 1e-30)), shared
