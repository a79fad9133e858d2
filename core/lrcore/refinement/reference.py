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
from functools import partial

import numpy as np
import scipy.fft

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.filters import butterworth, local_lowpass
from lrcore.imaging.fourier_volume import QUADRATIC, FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, shell_mean, window_at
from lrcore.imaging.map_spectrum import MapSpectrum
from lrcore.imaging.resampling import resample_mask
from lrcore.maps.fsc import wiener_gain
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.maps.solvent_mask import TIGHT_A, cosine_falloff
from lrcore.masks import inscribed_sphere
from lrcore.records import HalfMaps, Step, Volume
from lrcore.refinement.density_in_zone import density_in_zone, particle_outline
from lrcore.refinement.density_projector import DensityProjector, DensityWindow
from lrcore.refinement.geometry import SearchGeometry, align_resolution_A, resolution_bands
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.search_frame import Lattice, SearchFrame, make_lattice

SOLVENT_RESOLUTION_A = 8.0
"""Finest resolution to which density outside the outline of the particle is subtracted: it is disordered."""


@dataclass(frozen=True)
class Reference:
    """Model of one half set in one iteration.

    Attributes
    ----------
    frame : masked reference with what else the search of the half set shares
    variance : (shells,) of the error of the masked reference's FT, on the scale of the noise of the whole image
    outside : density outside the mask that is subtracted at the input poses, in parts; empty when nothing is
    """

    frame: SearchFrame
    variance: Float64
    outside: tuple[DensityProjector, ...]


@dataclass(frozen=True)
class OutsideDensity:
    """Density outside the mask, the same in every iteration of a run.

    Attributes
    ----------
    parts : inside the outline of the particle, and in the solvent; each as far as its half maps agree
    box : n, voxels of the box
    """

    parts: tuple[DensityWindow, ...]
    box: int

    def scaled(self, factors: Float32) -> "OutsideDensity":
        """Return the density with a factor (2,) for each half set."""
        return replace(self, parts=tuple(part.scaled(factors) for part in self.parts))

    def projectors(self, half: int, workers: int = 1) -> tuple[DensityProjector, ...]:
        """Return what projects the density of a half set into images. workers: threads of the FFT."""
        return tuple(part.projector(half, self.box, workers) for part in self.parts)

    def on_box(self) -> Float32:
        """Return the density of both half sets on the grid of the box, (2, n, n, n)."""
        return np.stack(
            [np.sum([part.on_box(half, self.box) for part in self.parts], axis=0, dtype=np.float32) for half in (1, 2)]
        )


def outside_density(
    maps: HalfMaps,
    mask: Volume,
    spec: RefineSpec,
    workers: int,
    spectra: HalfMapSpectra | None = None,
    finest: int | None = None,
) -> OutsideDensity | None:
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
    spectra : FTs of the half maps, if they are known
    finest : shell to which the half maps probably agree, for speed

    Returns
    -------
    OutsideDensity or None
        None when `subtract_outside` is off or the half maps have nothing in common outside the mask.
    """
    if not spec.subtract_outside:
        return None
    n, known = mask.box, spectra or HalfMapSpectra.from_maps(maps, workers)
    outline = particle_outline(known, mask.pixel_size_A, workers)

    def zone(is_particle: bool, m: int) -> Float32:
        """Return the weight of the particle, or of the solvent, outside the mask on a grid of m³ voxels."""
        particle = cosine_falloff(outline(m), TIGHT_A)
        outside = (1 - resample_mask(mask.data, m, n / m)) * inscribed_sphere(n, m)
        return outside * (particle if is_particle else 1 - particle)

    def gain(curve: Float64) -> Float64:
        found = np.sqrt(wiener_gain(curve))
        found[0] = found[1]  # the mean of a zone does not show in the images
        return found

    coarse = int(n * mask.pixel_size_A / SOLVENT_RESOLUTION_A)
    found = (
        density_in_zone(known, partial(zone, True), gain, finest, workers)[0],
        density_in_zone(known, partial(zone, False), gain, None, workers, coarse)[0],
    )
    parts = tuple(part for part in found if part is not None)
    return OutsideDensity(parts, n) if parts else None


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
    spectrum: MapSpectrum | None = None,
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
    spectrum : FT of the half map of the step, if it is known

    Returns
    -------
    Reference
        With NumPy arrays; see `reference_to_device`.
    """
    gain = wiener_gain(step.fsc["corrected"].value)
    resolution = align_resolution_A(step.fsc["corrected"], spec, step.initial_lowpass_A)
    samples, period, spacing = resolution_bands(geometry, resolution, magnification)
    array, window = step.half_maps.half(half).data, geometry.window_voxels
    variance = _masked_power(array, mask, geometry, workers) * gain * (1 - gain) * (geometry.box**2 / geometry.area)
    if cutoff_A is not None:
        (filtered,) = local_lowpass((array,), geometry.pixel_size_A, cutoff_A, workers, butterworth)
        filtered = window_at(filtered, *window)
    elif spectrum is not None:
        filtered = spectrum.window(spectrum.shell_table(gain), *window, workers)
    else:
        filtered = window_at(filter_map(array, gain, workers), *window)
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
    return Reference(frame, variance, outside.projectors(half, workers) if outside else ())


def _masked_power(array: Float32, mask: Volume, geometry: SearchGeometry, workers: int) -> Float64:
    """Return the mean of |FT(mask · map)|² in the shells of the box, from the window: (n // 2 + 1,)."""
    size, box = geometry.window, geometry.box
    masked = window_at(array, *geometry.window_voxels) * window_at(mask.data, *geometry.window_voxels)
    masked_ft = scipy.fft.rfftn(masked, workers=workers, overwrite_x=True)
    power = shell_mean(masked_ft.real**2 + masked_ft.imag**2, size, 3)
    return np.interp(np.arange(box // 2 + 1) * (size / box), np.arange(size // 2 + 1), power)


def masked_window_ft(
    window: Float32,
    mask: Volume,
    geometry: SearchGeometry,
    samples: FourierSamples,
    workers: int,
    magnification: float = 1.0,
) -> FourierVolume:
    """Return the FT of a masked map in the window about the mask.

    Parameters
    ----------
    window : of the map, (d, d, d), at `geometry.window_voxels`
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
    limit = min(int(np.ceil(magnification * np.hypot(samples.kx, samples.ky).max())), (geometry.window - 1) // 2)
    masked = window * window_at(mask.data, *geometry.window_voxels)
    return map_to_fourier_volume(masked, limit, workers, QUADRATIC)


def reference_to_device(reference: Reference, backend: Backend) -> Reference:
    """Return the reference with its volumes in the memory of the backend.

    Parameters
    ----------
    reference : with NumPy arrays
    backend : where the kernels run
    """
    other = reference.frame.other_volume
    frame = replace(
        reference.frame,
        volume=backend.volume_to_device(reference.frame.volume),
        other_volume=None if other is None else backend.volume_to_device(other),
    )
    return replace(reference, frame=frame, outside=tuple(part.to_device(backend) for part in reference.outside))
