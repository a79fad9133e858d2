"""Non-uniform regularisation: each voxel of a half map low-passed where it best predicts the other half map."""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from lrcore.arrays import ComplexArray, Float32
from lrcore.imaging.filters import butterworth, cutoff_ladder, local_lowpass
from lrcore.imaging.grids import crop_ft, index_grid, interpolate_linear
from lrcore.masks import inscribed_sphere
from lrcore.records import Volume

COARSEST_A = 20.0
"""First cut-off of the ladder: nothing is filtered to less."""
WINDOW_FACTOR = 3.0
"""Width of the window in which errors are averaged, in wavelengths of the cut-off."""
NYQUIST_OVER_CUTOFF = 1.5
"""An error is worked out on a grid whose Nyquist frequency is this many times the cut-off."""
MIN_WEIGHT = 1e-3
"""Share of a window inside the mask below which a voxel has no say and gets the coarsest cut-off."""


@dataclass(frozen=True)
class NonUniformMaps:
    """Both half maps, each voxel low-passed at its cut-off; cutoff_A: that cut-off in Å, the same for both."""

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
    """Filter two raw half maps (n, n, n) voxel by voxel; what lies outside the mask (the inscribed sphere) is no judge.

    The cut-off of a voxel minimises the error E of low-passing one half map at it, A_c, to predict the other one, B,
    as it is, both ways round, averaged over a window w as wide as `window_factor` wavelengths:

        E(c) = Σ_{d ≤ c} w_d ∗ [(A_d − B)² − (A_{d−1} − B)² + (B_d − A)² − (B_{d−1} − A)²]

    over a ladder of Butterworth filters of order 8. Punjani, Zhang & Fleet 2020, Nat. Methods 17:1214. Differs from
    them in that each window sees only what its filter adds to the one before: an error taken as a whole holds the
    noise of all frequencies, which differs from window to window by more than what is to be decided.
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
    """The cut-off in Å of each voxel, (n, n, n); see `nonuniform`."""
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
        held = mask if m == n else _resample(inside, n, m, workers)
        step *= held
        total = _window_average(scipy.fft.rfftn(step, workers=workers), m, small, width / n, workers)
        share = _window_average(inside, n, small, width / n, workers)
        error += total / np.maximum(share, MIN_WEIGHT)
        better = (error < least) & (share > MIN_WEIGHT)
        least[better], best[better] = error[better], i
    chosen = np.log(rungs).astype(np.float32)[best]
    at = np.minimum(np.arange(n) * (small / n), small - 1)
    return np.exp(interpolate_linear(chosen, at))


def _fast_even_size(size: float, most: int) -> int:
    """A fast even size of at least `size`, or `most`."""
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
    """What the squared errors gain, on m³ voxels, when the cut-off goes from `coarse` to `fine`, in 1/Å.

    (A_d − B)² − (A_{d−1} − B)² = (A_d − A_{d−1}) (A_d + A_{d−1} − 2 B).
    """
    squares = sum(k.astype(np.int32) ** 2 for k in index_grid(m, 3))
    radius = np.sqrt(np.arange(3 * (m // 2) ** 2 + 1)) * shell_per_A
    low, high = butterworth(radius, coarse), butterworth(radius, fine)
    added, both = ((high - low).astype(np.float32)[squares], (high + low).astype(np.float32)[squares])
    scale = np.float32((m / n) ** 3)
    a, b = (crop_ft(spectrum, n, m) * scale for spectrum in spectra)
    out = np.zeros((m, m, m), np.float32)
    for one, other in ((a, b), (b, a)):
        difference = scipy.fft.irfftn(added * one, out.shape, workers=workers, overwrite_x=True)
        out += difference * scipy.fft.irfftn(both * one - 2 * other, out.shape, workers=workers, overwrite_x=True)
    return out


def _resample(spectrum: ComplexArray, n: int, m: int, workers: int) -> Float32:
    """The map with this FT on m³ voxels of the same box."""
    part = crop_ft(spectrum, n, m) * np.float32((m / n) ** 3)
    return scipy.fft.irfftn(part, (m, m, m), workers=workers, overwrite_x=True)


def _window_average(spectrum: ComplexArray, m: int, small: int, width: float, workers: int) -> Float32:
    """A field on m³ voxels → its average over a Gaussian window on small³ ones.

    width: at half its height, as a fraction of the box.
    """
    sd = width / np.sqrt(8 * np.log(2))
    part = crop_ft(spectrum, m, small) if m >= small else _pad_ft(spectrum, m, small)
    part = part * np.float32((small / m) ** 3)
    for k in index_grid(small, 3):
        part *= np.exp(-2 * (np.pi * sd * k) ** 2).astype(np.float32)
    return scipy.fft.irfftn(part, (small,) * 3, workers=workers, overwrite_x=True)


def _pad_ft(spectrum: ComplexArray, m: int, n: int) -> ComplexArray:
    """The half-complex FT of an m³ map → that of the same box in n³ ≥ m³ voxels; Nyquist lines are left out."""
    half = (m - 1) // 2
    rows = np.arange(-half, half + 1)
    out = np.zeros((n, n, n // 2 + 1), spectrum.dtype)
    out[np.ix_(rows, rows, rows[half:])] = spectrum[np.ix_(rows, rows, rows[half:])]
    return out
