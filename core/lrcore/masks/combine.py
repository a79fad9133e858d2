"""Masks with soft edges joined: and is the minimum, or the maximum, not 1 − x.

These keep 0 and 1 what they are and a mask joined with itself unchanged; a product would thin the edges of masks that
share one.
"""

import numpy as np

from lrcore.arrays import Float32


def intersect_masks(first: Float32, second: Float32) -> Float32:
    """What lies in both masks: min(a, b); any shape."""
    return np.minimum(first, second)


def unite_masks(first: Float32, second: Float32) -> Float32:
    """What lies in one mask or the other: max(a, b); any shape."""
    return np.maximum(first, second)


def invert_mask(mask: Float32) -> Float32:
    """What lies outside: 1 − a; any shape."""
    return (1.0 - mask).astype(np.float32)


def subtract_mask(first: Float32, second: Float32) -> Float32:
    """What lies in the first mask and not in the second: min(a, 1 − b); any shape."""
    return intersect_masks(first, invert_mask(second))
