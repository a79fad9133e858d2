"""The FSC family, computed in one place: unmasked, spherical, loose, tight, masked, phase-randomised, corrected."""

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import ComplexArray, Float32, Float64
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import iterate_planes, shell_frequency, shell_products
from lrcore.maps.solvent_mask import LOOSE_A, TIGHT_A, cosine_falloff, outline_distance_A
from lrcore.masks import soft_sphere
from lrcore.records import Fsc, HalfMaps, Volume

RANDOMISE_BELOW = 0.8
"""Phases are randomised beyond the shell where the unmasked FSC first falls below this (as RELION does)."""
SPHERE_RADIUS = 0.45
"""Radius of the spherical mask, as a fraction of the box."""


def shell_correlation(first: ComplexArray, second: ComplexArray, n: int) -> Float64:
    """FSC of two half-complex FTs of n³ maps, shells 0 … n // 2; 0 where a shell is empty.

    FSC(k) = Σ Re(F₁ F₂*) / √(Σ|F₁|² Σ|F₂|²); Harauz & van Heel 1986. Samples are counted as in `shell_products`.
    """
    cross, power_first, power_second = shell_products(first, second, n)
    power = power_first * power_second
    return np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)


def masked_fsc(first: Float32, second: Float32, mask: Float32 | None, workers: int = 1) -> Float64:
    """FSC of two (n, n, n) maps, each multiplied by `mask` when there is one: (n // 2 + 1,)."""
    maps = (first, second) if mask is None else (first * mask, second * mask)
    # No shift of the origin: it is common to both.
    spectra = [scipy.fft.rfftn(m, workers=workers) for m in maps]
    return shell_correlation(spectra[0], spectra[1], first.shape[-1])


def bandpass_maps(maps: HalfMaps, coarsest_A: float, finest_A: float, workers: int = 1) -> tuple[Float32, Float32]:
    """Two half maps of what is between two resolutions alone."""
    frequency = shell_frequency(maps.first.box, maps.first.pixel_size_A)
    band = ((frequency > 1 / coarsest_A) & (frequency * finest_A < 1)).astype(np.float64)
    return filter_map(maps.first.data, band, workers), filter_map(maps.second.data, band, workers)


def band_correlation(
    maps: HalfMaps, where: npt.NDArray[np.bool_], coarsest_A: float, finest_A: float = 0.0, workers: int = 1
) -> float:
    """Correlation of two half maps in some voxels (n, n, n), of what is between two resolutions; 0 where nothing is."""
    a, b = (one[where].astype(np.float64) for one in bandpass_maps(maps, coarsest_A, finest_A, workers))
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def randomise_phases(array: Float32, shell: int, seed: int, workers: int = 1) -> Float32:
    """The map with the phases of all shells ≥ `shell` replaced by random ones; amplitudes kept."""
    n = array.shape[-1]
    spectrum = scipy.fft.rfftn(array, workers=workers)
    noise = np.random.default_rng(seed).standard_normal(array.shape, dtype=np.float32)
    phases = scipy.fft.rfftn(noise, workers=workers, overwrite_x=True)
    for z, squares in iterate_planes(n):
        random = np.abs(spectrum[z]) * (phases[z] / np.maximum(np.abs(phases[z]), 1e-30))
        spectrum[z] = np.where(squares >= shell**2, random, spectrum[z])
    return scipy.fft.irfftn(spectrum, array.shape, workers=workers, overwrite_x=True)


def fsc_curves(
    first: Volume, second: Volume, mask: Volume | None = None, seed: int = 0, workers: int = 1, part: bool = False
) -> dict[str, Fsc]:
    """FSC curves of two half maps by kind: unmasked, spherical, loose, tight; given a mask, three more.

    masked: inside it. randomised: the same with phases randomised (see RANDOMISE_BELOW). corrected: for the mask.

    loose, tight: inside masks that `solvent` makes of the half maps by fixed rules; neither the resolution nor the
    user's mask has a part in them.
    corrected = (masked − randomised) / (1 − randomised) from two shells past the start of the randomisation, masked
    before; Chen et al. 2013, eq. 4. One shell is enough for `seed` to matter: the curves are reproducible.
    part: the maps are of a part of a particle, and most of the box is noise, so that the unmasked FSC falls before its
    time: the randomisation starts where the loose one has fallen, too. Otherwise it starts where RELION's does.
    """
    n, a, b = first.box, first.data, second.data
    unmasked = masked_fsc(a, b, None, workers)
    sphere = soft_sphere(n, SPHERE_RADIUS * n - 3, 3.0)
    curves = {"unmasked": unmasked, "spherical": masked_fsc(a, b, sphere, workers)}
    distance = outline_distance_A(a, b, first.pixel_size_A, workers)
    for kind, edge in (("loose", LOOSE_A), ("tight", TIGHT_A)):
        curves[kind] = masked_fsc(a, b, cosine_falloff(distance, edge), workers)
    if mask is not None:
        start = max(randomisation_shell(curves[kind]) for kind in (("unmasked", "loose") if part else ("unmasked",)))
        random = [randomise_phases(m, start, seed + 1 + i, workers) for i, m in enumerate((a, b))]
        curves["masked"] = masked_fsc(a, b, mask.data, workers)
        curves["randomised"] = masked_fsc(random[0], random[1], mask.data, workers)
        curves["corrected"] = mask_corrected_fsc(curves["masked"], curves["randomised"], start)
    frequency = shell_frequency(n, first.pixel_size_A)
    return {kind: Fsc(kind, frequency, value) for kind, value in curves.items()}


def randomisation_shell(curve: Float64) -> int:
    """The first shell whose FSC is below RANDOMISE_BELOW, at least 2."""
    below = np.nonzero(curve[2:] < RANDOMISE_BELOW)[0]
    return int(below[0]) + 2 if len(below) else len(curve) - 1


def mask_corrected_fsc(masked: Float64, randomised: Float64, start: int) -> Float64:
    """The mask-corrected FSC; see `family`."""
    out = masked.copy()
    tail = slice(start + 2, None)
    out[tail] = (masked[tail] - randomised[tail]) / np.maximum(1 - randomised[tail], 1e-6)
    return out


def wiener_gain(curve: Float64) -> Float64:
    """Gain per shell that makes a half map its best estimate: the FSC itself up to its first fall below 0.143.

    A half map's SSNR is FSC / (1 − FSC), its Wiener filter SSNR / (1 + SSNR) = FSC (Rosenthal & Henderson 2003).
    """
    below = np.nonzero(curve[1:] < 0.143)[0]
    end = int(below[0]) + 1 if len(below) else len(curve)
    gain = np.zeros_like(curve)
    gain[:end] = np.clip(curve[:end], 0, 1)
    return gain


def combined_gain(curve: Float64) -> Float64:
    """Gain per shell for the mean of two half maps with this FSC: √(2 g / (1 + g)), g their `wiener_gain`.

    It is C_ref, the expected correlation of the mean with the truth (Rosenthal & Henderson 2003).
    """
    gain = wiener_gain(curve)
    weight: Float64 = np.sqrt(2 * gain / (1 + gain))
    return weight
