"""Local resolution: the FSC of two half maps in a soft window at each point of a grid, interpolated to a map in Å."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft

from lrcore.arrays import Float32, Float64, Int64
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import (
    hermitian_weight,
    interpolate_linear,
    radius_grid,
    shell_frequency,
    shell_index,
    shell_mean,
    window_at,
)
from lrcore.maps.fsc import masked_fsc
from lrcore.masks import cosine_edge
from lrcore.records import Fsc, Progress, Volume

WINDOW_PERIODS = 8.0
"""Width of the window in periods of the resolution inside the mask, unless a width is asked for."""
WIDTHS_A = (24.0, 60.0)
"""Narrowest and widest window that is chosen so."""
MIN_WINDOW_VOXELS = 8.0
"""Narrowest window in voxels."""
SPACING = 0.2
"""Distance of the points as a fraction of the window's width, unless one is asked for."""
BATCH_BYTES = 16 << 20
"""Of the windows that are transformed together."""


@dataclass(frozen=True)
class LocalResolution:
    """Local resolution of two half maps.

    map: (n, n, n) in Å; outside the mask that of the nearest point inside. points: (p, 3) voxels [z, y, x] that were
    looked at. resolution_A: (p,) there. quartiles_A: a quarter, half and three quarters of the voxels in the mask are
    at least as fine. window_A: width of the window at half its height. sampling_A: distance of the points.
    """

    map: Volume
    points: Int64
    resolution_A: Float64
    quartiles_A: tuple[float, float, float]
    window_A: float
    sampling_A: float

    @property
    def median_A(self) -> float:
        """Half of the voxels in the mask are at least as fine."""
        return self.quartiles_A[1]


