"""Take the background off images: a plane, fitted to the frame of each image.

Images as they were extracted may lie on a constant (detector counts, which are never negative) or on a ramp (a gradient
of the ice). Neither has to do with the particle, but a window that is cut from the image sees both. Along each axis the
coordinates x of the frame are symmetric about 0, so that the least-squares plane needs three sums over the frame:

    b + g_x x + g_y y,   b = ⟨I⟩,  g_x = ⟨I x⟩ / ⟨x²⟩,  g_y = ⟨I y⟩ / ⟨y²⟩

Of an image that is normalised it is 0 within the noise. Differs from RELION, which leaves this to the extraction and
refuses images that are not normalised.
"""

import warnings
from functools import lru_cache

import numpy as np

from lrcore.arrays import Float32, Float64, Rows
from lrcore.io.image_stacks import StackReader
from lrcore.particles.subsets import spread_rows
from lrcore.records import Particles

FRAME_WIDTH = 1 / 12
"""Width of the frame on each side, as a share of the box; the four sides hold 31 % of the pixels."""
SAMPLED_IMAGES = 64
"""Images from which the background of a data set is measured, at most."""
NOTED_SDS = 0.5
"""Background, in SDs of the pixels, from which on a message says that it is taken off."""


def remove_background(images: Float32) -> Float64:
    """Subtract from each image the plane that fits its frame, in place.

    Parameters
    ----------
    images : (B, n, n), overwritten

    Returns
    -------
    (B, 3) float64
        What was subtracted: constant, and the rise along x and along y from one side of the image to the other.
    """
    n = images.shape[1]
    plane = _frame_planes(images)
    x = _coordinates(n)
    images -= (plane[:, :1, None] + plane[:, 2:, None] * x[:, None] + plane[:, 1:2, None] * x).astype(np.float32)
    return plane * np.array([1.0, n - 1, n - 1])


def background_in_sds(particles: Particles, rows: Rows) -> tuple[float, float]:
    """Measure the background of images in SDs of their pixels: medians of |constant| and of the largest rise.

    Parameters
    ----------
    particles : n particles
    rows : (m,) rows of the images, of which up to SAMPLED_IMAGES are read

    Returns
    -------
    constant, rise : float
        0 if no image is valid.

    Raises
    ------
    InputError
        If a stack cannot be read.
    """
    with StackReader(particles.images, particles.box) as reader:
        images, finite = reader.read_with_finite_flags(spread_rows(rows, SAMPLED_IMAGES))
    images = images[finite]
    plane = np.abs(remove_background(images))
    sd = images.std(axis=(1, 2), dtype=np.float64)
    plane, sd = plane[sd > 0], sd[sd > 0]
    if len(sd) == 0:
        return 0.0, 0.0
    return float(np.median(plane[:, 0] / sd)), float(np.median(plane[:, 1:].max(axis=1) / sd))


def warn_background(particles: Particles) -> None:
    """Warn of images that lie on a background, which is taken off wherever they are used."""
    constant, rise = background_in_sds(particles, np.arange(len(particles)))
    if max(constant, rise) > NOTED_SDS:
        warnings.warn(
            f"{particles.path}: the images are not normalised: median background of {constant:.1f} SD, ramp of "
            f"{rise:.1f} SD across the image; both are subtracted from each image when it is read",
            stacklevel=2,
        )


def _frame_planes(images: Float32) -> Float64:
    """Return constant and slopes along x and y, per pixel, of the plane through the frames: (B, 3)."""
    n = images.shape[1]
    width = max(1, round(FRAME_WIDTH * n))
    sides = (
        (slice(0, width), slice(None)),
        (slice(n - width, n), slice(None)),
        (slice(width, n - width), slice(0, width)),
        (slice(width, n - width), slice(n - width, n)),
    )
    x, sums = _coordinates(n), np.zeros((len(images), 3))
    for rows, columns in sides:
        part = images[:, rows, columns]
        by_column = part.sum(axis=1, dtype=np.float64)
        sums[:, 0] += by_column.sum(axis=1)
        sums[:, 1] += by_column @ x[columns]
        sums[:, 2] += part.sum(axis=2, dtype=np.float64) @ x[rows]
    return sums / _frame_moments(n, width)


@lru_cache(maxsize=16)
def _frame_moments(n: int, width: int) -> Float64:
    """Return Σ 1, Σ x², Σ y² over the frame."""
    frame = np.ones((n, n))
    frame[width : n - width, width : n - width] = 0.0
    square = float((frame * _coordinates(n) ** 2).sum())
    return np.array([frame.sum(), square, square])


def _coordinates(n: int) -> Float64:
    """Return the coordinates of n pixels about the middle of the image."""
    return np.arange(n, dtype=np.float64) - (n - 1) / 2
