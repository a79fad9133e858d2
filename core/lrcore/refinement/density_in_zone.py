"""Filter half maps by their FSC inside a zone of the box, on as many voxels as zone and FSC need."""

from collections.abc import Callable
from functools import partial

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.imaging.grids import window_at
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.maps.solvent_mask import coarse_mean_of_spectra, outline_distance_on_grid
from lrcore.maps.window_fsc import fsc_in_window
from lrcore.masks.distance import smallest_window
from lrcore.refinement.density_projector import DensityWindow

GUESS_MARGIN = 1.1
"""Shells to which an FSC is computed, over those where it is guessed to end."""


def particle_outline(spectra: HalfMapSpectra, pixel_size_A: float, workers: int) -> Callable[[int], Float32]:
    """Return a function of m that returns the distance from the particle on a grid of m³ voxels of the box, in Å.

    Parameters
    ----------
    spectra : FTs of the half maps
    pixel_size_A : voxel size of the half maps in Å
    workers : threads of the FFT
    """
    coarse = coarse_mean_of_spectra(spectra, pixel_size_A, workers)
    return partial(outline_distance_on_grid, coarse, spectra.first.size * pixel_size_A)


def density_in_zone(
    spectra: HalfMapSpectra,
    zone: Callable[[int], Float32],
    gain: Callable[[Float64], Float64],
    guess: int | None,
    workers: int,
    most: int | None = None,
) -> tuple[DensityWindow | None, Float64]:
    """Return the half maps inside a zone, filtered by a gain that follows from their FSC there, and the FSC.

    Parameters
    ----------
    spectra : FTs of the half maps, n³ voxels
    zone : function of m that returns the weight of the zone on a grid of m³ voxels, (m, m, m)
    gain : function of the FSC (s,) that returns the gain per shell (s,), 0 beyond the shell where the FSC ends
    guess : shell where the FSC probably ends, for speed; it is computed further if it does not
    workers : threads of the FFT
    most : last shell that is looked at; None for all

    Returns
    -------
    density : DensityWindow or None
        None when the gain is 0 in all shells.
    curve : (n // 2 + 1,)
        FSC in the zone; 0 beyond the shells in which it was computed.
    """
    n = spectra.first.size
    limit = most or int(GUESS_MARGIN * (guess or n // 4)) + 4
    while True:
        low = spectra.cropped(limit)
        m = low.first.size
        weight = zone(m)
        centre, size = smallest_window(weight)
        maps = [spectrum.window(spectrum.shell_table(np.ones(2 * m)), centre, size, workers) for spectrum in low.both]
        curve = fsc_in_window((maps[0], maps[1]), window_at(weight, centre, size), m, m, workers)
        gains = gain(curve)
        gains[most + 1 if most else len(gains) :] = 0.0
        last = int(np.nonzero(gains)[0].max(initial=-1)) + 1
        if m == n or most or last <= limit:
            break
        limit *= 2
    curve = np.concatenate([curve, np.zeros(n // 2 + 1 - len(curve))])
    if last == 0:
        return None, curve
    low = low.cropped(last)
    voxel = n / low.first.size
    if low.first.size != m:
        weight = zone(low.first.size)
        centre, size = smallest_window(weight)
    maps = [spectrum.window(spectrum.shell_table(gains), centre, size, workers) for spectrum in low.both]
    data = np.stack(maps) * window_at(weight, centre, size)
    offset = np.array(centre[::-1], np.float64) - low.first.size // 2
    return DensityWindow(data, offset * voxel, voxel, min(last, (n - 1) // 2)), curve
