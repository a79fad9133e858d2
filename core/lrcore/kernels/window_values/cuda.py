"""Implement `pack_windows`, `unpack_windows` and `search_samples` on the GPU by CuPy's own kernels.

They are memory-bound and run once for each batch; the formulas are those of the reference.
"""

from typing import Any

import numpy as np

from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.gpu import as_device_array
from lrcore.kernels.window_values import reference


def pack_windows(W: Any, w: Any) -> tuple[Any, Any]:
    """Round windows to 16 bits; see `lrcore.kernels.window_values`."""
    return reference.pack_windows(as_device_array(W, np.complex64), as_device_array(w, np.float32))


def unpack_windows(codes: Any, steps: Any, factors: Any, group: Any, samples: FourierSamples) -> tuple[Any, Any]:
    """Return windows in full precision on the half plane; see `lrcore.kernels.window_values`."""
    return reference.unpack_windows(
        as_device_array(codes, np.int16),
        as_device_array(steps, np.float32),
        as_device_array(factors, np.float32),
        as_device_array(group, np.int64),
        samples,
    )


def search_samples(data: Any, weight: Any, variance: Any, shifts: Any, samples: FourierSamples) -> tuple[Any, Any]:
    """Return the samples that a search reads; see `lrcore.kernels.window_values`."""
    shell = np.minimum(np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64), len(variance) - 1)
    noise, moved = as_device_array(variance[shell], np.float32), as_device_array(shifts, np.float32)
    kx, ky = as_device_array(samples.kx, np.int32), as_device_array(samples.ky, np.int32)
    w = weight[:, ky, kx]
    share = 1 / (1 + w * noise)
    turn = np.exp(2j * np.pi / samples.size * (moved[:, :1] * kx + moved[:, 1:] * ky))
    return (data[:, ky, kx] * share * turn).astype(np.complex64), (w * share).astype(np.float32)
