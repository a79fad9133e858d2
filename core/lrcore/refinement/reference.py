"""Make the reference of a half set: masked and filtered half map, its error, and the density outside the mask.

Each half set is aligned against its own half map h (gold standard), cropped to the window about the mask:

    reference = FT(mask · F h),  F = FSC, the Wiener gain of a half map, 0 from the first shell with FSC < 0.143

or F a low-pass for each voxel (`non_uniform`). The error that is left in the reference counts as noise of the images.
With P the power of FT(mask · h) per shell,

    variance = P F (1 − F) · box² / area

The error lies inside the projection of the mask, whose area is `area`, where the noise of the image covers the whole
box; hence the last factor.

Differs from RELION in that the error of the reference is taken into account; RELION takes its reference for exact.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.filters import butterworth, local_lowpass
from lrcore.imaging.fourier_volume import QUADRATIC, FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, shell_mean, window_at
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.maps.solvent_mask import TIGHT_A, cosine_falloff, outline_distance_A
from lrcore.masks import inscribed_sphere
from lrcore.records import HalfMaps, Step, Volume
from lrcore.refinement.geometry import SearchGeometry, align_resolution_A, resolution_bands
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.search import Lattice, SearchFrame, make_lattice


@dataclass(frozen=True)
class Reference:
    """Model of one half set in one iteration.

    Attributes
    ----------
    frame : masked reference with what else the search of the half set shares
    variance : (shells,) of the error of the masked reference's FT, on the scale of the noise of the whole image
    outside : density outside the mask that is subtracted at the input poses, or None
    """

    frame: SearchFrame
    variance: Float64
    outside: FourierVolume | None


@dataclass(frozen=True)
class OutsideDensity:
    """Density outside the mask, the same in every iteration of a run.

    Attributes
    ----------
    maps : (2, n, n, n) by half set
    limit : last shell in which it is not 0
    """

    maps: Float32
    limit: int


def outside_density(maps: HalfMaps, mask: Volume, spec: RefineSpec, workers: int) -> OutsideDensity | None:
    """Return the density of the half maps outside the mask, (1 − mask) · h filtered by √FSC.

    The particle (inside its tight outline) and the solvent around it are filtered each by its own FSC: one FSC for both
    counts the solvent, so that less of the particle would be known and more noise be subtracted as if it were density.
    The filter √FSC gives a half map the power that its signal has, where the FSC itself, the Wiener filter, would leave
    (1 − FSC)² of that power in the images.

    Parameters
    ----------
    maps : half maps of step 0 of the run
    mask : (n, n, n), 1 where density is kept
    spec : parameters of the refinement
    workers : threads of the Fourier transforms

    Returns
    -------
    OutsideDensity or None
        None when `subtract_outside` is off or the half maps have nothing in common outside the mask.
    """
    if not spec.subtract_outside:
        return None
    n, first, second = mask.box, maps.first.data, maps.second.data
    weight = (1 - mask.data) * inscribed_sphere(n)
    particle = cosine_falloff(outline_distance_A(first, second, mask.pixel_size_A, workers), TIGHT_A)
    density, last = np.zeros((2, n, n, n), np.float32), 0
    for zone in (weight * particle, weight * (1 - particle)):
        gain = np.sqrt(wiener_gain(masked_fsc(first, second, zone, workers)))
        gain[0] = gain[1]  # the mean of a zone does not show in the images
        if gain.any():
            last = max(last, int(np.nonzero(gain)[0].max()) + 1)
            for half in (1, 2):
                density[half - 1] += zone * filter_map(maps.half(half).data, gain, workers)
    return OutsideDensity(density, min(last, (n - 1) // 2)) if last else None


def make_reference(
    step: Step,
    outside: OutsideDensity | None,
    half: int,
    mask: Volume,
    spec: RefineSpec,
    geometry: SearchGeometry,
    workers: int,
    cutoff_A: Float32 | None = None,
    magnification: float = 1.0,
) -> Reference:
    """Make the reference against which a half set is searched in the iteration that follows a step.

    Parameters
    ----------
    step : the last step, with half maps, FSC and low-pass
    outside : density outside the mask, or None when nothing is subtracted
    half : half set, 1 or 2
    mask : (n, n, n)
    spec : parameters of the refinement
    geometry : of the search
    workers : threads of the Fourier transforms
    cutoff_A : (n, n, n) low-pass of each voxel in place of the filter by the FSC, or None
    magnification : largest factor by which the frequencies of the map exceed those of the images

    Returns
    -------
    Reference
        With NumPy arrays; see `reference_to_device`.
    """
    gain = wiener_gain(step.fsc["corrected"].value)
    resolution = align_resolution_A(step.fsc["corrected"], spec, step.initial_lowpass_A)
    samples, period, spacing = resolution_bands(geometry, resolution, magnification)
    array = step.half_maps.half(half).data
    masked_ft = scipy.fft.rfftn(array * mask.data, workers=workers, overwrite_x=True)
    power = shell_mean(masked_ft.real**2 + masked_ft.imag**2, geometry.box, 3)
    variance = power * gain * (1 - gain) * (geometry.box**2 / geometry.area)
    if cutoff_A is None:
        filtered = filter_map(array, gain, workers)
    else:
        (filtered,) = local_lowpass((array,), geometry.pixel_size_A, cutoff_A, workers, butterworth)
    lattice: Lattice = make_lattice(geometry.limits, period, spacing)
    # Corrected for the quadratic B-spline of `evaluate_likelihood`. The lattice reads it trilinearly, for which the rim
    # of the window is up to 1 / sinc(1/4) too strong per axis. A first search tolerates it, and the mask is soft there.
    frame = SearchFrame(
        masked_window_ft(filtered, mask, geometry, samples, workers, magnification),
        samples,
        geometry.centre - geometry.fulcrum,
        geometry.fulcrum * geometry.pixel_size_A,
        geometry.limits,
        lattice,
        geometry.pixel_size_A,
    )
    outside_volume = map_to_fourier_volume(outside.maps[half - 1], outside.limit, workers) if outside else None
    return Reference(frame, variance, outside_volume)


def masked_window_ft(
    array: Float32,
    mask: Volume,
    geometry: SearchGeometry,
    samples: FourierSamples,
    workers: int,
    magnification: float = 1.0,
) -> FourierVolume:
    """Return the FT of a masked map, cropped to the window about the mask.

    Parameters
    ----------
    array : map, (n, n, n)
    mask : (n, n, n)
    geometry : of the search
    samples : Fourier samples of the window; the FT reaches as far as these
    workers : threads of the Fourier transforms
    magnification : largest factor by which the frequencies of the map exceed those of the images

    Returns
    -------
    FourierVolume
        Padded, corrected for the quadratic B-spline by which `evaluate_likelihood` reads it.
    """
    z, y, x = (int(c) for c in (geometry.centre + geometry.box // 2)[::-1])
    window = window_at(array * mask.data, (z, y, x), geometry.window)
    limit = min(int(np.ceil(magnification * np.hypot(samples.kx, samples.ky).max())), (geometry.window - 1) // 2)
    return map_to_fourier_volume(window, limit, workers, QUADRATIC)


def reference_to_device(reference: Reference, backend: Backend) -> Reference:
    """Return the reference with its volumes in the memory of the backend.

    Parameters
    ----------
    reference : with NumPy arrays
    backend : where the kernels run
    """
    frame = replace(reference.frame, volume=backend.volume_to_device(reference.frame.volume))
    outside = reference.outside and backend.volume_to_device(reference.outside)
    return replace(reference, frame=frame, outside=outside)
