"""Check two half maps when they are read: copies of one map, opposite contrast, equal or no solvent, a dark particle.

The checks take less than a second for maps of 400³ voxels: what is seen at low resolution is measured on averages of
blocks of voxels, and noise in a few sections.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64
from lrcore.errors import InputError
from lrcore.maps.solvent_mask import coarse_mean, density_tails, outline_distance_A
from lrcore.records import HalfMaps

COPY_TOLERANCE = 1e-5
"""Distance of a correlation from ±1 that counts as none; rounding to float16 leaves 1e-7."""
BLOCK_A = 4.0
"""Largest edge of a block of voxels that is averaged, in Å."""
OPPOSITE_CORRELATION = -0.3
"""Correlation of low-passed half maps below which they have opposite contrast."""
DARK_RATIO = 2.0
"""Ratio of the density below the solvent's to that above, from which the particle is dark; measured: 0.07 and 14."""
SOLVENT_DISTANCE_A = 20.0
"""Distance from the outline of the particle, in Å, where solvent begins."""
SOLVENT_RADIUS = 0.45
"""Radius of the cylinder along z in which solvent is looked at, as a fraction of the box."""
EQUAL_CORRELATION = 0.5
"""Correlation of the noise of the solvent from which half maps share it; independent ones are below 0.05."""
FLAT_SHARE = 0.3
"""Fraction of the solvent without noise, in one of the maps, from which they have been masked."""
FLAT_NOISE = 1e-5
"""Noise of a voxel, relative to the rms of the map's, below which there is none."""
SECTIONS = 12
"""Number of sections in which noise is compared."""


@dataclass(frozen=True)
class HalfMapFaults:
    """Faults of two half maps, one line each.

    Attributes
    ----------
    unusable : why they cannot be used; None if they can
    harmful : what makes their FSC too high or their density unusable
    """

    unusable: str | None
    harmful: tuple[str, ...]


def check_half_maps(maps: HalfMaps) -> None:
    """Check two half maps of the same grid; warn, one line each, of what makes their FSC meaningless.

    Parameters
    ----------
    maps : the half maps

    Raises
    ------
    InputError
        If one is the negative of the other, they have opposite contrast, or one has the same value everywhere.
    """
    faults = find_half_map_faults(maps)
    if faults.unusable:
        raise InputError(faults.unusable)
    for message in faults.harmful:
        warnings.warn(message, stacklevel=2)


def find_half_map_faults(maps: HalfMaps) -> HalfMapFaults:
    """Find what is wrong with two half maps of the same grid.

    Parameters
    ----------
    maps : the half maps

    Returns
    -------
    HalfMapFaults
    """
    first, second = maps.first, maps.second
    name, other = str(second.path or "half map 2"), str(first.path or "half map 1")
    a, b = (volume.data[_sections(volume.box)].astype(np.float64) for volume in (first, second))
    is_same = np.array_equal(a, b)
    a, b = a - a.mean(), b - b.mean()
    for data, which in ((a, other), (b, name)):
        if not data.any():
            text = f"{which}: has the same value in every voxel, so it is no half map: compute the map again"
            return HalfMapFaults(text, ())
    correlation = _correlation(a, b)
    if correlation > 1 - COPY_TOLERANCE:
        what = "the same map as" if is_same else "a scaled copy of"
        text = (
            f"{name}: is {what} {other}, so that every FSC is 1 and says nothing: give the maps of both half sets, or "
            "leave half maps out"
        )
        return HalfMapFaults(None, (text,))
    if correlation < COPY_TOLERANCE - 1:
        text = f"{name}: is the negative of {other}: give the maps of both half sets, particles white on black"
        return HalfMapFaults(text, ())
    size = max(1, int(BLOCK_A / first.pixel_size_A))
    blocks, apix = (_block_means(first.data, size), _block_means(second.data, size)), first.pixel_size_A * size
    nothing = np.zeros_like(blocks[0])
    low = [coarse_mean(data, nothing, apix) for data in blocks]
    if _correlation(*(data - data.mean() for data in low)) < OPPOSITE_CORRELATION:
        text = f"{name}: has the opposite contrast of {other}: invert the one in which the particle is dark"
        return HalfMapFaults(text, ())
    solvent = outline_distance_A(*blocks, apix) > SOLVENT_DISTANCE_A
    texts = (*_contrast_faults(low[0] + low[1]), *_solvent_faults(first.data, second.data, solvent))
    return HalfMapFaults(None, tuple(f"{other} and {name}: {text}" for text in texts))


