"""Define the frozen records that all other modules exchange: particles, poses, maps and steps."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64, IntArray
from lrcore.html_repr import html_table


@dataclass(frozen=True)
class Optics:
    """Optics group: the microscope and image parameters that its particles share.

    Aberration coefficients have RELION's units and order.

    Attributes
    ----------
    name
        Name of the group.
    voltage_kV, cs_mm
        Acceleration voltage in kV and spherical aberration in mm.
    amplitude_contrast
        Q, a fraction.
    pixel_size_A, box
        Pixel size in Å and box in pixels of the images.
    beam_tilt_mrad
        (x, y) in mrad.
    odd_zernike, even_zernike
        Coefficients of the Zernike polynomials, see `lrcore.imaging.aberrations`.
    mag_matrix
        Anisotropic magnification (xx, xy, yx, yy).
    ctf_premultiplied
        The images on disk have been multiplied by their CTF.
    """

    name: str
    voltage_kV: float
    cs_mm: float
    amplitude_contrast: float
    pixel_size_A: float
    box: int
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    odd_zernike: tuple[float, ...] = ()
    even_zernike: tuple[float, ...] = ()
    mag_matrix: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    ctf_premultiplied: bool = False


@dataclass(frozen=True)
class Poses:
    """Poses of n particles: a map point x (Å from the box centre) appears in the image at (A x)_xy − o.

    Attributes
    ----------
    rotation : (n, 3, 3) float64
        A, map → image.
    origin_A : (n, 2) float64
        o = (x, y) in Å.
    """

    rotation: Float64
    origin_A: Float64

    def __len__(self) -> int:
        return len(self.rotation)

    def select(self, rows: IntArray) -> "Poses":
        """Return the poses of the given rows, in their order.

        Parameters
        ----------
        rows : (m,) int
            Row indices.
        """
        return Poses(self.rotation[rows], self.origin_A[rows])


@dataclass(frozen=True)
class WeightedPoses:
    """Poses at which images are inserted into a map: P poses for each image, with weights.

    Attributes
    ----------
    rotation : (n, P, 3, 3)
        A, map → image.
    origin_A : (n, P, 2)
        o = (x, y) in Å.
    share : (n, P) float32
        Weight of the pose; those of an image add up to its own weight. A weight of 0 marks an unused entry.
    """

    rotation: Float64
    origin_A: Float64
    share: Float32

    @classmethod
    def from_poses(cls, poses: Poses) -> "WeightedPoses":
        """Return one pose with weight 1 for each image."""
        return cls(poses.rotation[:, None], poses.origin_A[:, None], np.ones((len(poses), 1), np.float32))

    def weighted(self, weight: Float64) -> "WeightedPoses":
        """Return the poses with all weights of an image times a weight of the image, (n,)."""
        return WeightedPoses(self.rotation, self.origin_A, self.share * weight[:, None].astype(np.float32))


@dataclass(frozen=True)
class ImageSource:
    """Location of the images on disk: image i is slice `index[i]` of `stacks[stack[i]]`, times `sign[i]`.

    Attributes
    ----------
    stacks
        Paths of the image stacks.
    stack : (n,) int32
        Number of the stack of each image.
    index : (n,) int64
        Slice in its stack, from 0.
    sign : (n,) float32
        1, or −1 for an image whose contrast must be inverted.
    """

    stacks: tuple[Path, ...]
    stack: npt.NDArray[np.int32]
    index: npt.NDArray[np.int64]
    sign: Float32


@dataclass(frozen=True)
class Particles:
    """Metadata of n particles; their images stay on disk.

    Attributes
    ----------
    uid : (n,) uint64
        Unique identifiers.
    half : (n,) int8
        Half set, 1 or 2.
    group : (n,) int32
        Index into `optics`.
    optics
        The optics groups.
    poses
        Poses in the input table.
    defocus_A : (n, 2)
        U and V in Å, underfocus positive.
    defocus_angle_rad, phase_shift_rad, bfactor_A2, scale : (n,)
        The other CTF parameters, in rad and Å²; `scale` multiplies the CTF.
    images
        Location of the images on disk.
    path
        The file of the table.
    source
        The table as it was read; kept by `lrcore.io`, so that an export loses no column.
    subtracted
        Density outside a mask has been subtracted from the images on disk.
    """

    uid: npt.NDArray[np.uint64]
    half: npt.NDArray[np.int8]
    group: npt.NDArray[np.int32]
    optics: tuple[Optics, ...]
    poses: Poses
    defocus_A: Float64
    defocus_angle_rad: Float64
    phase_shift_rad: Float64
    bfactor_A2: Float64
    scale: Float64
    images: ImageSource
    path: Path
    source: Any = field(repr=False, default=None)
    subtracted: bool = False

    def __len__(self) -> int:
        return len(self.uid)

    @property
    def box(self) -> int:
        """Box of the images in pixels."""
        return self.optics[0].box

    @property
    def pixel_size_A(self) -> float:
        """Pixel size of the images in Å."""
        return self.optics[0].pixel_size_A

    def select(self, rows: IntArray) -> "Particles":
        """Return the particles of the given rows, in their order.

        `source` remains the whole table; `uid` identifies the selected rows in it.

        Parameters
        ----------
        rows : (m,) int
            Row indices.
        """
        each = (
            "uid", "half", "group", "defocus_A", "defocus_angle_rad", "phase_shift_rad", "bfactor_A2", "scale",
        )  # fmt: skip
        images = {name: getattr(self.images, name)[rows] for name in ("stack", "index", "sign")}
        columns = {name: getattr(self, name)[rows] for name in each}
        return replace(self, poses=self.poses.select(rows), images=replace(self.images, **images), **columns)


@dataclass(frozen=True)
class Volume:
    """Cubic map.

    Attributes
    ----------
    data : (n, n, n) float32, zyx
        Density or mask values.
    pixel_size_A
        Voxel size in Å.
    header_origin_A
        (x, y, z) origin of the MRC header in Å, kept for export.
    path
        The file it was read from, if any.
    """

    data: Float32
    pixel_size_A: float
    header_origin_A: tuple[float, float, float] = (0.0, 0.0, 0.0)
    path: Path | None = None

    @property
    def box(self) -> int:
        """Box in voxels."""
        return int(self.data.shape[-1])

    def _repr_html_(self) -> str:
        low, high = float(self.data.min()), float(self.data.max())
        rows = {
            "box": f"{self.box}³ voxels of {self.pixel_size_A:g} Å",
            "values": f"{low:.3g} to {high:.3g}",
            "file": self.path or "none",
        }
        if low >= 0 and 0.5 < high <= 1:
            inside = float((self.data > 0.5).sum()) * self.pixel_size_A**3
            rows["above 0.5"] = f"{inside:,.0f} Å³, {100 * float((self.data > 0.5).mean()):.2g} % of the box"
        return html_table("Map", rows)


@dataclass(frozen=True)
class HalfMaps:
    """The two independently refined maps, unmasked and unfiltered.

    Attributes
    ----------
    first, second
        Maps of half set 1 and half set 2.
    """

    first: Volume
    second: Volume

    def half(self, number: int) -> Volume:
        """Return the half map of half set 1 or 2.

        Parameters
        ----------
        number
            1 or 2.
        """
        return self.first if number == 1 else self.second


@dataclass(frozen=True)
class BodyMaps:
    """Half maps of the refined body alone, in the window about its mask.

    Attributes
    ----------
    half_maps : (D, D, D) each
        Unmasked and unfiltered.
    held : (D, D, D) float32
        Share of the start's density that they hold: the mask, or 1 where nothing was subtracted from the images.
    centre
        Middle D // 2 of the window, (x, y, z) in voxels from the centre of the whole box.
    corrected
        Mask-corrected FSC of the half maps, at the shells of the whole box.
    """

    half_maps: HalfMaps
    held: Float32
    centre: tuple[int, int, int]
    corrected: "Fsc"


FLAG_AT_ROTATION_EXTENT = 1
FLAG_AT_SHIFT_EXTENT = 2
FLAG_AMBIGUOUS = 4
FLAG_BAD_IMAGE = 8
FLAG_NAMES = {
    FLAG_AT_ROTATION_EXTENT: "at_rotation_extent",
    FLAG_AT_SHIFT_EXTENT: "at_shift_extent",
    FLAG_AMBIGUOUS: "ambiguous",
    FLAG_BAD_IMAGE: "bad_image",
}

OTHER_MODES = 3
"""Modes of a posterior that are kept besides the reported one: one less than `lrcore.kernels.constants.MAX_MODES`."""


@dataclass(frozen=True)
class Expectation:
    """Result of the search for n particles.

    Attributes
    ----------
    poses
        The reported poses, in the frame of the box.
    covariance : (n, 5, 5)
        Covariance of (ω_x, ω_y, ω_z, t_x, t_y) about the fulcrum in rad and Å, ω in the frame of the map, of the
        posterior inside the extents of the search.
    ess : (n,)
        Effective number of modes of the posterior.
    mode_probability : (n,)
        Probability of the reported mode.
    gain : (n,)
        Log-likelihood of the reported pose minus that of the input pose.
    flags : (n,) uint8
        Bits of FLAG_NAMES.
    scale : (n,)
        Amplitude of the signal of the image relative to the reference, after the scale in the file has been applied;
        the mean over a half set is 1.
    other_modes : (n, OTHER_MODES, 5) float32
        The other modes of the posterior as displacements (ω, t) from the reported pose, see
        `lrcore.imaging.poses.displaced_poses`; NaN where there is none.
    other_probability : (n, OTHER_MODES) float32
        Their probabilities; 0 where there is none.
    curvature : (n, 5, 5) float32
        Curvature of −log posterior at the reported pose in 1/rad² and 1/Å², which no extent has cut.
    evidence : (n,)
        Log evidence of the body against no density, see `lrcore.refinement.presence`; 0 where it was not measured.
    misfit : (n,)
        The same of something else, such as a contaminant.
    presence : (n,)
        Probability that the image holds the body; 1 where it was not measured.
    """

    poses: Poses
    covariance: Float64
    ess: Float64
    mode_probability: Float64
    gain: Float64
    flags: npt.NDArray[np.uint8]
    scale: Float64
    other_modes: Float32
    other_probability: Float32
    curvature: Float32
    evidence: Float64
    misfit: Float64
    presence: Float64

    @classmethod
    def before_search(cls, poses: Poses) -> "Expectation":
        """Return the expectation of the start: the given poses, zero covariance and a single mode."""
        n = len(poses)
        ones, nothing = np.ones(n), np.zeros(n)
        flags, curvature = np.zeros(n, np.uint8), np.zeros((n, 5, 5), np.float32)
        zero = np.zeros((n, 5, 5))
        others = empty_other_modes(n)
        return cls(poses, zero, ones, ones, nothing, flags, ones, *others, curvature, nothing, nothing, ones)

    @property
    def is_present(self) -> npt.NDArray[np.bool_]:
        """Return which images probably hold the body: (n,)."""
        return self.presence > 0.5

    def select(self, rows: IntArray) -> "Expectation":
        """Return the expectation of the given rows, in their order."""
        columns = [getattr(self, field.name)[rows] for field in fields(self)[1:]]
        return Expectation(self.poses.select(rows), *columns)


def empty_other_modes(n: int) -> tuple[Float32, Float32]:
    """Return `other_modes` (NaN) and `other_probability` (0) of n particles with a single mode."""
    return np.full((n, OTHER_MODES, 5), np.nan, np.float32), np.zeros((n, OTHER_MODES), np.float32)


@dataclass(frozen=True)
class Fsc:
    """One FSC curve.

    Attributes
    ----------
    kind
        A key of `lrcore.maps.fsc.fsc_curves`, such as "masked".
    frequency : (s,)
        1/Å.
    value : (s,)
        FSC of each shell.
    """

    kind: str
    frequency: Float64
    value: Float64

    def resolution_A(self, threshold: float = 0.143) -> float:
        """Return the resolution in Å at which the FSC first falls below a threshold, linear between shells.

        Parameters
        ----------
        threshold
            FSC value of the crossing.

        Returns
        -------
        Å; the Nyquist limit if the curve never falls below the threshold.
        """
        below = np.nonzero(self.value[1:] < threshold)[0]
        if len(below) == 0:
            return float(1.0 / self.frequency[-1])
        i = int(below[0]) + 1
        if i == 1:
            return float(1.0 / self.frequency[1])
        high, low = self.value[i - 1], self.value[i]
        crossing = self.frequency[i - 1] + (high - threshold) / (high - low) * (
            self.frequency[i] - self.frequency[i - 1]
        )
        return float(1.0 / crossing)


@dataclass(frozen=True)
class IterationSummary:
    """Statistics of one iteration for the convergence criterion and the table of iterations.

    Attributes
    ----------
    iteration
        Number of the step; 0 is the start.
    resolution_masked_A, resolution_corrected_A
        Resolution at FSC 0.143 inside the mask and after mask correction, in Å.
    align_resolution_A
        Finest resolution that the search used, in Å.
    angle_from_input_deg, shift_from_input_A
        Median change of the poses from the input poses.
    angle_since_last_deg, shift_since_last_A
        Median change of the poses from the previous step.
    change_in_sd
        Change of the poses from the previous step in units of their posterior SDs.
    at_rotation_extent, at_shift_extent
        Fractions of the particles at the extents of the search.
    seconds, particles_per_s
        Time and speed of each stage.
    memory_MB
        Peak memory in MB.
    lattice_share
        Fraction of the particles that were searched on the lattice.
    skipped
        Particles skipped because of invalid images.
    present_share
        Share of the particles that hold the body: mean probability of presence.
    """

    iteration: int
    resolution_masked_A: float
    resolution_corrected_A: float
    align_resolution_A: float
    angle_from_input_deg: float
    shift_from_input_A: float
    angle_since_last_deg: float
    shift_since_last_A: float
    change_in_sd: float
    at_rotation_extent: float
    at_shift_extent: float
    seconds: dict[str, float]
    particles_per_s: dict[str, float]
    memory_MB: float
    lattice_share: float = 0.0
    skipped: int = 0
    present_share: float = 1.0


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search of one iteration: fulcrum, prior and extents.

    Attributes
    ----------
    fulcrum_A
        (x, y, z) in Å from the box centre.
    rotation_sd_deg, shift_sd_A
        SDs of the prior; infinite without one. Mean SDs if the prior has a `covariance`.
    rotation_extent_deg, shift_extent_A
        Hard limits of the search.
    recentred
        The search was centred on the poses of the previous step, not on the input poses.
    covariance
        36 values of an anisotropic prior, a (6, 6) matrix row by row: of the rotation of the body about the fulcrum and
        of its shift, in rad and Å, in the frame of the map. None for an isotropic prior.
    """

    fulcrum_A: tuple[float, float, float]
    rotation_sd_deg: float
    shift_sd_A: float
    rotation_extent_deg: float
    shift_extent_A: float
    recentred: bool
    covariance: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One complete iteration. Together with the job it is all that the next iteration or a report needs.

    Attributes
    ----------
    iteration
        Number of the step; 0 is the start (input poses, input half maps on the scale of the images).
    expectation
        Result of the search for all particles, in their order.
    half_maps
        Unmasked and unfiltered half maps of the whole box: from whole images, or those of the start with the body of
        this step in them (`lrcore.maps.body_maps.MapsAmidStart`).
    fsc
        FSC curves by kind.
    noise : (2, groups, shells)
        Variance of the Fourier coefficients of an image, by half set.
    initial_lowpass_A
        Low-pass of the next iteration's reference in Å; 0 for none.
    history
        The IterationSummary of every iteration up to this one.
    converged
        The convergence criterion was met.
    search_key
        Identifies the settings of the search, see `lrcore.refinement.geometry.search_key`; empty at the start.
    intensity
        Amplitude of the signal of each optics group relative to the scale in the file, measured at the start; empty for
        a single group.
    outside_fraction
        By half set, fraction of the density outside the mask that was in the images at the start; below 1 where it had
        been subtracted before.
    search
        Settings of the search; None at the start and for runs written by versions that did not store them.
    settings_key
        Identifies spec and mask, see `lrcore.refinement.parameter_effects.settings_key`; empty at the start.
    settings_since
        Number of the iteration after which spec and mask have been those of `settings_key`.
    body
        Half maps of the body in its window, which the next iteration goes on from; None at the start, and where an
        iteration works on whole images.
    """

    iteration: int
    expectation: Expectation
    half_maps: HalfMaps
    fsc: dict[str, Fsc]
    noise: Float64
    initial_lowpass_A: float
    history: tuple[IterationSummary, ...]
    converged: bool = False
    search_key: str = ""
    intensity: tuple[float, ...] = ()
    outside_fraction: tuple[float, float] = (1.0, 1.0)
    search: SearchSettings | None = None
    settings_key: str = ""
    settings_since: int = 0
    body: BodyMaps | None = None

    @property
    def corrected(self) -> Fsc:
        """Mask-corrected FSC from which the next iteration goes on: of the body where there is one."""
        return self.body.corrected if self.body else self.fsc["corrected"]

    def _repr_html_(self) -> str:
        now = self.history[-1]
        corrected = f"corrected {now.resolution_corrected_A:.2f} Å"
        rows = {
            "resolution inside the mask": f"{now.resolution_masked_A:.2f} Å, {corrected}",
            "from the input": f"{now.angle_from_input_deg:.2f}°, {now.shift_from_input_A:.2f} Å (median)",
            "since the last": f"{now.angle_since_last_deg:.2f}°, {now.shift_since_last_A:.2f} Å (median)",
            "at extents": f"{100 * now.at_rotation_extent:.1f} % rotation, {100 * now.at_shift_extent:.1f} % shift",
            "particles": f"{len(self.expectation.poses):,}",
        }
        return html_table(f"Iteration {self.iteration}" + (", converged" if self.converged else ""), rows)


@dataclass(frozen=True)
class Progress:
    """Progress of a step.

    Attributes
    ----------
    iteration
        Number of the step.
    stage
        "reconstruct", "start", "noise", "learn", "search" or the name of an analysis.
    done, total
        Particles (or points of a map) that are finished, and all of them.
    """

    iteration: int
    stage: str
    done: int
    total: int
