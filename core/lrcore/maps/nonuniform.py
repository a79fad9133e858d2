"""Filter half maps non-uniformly: low-pass each voxel of a half map where it best predicts the other half map."""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from lrcore.arrays import ComplexArray, Float32
from lrcore.imaging.filters import butterworth, cutoff_ladder, local_lowpass
from lrcore.imaging.grids import crop_ft, index_grid, interpolate_linear
from lrcore.masks import inscribed_sphere
from lrcore.records import Volume

COARSEST_A = 20.0
"""Coarsest cut-off of the ladder in Å."""
WINDOW_FACTOR = 3.0
"""Width of the averaging window in wavelengths of the cut-off."""
NYQUIST_OVER_CUTOFF = 1.5
"""Ratio of the Nyquist frequency of the grid on which an error is computed to the cut-off."""
MIN_WEIGHT = 1e-3
"""Fraction of a window inside the mask below which a voxel gets the coarsest cut-off."""


@dataclass(frozen=True)
class NonUniformMaps:
    """Both half maps, each voxel low-passed at its cut-off.

    Attributes
    ----------
    first, second : Volume
        The filtered half maps.
    cutoff_A : Volume
        Cut-off of each voxel in Å, the same for both.
    """

    first: Volume
    second: Volume
    cutoff_A: Volume


def filter_nonuniform(
    first: Volume,
    second: Volume,
    mask: Volume | None = None,
    window_factor: float = WINDOW_FACTOR,
    coarsest_A: float = COARSEST_A,
    workers: int = 1,
) -> NonUniformMaps:
    """Low-pass each voxel of two half maps at the cut-off at which they predict each other best.

    The cut-off of a voxel minimises the error E of predicting one half map B by the other one low-passed, A_c, and vice
    versa, averaged over a window w as wide as `window_factor` wavelengths:

        E(c) = Σ_{d ≤ c} w_d ∗ [(A_d − B)² − (A_{d−1} − B)² + (B_d − A)² − (B_{d−1} − A)²]

    over a ladder of Butterworth filters of order 8. Differs from the reference in that each window sees only what its
    filter adds to the previous one: a total error contains the noise of all frequencies, which differs between windows
    by more than the differences to be detected.

    Parameters
    ----------
    first, second : Volume
        Unfiltered half maps.
    mask : Volume, optional
        Errors are averaged inside it; by default the inscribed sphere.
    window_factor
        Width of the averaging window in wavelengths of the cut-off.
    coarsest_A
        Coarsest cut-off in Å.
    workers
        Threads of the FFT.

    Returns
    -------
    The filtered half maps and their cut-offs.

    References
    ----------
    Punjani, Zhang & Fleet 2020, Nat. Methods 17:1214.
    """
    n, apix = first.box, first.pixel_size_A
    weight = inscribed_sphere(n) if mask is None else mask.data
    cutoff = cutoff_map(first.data, second.data, weight, apix, window_factor, coarsest_A, workers)
    a, b = local_lowpass((first.data, second.data), apix, cutoff, workers, butterworth)
    origin = first.header_origin_A
    return NonUniformMaps(Volume(a, apix, origin), Volume(b, apix, origin), Volume(cutoff, apix, origin))


