"""What the images of one half set are compared with: masked reference, its error, and the rest of the particle."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.backend import Backend
from lrcore.filters import butterworth, local_lowpass
from lrcore.fourier import QUADRATIC, FourierVolume, filter_map, from_map
from lrcore.fsc import masked_correlation, wiener_gain
from lrcore.grids import Float32, Samples, half_plane, shell_mean, window_at
from lrcore.kernels.newton import Limits
from lrcore.masks import centre_of_mass, inscribed_sphere, reach
from lrcore.poses import seen_through
from lrcore.records import Fsc, HalfMaps, Held, Poses, Step, Volume
from lrcore.search import Frame, Lattice, coarse_resolution, make_lattice
from lrcore.solvent import TIGHT_A, falling, outline_distance_A
from lrcore.spec import RefineSpec, fulcrum_point
from lrcore.units import DEGREE

Float64 = npt.NDArray[np.float64]

COARSEST = 3.0
"""Shells of the window that are used for the poses at least, however little the half maps have in common."""
ALIGN_THRESHOLD = 0.143
"""Information is used for the poses up to where the corrected FSC falls below this."""


@dataclass(frozen=True)
class Geometry:
    """What the mask, the fulcrum and the spec fix for a whole run. Lengths in pixels, (x, y, z) from n // 2.

    centre: voxel nearest the mask's centre of mass, the middle of the window. fulcrum: (3,). window: D. diameter: of
    the sphere with the mask's volume. area: of that sphere's shadow.
    """

    box: int
    pixel_size_A: float
    centre: Float64
    fulcrum: Float64
    limits: Limits
    window: int
    diameter: float
    area: float

    @property
    def fulcrum_A(self) -> tuple[float, float, float]:
        """The fulcrum (x, y, z) in Å from the box centre."""
        x, y, z = (float(f) for f in self.fulcrum * self.pixel_size_A)
        return (x, y, z)

    def centre_in(self, poses: Poses, lens: Float64 | None = None) -> Float64:
        """Where the middle of the window lies in each image, through the lens if any: (n, 2), pixels from n // 2."""
        centre_A = self.centre * self.pixel_size_A
        return ((seen_through(poses.rotation, lens) @ centre_A)[:, :2] - poses.origin_A) / self.pixel_size_A


@dataclass(frozen=True)
class Learned:
    """What an iteration takes from the motion that the last one found.

    fulcrum_A: (x, y, z) from the box centre, where the search is to turn. rotation_sd_deg, shift_sd_A, covariance: of
    the prior about it, as in `Held`.
    """

    fulcrum_A: tuple[float, float, float]
    rotation_sd_deg: float
    shift_sd_A: float
    covariance: tuple[float, ...] | None = None

    @classmethod
    def of(cls, search: Held) -> "Learned":
        """What makes another search hold the same."""
        return cls(search.fulcrum_A, search.rotation_sd_deg, search.shift_sd_A, search.covariance)


