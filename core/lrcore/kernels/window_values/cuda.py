"""Implement `pack_windows`, `unpack_windows` and `search_samples` for the GPU: computed on the host, and sent there.

Windows are kept in the memory of the host; what is sent is as large as the images of a batch were.
"""

from typing import Any

import numpy as np

from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.gpu import as_device_array
from lrcore.kernels.window_values import reference


def pack_windows(W: Any, w: Any) -> tuple[Any, Any]:
    """Round windows to 16 bits; see `lrcore.kernels.window_values`."""
    codes, steps = reference.pack_windows(_on_host(W), _on_host(w))
    return as_device_array(codes, np.int16), as_device_array(steps, np.float32)


def unpack_windows(codes: Any, steps: Any, factors: Any, group: Any, samples: FourierSamples) -> tuple[Any, Any]:
    """Return windows in full precision on the half plane; see `lrcore.kernels.window_values`."""
    on_host = (_on_host(codes), _on_host(steps), _on_host(factors), _on_host(group))
    data, weight = reference.unpack_windows(*on_host, samples)
    return as_device_array(data, np.complex64), as_device_array(weight, np.float32)


def search_samples(data: Any, weight: Any, variance: Any, shifts: Any, samples: FourierSamples) -> tuple[Any, Any]:
    """Return the samples that a search reads; see `lrcore.kernels.window_values`."""
    on_host = (_on_host(data), _on_host(weight), _on_host(variance), _on_host(shifts))
    W, w = reference.search_samples(*on_host, samples)
    return as_device_array(W, np.complex64), as_device_array(w, np.float32)


def _on_host(array: Any) -> Any:
    """Return an array as NumPy."""
    return array.get() if hasattr(array, "get") else np.asarray(array)
