"""`slices` in Numba: threads over images, one gather loop that the compiler vectorises."""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.fourier import PADDING, FourierVolume
from lrcore.grids import Samples

OPTIONS = {"cache": True, "fastmath": True, "nogil": True, "error_model": "numpy"}


@numba.njit(inline="always", **OPTIONS)
def locate(turn, kx, ky, centre):  # type: ignore[no-untyped-def]
    """Lower corner (array indices), fractions and mate sign of a sample; `turn` is PADDING · A in float32."""
    qx = turn[0, 0] * kx + turn[1, 0] * ky
    qy = turn[0, 1] * kx + turn[1, 1] * ky
    qz = turn[0, 2] * kx + turn[1, 2] * ky
    sign = np.float32(-1.0) if qx < 0 else np.float32(1.0)
    qx *= sign
    qy = qy * sign + centre
    qz = qz * sign + centre
    x, y, z = np.int32(qx), np.int32(qy), np.int32(qz)
    return x + 1, y, z, qx - np.float32(x), qy - np.float32(y), qz - np.float32(z), sign


@numba.njit(parallel=True, **OPTIONS)
def _slices(data, turns, kx, ky, out):  # type: ignore[no-untyped-def]
    centre = np.float32(data.shape[0] // 2)
    for b in numba.prange(turns.shape[0]):
        turn = turns[b]
        for s in range(len(kx)):
            x, y, z, fx, fy, fz, sign = locate(turn, np.float32(kx[s]), np.float32(ky[s]), centre)
            gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
            for part in range(2):
                low = gy * (gx * data[z, y, x, part] + fx * data[z, y, x + 1, part])
                low += fy * (gx * data[z, y + 1, x, part] + fx * data[z, y + 1, x + 1, part])
                high = gy * (gx * data[z + 1, y, x, part] + fx * data[z + 1, y, x + 1, part])
                high += fy * (gx * data[z + 1, y + 1, x, part] + fx * data[z + 1, y + 1, x + 1, part])
                value = gz * low + fz * high
                out[b, s, part] = value if part == 0 else sign * value


def slices(volume: FourierVolume, rotations: npt.NDArray[np.floating], samples: Samples) -> npt.NDArray[np.complex64]:
    """See the contract."""
    out = np.empty((len(rotations), len(samples.kx)), np.complex64)
    turns = (PADDING * rotations).astype(np.float32)
    _slices(pairs(volume.data), turns, samples.kx, samples.ky, pairs(out))
    return out


def pairs(array: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    """A complex64 array as float32 with (re, im) last; a view."""
    return array.view(np.float32).reshape(*array.shape, 2)