def geometry(mask: Volume, spec: RefineSpec, learned: Learned | None = None) -> Geometry:
    """The geometry of a job; the window holds the mask wherever the extents let it go, up to the box.

    learned: what takes the place of the spec's fulcrum (`estimate`) and of its SDs (`motion`). Extents that follow the
    prior are 3 SD of the wider one, along its widest axis, so that a prior that narrows cuts nobody off.
    """
    apix = mask.pixel_size_A
    mass = centre_of_mass(mask.data)
    centre = np.rint(mass)
    x, y, z = (float(m) for m in mass * apix)
    fulcrum = np.array(fulcrum_point(spec.fulcrum, mask.box, apix, (x, y, z), mask.header_origin_A)) / apix
    if learned and spec.fulcrum == "estimate":
        fulcrum = np.array(learned.fulcrum_A) / apix
    turn, shift = spec.rotation_prior_sd_deg, spec.shift_prior_sd_A
    far, wide = spec.rotation_limit_deg, spec.shift_limit_A
    motion = None
    if learned and spec.prior == "motion":
        turn, shift = learned.rotation_sd_deg, learned.shift_sd_A
        widest, motion = (turn, shift), motion_prior(learned, apix)
        if motion is not None:
            largest = np.sqrt([np.linalg.eigvalsh(motion[part, part])[-1] for part in (slice(0, 3), slice(3, 6))])
            widest = (float(largest[0] / DEGREE), float(largest[1] * apix))
        far = max(far, min(90.0, 3 * widest[0])) if spec.rotation_extent_deg is None else far
        wide = max(wide, 3 * widest[1]) if spec.shift_extent_A is None else wide
    free = spec.prior == "none"
    sd = (np.inf, np.inf) if free else (turn * DEGREE, shift / apix)
    limits = Limits(far * DEGREE, wide / apix, *sd, motion=motion)
    radius = reach(mask.data, centre) + limits.shift + limits.rotation * float(np.linalg.norm(centre - fulcrum))
    window = min(scipy.fft.next_fast_len(2 * int(np.ceil(radius) + 1), real=True), mask.box)
    ball = (3 * float(mask.data.sum(dtype=np.float64)) / (4 * np.pi)) ** (1 / 3)
    return Geometry(mask.box, apix, centre, fulcrum, limits, window, 2 * ball, np.pi * ball**2)


def motion_prior(of: "Learned | Held", unit_A: float = 1.0) -> npt.NDArray[np.float64] | None:
    """(6, 6) covariance of the motion that a prior is for, rad and `unit_A`; None where it is the same on all axes."""
    if of.covariance is None:
        return None
    units = np.repeat([1.0, unit_A], 3)
    return np.reshape(of.covariance, (6, 6)) / np.outer(units, units)


def limits_of(search: Held) -> Limits:
    """The prior and the extents that a search held, rad and Å."""
    sd = (search.rotation_sd_deg * DEGREE, search.shift_sd_A)
    extent = (search.rotation_extent_deg * DEGREE, search.shift_extent_A)
    return Limits(*extent, *sd, motion=motion_prior(search))


def held(shape: Geometry, spec: RefineSpec) -> Held:
    """What a search in this geometry holds."""
    limits, apix = shape.limits, shape.pixel_size_A
    units = np.repeat([1.0, apix], 3)
    motion = None if limits.motion is None else tuple((limits.motion * np.outer(units, units)).ravel().tolist())
    return Held(
        shape.fulcrum_A,
        float(limits.rotation_sd / DEGREE),
        float(limits.shift_sd * apix),
        float(limits.rotation / DEGREE),
        float(limits.shift * apix),
        spec.recenter_rotations or spec.recenter_shifts,
        motion,
    )


def question(spec: RefineSpec, shape: Geometry) -> str:
    """What the search asks: changes whenever a pose that was found with another spec or mask has to be doubted."""
    asked = spec.model_dump(exclude={"max_iterations", "extra_final_passes", "seed"})
    return repr((asked, shape.box, shape.centre.tolist(), shape.window, shape.diameter))


def align_resolution_A(fsc: Fsc, spec: RefineSpec, lowpass_A: float) -> float:
    """The finest resolution used for the poses: FSC 0.143, not beyond the low-pass or the spec's maximum."""
    limits = [fsc.resolution_A(ALIGN_THRESHOLD), lowpass_A, spec.max_align_resolution_A or 0.0]
    return max(limits)


def bands(shape: Geometry, resolution_A: float, stretch: float = 1.0) -> tuple[Samples, float, float]:
    """The window's samples in up to three bands, and the period (px) and spacing (rad) of the lattice.

    stretch: how much farther out the map is read than the images, at most.
    """
    rim = (shape.window - 1) // 2 / stretch
    finest = min(max(shape.window * shape.pixel_size_A / resolution_A, COARSEST), rim)
    period, spacing = coarse_resolution(shape.limits.rotation, shape.diameter)
    coarse = shape.window / period if period > 0 else finest
    radii = [finest]
    if coarse < 0.8 * finest:
        radii = [coarse, finest] if finest < 2 * coarse else [coarse, float(np.sqrt(coarse * finest)), finest]
    return half_plane(shape.window, tuple(radii)), max(period, shape.window / finest), spacing


