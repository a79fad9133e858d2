"""Expectation: for a batch of windowed images, lattice → Levenberg–Marquardt → posterior (see the kernels)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.imaging.poses import displaced_poses, magnified_rotation
from lrcore.imaging.rotations import ball_lattice, relative_rotation, rotation_exp
from lrcore.kernels.local_search import PosteriorModes, SearchLimits
from lrcore.records import (
    FLAG_AMBIGUOUS,
    FLAG_AT_ROTATION_EXTENT,
    FLAG_AT_SHIFT_EXTENT,
    FLAG_BAD_IMAGE,
    OTHER_MODES,
    Expectation,
    Poses,
    WeightedPoses,
)
from lrcore.refinement.posterior import MIN_MODE_SHARE, backprojection_points, laplace_posterior

LATTICE_POINTS = 320
"""Rotations on the lattice at most."""
STARTS = 4
"""Lattice maxima that Newton starts from, besides the last pose."""
SCALE_SD = 0.3
"""Width of the prior of a particle's amplitude about 1."""
MIN_SCALE = 0.05
"""An amplitude below this is taken as this: the image would weigh nothing and never come back."""
UNAMBIGUOUS_ABOVE = 0.99
"""A mode that is more probable than this, and not at an extent, need not be looked for again on the lattice."""
AMBIGUOUS_BELOW = 0.75
"""A particle whose best mode is less probable than this is flagged."""


@dataclass(frozen=True)
class Lattice:
    """Where to look first.

    rotations: (L, 3, 3). vectors: (L, 3), their rotation vectors. near: (L, L), which belong to one maximum. shifts:
    along an axis, (T,) px. penalty_rotation: (L,). penalty_shift: (T, T).
    """

    rotations: Float64
    vectors: Float64
    near: npt.NDArray[np.bool_]
    shifts: Float64
    penalty_rotation: Float64
    penalty_shift: Float64


@dataclass(frozen=True)
class SearchFrame:
    """What the search of one half set shares. All lengths in pixels.

    volume: the masked reference about the mask's centre. lever: mask centre − fulcrum (x, y, z). fulcrum_A: (x, y, z)
    from the box centre. samples: the window's bands. limits: prior and extents. lattice: where to look first.
    """

    volume: FourierVolume
    samples: FourierSamples
    lever: Float64
    fulcrum_A: Float64
    limits: SearchLimits
    lattice: Lattice
    pixel_size_A: float

    @property
    def finest(self) -> float:
        """Radius of the finest sample, index units of the window."""
        return float(np.hypot(self.samples.kx, self.samples.ky).max())


def coarse_resolution(rotation: float, diameter: float) -> tuple[float, float]:
    """Finest period (px) whose lattice holds at most LATTICE_POINTS, and the lattice spacing in rad.

    rotation: extent, rad. diameter: of the mask, px. Spacing 0.7 · period / diameter; two points in a cell.
    """
    spacing = (2 * 4 / 3 * np.pi * rotation**3 / LATTICE_POINTS) ** (1 / 3)
    return float(spacing * diameter / 0.7), float(spacing)


def make_lattice(limits: SearchLimits, period: float, spacing: float) -> Lattice:
    """The lattice inside the extents; shifts a fifth of the coarse `period` (px) apart.

    It is a first look: of a prior that is not the same along all axes it knows the turns' part, as wide as a cell at
    least, and the mean width of the shifts.
    """
    vectors = ball_lattice(limits.rotation, spacing) if spacing > 0 else np.zeros((1, 3))
    count = int(np.ceil(limits.shift / max(period / 5, 0.5)))
    shifts = np.linspace(-limits.shift, limits.shift, 2 * count + 1)
    squared = shifts[:, None] ** 2 + shifts**2
    penalty = 0.5 * squared / limits.shift_sd**2
    penalty[squared > limits.shift**2 * (1 + 1e-9)] = 1e30
    held = np.eye(3) / limits.rotation_sd**2
    if limits.motion is not None:
        held = np.linalg.inv(limits.motion[:3, :3] + np.eye(3) * (0.5 * spacing) ** 2).astype(np.float64)
    penalty_rotation = 0.5 * np.einsum("li,ij,lj->l", vectors, held, vectors)
    near = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) < _maximum_separation(vectors)
    return Lattice(rotation_exp(vectors), vectors, near, shifts, penalty_rotation, penalty)


