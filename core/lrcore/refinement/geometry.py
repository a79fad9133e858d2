"""Derive the search geometry (window, fulcrum, extents, prior, resolution bands) from mask and parameters."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Float64
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.imaging.poses import magnified_rotation
from lrcore.kernels.local_search import SearchLimits
from lrcore.masks import centre_of_mass, farthest_voxel_distance
from lrcore.records import Fsc, Poses, SearchSettings, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec, fulcrum_point
from lrcore.refinement.search import coarse_resolution
from lrcore.units import DEGREE

MIN_ALIGN_SHELL = 3.0
"""Shells of the window that are used for the poses at least, however little the half maps have in common."""
ALIGN_THRESHOLD = 0.143
"""Information is used for the poses up to where the corrected FSC falls below this."""


@dataclass(frozen=True)
class SearchGeometry:
    """What the mask, the fulcrum and the spec fix for a whole run. Lengths in pixels, (x, y, z) from n // 2.

    centre: voxel nearest the mask's centre of mass, the middle of the window. fulcrum: (3,). window: D. diameter: of
    the sphere with the mask's volume. area: of that sphere's shadow.
    """

    box: int
    pixel_size_A: float
    centre: Float64
    fulcrum: Float64
    limits: SearchLimits
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
        return ((magnified_rotation(poses.rotation, lens) @ centre_A)[:, :2] - poses.origin_A) / self.pixel_size_A


@dataclass(frozen=True)
class MotionPrior:
    """What an iteration takes from the motion that the last one found.

    fulcrum_A: (x, y, z) from the box centre, where the search is to turn. rotation_sd_deg, shift_sd_A, covariance: of
    the prior about it, as in `Held`.
    """

    fulcrum_A: tuple[float, float, float]
    rotation_sd_deg: float
    shift_sd_A: float
    covariance: tuple[float, ...] | None = None

    @classmethod
    def from_settings(cls, search: SearchSettings) -> "MotionPrior":
        """What makes another search hold the same."""
        return cls(search.fulcrum_A, search.rotation_sd_deg, search.shift_sd_A, search.covariance)


def search_geometry(mask: Volume, spec: RefineSpec, learned: MotionPrior | None = None) -> SearchGeometry:
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
        widest, motion = (turn, shift), motion_prior_covariance(learned, apix)
        if motion is not None:
            largest = np.sqrt([np.linalg.eigvalsh(motion[part, part])[-1] for part in (slice(0, 3), slice(3, 6))])
            widest = (float(largest[0] / DEGREE), float(largest[1] * apix))
        far = max(far, min(90.0, 3 * widest[0])) if spec.rotation_extent_deg is None else far
        wide = max(wide, 3 * widest[1]) if spec.shift_extent_A is None else wide
    free = spec.prior == "none"
    sd = (np.inf, np.inf) if free else (turn * DEGREE, shift / apix)
    limits = SearchLimits(far * DEGREE, wide / apix, *sd, motion=motion)
    radius = (
        farthest_voxel_distance(mask.data, centre)
        + limits.shift
        + limits.rotation * float(np.linalg.norm(centre - fulcrum))
    )
    window = min(scipy.fft.next_fast_len(2 * int(np.ceil(radius) + 1), real=True), mask.box)
    ball = (3 * float(mask.data.sum(dtype=np.float64)) / (4 * np.pi)) ** (1 / 3)
    return SearchGeometry(mask.box, apix, centre, fulcrum, limits, window, 2 * ball, np.pi * ball**2)


def motion_prior_covariance(of: "MotionPrior | SearchSettings", unit_A: float = 1.0) -> npt.NDArray[np.float64] | None:
    """(6, 6) covariance of the motion that a prior is for, rad and `unit_A`; None where it is the same on all axes."""
    if of.covariance is None:
        return None
    units = np.repeat([1.0, unit_A], 3)
    return np.reshape(of.covariance, (6, 6)) / np.outer(units, units)


def search_limits(search: SearchSettings) -> SearchLimits:
    """The prior and the extents that a search held, rad and Å."""
    sd = (search.rotation_sd_deg * DEGREE, search.shift_sd_A)
    extent = (search.rotation_extent_deg * DEGREE, search.shift_extent_A)
    return SearchLimits(*extent, *sd, motion=motion_prior_covariance(search))


def search_settings(shape: SearchGeometry, spec: RefineSpec) -> SearchSettings:
    """What a search in this geometry holds."""
    limits, apix = shape.limits, shape.pixel_size_A
    units = np.repeat([1.0, apix], 3)
    motion = None if limits.motion is None else tuple((limits.motion * np.outer(units, units)).ravel().tolist())
    return SearchSettings(
        shape.fulcrum_A,
        float(limits.rotation_sd / DEGREE),
        float(limits.shift_sd * apix),
        float(limits.rotation / DEGREE),
        float(limits.shift * apix),
        spec.recenter_rotations or spec.recenter_shifts,
        motion,
    )


def search_key(spec: RefineSpec, shape: SearchGeometry) -> str:
    """What the search asks: changes whenever a pose that was found with another spec or mask has to be doubted."""
    asked = spec.model_dump(exclude={"max_iterations", "extra_final_passes", "seed"})
    return repr((asked, shape.box, shape.centre.tolist(), shape.window, shape.diameter))


def align_resolution_A(fsc: Fsc, spec: RefineSpec, lowpass_A: float) -> float:
    """The finest resolution used for the poses: FSC 0.143, not beyond the low-pass or the spec's maximum."""
    limits = [fsc.resolution_A(ALIGN_THRESHOLD), lowpass_A, spec.max_align_resolution_A or 0.0]
    return max(limits)


def resolution_bands(
    shape: SearchGeometry, resolution_A: float, stretch: float = 1.0
) -> tuple[FourierSamples, float, float]:
    """The window's samples in up to three bands, and the period (px) and spacing (rad) of the lattice.

    stretch: how much farther out the map is read than the images, at most.
    """
    rim = (shape.window - 1) // 2 / stretch
    finest = min(max(shape.window * shape.pixel_size_A / resolution_A, MIN_ALIGN_SHELL), rim)
    period, spacing = coarse_resolution(shape.limits.rotation, shape.diameter)
    coarse = shape.window / period if period > 0 else finest
    radii = [finest]
    if coarse < 0.8 * finest:
        radii = [coarse, finest] if finest < 2 * coarse else [coarse, float(np.sqrt(coarse * finest)), finest]
    return half_plane(shape.window, tuple(radii)), max(period, shape.window / finest), spacing


def fulcrum_A(job: Job) -> tuple[float, float, float]:
    """The job's fulcrum (x, y, z) in Å from the box centre."""
    return search_geometry(job.mask, job.spec).fulcrum_A


def fulcrum_of(job: Job, step: Step) -> tuple[float, float, float]:
    """The fulcrum (x, y, z) in Å from the box centre that a step was searched about; the job's, if it was by none."""
    return step.search.fulcrum_A if step.search else fulcrum_A(job)
