"""Provide test helpers: finite differences, test maps, and errors of maps and poses against a known truth."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.grids import shell_frequency
from lrcore.imaging.rotations import relative_rotation
from lrcore.maps.fsc import masked_fsc
from lrcore.records import Fsc, Poses, Volume


def numerical_gradient(function: Callable[[Float64], float], at: Float64, step: Float64) -> Float64:
    """Return the gradient of a scalar function at a point by central differences.

    Parameters
    ----------
    function
        Function of a vector (n,).
    at : (n,)
        The point.
    step : (n,)
        Step of each component.

    Returns
    -------
    (n,) ∂f / ∂xᵢ.
    """
    out = np.empty(len(at))
    for i in range(len(at)):
        shift = np.zeros(len(at))
        shift[i] = step[i]
        out[i] = (function(at + shift) - function(at - shift)) / (2 * step[i])
    return out


def smooth_map(size: int, seed: int, radius: float | None = None, blobs: int = 40) -> npt.NDArray[np.float32]:
    """Make a random map of Gaussian blobs about the box centre.

    Parameters
    ----------
    size
        Box in voxels.
    seed
        Seed of the random numbers: the same seed gives the same map.
    radius
        Largest distance of a blob from the box centre in voxels; 0.3 · size by default.
    blobs
        Number of blobs, each with an SD of 1.2 to 2.5 voxels.

    Returns
    -------
    (size, size, size) float32, zyx.
    """
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


def fsc_against_truth(array: npt.NDArray[np.float32], truth: Volume, mask: Volume) -> Fsc:
    """Return the FSC of a map against the truth inside a mask.

    Parameters
    ----------
    array : (n, n, n)
        The map.
    truth, mask : Volume
        The true map and the mask, of the same box.
    """
    frequency = shell_frequency(truth.box, truth.pixel_size_A)
    return Fsc("truth", frequency, masked_fsc(array, truth.data, mask.data))


def rotation_error_deg(found: Poses, truth: Poses) -> Float64:
    """Return the angle in degrees between found and true rotations.

    Parameters
    ----------
    found, truth : Poses
        n poses each.

    Returns
    -------
    (n,) degrees.
    """
    return np.degrees(np.linalg.norm(relative_rotation(found.rotation, truth.rotation), axis=1))


def shift_error_A(found: Poses, truth: Poses, point_A: Float64) -> Float64:
    """Return the distance in the image between the found and the true place of one map point.

    Parameters
    ----------
    found, truth : Poses
        n poses each.
    point_A : (3,)
        The map point (x, y, z) in Å from the box centre.

    Returns
    -------
    (n,) Å.
    """
    seen = [(poses.rotation @ point_A)[:, :2] - poses.origin_A for poses in (found, truth)]
    return np.linalg.norm(seen[0] - seen[1], axis=1)
