"""`ctf` on the GPU: see cuda.cu."""

from typing import Any

import numpy as np

from lrcore.kernels.device import empty, launch, tiles, up


def ctf(waves: Any, n: int, offsets: Any = None, which: Any = None) -> Any:
    """See the contract. The result stays on the device: nothing but kernels asks for it."""
    columns, samples = up(waves, np.float64), n * (n // 2 + 1)
    if offsets is None:
        offsets, which = np.empty((1, 1, 1), np.float32), np.full(len(columns), -1)
    out = empty((len(columns), n, n // 2 + 1), np.float32)
    blocks = tiles(samples)
    launch("ctf", "ctf", len(columns) * blocks, columns, up(offsets, np.float32), up(which, np.int32),
           np.int32(n), np.int32(samples), np.int32(blocks), out)  # fmt: skip
    return out
