"""Sharpen maps: Guinier plot, B-factor and FSC weighting."""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from lrcore.arrays import Float32, Float64
from lrcore.errors import InputError
from lrcore.imaging.filters import cosine_lowpass, shell_frequencies_to_corner
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import shell_mean
from lrcore.records import Fsc

GUINIER_LOW_A = 10.0
"""Coarsest resolution of the fit in Å: coarser shells show the shape of the particle, not its atoms."""
FIT_SHELLS = 4
"""Minimum number of shells in the fit."""


@dataclass(frozen=True)
class Guinier:
    """Guinier plot and its linear fit: ln amplitude = intercept + B k² / 4, k in 1/Å.

    Attributes
    ----------
    frequency : (s,)
        1/Å of the shells.
    log_amplitude, log_weighted : (s,)
        Logarithm of the mean amplitude before and after FSC weighting; −∞ where it is 0.
    bfactor_A2
        B in Å², negative where amplitudes fall with k: `sharpen` with this value compensates the fall.
    intercept
        ln amplitude at k = 0.
    correlation
        Correlation coefficient of the fitted points.
    range_A
        Coarsest and finest resolution of the fit in Å.
    """

    frequency: Float64
    log_amplitude: Float64
    log_weighted: Float64
    bfactor_A2: float
    intercept: float
    correlation: float
    range_A: tuple[float, float]


def fit_guinier(
    data: Float32, fsc: Fsc, low_A: float = GUINIER_LOW_A, high_A: float | None = None, workers: int = 1
) -> Guinier:
    """Fit the B-factor of the mean of two half maps between two resolutions.

    The mean amplitude of each shell is multiplied by √(2 FSC / (1 + FSC)) before the logarithm is taken.

    Parameters
    ----------
    data : (n, n, n)
        Mean of the half maps.
    fsc : Fsc
        Their FSC.
    low_A, high_A
        Coarsest and finest resolution of the fit in Å; the finest is by default where the FSC crosses 0.143.
    workers
        Threads of the FFT.

    Returns
    -------
    The plot and the fit.

    Raises
    ------
    InputError
        If fewer than FIT_SHELLS shells are in the range.

    References
    ----------
    Rosenthal & Henderson 2003, J. Mol. Biol. 333:721.
    """
    n = data.shape[-1]
    spectrum = scipy.fft.rfftn(data, workers=workers)
    amplitude = shell_mean(np.abs(spectrum), n, 3)
    weighted = amplitude * figure_of_merit(fsc.value)
    finest = fsc.resolution_A() if high_A is None else high_A
    k = fsc.frequency
    used = (k >= 1 / low_A) & (k <= 1 / finest) & (weighted > 0)
    if used.sum() < FIT_SHELLS:
        raise InputError(
            f"only {used.sum()} shells between {low_A:g} and {finest:.3g} Å: too few to fit a B-factor: give a B-factor"
        )
    with np.errstate(divide="ignore"):
        before, after = np.log(amplitude), np.log(weighted)
    slope, intercept = np.polyfit(k[used] ** 2, after[used], 1)
    correlation = float(np.corrcoef(k[used] ** 2, after[used])[0, 1])
    return Guinier(k, before, after, 4 * float(slope), float(intercept), correlation, (low_A, finest))


def figure_of_merit(curve: Float64) -> Float64:
    """Return the figure of merit √(2 FSC / (1 + FSC)) per shell of the mean of two half maps.

    It is 0 from the first shell with an FSC of 0 or less on.
    Rosenthal & Henderson 2003; see `fit_guinier`.

    Parameters
    ----------
    curve : (s,)
        FSC of the half maps.
    """
    not_positive = np.nonzero(curve[1:] <= 0)[0]
    positive = np.clip(curve, 0, 1)
    if len(not_positive):
        positive[not_positive[0] + 1 :] = 0
    return np.asarray(np.sqrt(2 * positive / (1 + positive)))


def fsc_weight(fsc: Fsc) -> Float64:
    """Return the gain per shell for the mean of two half maps: figure of merit, low-passed where the FSC is 0.143."""
    return figure_of_merit(fsc.value) * cosine_lowpass(fsc.frequency, 1 / fsc.resolution_A())


def sharpen(
    data: Float32, pixel_size_A: float, bfactor_A2: float, weight: Float64 | None = None, workers: int = 1
) -> Float32:
    """Multiply the FT of a map by exp(−B k² / 4): a negative B sharpens, a positive one blurs.

    Parameters
    ----------
    data, pixel_size_A
        The map, (n, n, n), and its voxel size in Å.
    bfactor_A2
        B in Å².
    weight : (n // 2 + 1,), optional
        Additional gain per shell.
    workers
        Threads of the FFT.

    Returns
    -------
    (n, n, n) float32.
    """
    gain = np.exp(-0.25 * bfactor_A2 * shell_frequencies_to_corner(data.shape[-1], pixel_size_A) ** 2)
    return filter_map(data, gain if weight is None else gain[: len(weight)] * weight, workers)
