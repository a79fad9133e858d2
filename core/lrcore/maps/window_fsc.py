"""Compute FSC curves inside a mask from the window about it, at a cost that follows the mask and not the box.

Outside its window a masked map is 0, so that the window has all of its FT. Padded to OVERSAMPLING times the extent of
the mask, the FT is sampled finely enough for sums over thin shells of the box; each sample is shared between the two
shells of the box next to it. On a grid of the box itself the sums are those of the whole box.

Random phases (Chen et al. 2013) are replaced by what is expected of them. The map is the sum of L, with the shells
below the start of the randomisation, and of R, the shells from there on with random phases: a random field of the
power P(k) per voxel. Two of these have nothing in common, and the mask M spreads their power:

    randomised = Σ Re (ML₁)^ (ML₂)^* / √(Π_i Σ (|(ML_i)^|² + P_i ⊛ |M^|²))

This is the mean over all seeds, without the noise of a single draw, and takes no transform of the whole box.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Float32, Float64
from lrcore.imaging.grids import BLOCK, iterate_planes, radius_table, shell_frequency, shell_mean, window_at
from lrcore.masks.distance import bounding_block
from lrcore.records import Fsc

Maps = tuple[Float32, Float32]
"""Two half maps on the same grid."""

OVERSAMPLING = 1.5
"""Grid on which masked maps are transformed, over the extent of the mask; 1.5 and the box itself differ by 0.003."""


def windowed_fsc_curves(
    maps: Maps,
    mask: Float32,
    box: int,
    pixel_size_A: float,
    start: int,
    *,
    power: Float64 | None = None,
    grid: int | None = None,
    workers: int = 1,
) -> dict[str, Fsc]:
    """Compute the FSC curves inside a mask from windows of two half maps: masked, randomised and corrected.

    Parameters
    ----------
    maps : two arrays (D, D, D)
        Windows of the half maps about the mask, not masked.
    mask : (D, D, D)
        The same window of the mask; the mask is 0 outside.
    box
        n, voxels of the whole box, whose shells the curves have.
    pixel_size_A
        Voxel size in Å.
    start
        First shell of the box with random phases.
    power : (2, n // 2 + 1), optional
        Power per voxel of each whole half map, `power_per_voxel`. By default that of a box in which there is nothing
        but the noise of the windows and what they have in common.
    grid
        Size of the grid on which masked maps are transformed; `box` gives the sums of the whole box. By default
        OVERSAMPLING times the extent of the mask.
    workers
        Threads of the FFT.

    Returns
    -------
    The three curves, each with the shells 0 … n // 2.

    References
    ----------
    Chen et al. 2013, Ultramicroscopy 135:24, eq. 4.
    """
    power = _power_of_part(maps, box, workers) if power is None else power
    limit = start * mask.shape[-1] / box
    low = (lowpass_sharply(maps[0], limit, workers), lowpass_sharply(maps[1], limit, workers))
    masked = fsc_in_window(maps, mask, box, grid, workers)
    randomised = expected_randomised_fsc(low, mask, power, box, start, grid, workers)
    curves = {
        "masked": masked,
        "randomised": randomised,
        "corrected": mask_corrected_fsc(masked, randomised, start),
    }
    frequency = shell_frequency(box, pixel_size_A)
    return {kind: Fsc(kind, frequency, value) for kind, value in curves.items()}


def fsc_in_window(maps: Maps, mask: Float32, box: int, grid: int | None = None, workers: int = 1) -> Float64:
    """Return the FSC inside a mask, `masked_fsc` of the whole box, from windows: (n // 2 + 1,).

    Parameters
    ----------
    maps, mask, box, grid, workers
        See `windowed_fsc_curves`.
    """
    cross, first, second = _shell_means(_masked(maps, mask), box, grid, workers)
    return _ratio(cross, first * second)


def expected_randomised_fsc(
    low: Maps, mask: Float32, power: Float64, box: int, start: int, grid: int | None = None, workers: int = 1
) -> Float64:
    """Return the FSC inside a mask that is expected of half maps with random phases: (n // 2 + 1,).

    Parameters
    ----------
    low : two arrays (D, D, D)
        Windows of the half maps with the shells below `start` alone, not masked.
    power : (2, n // 2 + 1)
        Power per voxel of the whole half maps, of which the shells from `start` on are used.
    mask, box, start, grid, workers
        See `windowed_fsc_curves`.
    """
    cross, first, second = _shell_means(_masked(low, mask), box, grid, workers)
    random = _spread_power(power, mask, box, start, workers)
    return _ratio(cross, (first + random[0]) * (second + random[1]))


def mask_corrected_fsc(masked: Float64, randomised: Float64, start: int) -> Float64:
    """Return the mask-corrected FSC, (masked − randomised) / (1 − randomised); see `lrcore.maps.fsc.fsc_curves`.

    Parameters
    ----------
    masked, randomised : (s,)
        FSC inside the mask, of the half maps and of those with random phases.
    start
        First shell with random phases; up to two shells past it the masked FSC is returned.
    """
    out = masked.copy()
    tail = slice(start + 2, None)
    out[tail] = (masked[tail] - randomised[tail]) / np.maximum(1 - randomised[tail], 1e-6)
    return out


def power_per_voxel(spectrum: npt.NDArray[np.complexfloating], n: int) -> Float64:
    """Return the mean of |F|² / n³ in each shell, of the half-complex FT F of an n³ map: (n // 2 + 1,)."""
    return shell_mean(spectrum.real**2 + spectrum.imag**2, n, 3) / n**3


def lowpass_sharply(array: Float32, limit: float, workers: int = 1) -> Float32:
    """Return a map (n, n, n) without the samples of its FT at |k| ≥ limit, in index units."""
    spectrum = scipy.fft.rfftn(array, workers=workers)
    for z, squares in iterate_planes(array.shape[-1]):
        spectrum[z][squares >= limit**2] = 0.0
    return scipy.fft.irfftn(spectrum, array.shape, workers=workers, overwrite_x=True)


def _power_of_part(maps: Maps, box: int, workers: int) -> Float64:
    """Return the power per voxel (2, n // 2 + 1) of a box that holds no more than its windows, except for their noise.

    What both windows have in common is signal, which random phases spread over the whole box; the rest is noise, which
    is everywhere.
    """
    size = maps[0].shape[-1]
    a, b = (scipy.fft.rfftn(m, workers=workers) for m in maps)
    common = np.maximum(shell_mean(a.real * b.real + a.imag * b.imag, size, 3) / size**3, 0.0)
    parts = [np.maximum(power_per_voxel(f, size) - common, 0.0) + common * (size / box) ** 3 for f in (a, b)]
    at = np.arange(box // 2 + 1) * (size / box)
    return np.stack([np.interp(at, np.arange(size // 2 + 1), part) for part in parts])


def _masked(maps: Maps, mask: Float32) -> Maps:
    """Return the masked maps, cropped to the extent of the mask."""
    block = bounding_block(mask != 0)
    return maps[0][block] * mask[block], maps[1][block] * mask[block]


def _shell_means(maps: Maps, box: int, grid: int | None, workers: int) -> tuple[Float64, Float64, Float64]:
    """Return the means of Re F₁F₂*, |F₁|² and |F₂|² in the shells of the box, of maps that are 0 outside of theirs.

    Each stored sample counts once, as in `shell_products`.
    """
    extent = max(maps[0].shape)
    size = grid or scipy.fft.next_fast_len(int(np.ceil(OVERSAMPLING * extent)), real=True)
    size = box if size >= box else max(size, extent)
    radius = radius_table(size) * (box / size)
    sums = np.zeros((4, len(radius)))
    sums[3] = _square_counts(size)
    for squares, products in _products(maps, size, workers):
        for total, product in zip(sums, products, strict=False):
            total += np.bincount(squares, weights=product.ravel(), minlength=len(radius))
    low = np.rint(radius) if size == box else np.floor(radius)
    share = np.zeros_like(radius) if size == box else radius - low
    shells = np.zeros((4, int(low[-1]) + 2))
    for out, total in zip(shells, sums, strict=True):
        for place, weight in ((low, 1 - share), (low + 1, share)):
            out += np.bincount(place.astype(np.int64), weights=weight * total, minlength=len(out))
    filled = np.flatnonzero(shells[3, : box // 2 + 1] > 0)
    means = shells[:3, filled] / shells[3, filled]
    cross, first, second = (np.interp(np.arange(box // 2 + 1), filled, mean) for mean in means)
    return cross, first, second


@lru_cache(maxsize=8)
def _square_counts(size: int) -> Float64:
    """Return the number of samples of a half-complex 3D FT at each |k|², up to the corner."""
    full = np.fft.fftfreq(size, 1.0 / size).round().astype(np.int64) ** 2
    plane = np.bincount(np.add.outer(full, full).ravel())
    out = np.zeros(len(radius_table(size)))
    for square in np.arange(size // 2 + 1) ** 2:
        out[square : square + len(plane)] += plane
    return out


def _products(
    maps: Maps, size: int, workers: int
) -> Iterator[tuple[npt.NDArray[np.int64], tuple[Float64, Float64, Float64]]]:
    """Yield |k|² and Re F₁F₂*, |F₁|², |F₂|² of all samples of the half-complex FT of maps padded to `size`, in blocks.

    Axes are padded one after the other, and few planes are in memory at a time.
    """
    lines = [scipy.fft.rfft(m, size, axis=2, workers=workers) for m in maps]
    full = np.fft.fftfreq(size, 1.0 / size).round().astype(np.int64) ** 2
    for first in range(0, size // 2 + 1, BLOCK):
        a, b = (
            scipy.fft.fftn(f[:, :, first : first + BLOCK], (size, size), axes=(0, 1), workers=workers) for f in lines
        )
        squares = full[:, None, None] + full[:, None] + np.arange(first, first + a.shape[2]) ** 2
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        yield squares.ravel(), products


def _spread_power(power: Float64, mask: Float32, box: int, start: int, workers: int) -> list[Float64]:
    """Return the expected |FT|² of masked random fields in the shells of the box, from their power per voxel.

    The fields have the shells from `start` on.

    With A the autocorrelation of the mask and C that of the field, it is the FT of A · C.
    """
    block = bounding_block(mask != 0)
    extent = max(s.stop - s.start for s in block)
    size = min(scipy.fft.next_fast_len(extent + 1, real=True), box)
    centre = tuple((s.start + s.stop) // 2 for s in block)
    spectrum = scipy.fft.rfftn(window_at(mask, centre, size), workers=workers)
    autocorrelation = scipy.fft.irfftn(spectrum.real**2 + spectrum.imag**2, (size,) * 3, workers=workers)
    shells, at = np.arange(size // 2 + 1), np.arange(box // 2 + 1) * (size / box)
    radius = radius_table(size) * (box / size)
    out = []
    for field in power:
        # The last shell also stands for the corners of the grid.
        table = np.where(radius >= start, np.interp(radius, np.arange(box // 2 + 1), field), 0.0)
        filled = np.empty_like(spectrum)
        for z, squares in iterate_planes(size):
            filled[z] = table[squares]
        covariance = scipy.fft.irfftn(filled, (size,) * 3, workers=workers, overwrite_x=True)
        spread = scipy.fft.rfftn(autocorrelation * covariance, workers=workers, overwrite_x=True).real
        out.append(np.interp(at, shells, shell_mean(spread, size, 3)))
    return out


def _ratio(cross: Float64, power: Float64) -> Float64:
    """Return cross / √power, 0 where there is no power."""
    return np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)
