"""`evaluate`, `values` and `newton` on the GPU: see cuda.cu."""

from typing import Any

import numpy as np

from lrcore.fourier import FourierVolume
from lrcore.grids import Samples
from lrcore.kernels.device import SHARED_BYTES, check_reach, empty, full, grid, in_parts, launch, up
from lrcore.kernels.newton import KEPT, STEPS, Limits, Modes

MODE_BYTES = 27 * 8 + 4
"""Shared memory of a start: a `Mode` and its rank."""


def evaluate(
    volume: FourierVolume,
    W: Any,
    w: Any,
    samples: Samples,
    band: int,
    centres: Any,
    theta: Any,
    lever: Any,
) -> tuple[Any, Any, Any]:
    """See the contract. Raises ValueError when samples lie outside the volume."""
    count = samples.ends[band]
    check_reach(volume, samples, count)
    data, kx, ky, arm = _shared(volume, samples, lever)

    def part(rows: slice) -> tuple[Any, Any, Any]:
        images, weights = up(W[rows], np.complex64), up(w[rows], np.float32)
        batch = len(images)
        values, gradients = empty((batch,), np.float64), empty((batch, 5), np.float64)
        hessians = empty((batch, 5, 5), np.float64)
        launch("newton", "evaluate", batch, data, *grid(data), images, weights, np.int32(images.shape[1]), kx, ky,
               np.int32(count), up(centres[rows], np.float64), up(theta[rows], np.float64), arm,
               np.int32(samples.size), values, gradients, hessians)  # fmt: skip
        return values, gradients, hessians

    values, gradients, hessians = in_parts(part, len(W), stay=False)
    return values, gradients, hessians


def values(
    volume: FourierVolume,
    W: Any,
    w: Any,
    samples: Samples,
    band: int,
    centres: Any,
    theta: Any,
    lever: Any,
) -> Any:
    """See the contract. Raises ValueError when samples lie outside the volume."""
    count, poses = samples.ends[band], theta.shape[1]
    check_reach(volume, samples, count)
    data, kx, ky, arm = _shared(volume, samples, lever)

    def part(rows: slice) -> tuple[Any, ...]:
        images, weights = up(W[rows], np.complex64), up(w[rows], np.float32)
        out = empty((len(images), poses), np.float64)
        launch("newton", "values", out.size, data, *grid(data), images, weights, np.int32(images.shape[1]), kx, ky,
               np.int32(count), up(centres[rows], np.float64), up(theta[rows], np.float64), np.int32(poses), arm,
               np.int32(samples.size), out)  # fmt: skip
        return (out,)

    return in_parts(part, len(W), stay=False)[0]


def newton(
    volume: FourierVolume,
    W: Any,
    w: Any,
    samples: Samples,
    centres: Any,
    starts: Any,
    valid: Any,
    lever: Any,
    limits: Limits,
) -> Modes:
    """See the contract. Raises ValueError when samples lie outside the volume, or starts are too many for a block."""
    bands, count = len(samples.ends), starts.shape[1]
    check_reach(volume, samples, samples.ends[-1])
    if count * MODE_BYTES > SHARED_BYTES:
        raise ValueError(f"{count} starts do not fit a block of the GPU: {SHARED_BYTES // MODE_BYTES} at most")
    data, kx, ky, arm = _shared(volume, samples, lever)
    ends = up(np.array(samples.ends), np.int32)
    plan = up(
        np.array([STEPS[2] if i == bands - 1 else STEPS[0] if i == 0 else STEPS[1] for i in range(bands)]), np.int32
    )
    numbers, precision = (
        up(np.array([limits.rotation, limits.shift, limits.drop]), np.float64),
        limits.precision(centres),
    )

    def part(rows: slice) -> tuple[Any, ...]:
        images, weights = up(W[rows], np.complex64), up(w[rows], np.float32)
        batch = len(images)
        out = (
            full((batch, KEPT, 5), 0, np.float64),
            full((batch, KEPT), np.inf, np.float64),
            full((batch, KEPT), np.inf, np.float64),
            full((batch, KEPT, 5, 5), 0, np.float64),
            full((batch,), 0, np.int32),
        )
        launch("newton", "newton", batch, data, *grid(data), images, weights, np.int32(images.shape[1]), kx, ky, ends,
               plan, np.int32(bands), up(centres[rows], np.float64), up(starts[rows], np.float64),
               up(valid[rows], np.bool_), np.int32(count), arm, np.int32(samples.size), numbers,
               up(precision[rows], np.float64), *out,
               shared=count * MODE_BYTES)  # fmt: skip
        return out

    return Modes(*in_parts(part, len(W), stay=False))


def _shared(volume: FourierVolume, samples: Samples, lever: Any) -> tuple[Any, Any, Any, Any]:
    """What all images have in common, on the device: the volume, kx, ky and the lever."""
    return (
        up(volume.data, np.complex64),
        up(samples.kx, np.int32),
        up(samples.ky, np.int32),
        up(lever, np.float64),
    )
