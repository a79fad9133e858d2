"""Search the pose of each image of a batch: lattice, Levenberg–Marquardt, posterior (the E-step).

An image is searched about a centre, a pose (A, o), by θ = (ω, t), the rotation vector ω about the fulcrum f and the
shift t of the image of f,

    A' = A exp(ω),  o' = o + ((A' − A) f)_xy − t

with a Gaussian prior of precision P and the hard extents |ω| ≤ rotation extent, |t| ≤ shift extent:

    −log p(θ | X) = Σ_k [−2 Re conj(W) M(θ) + w |M(θ)|²] + ½ θᵀ P θ + const

W and w are the weighted image and its weights in the window, M the slice of the reference at θ (`kernels.whiten`,
`kernels.local_search`). Four steps:

1. Lattice: rotations on a lattice in the extent, all shifts on a grid, at a coarse resolution; its best maxima and the
   last pose are the starts. Particles whose last pose was unambiguous start from that alone.
2. Levenberg–Marquardt from each start, from the coarsest to the finest band; up to K modes are kept, and the best one
   is polished. In the finest band a single mode is polished at once; unambiguous particles are searched in this alone.
3. Laplace approximation at each mode (`posterior.laplace_posterior`): covariance and probability.
4. Points that represent the posterior in the reconstruction (`posterior.backprojection_points`).

Differs from RELION in that the pose is continuous, with a covariance, where RELION sums over a grid of orientations
and translations; and in that prior and extents are about the fulcrum of the body.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import PADDING
from lrcore.imaging.poses import displaced_poses, magnified_rotation
from lrcore.imaging.rotations import relative_rotation, rotation_exp
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
from lrcore.refinement.posterior import MIN_MODE_SHARE, PointGeometry, backprojection_points, laplace_posterior
from lrcore.refinement.presence import ALL_PRESENT, Shares, log_evidence, probability_of_presence
from lrcore.refinement.search_frame import SearchFrame
from lrcore.refinement.truncation import shorten_to

LATTICE_STARTS = 4
"""Number of lattice maxima from which Levenberg–Marquardt starts, besides the last pose."""
SCALE_SD = 0.3
"""SD of the prior of a particle's amplitude, about 1."""
MIN_SCALE = 0.05
"""Least amplitude: an image with none would have no weight and could never recover."""
UNAMBIGUOUS_ABOVE = 0.99
"""A pose whose mode is more probable than this, and not at an extent, is not searched on the lattice again."""
AMBIGUOUS_BELOW = 0.75
"""A particle whose best mode is less probable than this is flagged."""


@dataclass(frozen=True)
class SearchRequest:
    """Search of B images of one batch.

    Attributes
    ----------
    centres : centre of the search and of the prior of each image
    last : last poses, from which the search starts besides the lattice
    given : input poses, over which the gain in log-likelihood is reported
    bad : (B,) invalid images, which are not searched
    unambiguous : (B,) images that start from `last` alone
    scale : (B,) amplitude in the CTF of each image; None to not estimate it
    marginalize : True to represent the posterior by several points in the reconstruction
    magnification_in_3d : (B, 3, 3) L of `aberrations.magnification_in_3d`, or None
    shares : of the images by what they show, by which images are weighted in the reconstruction
    """

    centres: Poses
    last: Poses
    given: Poses
    bad: npt.NDArray[np.bool_]
    unambiguous: npt.NDArray[np.bool_]
    scale: Float64 | None
    marginalize: bool
    magnification_in_3d: Float64 | None = None
    shares: Shares = ALL_PRESENT

    @property
    def viewed_rotations(self) -> Float64:
        """Rotations by which the map is seen at the centres of the search, L A: (B, 3, 3), `centres` of the kernels."""
        return magnified_rotation(self.centres.rotation, self.magnification_in_3d)


