"""The ceilings in plain NumPy: the definition."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.kernels.roofline import CHAIN


def copy(source: Float32, target: Float32) -> None:
    """See the contract."""
    target[:] = source


def gather(data: npt.NDArray[np.complex64], at: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.complex64]:
    """See the contract."""
    flat = data.ravel()
    return np.asarray(sum(flat[at + step].sum(axis=1) for step in corner_steps(data, width)), np.complex64)


def scatter(data: npt.NDArray[np.complex64], weight: Float32, at: npt.NDArray[np.int32]) -> None:
    """See the contract."""
    for step in corner_steps(data, 2):
        np.add.at(data.reshape(-1), at + step, 1)
        np.add.at(weight.reshape(-1), at + step, 1)


def multiply_add(values: Float32, a: float, b: float, rounds: int) -> None:
    """See the contract."""
    for _ in range(CHAIN * rounds):
        values *= np.float32(a)
        values += np.float32(b)


def corner_steps(data: npt.NDArray[np.complex64], width: int) -> npt.NDArray[np.int64]:
    """Flat distances from a voxel to the width³ from it on: (width³,)."""
    z, y, x = np.indices((width,) * 3).reshape(3, -1)
    return np.ravel_multi_index((z, y, x), data.shape).astype(np.int64)
