"""Implement `project_slices` on the GPU; the kernel is in cuda.cu."""

from typing import Any

import numpy as np

from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.gpu import as_device_array, block_count, empty, is_on_device, launch, run_in_batches, volume_shape


def project_slices(volume: FourierVolume, rotations: Any, samples: FourierSamples) -> Any:
    """Read central slices of a Fourier volume; see `lrcore.kernels.project`. Samples outside the volume are 0."""
    data, kx, ky = (
        as_device_array(volume.data, np.complex64),
        as_device_array(samples.kx, np.int32),
        as_device_array(samples.ky, np.int32),
    )
    count = len(kx)

    def part(rows: slice) -> tuple[Any]:
        turns = as_device_array(PADDING * rotations[rows], np.float32)
        out = empty((len(turns), count), np.complex64)
        blocks = block_count(count)
        launch("project", "project_slices", len(turns) * blocks, data, *volume_shape(data), turns, kx, ky,
               np.int32(count), np.int32(blocks), out)  # fmt: skip
        return (out,)

    return run_in_batches(part, len(rotations), stay=is_on_device(rotations))[0]
