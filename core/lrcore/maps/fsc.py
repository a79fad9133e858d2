"""Compute FSC curves: unmasked, spherical, loose, tight, masked, phase-randomised and mask-corrected."""

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import ComplexArray, Float32, Float64
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import iterate_planes, shell_frequency, shell_products, window_at
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.maps.solvent_mask import (
    LOOSE_A,
    TIGHT_A,
    coarse_mean_of_spectra,
    cosine_falloff,
    outline_distance_on_grid,
)
from lrcore.maps.window_fsc import expected_randomised_fsc, fsc_in_window, mask_corrected_fsc, power_per_voxel
from lrcore.masks import soft_sphere
from lrcore.masks.distance import bounding_block, smallest_window
from lrcore.records import Fsc, HalfMaps, Volume

RANDOMISE_BELOW = 0.8
"""Phases are randomised from the shell on where the unmasked FSC first falls below this (as in RELION)."""
SPHERE_RADIUS = 0.45
"""Radius of the spherical mask, as a fraction of the box."""


def shell_correlation(first: ComplexArray, second: ComplexArray, n: int) -> Float64:
    """Return the FSC of two half-complex FTs of n³ maps.

    FSC(k) = Σ Re(F₁ F₂*) / √(Σ|F₁|² Σ|F₂|²), with the samples counted as in `lrcore.imaging.grids.shell_products`.

    Parameters
    ----------
    first, second : (n, n, n // 2 + 1) complex
        FTs of the maps.
    n
        Box in voxels.

    Returns
    -------
    (n // 2 + 1,), the shells 0 … n // 2; 0 where a shell is empty.

    References
    ----------
    Harauz & van Heel 1986, Optik 73:146.
    """
    cross, power_first, power_second = shell_products(first, second, n)
    power = power_first * power_second
    return np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)


def masked_fsc(first: Float32, second: Float32, mask: Float32 | None, workers: int = 1) -> Float64:
    """Return the FSC of two maps, each multiplied by a mask if there is one.

    Parameters
    ----------
    first, second : (n, n, n)
        The maps.
    mask : (n, n, n) or None
        The mask.
    workers
        Threads of the FFT.

    Returns
    -------
    (n // 2 + 1,), the shells 0 … n // 2.
    """
    maps = (first, second) if mask is None else (first * mask, second * mask)
    # The origin need not be shifted, as it is the same for both.
    spectra = [scipy.fft.rfftn(m, workers=workers) for m in maps]
    return shell_correlation(spectra[0], spectra[1], first.shape[-1])


def bandpass_maps(maps: HalfMaps, coarsest_A: float, finest_A: float, workers: int = 1) -> tuple[Float32, Float32]:
    """Return two half maps with only the shells between two resolutions.

    Parameters
    ----------
    maps : HalfMaps
        The half maps.
    coarsest_A, finest_A
        Limits in Å.
    workers
        Threads of the FFT.

    Returns
    -------
    Two arrays (n, n, n).
    """
    frequency = shell_frequency(maps.first.box, maps.first.pixel_size_A)
    band = ((frequency > 1 / coarsest_A) & (frequency * finest_A < 1)).astype(np.float64)
    return filter_map(maps.first.data, band, workers), filter_map(maps.second.data, band, workers)


def band_correlation(
    maps: HalfMaps, where: npt.NDArray[np.bool_], coarsest_A: float, finest_A: float = 0.0, workers: int = 1
) -> float:
    """Return the correlation of two half maps between two resolutions in some voxels; 0 if there is no power.

    Parameters
    ----------
    maps : HalfMaps
        The half maps.
    where : (n, n, n) bool
        The voxels.
    coarsest_A, finest_A
        Limits in Å; 0 for no finest one.
    workers
        Threads of the FFT.
    """
    a, b = (data[where].astype(np.float64) for data in bandpass_maps(maps, coarsest_A, finest_A, workers))
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def randomise_phases(array: Float32, shell: int, seed: int, workers: int = 1) -> Float32:
    """Replace the phases of all shells from `shell` on by random ones and keep the amplitudes.

    Parameters
    ----------
    array : (n, n, n)
        The map.
    shell
        First shell with random phases.
    seed
        Seed of the random numbers.
    workers
        Threads of the FFT.
    """
    n = array.shape[-1]
    spectrum = scipy.fft.rfftn(array, workers=workers)
    noise = np.random.default_rng(seed).standard_normal(array.shape, dtype=np.float32)
    phases = scipy.fft.rfftn(noise, workers=workers, overwrite_x=True)
    for z, squares in iterate_planes(n):
        random = np.abs(spectrum[z]) * (phases[z] / np.maximum(np.abs(phases[z]), 1e-30))
        spectrum[z] = np.where(squares >= shell**2, random, spectrum[z])
    return scipy.fft.irfftn(spectrum, array.shape, workers=workers, overwrite_x=True)