def search_poses(
    W: Complex64, w: Float32, frame: SearchFrame, request: SearchRequest, backend: Backend
) -> tuple[Expectation, WeightedPoses]:
    """Search the poses of B images, and return what was found and the points to insert into the map.

    W, w: (B, S) of `whiten_windows`, cut about the centre of the mask as seen from `request.centres`. Poses are in the
    frame of the box; the covariance is of (ω, t), rad and Å. The gain is −log p at the input pose − that at the best
    pose.
    """
    centres, bad, views = request.centres, request.bad, request.viewed_rotations
    magnification = request.magnification_in_3d
    current = poses_to_theta(centres, request.last, frame, magnification)
    settled = request.unambiguous | bad
    starts, valid = _starting_poses(W, w, frame, views, current, settled, backend)
    modes = backend.kernels.find_posterior_modes(
        frame.volume, W, w, frame.samples, views, starts, valid, frame.lever, frame.limits, settled
    )
    gradient = _gradient_at_extents(W, w, frame, views, modes, backend)
    posterior = laplace_posterior(modes, frame.limits, views, gradient)
    probability = posterior.weight[:, 0]
    theta = np.where(bad[:, None], current, modes.theta[:, 0])
    band = len(frame.samples.ends) - 1
    given = poses_to_theta(centres, request.given, frame, magnification)[:, None]
    given_likelihood = backend.kernels.evaluate_likelihood(
        frame.volume, W, w, frame.samples, band, views, given, frame.lever
    )[:, 0]
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])
    poses = theta_to_poses(centres, theta, frame, magnification)
    evidence, misfit, presence = _presence(W, w, frame, request, theta, probability, backend)
    expectation = Expectation(
        poses,
        posterior.covariance[:, 0] * np.outer(unit, unit),
        posterior.ess,
        probability,
        np.where(bad, 0.0, given_likelihood - modes.likelihood[:, 0]),
        _flags(theta, probability, bad, frame.limits),
        np.ones(len(bad)) if request.scale is None else _amplitude(W, w, frame, request, theta, modes, backend),
        *_other_modes(modes, posterior.weight, bad, frame.pixel_size_A),
        (posterior.curvature / np.outer(unit, unit)).astype(np.float32),
        evidence,
        misfit,
        presence,
    )
    if not request.marginalize:
        return expectation, WeightedPoses.from_poses(poses).weighted(presence)
    others = [theta_to_poses(centres, modes.theta[:, m], frame, magnification) for m in range(1, modes.theta.shape[1])]
    geometry = PointGeometry(frame.limits, frame.fulcrum_A, frame.pixel_size_A, PADDING * frame.finest)
    points = backprojection_points(posterior, [poses, *others], modes.theta, geometry, magnification)
    return expectation, points.weighted(presence)


def _presence(
    W: Complex64,
    w: Float32,
    frame: SearchFrame,
    request: SearchRequest,
    theta: Float64,
    probability: Float64,
    backend: Backend,
) -> tuple[Float64, Float64, Float64]:
    """Return `evidence`, `misfit` and `presence` of an `Expectation`; 0, 0 and 1 where they are not asked for."""
    if frame.other_volume is None:
        return np.zeros(len(theta)), np.zeros(len(theta)), np.ones(len(theta))
    found = log_evidence(W, w, frame, request.viewed_rotations, theta, probability, backend)
    evidence, misfit = (np.where(request.bad, 0.0, each) for each in found)
    presence = probability_of_presence(evidence, misfit, request.shares)
    return evidence, misfit, np.where(request.bad, 0.0, presence)


