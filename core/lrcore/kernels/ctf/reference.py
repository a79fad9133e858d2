"""Define the results of `compute_ctf` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.imaging.grids import index_grid


def compute_ctf(
    waves: npt.NDArray[np.float64],
    n: int,
    offsets: npt.NDArray[np.float32] | None = None,
    which: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.float32]:
    """Compute the contrast transfer functions of images; see `lrcore.kernels.ctf`."""
    ky, kx = index_grid(n, 2)
    xx, yy, xy, quartic, offset, decay, scale = waves.T[:, :, None, None]
    squared = kx**2 + ky**2
    turns = xx * kx**2 + yy * ky**2 + xy * (kx * ky) + quartic * squared**2 + offset
    if offsets is not None and which is not None:
        turns[which >= 0] += offsets[which[which >= 0]]
    values: npt.NDArray[np.float64] = scale * np.exp(-decay * squared) * np.sin(2 * np.pi * turns)
    return values.astype(np.float32)
