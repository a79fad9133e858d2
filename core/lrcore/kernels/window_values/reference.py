"""Define the results of `pack_windows`, `unpack_windows` and `search_samples` in plain NumPy."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64, IntArray
from lrcore.imaging.grids import FourierSamples

LARGEST = 32767
"""Largest integer of a code."""


def pack_windows(W: Complex64, w: Float32) -> tuple[npt.NDArray[np.int16], Float32]:
    """Round windows to 16 bits; see `lrcore.kernels.window_values`."""
    parts = np.stack([W.real, W.imag, w], axis=2)
    top = np.stack([np.abs(parts[:, :, :2]).max(axis=(1, 2)), np.abs(w).max(axis=1)], axis=1)
    steps = np.maximum(top, np.float32(1e-30)) / np.float32(LARGEST)
    return np.rint(parts / steps[:, None, [0, 0, 1]]).astype(np.int16), steps.astype(np.float32)


def unpack_windows(
    codes: npt.NDArray[np.int16], steps: Float32, factors: Float64, group: IntArray, samples: FourierSamples
) -> tuple[Complex64, Float32]:
    """Return windows in full precision on the half plane; see `lrcore.kernels.window_values`."""
    count, size = len(codes), samples.size
    own = (factors[group] * steps[:, :, None]).astype(np.float32)
    data = np.zeros((count, size, size // 2 + 1), np.complex64)
    weight = np.zeros(data.shape, np.float32)
    data[:, samples.ky, samples.kx] = (codes[:, :, 0] + 1j * codes[:, :, 1]) * own[:, 0]
    weight[:, samples.ky, samples.kx] = codes[:, :, 2] * own[:, 1]
    mates = samples.ky[(samples.kx == 0) & (samples.ky > 0)]
    data[:, -mates, 0], weight[:, -mates, 0] = data[:, mates, 0].conj(), weight[:, mates, 0]
    return data, weight


def search_samples(
    data: Complex64, weight: Float32, variance: Float64, shifts: Float64, samples: FourierSamples
) -> tuple[Complex64, Float32]:
    """Return the samples that a search reads; see `lrcore.kernels.window_values`."""
    noise = _at_samples(variance, samples).astype(np.float32)
    w = weight[:, samples.ky, samples.kx]
    share = 1 / (1 + w * noise)
    turn = np.exp(2j * np.pi / samples.size * (shifts[:, :1] * samples.kx + shifts[:, 1:] * samples.ky))
    W = data[:, samples.ky, samples.kx] * share * turn
    return W.astype(np.complex64), (w * share).astype(np.float32)


def _at_samples(values: Any, samples: FourierSamples) -> Any:
    """Return values of shells (N,) at samples (S,)."""
    shell = samples.shell
    return np.asarray(values)[np.minimum(shell, len(values) - 1)]
