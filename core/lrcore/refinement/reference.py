"""What the images of one half set are compared with: masked reference, its error, and the rest of the particle."""

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
    """One half set's model in one iteration.

    frame: for the search. variance: (shells,) of the error of the masked reference's FT, as noise of the whole image.
    outside: what lies outside the mask, at the input poses, or None.
    """

    frame: SearchFrame
    variance: Float64
    outside: FourierVolume | None


@dataclass(frozen=True)
class OutsideDensity:
    """What lies outside the mask, the same in every iteration. maps: (2, n, n, n) by half set. limit: last shell."""

    maps: Float32
    limit: int


def outside_density(maps: HalfMaps, mask: Volume, spec: RefineSpec, workers: int) -> OutsideDensity | None:
    """Half maps × (1 − mask), filtered by √FSC there; None when that is nothing, or not to be subtracted.

    maps: of the run's Step 0. The particle, inside its tight mask, and what is about it are filtered each by its own
    FSC: with solvent in the same FSC, less of the particle would be known, and more noise be taken for it. √FSC gives
    a half map the power that its signal has; the FSC itself, its Wiener filter, would leave more of it behind.
    """
    if not spec.subtract_outside:
        return None
    n, first, second = mask.box, maps.first.data, maps.second.data
    keep = (1 - mask.data) * inscribed_sphere(n)
    near = cosine_falloff(outline_distance_A(first, second, mask.pixel_size_A, workers), TIGHT_A)
    rest, last = np.zeros((2, n, n, n), np.float32), 0
    for zone in (keep * near, keep * (1 - near)):
        gain = np.sqrt(wiener_gain(masked_fsc(first, second, zone, workers)))
        gain[0] = gain[1]  # the mean of a zone, of which images know nothing
        if gain.any():
            last = max(last, int(np.nonzero(gain)[0].max()) + 1)
            for half in (1, 2):
                rest[half - 1] += zone * filter_map(maps.half(half).data, gain, workers)
    return OutsideDensity(rest, min(last, (n - 1) // 2)) if last else None


def make_reference(
    step: Step,
    around: OutsideDensity | None,
    half: int,
    mask: Volume,
    spec: RefineSpec,
    shape: SearchGeometry,
    workers: int,
    cutoff_A: Float32 | None = None,
    stretch: float = 1.0,
) -> Reference:
    """The reference that half set `half` is searched against after `step`.

    cutoff_A: (n, n, n) low-pass of each voxel, in place of the filter that the FSC gives, or None. stretch: as in
    `bands`.
    """
    gain = wiener_gain(step.fsc["corrected"].value)
    resolution = align_resolution_A(step.fsc["corrected"], spec, step.initial_lowpass_A)
    samples, period, spacing = resolution_bands(shape, resolution, stretch)
    array = step.half_maps.half(half).data
    raw = scipy.fft.rfftn(array * mask.data, workers=workers, overwrite_x=True)
    raw_power = shell_mean(raw.real**2 + raw.imag**2, shape.box, 3)
    variance = raw_power * gain * (1 - gain) * (shape.box**2 / shape.area)
    if cutoff_A is None:
        filtered = filter_map(array, gain, workers)
    else:
        (filtered,) = local_lowpass((array,), shape.pixel_size_A, cutoff_A, workers, butterworth)
    lattice: Lattice = make_lattice(shape.limits, period, spacing)
    # Corrected for the quadratic kernel of `evaluate`; the lattice reads it trilinearly, for which the rim of the
    # window is up to 1 / sinc(1/4) too strong per axis: nothing to a first look, and the mask is soft there.
    frame = SearchFrame(
        masked_window_ft(filtered, mask, shape, samples, workers, stretch),
        samples,
        shape.centre - shape.fulcrum,
        shape.fulcrum * shape.pixel_size_A,
        shape.limits,
        lattice,
        shape.pixel_size_A,
    )
    outside = map_to_fourier_volume(around.maps[half - 1], around.limit, workers) if around else None
    return Reference(frame, variance, outside)


def masked_window_ft(
    array: Float32, mask: Volume, shape: SearchGeometry, samples: FourierSamples, workers: int, stretch: float = 1.0
) -> FourierVolume:
    """The FT of what the mask shows of a map (n, n, n), in the window about the mask, as far out as the samples go."""
    z, y, x = (int(c) for c in (shape.centre + shape.box // 2)[::-1])
    window = window_at(array * mask.data, (z, y, x), shape.window)
    limit = min(int(np.ceil(stretch * np.hypot(samples.kx, samples.ky).max())), (shape.window - 1) // 2)
    return map_to_fourier_volume(window, limit, workers, QUADRATIC)


def reference_to_device(reference: Reference, backend: Backend) -> Reference:
    """The reference with its volumes where the kernels work."""
    frame = replace(reference.frame, volume=backend.place(reference.frame.volume))
    rest = reference.outside and backend.place(reference.outside)
    return replace(reference, frame=frame, outside=rest)
