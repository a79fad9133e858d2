"""Filters of maps: low-pass and high-pass, by local resolution, and sharpening by the slope of the Guinier plot."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.errors import InputError
from lrcore.fourier import filter_map
from lrcore.grids import multiply_shells, shell_mean
from lrcore.records import Fsc

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ORDER = 8
"""Of the Butterworth filter."""
EDGE = 0.2
"""Width of the edge of the cosine filter, as a fraction of its cut-off."""
STEP = 1.1
"""Ratio of neighbouring cut-offs in a ladder of filters."""
GUINIER_LOW_A = 10.0
"""Coarsest resolution in the fit of a B-factor: below lies the shape of the particle, not its atoms."""
FIT_SHELLS = 4
"""Shells that a fit of a B-factor needs at least."""


def butterworth(frequency: Float64, cutoff: float) -> Float64:
    """Gain 1 / √(1 + (k / cutoff)¹⁶) of the low-pass of order 8; both in 1/Å. 0.71 at the cut-off."""
    return np.asarray(1.0 / np.sqrt(1.0 + (frequency / cutoff) ** (2 * ORDER)))


def cosine(frequency: Float64, cutoff: float) -> Float64:
    """Gain of the low-pass that falls from 1 to 0 by a raised cosine, one half at the cut-off; both in 1/Å.

    Nothing is left beyond: what was sharpened before must end somewhere.
    """
    phase = np.clip((frequency / cutoff - 1) / EDGE + 0.5, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * phase))


def lowpass(data: Float32, pixel_size_A: float, resolution_A: float, workers: int = 1) -> Float32:
    """A map (n, n, n) without what is finer than `resolution_A`, by the cosine filter."""
    return filter_map(data, cosine(_beyond(data.shape[-1], pixel_size_A), 1 / resolution_A), workers)


def highpass(data: Float32, pixel_size_A: float, resolution_A: float, workers: int = 1) -> Float32:
    """A map (n, n, n) without what is coarser than `resolution_A`, its mean included."""
    return filter_map(data, 1 - cosine(_beyond(data.shape[-1], pixel_size_A), 1 / resolution_A), workers)


def _beyond(n: int, pixel_size_A: float) -> Float64:
    """Frequency in 1/Å of the shells of an n³ box, those in its corners included: (n,)."""
    return np.arange(n) / (n * pixel_size_A)


def ladder(finest_A: float, coarsest_A: float, step: float = STEP) -> Float64:
    """Cut-offs in Å from coarse to fine in equal ratios of at most `step`, both ends included: (r,)."""
    count = max(1, int(np.ceil(np.log(coarsest_A / finest_A) / np.log(step) - 1e-9)))
    return np.geomspace(coarsest_A, finest_A, count + 1)


def local_lowpass(
    maps: tuple[Float32, ...],
    pixel_size_A: float,
    cutoff_A: Float32,
    workers: int = 1,
    shape: Callable[[Float64, float], Float64] = cosine,
) -> tuple[Float32, ...]:
    """Maps (n, n, n), each voxel low-passed at its cut-off in Å, (n, n, n): linear between the rungs of a ladder.

    shape: of the filters, `cosine` or `butterworth`. A cut-off at the Nyquist limit, or finer, leaves a voxel as it is.
    """
    nyquist = 2 * pixel_size_A
    n = cutoff_A.shape[-1]
    coarsest = min(float(cutoff_A.max()), n * pixel_size_A)
    finest = min(max(float(cutoff_A.min()), nyquist), coarsest)
    rungs = ladder(finest, coarsest) if coarsest > finest else np.array([finest])
    place = np.log(coarsest / np.clip(cutoff_A, finest, coarsest))
    if len(rungs) > 1:
        place *= (len(rungs) - 1) / np.log(coarsest / finest)
    spectra = [scipy.fft.rfftn(data, workers=workers) for data in maps]
    out = tuple(np.zeros_like(data) for data in maps)
    frequency = _beyond(n, pixel_size_A)
    for i, rung in enumerate(rungs):
        weight = np.maximum(1 - np.abs(place - np.float32(i)), 0)
        if not weight.any():
            continue
        gain = shape(frequency, 1 / rung) if rung > 1.001 * nyquist else np.ones(n)
        for total, spectrum in zip(out, spectra, strict=True):
            part = spectrum.copy()
            multiply_shells(part, gain, n)
            total += weight * scipy.fft.irfftn(part, total.shape, workers=workers, overwrite_x=True)
    return out


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


def guinier(
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
    return figure_of_merit(fsc.value) * cosine(fsc.frequency, 1 / fsc.resolution_A())


def sharpened(
    data: Float32, pixel_size_A: float, bfactor_A2: float, weight: Float64 | None = None, workers: int = 1
) -> Float32:
    """The map (n, n, n) with its FT times exp(−B k² / 4), B in Å²: below 0 sharpens, above blurs.

    weight: (n // 2 + 1,) a further gain per shell.
    """
    gain = np.exp(-0.25 * bfactor_A2 * _beyond(data.shape[-1], pixel_size_A) ** 2)
    return filter_map(data, gain if weight is None else gain[: len(weight)] * weight, workers)
