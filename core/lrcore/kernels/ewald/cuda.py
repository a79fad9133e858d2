"""Implement `whiten_sidebands` on the GPU; the kernel is in cuda.cu."""

from typing import Any

import numpy as np

from lrcore.kernels.gpu import as_device_array, block_count, empty, is_on_device, launch, run_in_batches


def whiten_sidebands(
    spectrum: Any, ctf: Any, quadrature: Any, noise: Any, group: Any, overlap: Any
) -> tuple[Any, Any, Any]:
    """Split images into their two sidebands over the noise; see `lrcore.kernels.ewald`."""
    n = spectrum.shape[1]
    samples = n * (n // 2 + 1)
    levels, common, blocks = (
        as_device_array(noise, np.float32),
        as_device_array(overlap, np.float32),
        block_count(samples),
    )

    def part(rows: slice) -> tuple[Any, Any, Any]:
        images = as_device_array(spectrum[rows], np.complex64)
        sine, cosine = as_device_array(ctf[rows], np.float32), as_device_array(quadrature[rows], np.float32)
        upper, lower = empty(images.shape, np.complex64), empty(images.shape, np.complex64)
        weight = empty(images.shape, np.float32)
        launch(
            "ewald",
            "whiten_sidebands",
            len(images) * blocks,
            images,
            sine,
            cosine,
            levels,
            np.int32(levels.shape[1]),
            common,
            np.int32(common.shape[1]),
            as_device_array(group[rows], np.int32),
            np.int32(n),
            np.int32(samples),
            np.int32(blocks),
            upper,
            lower,
            weight,
        )
        return upper, lower, weight

    upper, lower, weight = run_in_batches(part, len(spectrum), stay=is_on_device(spectrum))
    return upper, lower, weight
