"""`subtract` and `compare` on the GPU: see cuda.cu."""

from typing import Any

import numpy as np

from lrcore.grids import Samples
from lrcore.kernels.device import empty, fractions, host, in_parts, launch, on_device, tiles, up


def subtract(spectra: Any, ctf: Any, planes: Any, shifts: Any, samples: Samples) -> None:
    """See the contract. Spectra that are on the device stay there."""
    kx, ky = up(samples.kx, np.int32), up(samples.ky, np.int32)
    blocks = tiles(len(kx))

    def part(rows: slice) -> tuple[()]:
        images = up(spectra[rows], np.complex64)
        phases = up(fractions(shifts[rows] / samples.size), np.uint32)
        values, models = up(ctf[rows], np.float32), up(planes[rows], np.complex64)
        launch("model", "subtract", len(images) * blocks, images, values, models, phases, kx, ky, np.int32(len(kx)),
               np.int32(samples.size), np.int32(blocks))  # fmt: skip
        if not on_device(spectra):
            spectra[rows] = host(images)
        return ()

    in_parts(part, len(spectra))


def compare(spectra: Any, ctf: Any, planes: Any, shifts: Any, samples: Samples) -> Any:
    """See the contract."""
    kx, ky, n = up(samples.kx, np.int32), up(samples.ky, np.int32), samples.size
    shell = np.rint(np.hypot(host(samples.kx), host(samples.ky))).astype(np.int64)
    order = up(np.argsort(shell, kind="stable"), np.int32)
    begins = up(np.searchsorted(np.sort(shell), np.arange(n // 2 + 2)), np.int32)

    def part(rows: slice) -> tuple[Any]:
        images = up(spectra[rows], np.complex64)
        phases = up(fractions(shifts[rows] / n), np.uint32)
        out = empty((len(images), 3, n // 2 + 1), np.float32)
        launch("model", "compare", len(images), images, up(ctf[rows], np.float32), up(planes[rows], np.complex64),
               phases, kx, ky, np.int32(len(kx)), np.int32(n), order, begins, np.int32(n // 2 + 1), out)  # fmt: skip
        return (out,)

    return in_parts(part, len(spectra), stay=False)[0]
