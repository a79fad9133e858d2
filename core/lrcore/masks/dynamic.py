"""The dynamic mask: made anew from the map of each iteration, so that it grows onto density that becomes visible."""

import numpy as np

from lrcore.arrays import Float32
from lrcore.errors import InputError
from lrcore.masks.regions import soft_edge
from lrcore.masks.threshold import lowpass


def dynamic_mask(
    data: Float32,
    pixel_size_A: float,
    threshold: float = 0.2,
    near_A: float = 3.0,
    far_A: float = 12.0,
    resolution_A: float = 0.0,
    workers: int = 1,
) -> Float32:
    """The mask of a map (n, n, n): 1 up to `near_A` from its density, 0 from `far_A` on, a raised cosine between.

    Density is what exceeds `threshold` times the highest value of the map low-passed to `resolution_A` (0: as it is);
    parts need not be connected. The same map gives the same mask. Raises InputError for a threshold not between 0 and
    1, for `far_A` below `near_A`, or if no voxel is above 0.
    """
    if not 0 < threshold < 1:
        raise InputError(f"dynamic mask threshold {threshold:g}: must lie between 0 and 1")
    if not 0 <= near_A <= far_A:
        raise InputError(f"dynamic mask from {near_A:g} to {far_A:g} A: near must not be beyond far, nor below 0")
    filtered = lowpass(data, pixel_size_A, resolution_A, workers)
    highest = float(filtered.max())
    if not highest > 0:
        raise InputError("dynamic mask: the map has no voxel above 0")
    return soft_edge(filtered > np.float32(threshold * highest), pixel_size_A, far_A - near_A, near_A)
