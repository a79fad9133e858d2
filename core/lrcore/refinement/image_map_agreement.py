"""Test whether images, their poses and CTFs, and a map belong together, by models that must fit the images worse.

With a free amplitude per shell, and with the density inside the mask, outside of it, or all, the log-likelihood of a
model (`region_sums`) over that of no density is

    G = Σ_k max(a_k, 0)² / (b_k σ_k²),  a = Σ Re X* C S,  b = Σ C² |S|²

where images X of one half set are compared with the other half map. The model as given must have the highest G. If one
in which the map is mirrored, the pose is half another image's, or the CTF is none of the image's has a higher one, by
more than its error allows, that part of the input is wrong. The error is that of a jackknife over groups of images. It
counts all that differs between images, so that few, noisy or symmetric images are no cause for alarm.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.refinement.region_sums import AS_GIVEN, FIRST_SHELL, MIRRORS, OTHER_POSE, WRONG_CTFS, RegionSums

ModelSums = Mapping[str, RegionSums]
"""Sums of the images of a half set by the name of the model."""

GROUPS = 20
"""Groups of images of the jackknife, which needs an image in each."""
SIGMAS = 5.0
"""Errors by which a wrong model must fit better, or a shell must be anticorrelated."""
MIN_GAIN = 20.0
"""Log-likelihood by which a wrong model must fit better in addition."""
REGIONS = ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0))
"""Amplitudes of the density inside and outside the mask that are tried: images may have been subtracted."""
MIN_AGREEMENT = 0.35
"""Least agreement at finer shells; below it images and map do not belong together.