def cutoff_map(
    first: Float32,
    second: Float32,
    mask: Float32,
    pixel_size_A: float,
    window_factor: float = WINDOW_FACTOR,
    coarsest_A: float = COARSEST_A,
    workers: int = 1,
) -> Float32:
    """Return the cut-off in Å of each voxel, (n, n, n); see `filter_nonuniform`.

    Parameters
    ----------
    first, second, mask : (n, n, n)
        Unfiltered half maps and the mask.
    pixel_size_A
        Voxel size in Å.
    window_factor, coarsest_A, workers
        See `filter_nonuniform`.
    """
    n = first.shape[-1]
    rungs = cutoff_ladder(2 * pixel_size_A, max(coarsest_A, 2.2 * pixel_size_A))
    spectra = (scipy.fft.rfftn(first, workers=workers), scipy.fft.rfftn(second, workers=workers))
    inside = scipy.fft.rfftn(mask, workers=workers)
    small = _fast_even_size(max(n / 2, 16), n)
    error = np.zeros((small,) * 3, np.float32)
    least, best = error.copy(), np.zeros(error.shape, np.int8)
    for i in range(1, len(rungs)):
        width = window_factor * rungs[i] / pixel_size_A
        m = _fast_even_size(2 * NYQUIST_OVER_CUTOFF * n * pixel_size_A / rungs[i], n)
        step = _added_error(spectra, n, m, 1 / (n * pixel_size_A), 1 / rungs[i - 1], 1 / rungs[i], workers)
        step *= mask if m == n else _resample(inside, n, m, workers)
        total = _window_average(scipy.fft.rfftn(step, workers=workers), m, small, width / n, workers)
        share = _window_average(inside, n, small, width / n, workers)
        error += total / np.maximum(share, MIN_WEIGHT)
        better = (error < least) & (share > MIN_WEIGHT)
        least[better], best[better] = error[better], i
    chosen = np.log(rungs).astype(np.float32)[best]
    at = np.minimum(np.arange(n) * (small / n), small - 1)
    return np.exp(interpolate_linear(chosen, at))


def _fast_even_size(size: float, most: int) -> int:
    """Return a fast even FFT size of at least `size`, at most `most`."""
    m = scipy.fft.next_fast_len(int(np.ceil(size / 2)), real=True) * 2
    return min(m, most)


def _added_error(
    spectra: tuple[ComplexArray, ComplexArray],
    n: int,
    m: int,
    shell_per_A: float,
    coarse: float,
    fine: float,
    workers: int,
) -> Float32:
    """Return the change of the squared errors on m³ voxels when the cut-off goes from `coarse` to `fine`, in 1/Å.

    (A_d − B)² − (A_{d−1} − B)² = (A_d − A_{d−1}) (A_d + A_{d−1} − 2 B).
    """
    squares = sum(k.astype(np.int32) ** 2 for k in index_grid(m, 3))
    radius = np.sqrt(np.arange(3 * (m // 2) ** 2 + 1)) * shell_per_A
    low, high = butterworth(radius, coarse), butterworth(radius, fine)
    added, both = ((high - low).astype(np.float32)[squares], (high + low).astype(np.float32)[squares])
    scale = np.float32((m / n) ** 3)
    a, b = (crop_ft(spectrum, n, m) * scale for spectrum in spectra)
    out = np.zeros((m, m, m), np.float32)
    for filtered, target in ((a, b), (b, a)):
        difference = scipy.fft.irfftn(added * filtered, out.shape, workers=workers, overwrite_x=True)
        out += difference * scipy.fft.irfftn(both * filtered - 2 * target, out.shape, workers=workers, overwrite_x=True)
    return out


def _resample(spectrum: ComplexArray, n: int, m: int, workers: int) -> Float32:
    """Return the map with this FT of n³ voxels on m³ voxels of the same box."""
    part = crop_ft(spectrum, n, m) * np.float32((m / n) ** 3)
    return scipy.fft.irfftn(part, (m, m, m), workers=workers, overwrite_x=True)


def _window_average(spectrum: ComplexArray, m: int, small: int, width: float, workers: int) -> Float32:
    """Return the average of a field, given by its FT on m³ voxels, over a Gaussian window, on small³ voxels.

    width: of the window at half its height, as a fraction of the box.
    """
    sd = width / np.sqrt(8 * np.log(2))
    part = crop_ft(spectrum, m, small) if m >= small else _pad_ft(spectrum, m, small)
    part = part * np.float32((small / m) ** 3)
    for k in index_grid(small, 3):
        part *= np.exp(-2 * (np.pi * sd * k) ** 2).astype(np.float32)
    return scipy.fft.irfftn(part, (small,) * 3, workers=workers, overwrite_x=True)


def _pad_ft(spectrum: ComplexArray, m: int, n: int) -> ComplexArray:
    """Pad the half-complex FT of an m³ map to that of the same box in n³ ≥ m³ voxels, without the Nyquist lines."""
    half = (m - 1) // 2
    rows = np.arange(-half, half + 1)
    out = np.zeros((n, n, n // 2 + 1), spectrum.dtype)
    out[np.ix_(rows, rows, rows[half:])] = spectrum[np.ix_(rows, rows, rows[half:])]
    return out