def contrast_warning(coarse: Float32) -> str | None:
    """Return, in one sentence, that the contrast of two half maps is inverted; None if it is not.

    Parameters
    ----------
    coarse : (m, m, m), their mean, of `coarse_mean` or `coarse_mean_of_spectra`
    """
    return next(_contrast_faults(coarse), None)


def _contrast_faults(coarse: Float32) -> Iterator[str]:
    below, above = density_tails(coarse)
    if below > DARK_RATIO * above:
        yield (
            "the particle is darker than the solvent, so the contrast is inverted: invert images and maps, so that "
            "particles are white on black"
        )


def _solvent_faults(first: Float32, second: Float32, solvent: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Yield a sentence if two half maps share the noise of the solvent, or have none there.

    solvent: (m, m, m), by blocks.
    """
    there = _solvent_in_sections(solvent, len(first))
    if not there.any():
        return
    noise = [_noise(data) for data in (first, second)]
    flat = max(float(np.mean(np.abs(one[there]) <= FLAT_NOISE * one.std())) for one in noise)
    correlation = _correlation(noise[0][there], noise[1][there])
    if flat > FLAT_SHARE:
        yield (
            f"{flat:.0%} of the solvent has no noise, so the maps have been masked, and their FSC is wrong: give the "
            "unmasked half maps"
        )
    elif correlation > EQUAL_CORRELATION:
        yield (
            f"the half maps are equal in the solvent (correlation {correlation:.2f} where nothing is; independent ones "
            "stay below 0.05), so every FSC is too high: give the unmasked maps of independent half sets"
        )


def _noise(data: Float32) -> Float64:
    """Return the noise of a few sections, (s, n − 2, n − 2): their discrete Laplacian."""
    part = data[_sections(len(data))].astype(np.float64)
    neighbours = part[:, 2:, 1:-1] + part[:, :-2, 1:-1] + part[:, 1:-1, 2:] + part[:, 1:-1, :-2]
    return np.asarray(neighbours - 4 * part[:, 1:-1, 1:-1])


def _solvent_in_sections(solvent: npt.NDArray[np.bool_], n: int) -> npt.NDArray[np.bool_]:
    """Return which voxels of `_noise` are solvent, from those of the blocks, (m, m, m)."""
    m, across = len(solvent), np.arange(1, n - 1)
    block = across * m // n
    disc = np.hypot(across - n // 2, (across - n // 2)[:, None]) < SOLVENT_RADIUS * n
    return np.asarray(solvent[_sections(n) * m // n][:, block][:, :, block] & disc)


def _sections(n: int) -> npt.NDArray[np.int64]:
    """Return the numbers of a few sections of a map of n voxels, without those near its faces."""
    return np.unique(np.linspace(n // 10, n - 1 - n // 10, SECTIONS).astype(np.int64))


def _block_means(data: Float32, size: int) -> Float32:
    """Return the means of blocks of size³ voxels, without the rest at the far faces."""
    m = len(data) // size
    for axis in range(3):
        data = np.moveaxis(data, axis, 0)[: m * size]
        data = np.moveaxis(reduce(np.add, [data[start::size] for start in range(size)]), 0, axis)
    return np.asarray(data / np.float32(size**3), np.float32)


def _correlation(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Return the correlation of two arrays of zero mean; 0 if one of them is 0."""
    squares = float(np.vdot(first, first)) * float(np.vdot(second, second))
    return float(np.vdot(first, second)) / squares**0.5 if squares > 0 else 0.0