@dataclass(frozen=True)
class SearchRequest:
    """What is asked of B images.

    centres: the middle of the search and of the prior. last: the pose to start from besides the lattice. given: the
    input pose, for the gain. bad: (B,) no image, so no search. secure: (B,) these start from `last` alone. scale: (B,)
    the amplitude in the CTF of each image, or None to leave it. marginalize: points over the posterior. lens: what the
    map is seen through, (B, 3, 3), see `aberrations.lens`, or None.
    """

    centres: Poses
    last: Poses
    given: Poses
    bad: npt.NDArray[np.bool_]
    unambiguous: npt.NDArray[np.bool_]
    scale: Float64 | None
    marginalize: bool
    magnification_in_3d: Float64 | None = None

    @property
    def viewed_rotations(self) -> Float64:
        """With which the map is seen from the middle of the search: (B, 3, 3), what the kernels call centres."""
        return magnified_rotation(self.centres.rotation, self.magnification_in_3d)


def search_poses(
    W: Complex64, w: Float32, frame: SearchFrame, asked: SearchRequest, backend: Backend
) -> tuple[Expectation, WeightedPoses]:
    """Poses, covariance and flags of B images, and the points where they go into the map.

    W, w: (B, S) from `window`, cut about the mask's centre as `asked.centres` sees it.
    """
    centres, bad, lens, turns = asked.centres, asked.bad, asked.magnification_in_3d, asked.viewed_rotations
    current = poses_to_theta(centres, asked.last, frame, lens)
    starts, valid = _starting_poses(W, w, frame, turns, current, asked.unambiguous | bad, backend)
    modes = backend.kernels.find_posterior_modes(
        frame.volume, W, w, frame.samples, turns, starts, valid, frame.lever, frame.limits
    )
    found = laplace_posterior(modes, frame.limits, turns)
    probability = found.weight[:, 0]
    theta = np.where(bad[:, None], current, modes.theta[:, 0])
    band = len(frame.samples.ends) - 1
    given = poses_to_theta(centres, asked.given, frame, lens)[:, None]
    before = backend.kernels.evaluate_likelihood(frame.volume, W, w, frame.samples, band, turns, given, frame.lever)[
        :, 0
    ]
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])
    poses = theta_to_poses(centres, theta, frame, lens)
    expectation = Expectation(
        poses,
        found.covariance[:, 0] * np.outer(unit, unit),
        found.ess,
        probability,
        np.where(bad, 0.0, before - modes.likelihood[:, 0]),
        _flags(theta, probability, bad, frame.limits),
        np.ones(len(bad)) if asked.scale is None else _amplitude(W, w, frame, asked, theta, modes, backend),
        *_other_modes(modes, found.weight, bad, frame.pixel_size_A),
    )
    if not asked.marginalize:
        return expectation, WeightedPoses.from_poses(poses)
    others = [theta_to_poses(centres, modes.theta[:, m], frame, lens) for m in range(1, modes.theta.shape[1])]
    reach = PADDING * frame.finest
    return expectation, backprojection_points(found, [poses, *others], frame.fulcrum_A, frame.pixel_size_A, reach, lens)


def _other_modes(
    modes: PosteriorModes, weight: Float64, bad: npt.NDArray[np.bool_], pixel_size_A: float
) -> tuple[Float32, Float32]:
    """`other_modes` and `other_probability` of an `Expectation`."""
    theta, probability = modes.theta, weight[:, 1:].astype(np.float32)
    turned = relative_rotation(
        np.repeat(rotation_exp(theta[:, 0, :3]), OTHER_MODES, axis=0), rotation_exp(theta[:, 1:, :3].reshape(-1, 3))
    )
    moved = (theta[:, 1:, 3:] - theta[:, :1, 3:]) * pixel_size_A
    offset = np.concatenate([turned.reshape(*probability.shape, 3), moved], axis=2).astype(np.float32)
    none = (weight[:, 1:] < MIN_MODE_SHARE) | bad[:, None]
    offset[none], probability[none] = np.nan, 0.0
    return offset, probability


def _amplitude(
    W: Complex64,
    w: Float32,
    frame: SearchFrame,
    asked: SearchRequest,
    theta: Float64,
    modes: PosteriorModes,
    backend: Backend,
) -> Float64:
    """(B,) the most probable amplitude at the best pose, its prior N(1, SCALE_SD²); 1 for no image.

    −log p(s) = −2 s a + s² b + ½ (s − 1)² / SCALE_SD², where b is what `values` gives for no image at all.
    """
    assert asked.scale is not None
    band = len(frame.samples.ends) - 1
    here, turns = theta[:, None], asked.viewed_rotations
    power = backend.kernels.evaluate_likelihood(frame.volume, 0 * W, w, frame.samples, band, turns, here, frame.lever)[
        :, 0
    ]
    cross = 0.5 * (power - modes.likelihood[:, 0])
    held = SCALE_SD**-2.0
    found = (2 * cross / asked.scale + held) / (2 * power / asked.scale**2 + held)
    return np.where(asked.bad, 1.0, np.maximum(found, MIN_SCALE))


