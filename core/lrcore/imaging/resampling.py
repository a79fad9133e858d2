"""Resample a map to another box and voxel size, and describe how the grid of a map differs from another one.

The value at a point is interpolated from all voxels of its row, one axis after the other: maps by their Fourier series,
cut off at the Nyquist limit of the coarser grid, masks linearly, so that they do not ring. Box centres coincide.
"""

import shlex

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.imaging.grids import interpolate_linear, resize
from lrcore.records import Volume

GRID_TOLERANCE = 0.01
"""Relative difference of two voxel sizes, or of two extents, that counts as none."""
PLACEHOLDER_A = 1.0
"""Voxel size that many programs write when they do not know it."""


def resample_map(volume: Volume, box: int, pixel_size_A: float, is_mask: bool = False) -> Volume:
    """Resample a map or mask; the box centre, voxel n // 2, stays in place.

    Parameters
    ----------
    volume : (n, n, n)
    box : N, voxels of the result along an axis
    pixel_size_A : voxel size of the result in Å
    is_mask : interpolate linearly and clip to [0, 1]

    Returns
    -------
    Volume
        (N, N, N); 0 where the given map does not reach.
    """
    n, scale = volume.box, pixel_size_A / volume.pixel_size_A
    if scale == 1.0:
        data = resize(volume.data, box, 3)
    else:
        data = (resample_mask if is_mask else resample_grid)(volume.data, box, scale)
    data = np.clip(data, 0, 1) if is_mask else data
    # The first voxel of the file moves, because the centre stays in place.
    x, y, z = (o + n // 2 * volume.pixel_size_A - box // 2 * pixel_size_A for o in volume.header_origin_A)
    return Volume(np.ascontiguousarray(data, np.float32), pixel_size_A, (x, y, z), volume.path)


def resample_grid(
    data: Float32, size: int, step: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Float32:
    """Resample a grid to another one by its Fourier series.

    Parameters
    ----------
    data : (n, n, n)
    size : N, voxels of the result along an axis
    step : edge of a voxel of the result, in voxels of `data`
    centre : (x, y, z) of the origin n // 2 of `data` in voxels of the result, from its origin N // 2

    Returns
    -------
    (N, N, N); 0 where the given grid does not reach.
    """
    n = data.shape[-1]
    for offset in centre:  # each product resamples the last axis and makes it the first one
        at: Float64 = (np.arange(size) - size // 2 - offset) * np.float64(step) + n // 2
        data = np.tensordot(_fourier_weights(at, n, step).astype(np.float32), data, axes=(1, 2))
    return data


def resample_mask(data: Float32, size: int, step: float) -> Float32:
    """Resample a mask to another grid linearly, so that it does not ring.

    Parameters
    ----------
    data : (n, n, n)
    size : N, voxels of the result along an axis
    step : edge of a voxel of the result, in voxels of `data`

    Returns
    -------
    (N, N, N); 0 where the given grid does not reach.
    """
    n = data.shape[-1]
    if size == n and step == 1:
        return data
    at: Float64 = (np.arange(size) - size // 2) * np.float64(step) + n // 2
    out = interpolate_linear(data, np.clip(at, 0, n - 1))
    beyond = ~_inside(at, n)
    out[beyond], out[:, beyond], out[:, :, beyond] = 0.0, 0.0, 0.0
    return out


def _fourier_weights(at: Float64, n: int, scale: float) -> Float64:
    """Return the weights (N, n) of n voxels at positions (N,): Σ exp(2πi k (x − j) / n) / n over |k| below Nyquist.

    scale: distance of the positions in voxels; above 1, frequencies beyond their Nyquist limit are left out.
    """
    highest = (int(np.ceil(n / max(scale, 1.0) - 1e-6)) - 1) // 2
    phase = np.pi / n * (at[:, None] - np.arange(n))
    below = np.sin(phase)
    whole = np.abs(below) < 1e-9
    ratio = np.sin((2 * highest + 1) * phase) / np.where(whole, 1.0, below)
    kernel = np.where(whole, 2 * highest + 1, ratio) / n
    return np.asarray(kernel * _inside(at, n)[:, None])


def _inside(at: Float64, n: int) -> np.ndarray:
    """Return which positions (N,) lie in the box of n voxels, out to the faces of the outer ones."""
    return (at >= -0.5 - 1e-6) & (at <= n - 0.5 + 1e-6)


def grid_mismatch(volume: Volume, box: int, pixel_size_A: float, what: str, whose: str) -> str | None:
    """Return how the grid of a map differs from the one that it must have, and what to do; None if it does not.

    Parameters
    ----------
    volume : the map
    box, pixel_size_A : the grid that it must have
    what : "mask" or "map"
    whose : owner of that grid, such as "the particles'"; its box and voxel size follow in the message

    Returns
    -------
    str or None
        One line that begins with the file.
    """
    n, apix = volume.box, volume.pixel_size_A
    same_box, same_voxel = n == box, _alike(apix, pixel_size_A)
    if same_box and same_voxel:
        return None
    name, target = volume.path or what, f"--box {box} --apix {pixel_size_A:g}"
    command = f"lrwidgets resample {shlex.quote(str(volume.path or what.upper()))} {target} --out NEW.mrc"
    if same_box and apix == PLACEHOLDER_A:
        return (
            f"{name}: voxel size 1 Å, which many programs write when they do not know it, but {whose} voxel size is "
            f"{pixel_size_A:g} Å in the same box of {box}: give it with --apix {pixel_size_A:g}"
        )
    if same_box:
        return (
            f"{name}: voxel size {apix:g} Å but {whose} voxel size is {pixel_size_A:g} Å in the same box of {box}: if "
            f"the header is wrong, give --apix {pixel_size_A:g}; if it is right, resample the {what}: {command}"
        )
    if same_voxel:
        return f"{name}: the {what} is {n}³ but {whose} box is {box}: re-box the {what}: {command}"
    grids = f"{name}: the {what} is {n}³ voxels of {apix:g} Å but {whose} box is {box} of {pixel_size_A:g} Å"
    if _alike(n * apix, box * pixel_size_A):
        return f"{grids}, the same extent: resample the {what}: {command}"
    return f"{grids}: resample the {what} ({command}), or, if its header is wrong, give its voxel size with --apix"


def _alike(first: float, second: float) -> bool:
    return abs(first / second - 1) <= GRID_TOLERANCE
