"""Implement `search_lattice` on the GPU; the kernel is in cuda.cu."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.gpu import (
    SHARED_BYTES,
    TILE,
    as_device_array,
    as_numpy,
    empty,
    launch,
    require_samples_within,
    run_in_batches,
    volume_shape,
)

ROTATIONS_PER_BLOCK = 16
"""Lattice rotations of one block."""


def search_lattice(
    volume: FourierVolume,
    W: Any,
    w: Any,
    samples: FourierSamples,
    centres: Any,
    lattice: Any,
    lever: Any,
    shifts: Any,
    penalty_shift: Any,
) -> tuple[Any, Any]:
    """Evaluate the likelihood on a lattice of rotations; see `lrcore.kernels.lattice_search`.

    Raises ValueError when samples lie outside the volume, or when their rows do not fit into a block.
    """
    count = samples.ends[0]
    require_samples_within(volume, samples, count)
    kx, ky, rows, table_x, table_y = _tables(samples, count, as_numpy(shifts))
    columns = min(len(shifts), (SHARED_BYTES // 8 - TILE) // (len(rows) - 1))
    if columns < 1:
        raise ValueError(f"{len(rows) - 1} rows of samples do not fit into a block of the GPU")
    shared = 8 * (TILE + (len(rows) - 1) * columns)
    data, turns = as_device_array(volume.data, np.complex64), as_device_array(lattice, np.float64)
    arm, penalty = as_device_array(lever, np.float64), as_device_array(penalty_shift, np.float32)
    groups = -(-len(turns) // ROTATIONS_PER_BLOCK)

    def part(images_of: slice) -> tuple[Any, Any]:
        images, weights = as_device_array(W[images_of], np.complex64), as_device_array(w[images_of], np.float32)
        best = empty((len(images), len(turns)), np.float32)
        where = empty(best.shape, np.int32)
        launch(
            "lattice_search",
            "search_lattice",
            len(images) * groups,
            data,
            *volume_shape(data),
            images,
            weights,
            np.int32(images.shape[1]),
            np.int32(count),
            kx,
            ky,
            rows,
            np.int32(len(rows) - 1),
            as_device_array(centres[images_of], np.float64),
            turns,
            np.int32(len(turns)),
            np.int32(ROTATIONS_PER_BLOCK),
            arm,
            np.int32(samples.size),
            table_x,
            table_y,
            penalty,
            np.int32(len(shifts)),
            np.int32(columns),
            best,
            where,
            shared=shared,
        )
        return best, where

    return run_in_batches(part, len(W), stay=False)


def _tables(samples: FourierSamples, count: int, shifts: npt.NDArray[np.floating]) -> tuple[Any, ...]:
    """Return, on the device, kx, ky, the bounds of rows of equal ky, e^{2πi kx·shift / D} and e^{2πi ky·shift / D}."""
    kx, ky = as_numpy(samples.kx[:count]), as_numpy(samples.ky[:count])
    rows = np.concatenate([[0], np.nonzero(np.diff(ky))[0] + 1, [count]])
    step = 2j * np.pi / samples.size
    table_x = np.exp(step * np.outer(np.arange(kx.max() + 1), shifts))
    table_y = np.exp(step * np.outer(ky[rows[:-1]], shifts))
    types = (np.int32, np.int32, np.int32, np.complex64, np.complex64)
    return tuple(
        as_device_array(table, dtype) for table, dtype in zip((kx, ky, rows, table_x, table_y), types, strict=True)
    )