def _starting_poses(
    W: Complex64, w: Float32, frame: SearchFrame, centres: Float64, current: Float64, secure: npt.NDArray[np.bool_],
    backend: Backend,
) -> tuple[Float64, npt.NDArray[np.bool_]]:  # fmt: skip
    """(B, 1 + STARTS, 5) poses to start from and which of them are there: the last pose, and maxima of the lattice."""
    starts = np.zeros((len(W), 1 + STARTS, 5))
    valid = np.zeros((len(W), 1 + STARTS), np.bool_)
    starts[:, 0], valid[:, 0] = current, True
    wanted = np.nonzero(~secure)[0]
    if len(wanted):
        at = backend.to_device(wanted)
        starts[wanted, 1:], valid[wanted, 1:] = _lattice_maxima(W[at], w[at], frame, centres[wanted], backend)
    return starts, valid


def _lattice_maxima(
    W: Complex64, w: Float32, frame: SearchFrame, centres: Float64, backend: Backend
) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """The best STARTS poses of the lattice that are no neighbours, (B, STARTS, 5), and which of them are there."""
    lattice = frame.lattice
    value, where = backend.kernels.search_lattice(
        frame.volume, W, w, frame.samples, centres, lattice.rotations, frame.lever, lattice.shifts,
        lattice.penalty_shift,
    )  # fmt: skip
    value = value + lattice.penalty_rotation
    starts, valid = np.zeros((len(W), STARTS, 5)), np.ones((len(W), STARTS), np.bool_)
    rows = np.arange(len(W))
    grid = len(lattice.shifts)
    for m in range(STARTS):
        best = value.argmin(axis=1)
        valid[:, m] = np.isfinite(value[rows, best])
        at = where[rows, best]
        starts[:, m, :3] = lattice.vectors[best]
        starts[:, m, 3] = lattice.shifts[at % grid]
        starts[:, m, 4] = lattice.shifts[at // grid]
        value[lattice.near[best]] = np.inf
    return starts, valid


def _maximum_separation(vectors: Float64) -> float:
    """Lattice points closer than this belong to one maximum: 1.2 cells, so the 14 nearest of a point."""
    if len(vectors) < 2:
        return 1.0
    nearest = np.linalg.norm(vectors[1:], axis=1).min()
    return float(1.2 * nearest / np.sqrt(0.75))


def is_unambiguous(found: Expectation) -> npt.NDArray[np.bool_]:
    """Particles whose mode was beyond doubt: (n,). One that moved to an extent, or was no image, is not."""
    return (found.mode_probability > UNAMBIGUOUS_ABOVE) & (found.flags == 0)


def poses_to_theta(centres: Poses, poses: Poses, frame: SearchFrame, lens: Float64 | None = None) -> Float64:
    """θ (B, 5; rad, px) of box-frame poses, seen from the centres of the search, pulled inside the extents."""
    omega = relative_rotation(centres.rotation, poses.rotation)
    moved = (magnified_rotation(poses.rotation - centres.rotation, lens) @ frame.fulcrum_A)[:, :2]
    shift = (centres.origin_A + moved - poses.origin_A) / frame.pixel_size_A
    for part, limit in ((omega, frame.limits.rotation), (shift, frame.limits.shift)):
        length = np.linalg.norm(part, axis=1, keepdims=True)
        part *= np.minimum(1.0, limit / np.maximum(length, 1e-30))
    return np.concatenate([omega, shift], axis=1)


def theta_to_poses(centres: Poses, theta: Float64, frame: SearchFrame, lens: Float64 | None = None) -> Poses:
    """Box-frame poses of θ: A' = A exp(ω), o' = o + ((A' − A) f)_xy − t; the image of f as seen through the lens."""
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])
    return displaced_poses(centres, theta * unit, frame.fulcrum_A, lens)


def _flags(
    theta: Float64, probability: Float64, bad: npt.NDArray[np.bool_], limits: SearchLimits
) -> npt.NDArray[np.uint8]:
    rotation = np.linalg.norm(theta[:, :3], axis=1) > 0.99 * limits.rotation
    shift = np.linalg.norm(theta[:, 3:], axis=1) > 0.99 * limits.shift
    flags = FLAG_AT_ROTATION_EXTENT * rotation + FLAG_AT_SHIFT_EXTENT * shift
    flags = flags + FLAG_AMBIGUOUS * (probability < AMBIGUOUS_BELOW)
    return np.where(bad, FLAG_BAD_IMAGE, flags).astype(np.uint8)
