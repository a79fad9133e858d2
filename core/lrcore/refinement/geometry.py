"""Derive the geometry of the search (window, fulcrum, extents, prior, resolution bands) from mask and parameters.

A body is searched about a fulcrum f by θ = (ω, t): a rotation vector ω about f and a shift t of the image of f,

    A' = A exp(ω),  o' = o + ((A' − A) f)_xy − t,  |ω| ≤ rotation extent,  |t| ≤ shift extent

The images are cropped to a window about the centre of the mask, wide enough for the mask wherever the extents let it
go, so that the cost of a search follows the mask and not the box.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Float64
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.imaging.poses import magnified_rotation
from lrcore.kernels.local_search import SearchLimits
from lrcore.masks import centre_of_mass, farthest_voxel_distance
from lrcore.masks.geometry import sum_of_mask
from lrcore.records import Fsc, Poses, SearchSettings, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec, fulcrum_point
from lrcore.refinement.search_frame import coarse_resolution
from lrcore.units import DEGREE

MIN_ALIGN_SHELL = 3.0
"""Least number of shells of the window that are used to align, however low the FSC of the half maps."""
ALIGN_THRESHOLD = 0.143
"""Corrected FSC down to which information is used to align."""


@dataclass(frozen=True)
class SearchGeometry:
    """Geometry of the search that mask, fulcrum and parameters fix. Points (x, y, z) in pixels from the centre n // 2.

    Attributes
    ----------
    box : n, pixels
    pixel_size_A : Å
    centre : (3,), the voxel nearest to the centre of mass of the mask; middle of the window
    fulcrum : (3,)
    limits : prior and extents, rad and pixels
    window : edge of the window, pixels
    diameter : of the sphere with the volume of the mask, pixels
    area : of the projection of that sphere, pixels²
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
        """Fulcrum (x, y, z) in Å from the box centre."""
        x, y, z = (float(f) for f in self.fulcrum * self.pixel_size_A)
        return (x, y, z)

    @property
    def window_voxels(self) -> tuple[tuple[int, int, int], int]:
        """Voxel (z, y, x) of the box at the middle of the window, and its edge, for `imaging.grids.window_at`."""
        x, y, z = (int(c) + self.box // 2 for c in self.centre)
        return (z, y, x), self.window

    def centre_in(self, poses: Poses, magnification: Float64 | None = None) -> Float64:
        """Return where the middle of the window is seen in each image: (n, 2), (x, y) in pixels from the centre n // 2.

        poses: n of them. magnification: (n, 3, 3) of `aberrations.magnification_in_3d`, or None.
        """
        return seen_in_images(self.centre, poses.rotation, poses.origin_A, self.pixel_size_A, magnification)


def seen_in_images(
    point: Float64, rotation: Float64, origin_A: Float64, pixel_size_A: float, magnification: Float64 | None = None
) -> Float64:
    """Return where a point of the map is seen in images: (..., 2), (x, y) in pixels from the centre n // 2.

    point: (3,), pixels from the box centre. rotation: (..., 3, 3). origin_A: (..., 2). magnification: (B, 3, 3) of
    `aberrations.magnification_in_3d`, or None.
    """
    projected_A = (magnified_rotation(rotation, magnification) @ (point * pixel_size_A))[..., :2]
    return np.asarray((projected_A - origin_A) / pixel_size_A, np.float64)


@dataclass(frozen=True)
class MotionPrior:
    """Fulcrum and prior estimated from the motion that the last iteration found.

    Attributes
    ----------
    fulcrum_A : (x, y, z) of the search, Å from the box centre
    rotation_sd_deg, shift_sd_A : SDs of the prior per axis, degree and Å
    covariance : of an anisotropic prior, 6 × 6 row by row, as in `SearchSettings`; None if isotropic
    """

    fulcrum_A: tuple[float, float, float]
    rotation_sd_deg: float
    shift_sd_A: float
    covariance: tuple[float, ...] | None = None

    @classmethod
    def from_settings(cls, search: SearchSettings) -> "MotionPrior":
        """Return the prior that gives another search the settings of this one."""
        return cls(search.fulcrum_A, search.rotation_sd_deg, search.shift_sd_A, search.covariance)


def search_geometry(mask: Volume, spec: RefineSpec, estimated: MotionPrior | None = None) -> SearchGeometry:
    """Derive the geometry of a search.

    The window holds the mask wherever the extents let it go, up to the size of the box:

        radius = farthest voxel of the mask from the centre + shift extent + rotation extent · |centre − fulcrum|

    Extents that follow the prior are 3 SD of the wider of the given and the estimated prior, along its widest axis, so
    that no particle is cut off by a prior that became narrower.

    Parameters
    ----------
    mask : (n, n, n)
    spec : parameters of the refinement
    estimated : prior that replaces the fulcrum (`fulcrum=estimate`) and the SDs (`prior=motion`) of the parameters

    Returns
    -------
    SearchGeometry
        In pixels and rad.
    """
    apix = mask.pixel_size_A
    mass_centre = centre_of_mass(mask.data)
    centre = np.rint(mass_centre)
    x, y, z = (float(m) for m in mass_centre * apix)
    fulcrum = np.array(fulcrum_point(spec.fulcrum, mask.box, apix, (x, y, z), mask.header_origin_A)) / apix
    if estimated and spec.fulcrum == "estimate":
        fulcrum = np.array(estimated.fulcrum_A) / apix
    rotation_sd, shift_sd = spec.rotation_prior_sd_deg, spec.shift_prior_sd_A
    rotation_extent, shift_extent = spec.rotation_limit_deg, spec.shift_limit_A
    covariance = None
    if estimated and spec.prior == "motion":
        rotation_sd, shift_sd = estimated.rotation_sd_deg, estimated.shift_sd_A
        widest_sd, covariance = (rotation_sd, shift_sd), motion_prior_covariance(estimated, apix)
        if covariance is not None:
            largest = np.sqrt(
                [np.linalg.eigvalsh(covariance[block, block])[-1] for block in (slice(0, 3), slice(3, 6))]
            )
            widest_sd = (float(largest[0] / DEGREE), float(largest[1] * apix))
        rotation_extent = (
            max(rotation_extent, min(90.0, 3 * widest_sd[0])) if spec.rotation_extent_deg is None else rotation_extent
        )
        shift_extent = max(shift_extent, 3 * widest_sd[1]) if spec.shift_extent_A is None else shift_extent
    no_prior = spec.prior == "none"
    sd = (np.inf, np.inf) if no_prior else (rotation_sd * DEGREE, shift_sd / apix)
    limits = SearchLimits(rotation_extent * DEGREE, shift_extent / apix, *sd, motion=covariance)
    radius = (
        farthest_voxel_distance(mask.data, centre)
        + limits.shift
        + limits.rotation * float(np.linalg.norm(centre - fulcrum))
    )
    window = min(scipy.fft.next_fast_len(2 * int(np.ceil(radius) + 1), real=True), mask.box)
    sphere_radius = (3 * sum_of_mask(mask.data) / (4 * np.pi)) ** (1 / 3)
    return SearchGeometry(mask.box, apix, centre, fulcrum, limits, window, 2 * sphere_radius, np.pi * sphere_radius**2)


def motion_prior_covariance(
    prior: "MotionPrior | SearchSettings", unit_A: float = 1.0
) -> npt.NDArray[np.float64] | None:
    """Return the (6, 6) covariance of the motion (ω, d) that a prior describes, rad and `unit_A`; None if isotropic."""
    if prior.covariance is None:
        return None
    units = np.repeat([1.0, unit_A], 3)
    return np.reshape(prior.covariance, (6, 6)) / np.outer(units, units)


def search_limits(search: SearchSettings) -> SearchLimits:
    """Return the prior and the extents of a search in rad and Å.

    Parameters
    ----------
    search : settings of the search, as a step keeps them

    Returns
    -------
    SearchLimits
        With shifts in Å where the kernels take pixels.
    """
    sd = (search.rotation_sd_deg * DEGREE, search.shift_sd_A)
    extent = (search.rotation_extent_deg * DEGREE, search.shift_extent_A)
    return SearchLimits(*extent, *sd, motion=motion_prior_covariance(search))


def search_settings(geometry: SearchGeometry, spec: RefineSpec) -> SearchSettings:
    """Return the settings of a search in this geometry, as a step keeps them.

    Parameters
    ----------
    geometry : of the search
    spec : parameters of the refinement

    Returns
    -------
    SearchSettings
        In degree and Å.
    """
    limits, apix = geometry.limits, geometry.pixel_size_A
    units = np.repeat([1.0, apix], 3)
    motion = None if limits.motion is None else tuple((limits.motion * np.outer(units, units)).ravel().tolist())
    return SearchSettings(
        geometry.fulcrum_A,
        float(limits.rotation_sd / DEGREE),
        float(limits.shift_sd * apix),
        float(limits.rotation / DEGREE),
        float(limits.shift * apix),
        spec.recenter_rotations or spec.recenter_shifts,
        motion,
    )


def search_key(spec: RefineSpec, geometry: SearchGeometry) -> str:
    """Return a text that changes whenever poses found before have to be searched again on the whole lattice.

    It holds all parameters that affect the search, and the geometry that follows from the mask.
    """
    parameters = spec.model_dump(exclude={"max_iterations", "extra_final_passes", "seed"})
    return repr((parameters, geometry.box, geometry.centre.tolist(), geometry.window, geometry.diameter))


def align_resolution_A(fsc: Fsc, spec: RefineSpec, lowpass_A: float) -> float:
    """Return the finest resolution in Å used to align.

    It is where the FSC falls below 0.143, but not finer than the low-pass or `max_align_resolution_A`.

    Parameters
    ----------
    fsc : corrected FSC of the half maps
    spec : parameters of the refinement
    lowpass_A : low-pass of the reference in Å, 0 for none
    """
    limits = [fsc.resolution_A(ALIGN_THRESHOLD), lowpass_A, spec.max_align_resolution_A or 0.0]
    return max(limits)


def resolution_bands(
    geometry: SearchGeometry, resolution_A: float, magnification: float = 1.0
) -> tuple[FourierSamples, float, float]:
    """Return the Fourier samples of the window in up to three resolution bands, and the resolution of the lattice.

    Parameters
    ----------
    geometry : of the search
    resolution_A : finest resolution used to align, Å
    magnification : largest factor by which the frequencies of the map exceed those of the images

    Returns
    -------
    samples : FourierSamples
        Of the half plane, from coarse to fine.
    period : float
        Finest period that the lattice resolves, px.
    spacing : float
        Of the rotations of the lattice, rad.
    """
    limit = (geometry.window - 1) // 2 / magnification
    finest = min(max(geometry.window * geometry.pixel_size_A / resolution_A, MIN_ALIGN_SHELL), limit)
    period, spacing = coarse_resolution(geometry.limits.rotation, geometry.diameter)
    coarse = geometry.window / period if period > 0 else finest
    radii = [finest]
    if coarse < 0.8 * finest:
        radii = [coarse, finest] if finest < 2 * coarse else [coarse, float(np.sqrt(coarse * finest)), finest]
    return half_plane(geometry.window, tuple(radii)), max(period, geometry.window / finest), spacing


def fulcrum_A(job: Job) -> tuple[float, float, float]:
    """Return the fulcrum of a job, (x, y, z) in Å from the box centre.

    Parameters
    ----------
    job : input of the refinement
    """
    return search_geometry(job.mask, job.spec).fulcrum_A


def step_fulcrum_A(job: Job, step: Step) -> tuple[float, float, float]:
    """Return the fulcrum about which a step was searched, (x, y, z) in Å from the box centre.

    Parameters
    ----------
    job : input of the refinement, whose fulcrum is returned for a step that was not searched (step 0)
    step : of the run
    """
    return step.search.fulcrum_A if step.search else fulcrum_A(job)
