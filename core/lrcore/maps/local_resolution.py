"""Estimate local resolution in overlapping windows.

The FSC of two half maps is computed in a soft window at each point of a grid, and the resolutions are interpolated to a
map in Å.
"""

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
"""Default width of the window in periods of the resolution inside the mask."""
WIDTHS_A = (24.0, 60.0)
"""Narrowest and widest default window."""
MIN_WINDOW_VOXELS = 8.0
"""Narrowest window in voxels."""
SPACING = 0.2
"""Default distance of the points as a fraction of the width of the window."""
BATCH_BYTES = 16 << 20
"""Memory of the windows that are transformed together."""


@dataclass(frozen=True)
class LocalResolution:
    """Local resolution of two half maps.

    Attributes
    ----------
    map : Volume
        Resolution in Å, (n, n, n); outside the mask that of the nearest point inside.
    points : (p, 3)
        Voxels [z, y, x] of the measured points.
    resolution_A : (p,)
        Resolution in Å at the points.
    quartiles_A
        Quartiles in Å over the voxels in the mask: one, two and three quarters of them are at least as fine.
    window_A
        Width in Å of the window at half its height.
    sampling_A
        Distance in Å of neighbouring points.
    """

    map: Volume
    points: Int64
    resolution_A: Float64
    quartiles_A: tuple[float, float, float]
    window_A: float
    sampling_A: float

    @property
    def median_A(self) -> float:
        """Median resolution in Å over the voxels in the mask."""
        return self.quartiles_A[1]


