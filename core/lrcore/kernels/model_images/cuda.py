"""Implement `subtract_model` and `correlate_with_model` on the GPU; the kernels are in cuda.cu."""

from typing import Any

import numpy as np

from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.gpu import (
    as_device_array,
    as_numpy,
    block_count,
    empty,
    is_on_device,
    launch,
    run_in_batches,
    turns_to_fixed_point,
)


def subtract_model(spectra: Any, ctf: Any, planes: Any, shifts: Any, samples: FourierSamples) -> None:
    """Subtract model images from spectra; see `lrcore.kernels.model_images`. Spectra on the device stay there."""
    kx, ky = as_device_array(samples.kx, np.int32), as_device_array(samples.ky, np.int32)
    blocks = block_count(len(kx))

    def part(rows: slice) -> tuple[()]:
        images = as_device_array(spectra[rows], np.complex64)
        phases = as_device_array(turns_to_fixed_point(shifts[rows] / samples.size), np.uint32)
        values, models = as_device_array(ctf[rows], np.float32), as_device_array(planes[rows], np.complex64)
        launch(
            "model_images",
            "subtract_model",
            len(images) * blocks,
            images,
            values,
            models,
            phases,
            kx,
            ky,
            np.int32(len(kx)),
            np.int32(samples.size),
            np.int32(blocks),
        )
        if not is_on_device(spectra):
            spectra[rows] = as_numpy(images)
        return ()

    run_in_batches(part, len(spectra))


def correlate_with_model(spectra: Any, ctf: Any, planes: Any, shifts: Any, samples: FourierSamples) -> Any:
    """Correlate images with their models by shell; see `lrcore.kernels.model_images`."""
    kx, ky, n = as_device_array(samples.kx, np.int32), as_device_array(samples.ky, np.int32), samples.size
    shell = np.rint(np.hypot(as_numpy(samples.kx), as_numpy(samples.ky))).astype(np.int64)
    order = as_device_array(np.argsort(shell, kind="stable"), np.int32)
    begins = as_device_array(np.searchsorted(np.sort(shell), np.arange(n // 2 + 2)), np.int32)

    def part(rows: slice) -> tuple[Any]:
        images = as_device_array(spectra[rows], np.complex64)
        phases = as_device_array(turns_to_fixed_point(shifts[rows] / n), np.uint32)
        out = empty((len(images), 3, n // 2 + 1), np.float32)
        launch(
            "model_images",
            "correlate_with_model",
            len(images),
            images,
            as_device_array(ctf[rows], np.float32),
            as_device_array(planes[rows], np.complex64),
            phases,
            kx,
            ky,
            np.int32(len(kx)),
            np.int32(n),
            order,
            begins,
            np.int32(n // 2 + 1),
            out,
        )
        return (out,)

    return run_in_batches(part, len(spectra), stay=False)[0]
