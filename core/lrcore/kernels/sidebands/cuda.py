"""`sidebands` on the GPU: see cuda.cu."""

from typing import Any

import numpy as np

from lrcore.kernels.device import empty, in_parts, launch, on_device, tiles, up


def sidebands(spectrum: Any, ctf: Any, quadrature: Any, noise: Any, group: Any, overlap: Any) -> tuple[Any, Any, Any]:
    """See the contract."""
    n = spectrum.shape[1]
    samples = n * (n // 2 + 1)
    levels, common, blocks = up(noise, np.float32), up(overlap, np.float32), tiles(samples)

    def part(rows: slice) -> tuple[Any, Any, Any]:
        images = up(spectrum[rows], np.complex64)
        sine, cosine = up(ctf[rows], np.float32), up(quadrature[rows], np.float32)
        upper, lower = empty(images.shape, np.complex64), empty(images.shape, np.complex64)
        weight = empty(images.shape, np.float32)
        launch("sidebands", "sidebands", len(images) * blocks, images, sine, cosine, levels,
               np.int32(levels.shape[1]), common, np.int32(common.shape[1]), up(group[rows], np.int32), np.int32(n),
               np.int32(samples), np.int32(blocks), upper, lower, weight)  # fmt: skip
        return upper, lower, weight

    upper, lower, weight = in_parts(part, len(spectrum), stay=on_device(spectrum))
    return upper, lower, weight