def estimate_local_resolution(
    first: Volume,
    second: Volume,
    mask: Volume,
    window_A: float | None = None,
    sampling_A: float | None = None,
    threshold: float = 0.143,
    workers: int = 1,
) -> Iterator[Progress | LocalResolution]:
    """Estimate the local resolution inside a mask, point by point.

    At each point of a grid where the mask is above 0.5, both half maps are multiplied by the mask and by a soft sphere
    (half height at window_A / 2, raised cosine over window_A / 2). The resolution is where their FSC first falls below
    `threshold`, at most 1.5 window_A. Before, both maps are divided by their common amplitude in each shell: this
    changes no FSC of the whole, and prevents the strong low frequencies from leaking through the window.

    Parameters
    ----------
    first, second : Volume
        Unfiltered half maps.
    mask : Volume
        Mask of the same box.
    window_A
        Width of the window at half its height in Å; by default 8 periods of the resolution inside the mask, within 24
        to 60 Å.
    sampling_A
        Distance of the points in Å; by default a fifth of the window.
    threshold
        FSC value that defines the resolution.
    workers
        Threads of the FFT.

    Yields
    ------
    Progress for each batch of points, and the LocalResolution at the end.

    Raises
    ------
    InputError
        If the window or the sampling does not fit the maps, or the mask contains no point of the grid.

    References
    ----------
    Cardone, Heymann & Steven 2013, J. Struct. Biol. 184:226.
    """
    n, apix = first.box, first.pixel_size_A
    width = choose_window_A(first, second, mask, workers) if window_A is None else window_A
    if not MIN_WINDOW_VOXELS * apix <= width <= n * apix / 2:
        raise InputError(
            f"window of {width:g} Å: must be between {MIN_WINDOW_VOXELS * apix:g} Å ({MIN_WINDOW_VOXELS:g} voxels) "
            f"and half the box, {n * apix / 2:g} Å"
        )
    step = max(1, round((SPACING * width if sampling_A is None else sampling_A) / apix))
    if step > n // 2:
        raise InputError(f"sampling of {sampling_A:g} Å: must be at most half the box, {n * apix / 2:g} Å")
    points = grid_points(mask.data, step)
    if len(points) == 0:
        raise InputError(f"{mask.path or 'mask'}: contains no point of a grid of {step * apix:g} Å: sample more finely")
    a, b = equalise_shell_power(first.data, second.data, mask.data, workers)
    window = LocalFscWindow.of_width(width / apix)
    size = max(1, BATCH_BYTES // (4 * window.box**3))
    curves = []
    for start in range(0, len(points), size):
        curves.append(window.correlations(a, b, points[start : start + size], workers))
        yield Progress(0, "local resolution", min(start + size, len(points)), len(points))
    frequency = shell_frequency(window.box, apix)
    resolution = np.array([Fsc("local", frequency, row).resolution_A(threshold) for row in np.concatenate(curves)])
    data = interpolate_resolutions(points, resolution, step, n)
    low, middle, high = (float(q) for q in np.quantile(data[mask.data > 0.5], (0.25, 0.5, 0.75)))
    volume = Volume(data, apix, first.header_origin_A)
    yield LocalResolution(volume, points, resolution, (low, middle, high), width, step * apix)


def choose_window_A(first: Volume, second: Volume, mask: Volume, workers: int = 1) -> float:
    """Return WINDOW_PERIODS · the resolution inside the mask in Å, within WIDTHS_A and what box and voxels allow."""
    n, apix = first.box, first.pixel_size_A
    curve = masked_fsc(first.data, second.data, mask.data, workers)
    resolution = Fsc("masked", shell_frequency(n, apix), curve).resolution_A()
    narrowest, widest = max(WIDTHS_A[0], MIN_WINDOW_VOXELS * apix), min(WIDTHS_A[1], n * apix / 2)
    return min(max(WINDOW_PERIODS * resolution, narrowest), widest)


def grid_points(mask: Float32, step: int) -> Int64:
    """Return the voxels (p, 3), [z, y, x], of a grid of `step` voxels about the box centre with a mask above 0.5."""
    n = mask.shape[-1]
    axis = np.arange(n // 2 % step, n, step)
    index = np.argwhere(mask[np.ix_(axis, axis, axis)] > 0.5)
    return axis[index]


def equalise_shell_power(first: Float32, second: Float32, mask: Float32, workers: int = 1) -> tuple[Float32, Float32]:
    """Return two masked maps with the same mean power in each shell.

    Parameters
    ----------
    first, second, mask : (n, n, n)
        The maps and the mask; maps are masked before and after the division by their common amplitude.
    workers
        Threads of the FFT.
    """
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
    """Soft sphere in which local FSCs are computed, and the shells of its box.

    Attributes
    ----------
    box
        Box in voxels.
    weight : (box, box, box)
        The soft sphere.
    order
        Samples of a half-complex FT sorted by shell.
    start
        First entry of `order` of each shell.
    multiplicity
        How often each of these samples occurs in the full FT.
    """

    box: int
    weight: Float32
    order: Int64
    start: Int64
    multiplicity: Float32

    @classmethod
    def of_width(cls, width: float) -> "LocalFscWindow":
        """Return the window of `width` voxels at half its height: 1 up to width / 4, 0 beyond 3 width / 4."""
        box = scipy.fft.next_fast_len(int(np.ceil(1.5 * width)) + 1, real=True)
        weight = cosine_edge(radius_grid(box, 3), width / 4, width / 2)
        shells = shell_index(box, 3).ravel()
        order = np.argsort(shells, kind="stable")
        order = order[shells[order] <= box // 2]
        start = np.searchsorted(shells[order], np.arange(box // 2 + 1))
        times = np.broadcast_to(hermitian_weight(box, 3), (box, box, box // 2 + 1)).ravel()[order]
        return cls(box, weight, order, start, times.astype(np.float32))

    def correlations(self, first: Float32, second: Float32, points: Int64, workers: int = 1) -> Float64:
        """Return the FSC of two maps in the window about each point; 0 where a map is empty.

        Parameters
        ----------
        first, second : (n, n, n)
            The maps.
        points : (p, 3)
            Voxels [z, y, x].
        workers
            Threads of the FFT.

        Returns
        -------
        (p, box // 2 + 1).
        """
        spectra = []
        for data in (first, second):
            cut = np.stack([window_at(data, tuple(point), self.box) for point in points]) * self.weight
            spectrum = scipy.fft.rfftn(cut, axes=(1, 2, 3), workers=workers)
            spectra.append(spectrum.reshape(len(points), -1)[:, self.order])
        a, b = spectra
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        cross, power_first, power_second = (
            np.add.reduceat((product * self.multiplicity).astype(np.float64), self.start, axis=1)
            for product in products
        )
        power = power_first * power_second
        return np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)


def interpolate_resolutions(points: Int64, resolution_A: Float64, step: int, n: int) -> Float32:
    """Interpolate resolutions at the points of a grid to a map, linearly in 1/Å; elsewhere the nearest one counts.

    Parameters
    ----------
    points : (p, 3)
        Voxels [z, y, x] from `grid_points`.
    resolution_A : (p,)
        Values at the points.
    step, n
        Spacing of the grid and box in voxels.

    Returns
    -------
    (n, n, n) float32.
    """
    from scipy.ndimage import distance_transform_edt

    first = n // 2 % step
    m = (n - 1 - first) // step + 1
    grid = np.zeros((m, m, m), np.float32)
    z, y, x = ((points - first) // step).T
    grid[z, y, x] = 1 / resolution_A
    nearest = distance_transform_edt(grid == 0, return_distances=False, return_indices=True)
    at = np.clip((np.arange(n) - first) / step, 0, m - 1)
    return np.reciprocal(interpolate_linear(grid[tuple(nearest)], at))
