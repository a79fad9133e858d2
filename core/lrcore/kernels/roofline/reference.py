"""Define the results of the roofline loops in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.kernels.roofline import CHAIN


def copy(source: Float32, target: Float32) -> None:
    """Copy float32 values; see `lrcore.kernels.roofline`."""
    target[:] = source


def gather(data: npt.NDArray[np.complex64], at: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.complex64]:
    """Sum the voxels about each sample; see `lrcore.kernels.roofline`."""
    flat = data.ravel()
    return np.asarray(sum(flat[at + step].sum(axis=1) for step in corner_steps(data, width)), np.complex64)


def scatter(data: npt.NDArray[np.complex64], weight: Float32, at: npt.NDArray[np.int32]) -> None:
    """Add 1 to the voxels about each sample; see `lrcore.kernels.roofline`."""
    for step in corner_steps(data, 2):
        np.add.at(data.reshape(-1), at + step, 1)
        np.add.at(weight.reshape(-1), at + step, 1)


def multiply_add(values: Float32, a: float, b: float, rounds: int) -> None:
    """Apply x → a x + b repeatedly; see `lrcore.kernels.roofline`."""
    for _ in range(CHAIN * rounds):
        values *= np.float32(a)
        values += np.float32(b)


def corner_steps(data: npt.NDArray[np.complex64], width: int) -> npt.NDArray[np.int64]:
    """Return the flat index offsets of the width³ voxels from a corner on: (width³,)."""
    z, y, x = np.indices((width,) * 3).reshape(3, -1)
    return np.ravel_multi_index((z, y, x), data.shape).astype(np.int64)
