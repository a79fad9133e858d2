"""Implement the local search on the GPU; the kernels are in cuda.cu."""

from typing import Any

import numpy as np

from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.constants import MAX_MODES
from lrcore.kernels.gpu import (
    SHARED_BYTES,
    as_device_array,
    empty,
    full,
    launch,
    require_samples_within,
    run_in_batches,
    volume_shape,
)
from lrcore.kernels.local_search import MAX_STEPS, PosteriorModes, SearchLimits

MODE_BYTES = 27 * 8 + 4
"""Shared memory of a start, bytes: a `Mode` and its rank."""


def evaluate_with_derivatives(
    volume: FourierVolume,
    W: Any,
    w: Any,
    samples: FourierSamples,
    band: int,
    centres: Any,
    theta: Any,
    lever: Any,
) -> tuple[Any, Any, Any]:
    """Return value, gradient and Hessian at one pose of each image; see `lrcore.kernels.local_search`.

    Raises ValueError when samples lie outside the volume.
    """
    count = samples.ends[band]
    require_samples_within(volume, samples, count)
    data, kx, ky, arm = _shared(volume, samples, lever)

    def part(rows: slice) -> tuple[Any, Any, Any]:
        images, weights = as_device_array(W[rows], np.complex64), as_device_array(w[rows], np.float32)
        batch = len(images)
        values, gradients = empty((batch,), np.float64), empty((batch, 5), np.float64)
        hessians = empty((batch, 5, 5), np.float64)
        launch(
            "local_search",
            "evaluate_with_derivatives",
            batch,
            data,
            *volume_shape(data),
            images,
            weights,
            np.int32(images.shape[1]),
            kx,
            ky,
            np.int32(count),
            as_device_array(centres[rows], np.float64),
            as_device_array(theta[rows], np.float64),
            arm,
            np.int32(samples.size),
            values,
            gradients,
            hessians,
        )
        return values, gradients, hessians

    values, gradients, hessians = run_in_batches(part, len(W), stay=False)
    return values, gradients, hessians


def evaluate_likelihood(
    volume: FourierVolume,
    W: Any,
    w: Any,
    samples: FourierSamples,
    band: int,
    centres: Any,
    theta: Any,
    lever: Any,
) -> Any:
    """Return the value at several poses of each image; see `lrcore.kernels.local_search`.

    Raises ValueError when samples lie outside the volume.
    """
    count, poses = samples.ends[band], theta.shape[1]
    require_samples_within(volume, samples, count)
    data, kx, ky, arm = _shared(volume, samples, lever)

    def part(rows: slice) -> tuple[Any, ...]:
        images, weights = as_device_array(W[rows], np.complex64), as_device_array(w[rows], np.float32)
        out = empty((len(images), poses), np.float64)
        launch(
            "local_search",
            "evaluate_likelihood",
            out.size,
            data,
            *volume_shape(data),
            images,
            weights,
            np.int32(images.shape[1]),
            kx,
            ky,
            np.int32(count),
            as_device_array(centres[rows], np.float64),
            as_device_array(theta[rows], np.float64),
            np.int32(poses),
            arm,
            np.int32(samples.size),
            out,
        )
        return (out,)

    return run_in_batches(part, len(W), stay=False)[0]


def find_posterior_modes(
    volume: FourierVolume,
    W: Any,
    w: Any,
    samples: FourierSamples,
    centres: Any,
    starts: Any,
    valid: Any,
    lever: Any,
    limits: SearchLimits,
    settled: Any = None,
) -> PosteriorModes:
    """Find the posterior modes of each image from several starts; see `lrcore.kernels.local_search`.

    Raises ValueError when samples lie outside the volume, or when there are too many starts for a block.
    """
    bands, count = len(samples.ends), starts.shape[1]
    require_samples_within(volume, samples, samples.ends[-1])
    if count * MODE_BYTES > SHARED_BYTES:
        raise ValueError(f"{count} starts do not fit into a block of the GPU: {SHARED_BYTES // MODE_BYTES} at most")
    data, kx, ky, arm = _shared(volume, samples, lever)
    ends = as_device_array(np.array(samples.ends), np.int32)
    plan = as_device_array(
        np.array([MAX_STEPS[2] if i == bands - 1 else MAX_STEPS[0] if i == 0 else MAX_STEPS[1] for i in range(bands)]),
        np.int32,
    )
    numbers, precision = (
        as_device_array(np.array([limits.rotation, limits.shift, limits.drop]), np.float64),
        limits.precision(centres),
    )
    near = np.zeros(len(W), np.bool_) if settled is None else settled

    def part(rows: slice) -> tuple[Any, ...]:
        images, weights = as_device_array(W[rows], np.complex64), as_device_array(w[rows], np.float32)
        batch = len(images)
        out = (
            full((batch, MAX_MODES, 5), 0, np.float64),
            full((batch, MAX_MODES), np.inf, np.float64),
            full((batch, MAX_MODES), np.inf, np.float64),
            full((batch, MAX_MODES, 5, 5), 0, np.float64),
            full((batch,), 0, np.int32),
        )
        launch(
            "local_search",
            "find_posterior_modes",
            batch,
            data,
            *volume_shape(data),
            images,
            weights,
            np.int32(images.shape[1]),
            kx,
            ky,
            ends,
            plan,
            np.int32(bands),
            as_device_array(centres[rows], np.float64),
            as_device_array(starts[rows], np.float64),
            as_device_array(valid[rows], np.bool_),
            np.int32(count),
            as_device_array(near[rows], np.bool_),
            arm,
            np.int32(samples.size),
            numbers,
            as_device_array(precision[rows], np.float64),
            *out,
            shared=count * MODE_BYTES,
        )
        return out

    return PosteriorModes(*run_in_batches(part, len(W), stay=False))


def _shared(volume: FourierVolume, samples: FourierSamples, lever: Any) -> tuple[Any, Any, Any, Any]:
    """Return what all images share, on the device: the data of the volume, kx, ky and the lever."""
    return (
        as_device_array(volume.data, np.complex64),
        as_device_array(samples.kx, np.int32),
        as_device_array(samples.ky, np.int32),
        as_device_array(lever, np.float64),
    )
