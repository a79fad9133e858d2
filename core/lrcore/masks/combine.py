"""Combine masks with soft edges: intersection is the minimum, union the maximum, inversion 1 − x.

These keep the values 0 and 1, and a mask combined with itself is unchanged; a product would thin the edges of masks
that share one. A mask is an array of any shape with values in [0, 1], and so is the result.
"""

import numpy as np

from lrcore.arrays import Float32


def intersect_masks(first: Float32, second: Float32) -> Float32:
    """Return the intersection min(a, b) of two masks.

    Parameters
    ----------
    first, second : masks of the same shape
    """
    return np.minimum(first, second)


def unite_masks(first: Float32, second: Float32) -> Float32:
    """Return the union max(a, b) of two masks.

    Parameters
    ----------
    first, second : masks of the same shape
    """
    return np.maximum(first, second)


def invert_mask(mask: Float32) -> Float32:
    """Return the inverted mask 1 − a.

    Parameters
    ----------
    mask : the mask
    """
    return (1.0 - mask).astype(np.float32)


def subtract_mask(first: Float32, second: Float32) -> Float32:
    """Return the first mask without the second, min(a, 1 − b).

    Parameters
    ----------
    first, second : masks of the same shape
    """
    return intersect_masks(first, invert_mask(second))