def local_resolution(
    first: Volume,
    second: Volume,
    mask: Volume,
    window_A: float | None = None,
    sampling_A: float | None = None,
    threshold: float = 0.143,
    workers: int = 1,
) -> Iterator[Progress | LocalResolution]:
    """Measure the local resolution inside a mask; yields Progress per batch of points, then the LocalResolution.

    At each point of a grid where the mask is above 0.5, both half maps are multiplied by the mask and a soft sphere
    (half height at window_A / 2, raised cosine over window_A / 2), and the resolution is where their FSC first falls
    below `threshold`; nothing is coarser than 1.5 window_A. Before, both are divided by their common amplitude in each
    shell: it changes no FSC of the whole, and keeps the strong low frequencies from leaking through the window.
    Cardone, Heymann & Steven 2013. Raises InputError for a window or a sampling that the maps cannot have, or a mask
    that holds none of the points.
    """
    n, apix = first.box, first.pixel_size_A
    width = choose_window_A(first, second, mask, workers) if window_A is None else window_A
    if not MIN_WINDOW_VOXELS * apix <= width <= n * apix / 2:
        raise InputError(
            f"window of {width:g} Å: it must be between {MIN_WINDOW_VOXELS * apix:g} Å ({MIN_WINDOW_VOXELS:g} voxels) "
            "and half the box, "
            f"{n * apix / 2:g} Å"
        )
    step = max(1, round((SPACING * width if sampling_A is None else sampling_A) / apix))
    if step > n // 2:
        raise InputError(f"sampling of {sampling_A:g} Å: must be below half the box, {n * apix / 2:g} Å")
    points = grid_points(mask.data, step)
    if len(points) == 0:
        raise InputError(f"{mask.path or 'mask'}: holds no point of a grid of {step * apix:g} Å: sample finer")
    a, b = equalise_shell_power(first.data, second.data, mask.data, workers)
    window = LocalFscWindow.of_width(width / apix)
    size = max(1, BATCH_BYTES // (4 * window.box**3))
    curves = []
    for start in range(0, len(points), size):
        curves.append(window.correlations(a, b, points[start : start + size], workers))
        yield Progress(0, "local resolution", min(start + size, len(points)), len(points))
    frequency = shell_frequency(window.box, apix)
    found = np.array([Fsc("local", frequency, row).resolution_A(threshold) for row in np.concatenate(curves)])
    data = spread(points, found, step, n)
    low, middle, high = (float(q) for q in np.quantile(data[mask.data > 0.5], (0.25, 0.5, 0.75)))
    volume = Volume(data, apix, first.header_origin_A)
    yield LocalResolution(volume, points, found, (low, middle, high), width, step * apix)


def choose_window_A(first: Volume, second: Volume, mask: Volume, workers: int = 1) -> float:
    """PERIODS of the resolution inside the mask, within WIDTHS_A and what box and voxels allow."""
    n, apix = first.box, first.pixel_size_A
    curve = masked_fsc(first.data, second.data, mask.data, workers)
    resolution = Fsc("masked", shell_frequency(n, apix), curve).resolution_A()
    narrowest, widest = max(WIDTHS_A[0], MIN_WINDOW_VOXELS * apix), min(WIDTHS_A[1], n * apix / 2)
    return min(max(WINDOW_PERIODS * resolution, narrowest), widest)


def grid_points(mask: Float32, step: int) -> Int64:
    """Voxels [z, y, x] of a grid of `step` voxels through the box centre where the mask is above 0.5: (p, 3)."""
    n = mask.shape[-1]
    axis = np.arange(n // 2 % step, n, step)
    held = np.argwhere(mask[np.ix_(axis, axis, axis)] > 0.5)
    return axis[held]


def equalise_shell_power(first: Float32, second: Float32, mask: Float32, workers: int = 1) -> tuple[Float32, Float32]:
    """Both maps × mask with the same mean power in every shell, × mask."""
    n = first.shape[-1]
    power = np.zeros(n // 2 + 1)
    for data in (first, second):
        spectrum = scipy.fft.rfftn(data * mask, workers=workers)
        power += shell_mean(spectrum.real**2 + spectrum.imag**2, n, 3)
    gain = np.divide(1.0, np.sqrt(power), out=np.zeros_like(power), where=power > 1e-12 * power.max())
    a, b = (filter_map(data * mask, gain, workers) * mask for data in (first, second))
    return a, b


@dataclass(frozen=True)
class LocalFscWindow:
    """A soft sphere, and the shells of its box. order: samples of a half-complex FT by shell; start: of each shell."""

    box: int
    weight: Float32
    order: Int64
    start: Int64
    times: Float32

    @classmethod
    def of_width(cls, width: float) -> "LocalFscWindow":
        """The window of `width` voxels at half its height: 1 up to width / 4, 0 beyond 3 width / 4."""
        box = scipy.fft.next_fast_len(int(np.ceil(1.5 * width)) + 1, real=True)
        weight = cosine_edge(radius_grid(box, 3), width / 4, width / 2)
        shells = shell_index(box, 3).ravel()
        order = np.argsort(shells, kind="stable")
        order = order[shells[order] <= box // 2]
        start = np.searchsorted(shells[order], np.arange(box // 2 + 1))
        times = np.broadcast_to(hermitian_weight(box, 3), (box, box, box // 2 + 1)).ravel()[order]
        return cls(box, weight, order, start, times.astype(np.float32))

    def correlations(self, first: Float32, second: Float32, points: Int64, workers: int = 1) -> Float64:
        """FSC of the two maps in the window about each point [z, y, x]: (p, box // 2 + 1); 0 where a map is empty."""
        spectra = []
        for data in (first, second):
            cut = np.stack([window_at(data, tuple(point), self.box) for point in points]) * self.weight
            spectrum = scipy.fft.rfftn(cut, axes=(1, 2, 3), workers=workers)
            spectra.append(spectrum.reshape(len(points), -1)[:, self.order])
        a, b = spectra
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        cross, power_first, power_second = (
            np.add.reduceat((product * self.times).astype(np.float64), self.start, axis=1) for product in products
        )
        power = power_first * power_second
        return np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)


def spread(points: Int64, resolution_A: Float64, step: int, n: int) -> Float32:
    """Values at the points of `grid_points` → (n, n, n): linear in 1/Å between points, the nearest one's elsewhere."""
    from scipy.ndimage import distance_transform_edt

    first = n // 2 % step
    m = (n - 1 - first) // step + 1
    grid = np.zeros((m, m, m), np.float32)
    z, y, x = ((points - first) // step).T
    grid[z, y, x] = 1 / resolution_A
    nearest = distance_transform_edt(grid == 0, return_distances=False, return_indices=True)
    at = np.clip((np.arange(n) - first) / step, 0, m - 1)
    return np.reciprocal(interpolate_linear(grid[tuple(nearest)], at))