def fsc_curves(
    first: Volume,
    second: Volume,
    mask: Volume | None = None,
    seed: int | None = None,
    workers: int = 1,
    part: bool = False,
    spectra: HalfMapSpectra | None = None,
) -> dict[str, Fsc]:
    """Compute the FSC curves of two half maps by kind.

    * unmasked: of the whole box. spherical: inside a soft sphere.
    * loose, tight: inside masks that `lrcore.maps.solvent_mask` makes from the half maps by fixed rules. They depend
      neither on the resolution nor on the mask of the user.
    * masked (with a mask, as the next two): inside the mask.
    * randomised: inside the mask, with phases randomised from the shell at which the FSC falls below RANDOMISE_BELOW.
    * corrected: (masked − randomised) / (1 − randomised) from two shells past the start of the randomisation on, masked
      before. The start is a single shell.

    Parameters
    ----------
    first, second : Volume
        Half maps.
    mask : Volume, optional
        Mask of the user.
    seed
        Seed of random phases that are drawn; None for what is expected of them, the mean over all seeds.
    workers
        Threads of the FFT.
    part
        The maps show a part of a particle, and most of the box is noise, so that the unmasked FSC falls too early. The
        randomisation then starts where the loose FSC, too, has fallen; otherwise it starts where RELION's does.
    spectra
        FTs of the half maps, if they are known.

    Returns
    -------
    The curves: unmasked, spherical, loose, tight and, with a mask, masked, randomised, corrected.

    References
    ----------
    Chen et al. 2013, Ultramicroscopy 135:24, eq. 4.
    """
    n, a, b = first.box, first.data, second.data
    known = spectra or HalfMapSpectra.from_maps(HalfMaps(first, second), workers)
    curves = {"unmasked": shell_correlation(known.first.data, known.second.data, n)}
    coarse = coarse_mean_of_spectra(known, first.pixel_size_A, workers)
    distance = outline_distance_on_grid(coarse, n * first.pixel_size_A, n)
    curves["spherical"] = fsc_in_window((a, b), soft_sphere(n, SPHERE_RADIUS * n - 3, 3.0), n, n, workers)
    for kind, edge in (("loose", LOOSE_A), ("tight", TIGHT_A)):
        block = bounding_block(distance < edge[1])
        curves[kind] = fsc_in_window((a[block], b[block]), cosine_falloff(distance[block], edge), n, n, workers)
    if mask is not None:
        start = max(randomisation_shell(curves[kind]) for kind in (("unmasked", "loose") if part else ("unmasked",)))
        curves["masked"] = fsc_in_window((a, b), mask.data, n, n, workers)
        if seed is None:
            curves["randomised"] = _expected_randomised(known, mask.data, start, workers)
        else:
            random = [randomise_phases(m, start, seed + 1 + i, workers) for i, m in enumerate((a, b))]
            curves["randomised"] = fsc_in_window((random[0], random[1]), mask.data, n, n, workers)
        curves["corrected"] = mask_corrected_fsc(curves["masked"], curves["randomised"], start)
    frequency = shell_frequency(n, first.pixel_size_A)
    return {kind: Fsc(kind, frequency, value) for kind, value in curves.items()}


def _expected_randomised(spectra: HalfMapSpectra, mask: Float32, start: int, workers: int) -> Float64:
    """Return the FSC inside a mask (n, n, n) that is expected of half maps with random phases from `start` on."""
    n = len(mask)
    centre, size = smallest_window(mask)
    low = [spectrum.window(spectrum.lowpass_table(start), centre, size, workers) for spectrum in spectra.both]
    power = np.stack([power_per_voxel(spectrum.data, n) for spectrum in spectra.both])
    return expected_randomised_fsc((low[0], low[1]), window_at(mask, centre, size), power, n, start, n, workers)


def randomisation_shell(curve: Float64) -> int:
    """Return the first shell, at least 2, whose FSC is below RANDOMISE_BELOW: the start of the phase randomisation."""
    below = np.nonzero(curve[2:] < RANDOMISE_BELOW)[0]
    return int(below[0]) + 2 if len(below) else len(curve) - 1


def wiener_gain(curve: Float64) -> Float64:
    """Return the gain per shell of the Wiener filter of a half map: the FSC itself up to its first fall below 0.143.

    The SSNR of a half map is FSC / (1 − FSC), its Wiener filter SSNR / (1 + SSNR) = FSC.

    Parameters
    ----------
    curve : (s,)
        FSC of the half maps.

    References
    ----------
    Rosenthal & Henderson 2003, J. Mol. Biol. 333:721.
    """
    below = np.nonzero(curve[1:] < 0.143)[0]
    end = int(below[0]) + 1 if len(below) else len(curve)
    gain = np.zeros_like(curve)
    gain[:end] = np.clip(curve[:end], 0, 1)
    return gain


def combined_gain(curve: Float64) -> Float64:
    """Return the gain per shell for the mean of two half maps with this FSC: √(2 g / (1 + g)), g their `wiener_gain`.

    It is C_ref, the expected correlation of the mean with the truth (Rosenthal & Henderson 2003).

    Parameters
    ----------
    curve : (s,)
        See `wiener_gain`.
    """
    gain = wiener_gain(curve)
    weight: Float64 = np.sqrt(2 * gain / (1 + gain))
    return weight