def _gradient_at_extents(
    W: Complex64, w: Float32, frame: SearchFrame, views: Float64, modes: PosteriorModes, backend: Backend
) -> Float64:
    """Return the gradient (B, K, 5) of −log posterior at modes that stopped at an extent; 0 at all others."""
    gradient, band = np.zeros(modes.theta.shape), len(frame.samples.ends) - 1
    stopped = np.isfinite(modes.value) & np.logical_or(*_at_extents(modes.theta, frame.limits))
    precision = frame.limits.precision(views)
    for m in range(modes.theta.shape[1]):
        rows = np.nonzero(stopped[:, m])[0]
        if len(rows):
            index, theta = backend.to_device(rows), modes.theta[rows, m]
            _, slope, _ = backend.kernels.evaluate_with_derivatives(
                frame.volume, W[index], w[index], frame.samples, band, views[rows], theta, frame.lever
            )
            gradient[rows, m] = slope + np.einsum("bij,bj->bi", precision[rows], theta)
    return gradient


def _other_modes(
    modes: PosteriorModes, weight: Float64, bad: npt.NDArray[np.bool_], pixel_size_A: float
) -> tuple[Float32, Float32]:
    """Return `other_modes` (B, OTHER_MODES, 5) and `other_probability` (B, OTHER_MODES) of an `Expectation`."""
    theta, probability = modes.theta, weight[:, 1:].astype(np.float32)
    rotation = relative_rotation(
        np.repeat(rotation_exp(theta[:, 0, :3]), OTHER_MODES, axis=0), rotation_exp(theta[:, 1:, :3].reshape(-1, 3))
    )
    shift = (theta[:, 1:, 3:] - theta[:, :1, 3:]) * pixel_size_A
    offset = np.concatenate([rotation.reshape(*probability.shape, 3), shift], axis=2).astype(np.float32)
    absent = (weight[:, 1:] < MIN_MODE_SHARE) | bad[:, None]
    offset[absent], probability[absent] = np.nan, 0.0
    return offset, probability


def _amplitude(
    W: Complex64,
    w: Float32,
    frame: SearchFrame,
    request: SearchRequest,
    theta: Float64,
    modes: PosteriorModes,
    backend: Backend,
) -> Float64:
    """Return the most probable amplitude (B,) of each image at its best pose; 1 for invalid images.

    With the prior N(1, SCALE_SD²),

        −log p(s) = −2 s a + s² b + ½ (s − 1)² / SCALE_SD²,  a = Σ Re conj(W) M,  b = Σ w |M|²

    where b is the value for an image of zeros. W and w include the amplitude that is in the CTF already.
    """
    assert request.scale is not None
    band = len(frame.samples.ends) - 1
    best, views = theta[:, None], request.viewed_rotations
    power = backend.kernels.evaluate_likelihood(frame.volume, 0 * W, w, frame.samples, band, views, best, frame.lever)[
        :, 0
    ]
    cross = 0.5 * (power - modes.likelihood[:, 0])
    prior_precision = SCALE_SD**-2.0
    scale = (2 * cross / request.scale + prior_precision) / (2 * power / request.scale**2 + prior_precision)
    return np.where(request.bad, 1.0, np.maximum(scale, MIN_SCALE))


def _starting_poses(
    W: Complex64, w: Float32, frame: SearchFrame, centres: Float64, current: Float64,
    unambiguous: npt.NDArray[np.bool_], backend: Backend,
) -> tuple[Float64, npt.NDArray[np.bool_]]:  # fmt: skip
    """Return poses (B, 1 + STARTS, 5) to start from, the last pose first, and which of them are valid."""
    starts = np.zeros((len(W), 1 + LATTICE_STARTS, 5))
    valid = np.zeros((len(W), 1 + LATTICE_STARTS), np.bool_)
    starts[:, 0], valid[:, 0] = current, True
    searched = np.nonzero(~unambiguous)[0]
    if len(searched):
        indices = backend.to_device(searched)
        starts[searched, 1:], valid[searched, 1:] = _lattice_maxima(
            W[indices], w[indices], frame, centres[searched], backend
        )
    return starts, valid


