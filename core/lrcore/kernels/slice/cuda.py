"""`slices` on the GPU: see cuda.cu."""

from typing import Any

import numpy as np

from lrcore.fourier import PADDING, FourierVolume
from lrcore.grids import Samples
from lrcore.kernels.device import empty, grid, in_parts, launch, on_device, tiles, up


def slices(volume: FourierVolume, rotations: Any, samples: Samples) -> Any:
    """See the contract. Samples outside the volume are 0."""
    data, kx, ky = up(volume.data, np.complex64), up(samples.kx, np.int32), up(samples.ky, np.int32)
    count = len(kx)

    def part(rows: slice) -> tuple[Any]:
        turns = up(PADDING * rotations[rows], np.float32)
        out = empty((len(turns), count), np.complex64)
        blocks = tiles(count)
        launch("slice", "slices", len(turns) * blocks, data, *grid(data), turns, kx, ky, np.int32(count),
               np.int32(blocks), out)  # fmt: skip
        return (out,)

    return in_parts(part, len(rotations), stay=on_device(rotations))[0]
