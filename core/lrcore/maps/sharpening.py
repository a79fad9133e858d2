"""Sharpen maps: Guinier plot, B-factor and the weight that the FSC gives."""

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
"""Coarsest resolution in the fit of a B-factor: below lies the shape of the particle, not its atoms."""
FIT_SHELLS = 4
"""Shells that a fit of a B-factor needs at least."""


@dataclass(frozen=True)
class Guinier:
    """A Guinier plot and the line through it: ln amplitude = intercept + B k² / 4, k in 1/Å.

    frequency: (s,) 1/Å, its shells. log_amplitude, log_weighted: (s,) before and after the weight of the FSC; −∞ where
    there is nothing. bfactor_A2: B in Å², below 0 where amplitudes fall: `sharpened` with it undoes the fall.
    correlation: of the points that were fitted. range_A: coarsest and finest of them.
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
    """Fit the B-factor of the mean (n, n, n) of two half maps with this FSC between two resolutions.

    The mean amplitude of each shell is weighted by √(2 FSC / (1 + FSC)) before its logarithm is taken; Rosenthal &
    Henderson 2003. high_A: where the FSC crosses 0.143, unless given. Raises InputError if less than FIT_SHELLS shells
    are in the range.
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
            f"only {used.sum()} shells between {low_A:g} and {finest:.3g} Å: too few to fit a B-factor: give one"
        )
    with np.errstate(divide="ignore"):
        before, after = np.log(amplitude), np.log(weighted)
    slope, intercept = np.polyfit(k[used] ** 2, after[used], 1)
    correlation = float(np.corrcoef(k[used] ** 2, after[used])[0, 1])
    return Guinier(k, before, after, 4 * float(slope), float(intercept), correlation, (low_A, finest))


def figure_of_merit(curve: Float64) -> Float64:
    """√(2 FSC / (1 + FSC)) per shell, 0 from the first FSC of 0 or less on: what the mean of two half maps is worth.

    Rosenthal & Henderson 2003.
    """
    nothing = np.nonzero(curve[1:] <= 0)[0]
    positive = np.clip(curve, 0, 1)
    if len(nothing):
        positive[nothing[0] + 1 :] = 0
    return np.asarray(np.sqrt(2 * positive / (1 + positive)))


def fsc_weight(fsc: Fsc) -> Float64:
    """Gain per shell for the mean of two half maps with this FSC: the figure of merit, low-passed where it is 0.143."""
    return figure_of_merit(fsc.value) * cosine_lowpass(fsc.frequency, 1 / fsc.resolution_A())


def sharpen(
    data: Float32, pixel_size_A: float, bfactor_A2: float, weight: Float64 | None = None, workers: int = 1
) -> Float32:
    """The map (n, n, n) with its FT times exp(−B k² / 4), B in Å²: below 0 sharpens, above blurs.

    weight: (n // 2 + 1,) a further gain per shell.
    """
    gain = np.exp(-0.25 * bfactor_A2 * shell_frequencies_to_corner(data.shape[-1], pixel_size_A) ** 2)
    return filter_map(data, gain if weight is None else gain[: len(weight)] * weight, workers)