def _lattice_maxima(
    W: Complex64, w: Float32, frame: SearchFrame, centres: Float64, backend: Backend
) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """Return the STARTS best, well-separated poses of the lattice, (B, STARTS, 5), and which of them are valid."""
    lattice = frame.lattice
    value, best_shift = backend.kernels.search_lattice(
        frame.volume, W, w, frame.samples, centres, lattice.rotations, frame.lever, lattice.shifts,
        lattice.penalty_shift,
    )  # fmt: skip
    value = value + lattice.penalty_rotation
    starts, valid = np.zeros((len(W), LATTICE_STARTS, 5)), np.ones((len(W), LATTICE_STARTS), np.bool_)
    rows = np.arange(len(W))
    grid = len(lattice.shifts)
    for m in range(LATTICE_STARTS):
        best = value.argmin(axis=1)
        valid[:, m] = np.isfinite(value[rows, best])
        shift_index = best_shift[rows, best]
        starts[:, m, :3] = lattice.vectors[best]
        starts[:, m, 3] = lattice.shifts[shift_index % grid]
        starts[:, m, 4] = lattice.shifts[shift_index // grid]
        value[lattice.same_maximum[best]] = np.inf
    return starts, valid


def _at_extents(theta: Float64, limits: SearchLimits) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which poses θ (..., 5) are at the extent of the rotation, and at that of the shift: (...) each."""
    rotation, shift = (np.linalg.norm(part, axis=-1) for part in (theta[..., :3], theta[..., 3:]))
    return rotation > 0.99 * limits.rotation, shift > 0.99 * limits.shift


def is_unambiguous(expectation: Expectation) -> npt.NDArray[np.bool_]:
    """Return which particles have no doubt about their mode: (n,). One at an extent, or with an invalid image, has."""
    return (expectation.mode_probability > UNAMBIGUOUS_ABOVE) & (expectation.flags == 0)


def poses_to_theta(
    centres: Poses, poses: Poses, frame: SearchFrame | PointGeometry, magnification: Float64 | None = None
) -> Float64:
    """Return θ of poses, seen from the centres of the search and limited to the extents.

        ω = log(Aᵀ A'),  t = o + ((A' − A) f)_xy − o'

    Parameters
    ----------
    centres : (A, o), centres of the search, B of them
    poses : (A', o'), in the frame of the box
    frame : fulcrum, extents and pixel size
    magnification : (B, 3, 3) of `aberrations.magnification_in_3d`, or None

    Returns
    -------
    ndarray
        (B, 5), rad and pixels.
    """
    omega = relative_rotation(centres.rotation, poses.rotation)
    moved = (magnified_rotation(poses.rotation - centres.rotation, magnification) @ frame.fulcrum_A)[:, :2]
    shift = (centres.origin_A + moved - poses.origin_A) / frame.pixel_size_A
    limits = frame.limits
    return np.concatenate([shorten_to(omega, limits.rotation), shorten_to(shift, limits.shift)], axis=1)


def theta_to_poses(centres: Poses, theta: Float64, frame: SearchFrame, magnification: Float64 | None = None) -> Poses:
    """Return poses in the frame of the box for θ (B, 5), rad and px: A' = A exp(ω), o' = o + ((A' − A) f)_xy − t."""
    unit = np.array([1.0, 1.0, 1.0, frame.pixel_size_A, frame.pixel_size_A])
    return displaced_poses(centres, theta * unit, frame.fulcrum_A, magnification)


def _flags(
    theta: Float64, probability: Float64, bad: npt.NDArray[np.bool_], limits: SearchLimits
) -> npt.NDArray[np.uint8]:
    """Return the flags (B,) of poses at an extent, ambiguous modes and invalid images."""
    rotation, shift = _at_extents(theta, limits)
    flags = FLAG_AT_ROTATION_EXTENT * rotation + FLAG_AT_SHIFT_EXTENT * shift
    flags = flags + FLAG_AMBIGUOUS * (probability < AMBIGUOUS_BELOW)
    return np.where(bad, FLAG_BAD_IMAGE, flags).astype(np.uint8)
