"""`insert` on the GPU: see cuda.cu."""

from typing import Any

import numpy as np

from lrcore.fourier import PADDING, shape_for
from lrcore.kernels.device import fractions, grid, host, in_parts, launch, on_device, tiles, up
from lrcore.kernels.insert.reference import insertion_samples, steepest


def insert(numerator: Any, denominator: Any, rotations: Any, shifts: Any, data: Any, weight: Any, limit: int,
           image: Any = None, share: Any = None, curvature: Any = None) -> None:  # fmt: skip
    """See the contract. Accumulators that are on the device stay there.

    Raises ValueError when they do not fit the images.
    """
    n = data.shape[1]
    if limit > n // 2 or numerator.shape < shape_for(limit) or denominator.shape != numerator.shape:
        raise ValueError(f"images of {n} px cannot be inserted up to {limit} into a volume of {numerator.shape}")
    kx, ky = _samples(n, limit, steepest(curvature))
    blocks = tiles(len(kx))
    rows_of = np.arange(len(rotations)) if image is None else image
    shares = np.ones(len(rotations)) if share is None else share
    bends = np.zeros(len(rotations)) if curvature is None else curvature
    sums = up(numerator, np.complex64), up(denominator, np.float32)

    images, weights = up(data, np.complex64), up(weight, np.float32)

    def part(rows: slice) -> tuple[()]:
        turns = up(PADDING * rotations[rows], np.float32)
        phases = up(fractions(shifts[rows] / n), np.uint32)
        launch("insert", "insert", len(turns) * blocks, *sums, *grid(numerator), turns,
               up(bends[rows], np.float32), phases, up(rows_of[rows], np.int32), up(shares[rows], np.float32),
               images, weights, np.int32(n), kx, ky, np.int32(len(kx)), np.int32(blocks))  # fmt: skip
        return ()

    in_parts(part, len(rotations))
    for given, sum_ in zip((numerator, denominator), sums, strict=True):
        if not on_device(given):
            given[...] = host(sum_)


def _samples(n: int, limit: int, steepness: float) -> tuple[Any, Any]:
    """Indices of the half plane with its origin."""
    samples, _ = insertion_samples(n, limit, steepness)
    return up(samples.kx, np.int32), up(samples.ky, np.int32)
