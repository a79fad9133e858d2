"""Implement `compute_ctf` on the GPU; the kernel is in cuda.cu."""

from typing import Any

import numpy as np

from lrcore.kernels.gpu import as_device_array, block_count, empty, launch


def compute_ctf(waves: Any, n: int, offsets: Any = None, which: Any = None) -> Any:
    """Compute the CTFs of images; see `lrcore.kernels.ctf`. They stay on the device: only kernels use them."""
    columns, samples = as_device_array(waves, np.float64), n * (n // 2 + 1)
    if offsets is None:
        offsets, which = np.empty((1, 1, 1), np.float32), np.full(len(columns), -1)
    out = empty((len(columns), n, n // 2 + 1), np.float32)
    blocks = block_count(samples)
    launch(
        "ctf",
        "compute_ctf",
        len(columns) * blocks,
        columns,
        as_device_array(offsets, np.float32),
        as_device_array(which, np.int32),
        np.int32(n),
        np.int32(samples),
        np.int32(blocks),
        out,
    )
    return out
