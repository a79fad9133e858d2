"""Measure the limits of the machine: speed of copy, gather, scatter and multiply-add."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lrcore.compute.backend import get_backend
from lrcore.imaging.fourier_volume import fourier_volume_shape
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.imaging.rotations import from_euler
from lrcore.simulation.benchmark_data import voxel_indices
from lrwidgets.bench.measurement import BenchmarkOptions, Measurement, fastest_seconds

IMAGES = 64
ROUNDS = 200


@dataclass(frozen=True)
class Roofline:
    """Limits of one thread.

    Attributes
    ----------
    copy : bytes/s of a copy, read and write counted
    flops : float32 operations/s
    gather : width w → seconds per sample to read w³ voxels
    scatter : seconds per sample to add to 2³ voxels
    """

    copy: float
    flops: float
    gather: dict[int, float]
    scatter: float


def run(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Measure copy and arithmetic, then reads of a volume of the reference window, with one thread and with all."""
    window = 80
    samples = half_plane(window, (0.375 * window,))
    for threads in sorted({1, options.threads}):
        options.report(f"{threads} thread(s)")
        get_backend("cpu", threads)
        parameters = {"threads": threads}
        yield Measurement("ceilings", "copy", measure_copy_speed() / 1e9, "GB/s", parameters)
        yield Measurement(
            "ceilings", "multiply-add, float32", measure_arithmetic_speed(16 * threads) / 1e9, "GFLOP/s", parameters
        )
        for order in ("random", "planes"):
            for width in (2, 3):
                known = {**parameters, "window": window, "order": order}
                nanoseconds = 1e9 * measure_gather_time(samples, width, order == "random") * threads
                yield Measurement("ceilings", f"gather {width}³ complex voxels", nanoseconds, "ns/sample/core", known)
    get_backend("cpu", 1)
    known = {"threads": 1, "window": window, "order": "memory"}
    yield Measurement("ceilings", "add to 2³ voxels", 1e9 * measure_scatter_time(samples), "ns/sample/core", known)


def measure_one_thread(samples: FourierSamples, inserted: FourierSamples) -> Roofline:
    """Measure the limits that kernels are compared with. samples: read along planes. inserted: added to a volume."""
    get_backend("cpu", 1)
    gather = {width: measure_gather_time(samples, width) for width in (2, 3)}
    return Roofline(measure_copy_speed(), measure_arithmetic_speed(16), gather, measure_scatter_time(inserted))


def measure_copy_speed() -> float:
    """Return bytes/s of a copy far larger than a cache, read and write counted."""
    from lrcore.kernels.roofline.cpu import copy

    source = np.ones(1 << 26, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / fastest_seconds(lambda: copy(source, target))


def measure_arithmetic_speed(lines: int) -> float:
    """Return operations/s of float32 multiply-adds in registers and the first cache."""
    from lrcore.kernels.roofline import CHAIN
    from lrcore.kernels.roofline.cpu import multiply_add

    values = np.ones((lines, 512), np.float32)
    seconds = fastest_seconds(lambda: multiply_add(values, 0.5, 0.5, ROUNDS), 20)
    return 2 * CHAIN * ROUNDS * values.size / seconds


def measure_gather_time(samples: FourierSamples, width: int, shuffled: bool = False) -> float:
    """Return wall seconds per sample of reading width³ voxels, along random planes or, shuffled, anywhere."""
    from lrcore.kernels.roofline.cpu import gather

    limit, at = _places(samples, shuffled)
    data = np.ones(fourier_volume_shape(limit), np.complex64)
    return fastest_seconds(lambda: gather(data, at, width), 15) / at.size


def measure_scatter_time(samples: FourierSamples) -> float:
    """Return seconds per sample of adding to 2³ voxels of a numerator and a denominator, in the order of memory."""
    from lrcore.kernels.roofline.cpu import scatter

    limit, at = _places(samples, False)
    data, weight = (
        np.zeros(fourier_volume_shape(limit), np.complex64),
        np.zeros(fourier_volume_shape(limit), np.float32),
    )
    sorted_at = np.sort(at.ravel()).reshape(at.shape)
    return fastest_seconds(lambda: scatter(data, weight, sorted_at), 5) / at.size


def _places(samples: FourierSamples, shuffled: bool) -> tuple[int, np.ndarray]:
    """Return the frequency limit of a volume, and voxel indices of samples of random planes."""
    rng = np.random.default_rng(0)
    limit = int(np.ceil(np.hypot(samples.kx, samples.ky).max()))
    at = voxel_indices(limit, from_euler(rng.uniform(-180, 180, (IMAGES, 3))), samples)
    return limit, rng.permuted(at.ravel()).reshape(at.shape) if shuffled else at
