"""Implement `backproject_images` on the GPU; the kernel is in cuda.cu."""

from typing import Any

import numpy as np

from lrcore.imaging.fourier_volume import PADDING, fourier_volume_shape
from lrcore.kernels.backproject.reference import half_plane_samples, max_curvature
from lrcore.kernels.gpu import (
    as_device_array,
    as_numpy,
    block_count,
    is_on_device,
    launch,
    run_in_batches,
    turns_to_fixed_point,
    volume_shape,
)


def backproject_images(
    numerator: Any,
    denominator: Any,
    rotations: Any,
    shifts: Any,
    data: Any,
    weight: Any,
    limit: int,
    image: Any = None,
    share: Any = None,
    curvature: Any = None,
) -> None:
    """Add images to a Fourier volume; see `lrcore.kernels.backproject`. Accumulators on the device stay there.

    Raises ValueError when limit, images and accumulators do not fit together.
    """
    n = data.shape[1]
    if limit > n // 2 or numerator.shape < fourier_volume_shape(limit) or denominator.shape != numerator.shape:
        raise ValueError(
            f"images of {n} px cannot be back-projected up to |k| = {limit} into a volume of shape {numerator.shape}"
        )
    kx, ky = _samples(n, limit, max_curvature(curvature))
    blocks = block_count(len(kx))
    image_of = np.arange(len(rotations)) if image is None else image
    shares = np.ones(len(rotations)) if share is None else share
    bends = np.zeros(len(rotations)) if curvature is None else curvature
    sums = as_device_array(numerator, np.complex64), as_device_array(denominator, np.float32)

    images, weights = as_device_array(data, np.complex64), as_device_array(weight, np.float32)

    def part(rows: slice) -> tuple[()]:
        turns = as_device_array(PADDING * rotations[rows], np.float32)
        phases = as_device_array(turns_to_fixed_point(shifts[rows] / n), np.uint32)
        launch(
            "backproject",
            "backproject_images",
            len(turns) * blocks,
            *sums,
            *volume_shape(numerator),
            turns,
            as_device_array(bends[rows], np.float32),
            phases,
            as_device_array(image_of[rows], np.int32),
            as_device_array(shares[rows], np.float32),
            images,
            weights,
            np.int32(n),
            kx,
            ky,
            np.int32(len(kx)),
            np.int32(blocks),
        )
        return ()

    run_in_batches(part, len(rotations))
    for given, sum_ in zip((numerator, denominator), sums, strict=True):
        if not is_on_device(given):
            given[...] = as_numpy(sum_)


def _samples(n: int, limit: int, steepness: float) -> tuple[Any, Any]:
    """Return kx and ky of the half plane with its origin, on the device."""
    samples, _ = half_plane_samples(n, limit, steepness)
    return as_device_array(samples.kx, np.int32), as_device_array(samples.ky, np.int32)
