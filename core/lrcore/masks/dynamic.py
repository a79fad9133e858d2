"""Make a dynamic mask from the map of each iteration, so that it grows onto density that becomes visible."""

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
    """Make a mask from the density of a map: 1 up to `near_A` from it, 0 from `far_A` on, a raised cosine between.

    Density is what exceeds `threshold` times the highest value of the low-passed map; its parts need not be connected.
    The same map gives the same mask.

    Parameters
    ----------
    data, pixel_size_A
        The map of an iteration, (n, n, n), and its voxel size in Å.
    threshold
        Fraction of the highest value, between 0 and 1.
    near_A, far_A
        Distances in Å at which the edge starts and ends.
    resolution_A
        Low-pass of the map in Å; 0 for none.
    workers
        Threads of the FFT.

    Returns
    -------
    (n, n, n) float32.

    Raises
    ------
    InputError
        If the threshold is not between 0 and 1, `far_A` is below `near_A`, or no voxel is above 0.
    """
    if not 0 < threshold < 1:
        raise InputError(f"dynamic mask threshold {threshold:g}: must lie between 0 and 1")
    if not 0 <= near_A <= far_A:
        raise InputError(
            f"dynamic mask from {near_A:g} to {far_A:g} A: the near distance must be at least 0 and at most the far one"
        )
    filtered = lowpass(data, pixel_size_A, resolution_A, workers)
    highest = float(filtered.max())
    if not highest > 0:
        raise InputError("dynamic mask: the map has no voxel above 0")
    return soft_edge(filtered > np.float32(threshold * highest), pixel_size_A, far_A - near_A, near_A)
