"""Implement `whiten_images` and `whiten_windows` on the GPU; the kernels are in cuda.cu, the transforms CuPy's."""

from typing import Any

import numpy as np

from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.gpu import (
    array_module,
    as_device_array,
    block_count,
    empty,
    is_on_device,
    launch,
    run_in_batches,
    turns_to_fixed_point,
)


def whiten_images(spectrum: Any, ctf: Any, noise: Any, group: Any) -> tuple[Any, Any]:
    """Divide images by their noise; see `lrcore.kernels.whiten`."""
    n = spectrum.shape[1]
    samples = n * (n // 2 + 1)
    levels, blocks = as_device_array(noise, np.float32), block_count(samples)

    def part(rows: slice) -> tuple[Any, Any]:
        images, values = as_device_array(spectrum[rows], np.complex64), as_device_array(ctf[rows], np.float32)
        data, weight = empty(images.shape, np.complex64), empty(images.shape, np.float32)
        launch(
            "whiten",
            "whiten_images",
            len(images) * blocks,
            images,
            values,
            levels,
            np.int32(levels.shape[1]),
            as_device_array(group[rows], np.int32),
            np.int32(n),
            np.int32(samples),
            np.int32(blocks),
            data,
            weight,
        )
        return data, weight

    data, weight = run_in_batches(part, len(spectrum), stay=is_on_device(spectrum))
    return data, weight


def whiten_windows(
    spectrum: Any, ctf: Any, noise: Any, group: Any, variance: Any, points: Any, samples: FourierSamples
) -> tuple[Any, Any]:
    """Divide images by their noise and crop them to a window; see `lrcore.kernels.whiten`."""
    n, size = spectrum.shape[1], samples.size
    count = n * (n // 2 + 1)
    levels, extra, blocks = (
        as_device_array(noise, np.float32),
        as_device_array(variance, np.float32),
        block_count(count),
    )
    flat, factor = _sample_indices(n, samples)

    def part(rows: slice) -> tuple[Any, Any]:
        images, values = as_device_array(spectrum[rows], np.complex64), as_device_array(ctf[rows], np.float32)
        both = empty((2, *images.shape), np.complex64)
        # Shift the first pixel of the window to pixel (0, 0).
        phases = as_device_array(turns_to_fixed_point((points[rows] - size // 2) / n), np.uint32)
        corner = turns_to_fixed_point(np.float64(-(size // 2) / n))
        launch(
            "whiten",
            "whiten_for_window",
            len(images) * blocks,
            images,
            values,
            levels,
            np.int32(levels.shape[1]),
            as_device_array(group[rows], np.int32),
            extra,
            np.int32(len(extra)),
            phases,
            corner,
            np.int32(n),
            np.int32(count),
            np.int32(blocks),
            both[0],
            both[1],
        )
        windows = _crop_symmetric(array_module().fft.irfft2(both, (n, n)).astype(np.float32, copy=False), size)
        spectra = array_module().fft.rfft2(windows).reshape(2, len(images), -1)[:, :, flat] * factor
        return spectra[0].astype(np.complex64, copy=False), spectra[1].real.astype(np.float32)

    W, w = run_in_batches(part, len(spectrum), stay=is_on_device(spectrum))
    return W, w


def _crop_symmetric(images: Any, size: int) -> Any:
    """Crop to the first size × size pixels; average both edges where the contract says so. Changes `images`."""
    n = images.shape[-1]
    if size % 2 == 1 or size == n:
        return images[..., :size, :size]
    images[..., 0, :] = 0.5 * (images[..., 0, :] + images[..., size, :])
    images[..., 0] = 0.5 * (images[..., 0] + images[..., size])
    return images[..., :size, :size]


def _sample_indices(n: int, samples: FourierSamples) -> tuple[Any, Any]:
    """Return the flat indices of samples in a half-complex FT, and (n/D)² · phase of the window's centre: (S,) each."""
    size = samples.size
    flat = as_device_array((samples.ky % size) * (size // 2 + 1) + samples.kx, np.int64)
    turns = (samples.kx + samples.ky) * (size // 2) / size
    return flat, as_device_array((n / size) ** 2 * np.exp(2j * np.pi * turns), np.complex64)
