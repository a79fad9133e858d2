"""Law checks that tests and users of the core share."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def numerical_gradient(function: Callable[[Float64], float], at: Float64, step: Float64) -> Float64:
    """Central differences of a scalar function at a point, with a step for each component: (n,)."""
    out = np.empty(len(at))
    for i in range(len(at)):
        shift = np.zeros(len(at))
        shift[i] = step[i]
        out[i] = (function(at + shift) - function(at - shift)) / (2 * step[i])
    return out


def smooth_map(size: int, seed: int, radius: float | None = None, blobs: int = 40) -> npt.NDArray[np.float32]:
    """A random map of Gaussian blobs within `radius` voxels of the centre: (size, size, size) float32."""
    rng = np.random.default_rng(seed)
    radius = radius or 0.3 * size
    grid = np.stack(np.meshgrid(*[np.arange(size) - size // 2] * 3, indexing="ij"))
    out = np.zeros((size,) * 3)
    for _ in range(blobs):
        direction = rng.normal(size=3)
        point = direction / np.linalg.norm(direction) * radius * rng.uniform() ** (1 / 3)
        width = rng.uniform(1.2, 2.5)
        out += np.exp(-((grid - point[:, None, None, None]) ** 2).sum(axis=0) / (2 * width**2))
    return out.astype(np.float32)
