"""Records: the frozen data that everything else reads and none may change."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64, IntArray
from lrcore.html_repr import html_table


@dataclass(frozen=True)
class Optics:
    """One optics group: what its particles share. Aberration coefficients in RELION's units and order."""

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
    """Where the map lies in each image: a map point x (Å from the box centre) appears at (A x)_xy − o.

    rotation: (n, 3, 3) float64, A, map → image. origin_A: (n, 2) float64, o = (x, y) in Å.
    """

    rotation: Float64
    origin_A: Float64

    def __len__(self) -> int:
        return len(self.rotation)

    def select(self, rows: IntArray) -> "Poses":
        """The poses of the given rows, in their order."""
        return Poses(self.rotation[rows], self.origin_A[rows])


@dataclass(frozen=True)
class WeightedPoses:
    """Where images go into a map: P poses for each, with their shares of the image.

    rotation: (n, P, 3, 3), A. origin_A: (n, P, 2), o. share: (n, P) float32, of sum 1 for an image; 0 for no pose.
    """

    rotation: Float64
    origin_A: Float64
    share: Float32

    @classmethod
    def from_poses(cls, poses: Poses) -> "WeightedPoses":
        """One point for each image: its pose."""
        return cls(poses.rotation[:, None], poses.origin_A[:, None], np.ones((len(poses), 1), np.float32))


@dataclass(frozen=True)
class ImageSource:
    """Where the images are: `stacks[stack[i]]`, slice `index[i]` (0-based), times `sign[i]`. Nothing is read."""

    stacks: tuple[Path, ...]
    stack: npt.NDArray[np.int32]
    index: npt.NDArray[np.int64]
    sign: Float32


@dataclass(frozen=True)
class Particles:
    """The metadata of n particles; their images stay on disk.

    uid: (n,) uint64. half: (n,) int8, 1 or 2. group: (n,) int32 into `optics`. defocus_A: (n, 2) U, V (underfocus
    positive). defocus_angle_rad, phase_shift_rad, bfactor_A2, scale: (n,). source: the table it came from, kept by
    `io` so that an export loses nothing; `path` is that file. subtracted: what lies outside of a mask has been
    subtracted from the images on disk.
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
        """The particles of the given rows; `source` still holds the whole table, `uid` says which rows."""
        return replace(
            self,
            uid=self.uid[rows],
            half=self.half[rows],
            group=self.group[rows],
            poses=self.poses.select(rows),
            defocus_A=self.defocus_A[rows],
            defocus_angle_rad=self.defocus_angle_rad[rows],
            phase_shift_rad=self.phase_shift_rad[rows],
            bfactor_A2=self.bfactor_A2[rows],
            scale=self.scale[rows],
            images=replace(
                self.images,
                stack=self.images.stack[rows],
                index=self.images.index[rows],
                sign=self.images.sign[rows],
            ),
        )


@dataclass(frozen=True)
class Volume:
    """A cubic map. data: (n, n, n) float32 zyx. header_origin_A: (x, y, z) of the MRC header, kept for export."""

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
    """The two independently refined maps, unmasked and unfiltered; `half(1)` belongs to half set 1."""

    first: Volume
    second: Volume

    def half(self, number: int) -> Volume:
        """The half map of half set 1 or 2."""
        return self.first if number == 1 else self.second


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
"""Modes of a posterior that are kept beside the reported one: `kernels.find_posterior_modes.KEPT` less one."""


@dataclass(frozen=True)
class Expectation:
    """What the search found for n particles.

    poses: box frame. covariance: (n, 5, 5) of (ω_x, ω_y, ω_z, t_x, t_y) about the fulcrum, rad and Å, ω in the map
    frame. ess: (n,) effective number of modes. mode_probability: (n,) of the reported mode. gain: (n,) log-likelihood
    over the input pose. flags: (n,) uint8, bits of FLAG_NAMES. scale: (n,) amplitude of an image's signal over that of
    the reference, beside the scale in its file; its mean over a half set is 1. other_modes: (n, OTHER_MODES, 5) where
    else the posterior has a peak, from the reported pose as `poses.away` takes it; NaN for none. other_probability:
    (n, OTHER_MODES) of these; 0 for none.
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

    @classmethod
    def before_search(cls, poses: Poses) -> "Expectation":
        """What is known before any search."""
        n = len(poses)
        ones, nothing = np.ones(n), np.zeros(n)
        return cls(poses, np.zeros((n, 5, 5)), ones, ones, nothing, np.zeros(n, np.uint8), ones, *empty_other_modes(n))

    def select(self, rows: IntArray) -> "Expectation":
        """Of the given rows, in their order."""
        return Expectation(
            self.poses.select(rows),
            self.covariance[rows],
            self.ess[rows],
            self.mode_probability[rows],
            self.gain[rows],
            self.flags[rows],
            self.scale[rows],
            self.other_modes[rows],
            self.other_probability[rows],
        )


def empty_other_modes(n: int) -> tuple[Float32, Float32]:
    """`other_modes` and `other_probability` of n particles that have none."""
    return np.full((n, OTHER_MODES, 5), np.nan, np.float32), np.zeros((n, OTHER_MODES), np.float32)


@dataclass(frozen=True)
class Fsc:
    """One FSC curve. kind: what `fsc.family` calls it. frequency: (s,) 1/Å. value: (s,)."""

    kind: str
    frequency: Float64
    value: Float64

    def resolution_A(self, threshold: float = 0.143) -> float:
        """Å at the first crossing of `threshold`, interpolated between shells; the Nyquist limit if never crossed."""
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
    """One line of history: what an iteration did, in the numbers that convergence and the table need.

    skipped: particles whose images were none, so that they weigh nothing.
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


@dataclass(frozen=True)
class SearchSettings:
    """What the search of an iteration held: where it turned, how wide its prior was and how far it looked.

    fulcrum_A: (x, y, z) from the box centre. rotation_sd_deg, shift_sd_A: of the prior, infinite without one.
    recentred: the middle of the search was not the input pose. covariance: of a prior that is not the same along all
    axes, 6 by 6, row by row: of the body's turn about the fulcrum and its shift, rad and Å in the frame of the map;
    the SDs are then its mean widths.
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
    """One whole iteration, immutable and complete: the next one, or a report, needs nothing else but the job.

    iteration: 0 is the start (input poses, input half maps on the images' scale). expectation: of all particles, in
    their order. half_maps: unmasked, unfiltered. fsc: by kind. noise: (2, groups, shells) variance of an image's
    Fourier coefficients, by half set. initial_lowpass_A: low-pass of the next iteration's reference in Å; 0 means
    none. history: one Summary for every iteration up to this one. converged: nothing more to gain. question: what the
    search asked (`reference.question`), empty at the start. intensity: amplitude of each optics group's signal beside
    the scale in the file, measured at the start; empty for a single group. held: by the search that made it; None at
    the start, and of a run written before this was kept.
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
    search: SearchSettings | None = None

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
    """How far a step is: `done` of `total` particles in `stage` ("reconstruct", "start", "noise", "search")."""

    iteration: int
    stage: str
    done: int
    total: int