Measured: 0.85, and 0.6 where all but a mobile body was subtracted.
"""
SAME_MAP_FSC = 0.9999
"""FSC in most shells above which both half maps are one map."""
MAX_FSC = 0.999
"""Highest FSC that a signal-to-noise ratio is derived from."""
MIN_EXPLAINED = 20.0
"""Power over that of the noise that the finer shells must be expected to explain, for their comparison to mean much."""
MIN_OPPOSITE_SHELLS, FIRST_OPPOSITE = 2, 5
"""Shells of opposite contrast, in images of the right contrast as a whole, that show a wrong CTF; and the first shell
that counts, since coarser ones hold background."""
MIN_SHELLS = 4
"""Shells that the comparison of finer and coarser ones needs."""
CTF_REMEDY = "check defocus (Å, underfocus positive), voltage, and whether the images are corrected for the CTF"
CLEAR_GAIN, CLEAR_SIGMAS = 1000.0, 3.0
"""Gain, as measured or as the FSC promises, from which other poses must fit worse; and by how many errors."""


@dataclass(frozen=True)
class ModelGains:
    """G of the model as given, and by how much other models exceed it.

    Attributes
    ----------
    given : G of the model as given
    above : name of a model → its G minus that of the model as given
    error : name of a model → standard error of the difference
    """

    given: float
    above: dict[str, float]
    error: dict[str, float]

    def better(self, names: Iterable[str]) -> str | None:
        """Return the one of these models that fits best, if it fits better than the model as given."""
        found = [name for name in names if self.above[name] > max(SIGMAS * self.error[name], MIN_GAIN)]
        return max(found, key=self.above.__getitem__, default=None)

    def is_worse(self, name: str) -> bool:
        """Return whether a model fits significantly worse than the one as given, as a wrong one must."""
        return self.above[name] < -CLEAR_SIGMAS * self.error[name]


def find_disagreement(both: Sequence[ModelSums], curve: Float64, images: int) -> str | None:
    """Return, in a sentence, that images, poses, CTFs and map do not belong together; None if nothing shows that.

    Opposite contrast is not found here, nor anything with fewer than GROUPS images in a half set.

    Parameters
    ----------
    both : sums of each half set by the name of the model
    curve : (n // 2 + 1,) FSC of the half maps
    images : number of all images
    """
    if min(len(sums[AS_GIVEN].inside) for sums in both) < GROUPS:
        return None
    dots, errors = jackknife(lambda parts: np.append(each := _shell_dots(parts), each.sum()), both)
    if dots[-1] < -SIGMAS * errors[-1]:
        return None
    gains = compare_models(both)
    if name := gains.better(MIRRORS):
        return (
            f"the half maps have the wrong hand: mirrored {name} they fit the images better, by "
            f"{gains.above[name]:,.0f} in log-likelihood: mirror half maps and mask, or leave the half maps out"
        )
    is_clear = max(gains.given, _expected_gain(both, curve, images)) > CLEAR_GAIN
    if gains.better([OTHER_POSE]) or (is_clear and not gains.is_worse(OTHER_POSE)):
        return (
            "the images fit the map at their own poses no better than at those of other images, so images, poses and "
            "map do not belong together: check that the table belongs to this stack and to this map, and the order of "
            "the images"
        )
    if name := gains.better(WRONG_CTFS):
        return f"the images fit the map better {name} than with their own CTF: {CTF_REMEDY}"
    opposite = int((dots < -SIGMAS * errors)[FIRST_OPPOSITE - FIRST_SHELL : -1].sum())
    if opposite >= MIN_OPPOSITE_SHELLS:
        return (
            f"in {opposite} of {len(dots) - 1} resolution shells images and map have opposite contrast, so the CTF "
            f"does not belong to the images: {CTF_REMEDY}"
        )
    fine, error = jackknife(lambda parts: np.mean([fine_agreement(part[AS_GIVEN], curve) for part in parts]), both)
    if fine + SIGMAS * error < MIN_AGREEMENT:
        return (
            "the images show the map at coarse resolution only: images, poses and half maps do not seem to belong "
            "together: check poses, pixel size and CTF"
        )
    return None


def compare_models(both: Sequence[ModelSums]) -> ModelGains:
    """Compare all models with the one as given.

    Parameters
    ----------
    both : sums of each half set by the name of the model
    """
    names = [*both[0]]

    def gains(parts: Sequence[ModelSums]) -> Float64:
        each = np.array([sum(_gain(part[name]) for part in parts) for name in names])
        return np.asarray(each - each[names.index(AS_GIVEN)], np.float64)

    above, error = jackknife(gains, both)
    return ModelGains(
        sum(_gain(sums[AS_GIVEN]) for sums in both),
        dict(zip(names, above.tolist(), strict=True)),
        dict(zip(names, error.tolist(), strict=True)),
    )


def jackknife(statistic: Callable[[Sequence[ModelSums]], Any], both: Sequence[ModelSums]) -> tuple[Any, Any]:
    """Return a statistic of images, and its standard error, by leaving out one group of images after the other.

    Parameters
    ----------
    statistic : function of the sums of each half set
    both : sums of each half set by the name of the model
    """

    def without(sums: ModelSums, number: int) -> ModelSums:
        kept = np.arange(len(sums[AS_GIVEN].inside)) % GROUPS != number
        return {name: each.select(kept) for name, each in sums.items()}

    parts = np.array([statistic([without(sums, number) for sums in both]) for number in range(GROUPS)])
    return statistic(both), np.sqrt((GROUPS - 1) / GROUPS * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))


def _shell_dots(both: Sequence[ModelSums]) -> Float64:
    """Return Re X* C S by shell (K,) of the model as given, in units of the noise."""
    total = np.zeros_like(both[0][AS_GIVEN].samples)
    for sums in both:
        total += sums[AS_GIVEN].fit(1.0, 1.0)[0] / _power_per_sample(sums[AS_GIVEN])
    return total


def _gain(sums: RegionSums) -> float:
    """Return G of a model, for the density of the region that fits best."""
    noise, gains = _power_per_sample(sums), []
    for region in REGIONS:
        dot, power = sums.fit(*region)
        scaled = power * noise
        gains.append(np.divide(np.maximum(dot, 0.0) ** 2, scaled, out=np.zeros_like(dot), where=scaled > 0).sum())
    return float(max(gains))


def _power_per_sample(sums: RegionSums) -> Float64:
    """Return the mean of |X|² by shell: (K,)."""
    power = sums.image_power.sum(axis=0)
    power = np.maximum(power, 1e-6 * max(float(power.max()), 1e-300))
    return np.asarray(power / np.maximum(len(sums.inside) * sums.samples, 1), np.float64)


def _expected_gain(both: Sequence[ModelSums], curve: Float64, images: int) -> float:
    """Return the gain of the model as given that follows from the FSC, for half maps made from all images.

    One image in 2 k holds a sample of shell k, so that the signal-to-noise ratio of an image is
    2 k / N · FSC / (1 − FSC) for half maps of N images each.
    """
    expected = 0.0
    for sums in both:
        shell, fsc = _known_shells(sums[AS_GIVEN], curve)
        m, samples = sums[AS_GIVEN].inside.shape[0], sums[AS_GIVEN].samples[: len(shell)]
        expected += float((m * samples * 2 * shell / (images / 2) * fsc / (1 - fsc)).sum())
    return expected


def fine_agreement(sums: RegionSums, curve: Float64) -> float:
    """Return how well images show a map at its finer shells, relative to the coarser ones: about 1, or near 0.

    The signal-to-noise ratio of an explained shell k over that of the map, k √(FSC / (1 − FSC)), is the same in all
    shells in which the half maps agree, if the images belong to the map and to the poses. NaN for too few shells or
    images.

    curve: (n // 2 + 1,) FSC of the half maps; NaN, too, for one map given twice, whose FSC says nothing.
    """
    shell, fsc = _known_shells(sums, curve)
    if len(shell) < MIN_SHELLS:
        return float("nan")
    explained = np.maximum(sums.explained() / np.maximum(sums.noise(), 1e-300) - 1.0, 0.0)[: len(shell)]
    expected = shell * np.sqrt(fsc / (1 - fsc))
    coarse, fine = np.array_split(np.sqrt(explained) / expected, 2)
    if ((coarse.mean() * expected[-len(fine) :]) ** 2).sum() < MIN_EXPLAINED:
        return float("nan")
    return float(fine.mean() / coarse.mean())


def _known_shells(sums: RegionSums, curve: Float64) -> tuple[npt.NDArray[np.int64], Float64]:
    """Return the shells in which the half maps agree, up to the first in which they do not, and the FSC there.

    There is none for one map given twice, whose FSC says nothing.
    """
    shell = FIRST_SHELL + np.arange(len(sums.samples))
    known = curve[shell] > 0.5
    last = 0 if np.median(curve[shell]) > SAME_MAP_FSC else len(known) if known.all() else int(np.argmin(known))
    return shell[:last], np.minimum(curve[shell[:last]], MAX_FSC)