@dataclass(frozen=True)
class Reference:
    """One half set's model in one iteration.

    frame: for the search. variance: (shells,) of the error of the masked reference's FT, as noise of the whole image.
    outside: what lies outside the mask, at the input poses, or None.
    """

    frame: Frame
    variance: Float64
    outside: FourierVolume | None


@dataclass(frozen=True)
class Surroundings:
    """What lies outside the mask, the same in every iteration. maps: (2, n, n, n) by half set. limit: last shell."""

    maps: Float32
    limit: int


def surroundings(maps: HalfMaps, mask: Volume, spec: RefineSpec, workers: int) -> Surroundings | None:
    """Half maps × (1 − mask), filtered by √FSC there; None when that is nothing, or not to be subtracted.

    maps: of the run's Step 0. The particle, inside its tight mask, and what is about it are filtered each by its own
    FSC: with solvent in the same FSC, less of the particle would be known, and more noise be taken for it. √FSC gives
    a half map the power that its signal has; the FSC itself, its Wiener filter, would leave more of it behind.
    """
    if not spec.subtract_outside:
        return None
    n, first, second = mask.box, maps.first.data, maps.second.data
    keep = (1 - mask.data) * inscribed_sphere(n)
    near = falling(outline_distance_A(first, second, mask.pixel_size_A, workers), TIGHT_A)
    rest, last = np.zeros((2, n, n, n), np.float32), 0
    for zone in (keep * near, keep * (1 - near)):
        gain = np.sqrt(wiener_gain(masked_correlation(first, second, zone, workers)))
        gain[0] = gain[1]  # the mean of a zone, of which images know nothing
        if gain.any():
            last = max(last, int(np.nonzero(gain)[0].max()) + 1)
            for half in (1, 2):
                rest[half - 1] += zone * filter_map(maps.half(half).data, gain, workers)
    return Surroundings(rest, min(last, (n - 1) // 2)) if last else None


def prepare(
    step: Step, around: Surroundings | None, half: int, mask: Volume, spec: RefineSpec, shape: Geometry, workers: int,
    cutoff_A: Float32 | None = None, stretch: float = 1.0,
) -> Reference:  # fmt: skip
    """The reference that half set `half` is searched against after `step`.

    cutoff_A: (n, n, n) low-pass of each voxel, in place of the filter that the FSC gives, or None. stretch: as in
    `bands`.
    """
    gain = wiener_gain(step.fsc["corrected"].value)
    resolution = align_resolution_A(step.fsc["corrected"], spec, step.initial_lowpass_A)
    samples, period, spacing = bands(shape, resolution, stretch)
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
    frame = Frame(
        windowed(filtered, mask, shape, samples, workers, stretch),
        samples,
        shape.centre - shape.fulcrum,
        shape.fulcrum * shape.pixel_size_A,
        shape.limits,
        lattice,
        shape.pixel_size_A,
    )
    outside = from_map(around.maps[half - 1], around.limit, workers) if around else None
    return Reference(frame, variance, outside)


def windowed(
    array: Float32, mask: Volume, shape: Geometry, samples: Samples, workers: int, stretch: float = 1.0
) -> FourierVolume:
    """The FT of what the mask shows of a map (n, n, n), in the window about the mask, as far out as the samples go."""
    z, y, x = (int(c) for c in (shape.centre + shape.box // 2)[::-1])
    window = window_at(array * mask.data, (z, y, x), shape.window)
    limit = min(int(np.ceil(stretch * np.hypot(samples.kx, samples.ky).max())), (shape.window - 1) // 2)
    return from_map(window, limit, workers, QUADRATIC)


def placed(reference: Reference, backend: Backend) -> Reference:
    """The reference with its volumes where the kernels work."""
    frame = replace(reference.frame, volume=backend.place(reference.frame.volume))
    rest = reference.outside and backend.place(reference.outside)
    return replace(reference, frame=frame, outside=rest)
