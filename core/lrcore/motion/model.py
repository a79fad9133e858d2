"""How the body moves: one Gaussian of motions for all particles, and from it the fulcrum and the widths of the priors.

Each body moves by m = (ω, d), a rotation vector and a translation of a reference point c, in the frame of the map;
m ~ N(μ, Ψ). An image sees ω and the part of d in its plane, θ = (ω, (A d)_xy) = B m, with the precision J and the
information h = J θ̂ of its likelihood: that of the posterior less that of the prior. Maximum likelihood (`motion_fit`):

    Λ = Bᵀ J B + Ψ⁻¹,  ⟨m⟩ = Λ⁻¹ (Bᵀ h + Ψ⁻¹ μ),  and the best Ψ is the mean of Λ⁻¹ + (⟨m⟩ − μ)(⟨m⟩ − μ)ᵀ

so that errors of the poses are not taken for motion. Poses in a wrong mode, which no Gaussian describes, are a second
class about as wide as the extents; particles count by the probability that they are of the first.

A point at y moves by d + ω × (y − c). The fulcrum is the point that moves least, the minimum of E|u(y)|².
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.rotations import projected_motion, relative_rotation, rotation_exp
from lrcore.kernels.local_search import SearchLimits
from lrcore.motion.anisotropy import ROTATION_ANISOTROPY_DOF, anisotropy_chi2, mean_widths
from lrcore.motion.fit import (
    INITIAL_OUTLIER_SHARE,
    MapFrameEvidence,
    MotionParameters,
    covariance_error,
    maximise,
    symmetric_basis,
)
from lrcore.particles.bad_images import bad_image_mask
from lrcore.records import Expectation, Particles, Poses

REFITS = 2
"""How often the motion is fitted again about the fulcrum that was found."""
MAX_IMAGES = 20_000
"""Particles that are looked at; more tell hardly more of 27 numbers."""


@dataclass(frozen=True)
class MotionEvidence:
    """What n images say of the motion of their body about `reference_A` (x, y, z), Å from the box centre.

    precision: (n, 5, 5) J and information: (n, 5) h of θ, rad and Å, of the likelihood alone. plane: (n, 2, 3), the
    rows of A that make x and y. extent: (rad, Å), how far a pose may be from its middle.
    """

    reference_A: Float64
    precision: Float64
    information: Float64
    plane: Float64
    extent: tuple[float, float]

    def select(self, rows: npt.NDArray[np.integer]) -> "MotionEvidence":
        """Of the given rows."""
        return MotionEvidence(
            self.reference_A, self.precision[rows], self.information[rows], self.plane[rows], self.extent
        )


def motion_between_poses(before: Poses, after: Poses, reference_A: Float64, behind: Float64 | None = None) -> Float64:
    """θ (n, 5) from poses `before` to `after`: ω in rad, and the shift of the image of the reference point in Å."""
    moved = (magnified_rotation(after.rotation - before.rotation, behind) @ reference_A)[:, :2]
    shift = before.origin_A + moved - after.origin_A
    return np.concatenate([relative_rotation(before.rotation, after.rotation), shift], axis=1)


def motion_evidence(
    particles: Particles,
    found: Expectation,
    centres: Poses,
    limits: SearchLimits,
    fulcrum_A: tuple[float, float, float],
) -> tuple[MotionEvidence, npt.NDArray[np.int64]]:
    """What the images say when the prior is taken out of what was found, and the rows of those that say anything.

    particles: at their input poses, from which motions are counted. centres: middles of the search and of the prior.
    limits: prior and extents of the search, rad and Å. fulcrum_A: of the search, (x, y, z) from the centre.
    """
    reference = np.array(fulcrum_A, dtype=np.float64)
    rows = np.nonzero(~bad_image_mask(found.flags))[0]
    if len(rows) > MAX_IMAGES:
        rows = rows[:: -(-len(rows) // MAX_IMAGES)]
    behind = magnification_in_3d(particles, rows)
    given, middle, here = (poses.select(rows) for poses in (particles.poses, centres, found.poses))
    held = limits.precision(magnified_rotation(middle.rotation, behind))
    whole = np.linalg.inv(found.covariance[rows])
    information = np.einsum("nij,nj->ni", whole, motion_between_poses(given, here, reference, behind))
    information -= np.einsum("nij,nj->ni", held, motion_between_poses(given, middle, reference, behind))
    values, vectors = np.linalg.eigh(whole - held)
    precision = (vectors * np.maximum(values, 0.0)[:, None]) @ vectors.transpose(0, 2, 1)
    plane = magnified_rotation(given.rotation, behind)[:, :2]
    return MotionEvidence(reference, precision, information, plane, (limits.rotation, limits.shift)), rows


@dataclass(frozen=True)
class Motion:
    """The motion of a body.

    reference_A: (3,) c. mean: (6,) μ and covariance: (6, 6) Ψ of (ω, d), rad and Å. error: (21, 21) covariance of the
    upper triangle of Ψ. outliers: share of particles in the second class; astray: (2,) its variances, of turns and of
    shifts. member: (n,) probability of not being there. coordinates, spread: (n, 6) ⟨m⟩ and (n, 6, 6) Λ⁻¹ of each.
    """

    reference_A: Float64
    mean: Float64
    covariance: Float64
    error: Float64
    outliers: float
    outlier_variance: Float64
    inlier_probability: Float64
    coordinates: Float64
    coordinate_covariance: Float64


def fit_motion(
    seen: MotionEvidence, prior_sd: tuple[float, float] = (0.09, 3.0), begin: Motion | None = None
) -> Motion:
    """The motion that makes the sights most probable.

    prior_sd: (rad, Å), what is held to, weakly, where the sights say nothing. begin: a motion to climb from, by default
    one that is as wide as that.
    """
    given = np.diag(np.repeat(np.array(prior_sd, dtype=np.float64) ** 2, 3))
    turn, shift = seen.extent
    astray = np.array([turn**2 / 5, shift**2 / 4])
    first = MotionParameters(np.zeros(6), given, INITIAL_OUTLIER_SHARE, astray)
    if begin is not None:
        to = lever_arm_transform(seen.reference_A - begin.reference_A)
        first = MotionParameters(to @ begin.mean, to @ begin.covariance @ to.T, begin.outliers, begin.outlier_variance)
    weighed = MapFrameEvidence(*_evidence_in_map_frame(seen), seen.precision, seen.information, given, astray)
    state, found = maximise(weighed, first)
    return Motion(
        seen.reference_A,
        state.mean,
        state.covariance,
        covariance_error(weighed, state, found),
        state.outliers,
        state.outlier_variance,
        found.inlier_probability,
        found.mean,
        found.covariance,
    )


def _evidence_in_map_frame(seen: MotionEvidence) -> tuple[Float64, Float64]:
    """Bᵀ J B (n, 6, 6) and Bᵀ h (n, 6)."""
    B = projected_motion(seen.plane)
    G = B.transpose(0, 2, 1) @ seen.precision @ B
    return G, np.einsum("nij,ni->nj", B, seen.information)


@dataclass(frozen=True)
class FulcrumEstimate:
    """Where a body turns, and how far.

    fulcrum_A: (3,) (x, y, z) from the box centre; covariance_A2: (3, 3) of its error. free: (k, 3) unit directions in
    which the data say little of it, and it was left where it was. rotation_sd: rad and shift_sd_A: Å about it, root
    mean squares over the axes: what a prior should be as wide as; and the SDs of their errors. turns: (3, 3) covariance
    of the turns, rad². uneven: χ² of 5 degrees of freedom of their being the same about all axes.
    """

    fulcrum_A: Float64
    covariance_A2: Float64
    free_directions: Float64
    rotation_sd: float
    shift_sd_A: float
    rotation_sd_error: float
    shift_sd_error_A: float
    rotation_covariance: Float64
    anisotropy_chi2: float

    @property
    def axes(self) -> tuple[Float64, Float64]:
        """SDs (3,) in rad of the turns about their own axes, the largest first, and these axes, (3, 3) in rows."""
        values, vectors = np.linalg.eigh(self.rotation_covariance)
        return np.sqrt(np.maximum(values[::-1], 0.0)), vectors.T[::-1]

    @property
    def has_dominant_axis(self) -> bool:
        """Whether the body turns about one axis more than about another, beyond doubt."""
        sds, _ = self.axes
        return bool(self.anisotropy_chi2 > ANISOTROPY_CHI2 and sds[0] > ANISOTROPY_RATIO * sds[-1])

    @property
    def undetermined(self) -> tuple[str, ...]:
        """Which widths the data do not tell, "rotation" or "shift": those left near where they began."""
        errors = {
            "rotation": self.rotation_sd_error / self.rotation_sd,
            "shift": self.shift_sd_error_A / self.shift_sd_A,
        }
        return tuple(name for name, error in errors.items() if error > MAX_RELATIVE_ERROR)


ANISOTROPY_RATIO = 2.0
"""Width of the turns about one axis over that about another, from which on one width for all is a poor prior,"""
ANISOTROPY_CHI2 = 40.0
"""if that is so sure: a χ² of five degrees of freedom."""
MAX_RELATIVE_ERROR = 0.15
"""A width is not told when its error is more than this share of it."""
FREE_DIRECTION_ERROR = 0.5
"""A direction is free when the error along it is more than this share of `reach_A`."""


def fit_about_fulcrum(
    seen: MotionEvidence, prior_sd: tuple[float, float], reach_A: float, home_A: Float64 | None = None
) -> tuple[Motion, FulcrumEstimate]:
    """The motion about its own fulcrum, and the fulcrum: fitted, and fitted again with the reference point there.

    About a point far from the fulcrum, what a turn shifts is no linear function of it, and the larger turns widen the
    error. prior_sd: as in `fit`. reach_A, home_A: as in `hinge`; home is the reference of `seen` by default.
    """
    home = seen.reference_A if home_A is None else home_A
    motion = fit_motion(seen, prior_sd)
    found = estimate_fulcrum(motion, reach_A, home)
    for _ in range(REFITS):
        motion = fit_motion(with_reference_point(seen, found.fulcrum_A, motion), prior_sd, motion)
        found = estimate_fulcrum(motion, reach_A, home)
    return motion, found


def with_reference_point(seen: MotionEvidence, reference_A: Float64, motion: Motion) -> MotionEvidence:
    """The same sights of another reference point. motion: as fitted, which says how far each body has turned.

    With r to the new point, its shift is t + A (exp(ω) − 1) r. That is linear in ω near ⟨ω⟩, where it is taken, plus
    the mean of the second order over what is left unknown of ω.
    """
    r = reference_A - seen.reference_A
    turned = motion.coordinates[:, :3]
    R, J = rotation_exp(turned), so3_right_jacobian(turned)
    lever = -R @ _cross(r) @ J  # of exp(ω) r, along ω
    left = J @ motion.coordinate_covariance[:, :3, :3] @ J.transpose(0, 2, 1)
    second = 0.5 * (left @ r - np.trace(left, axis1=1, axis2=2)[:, None] * r)
    moved = R @ r - r + np.einsum("nij,nj->ni", R, second) - np.einsum("nij,nj->ni", lever, turned)
    back = np.tile(np.eye(5), (len(seen.plane), 1, 1))  # from the new θ to the old one, less `shift`
    back[:, 3:, :3] = -seen.plane @ lever
    shift = np.einsum("nij,nj->ni", seen.plane, moved)
    pull = seen.information + np.einsum("nij,nj->ni", seen.precision[:, :, 3:], shift)
    precision = back.transpose(0, 2, 1) @ seen.precision @ back
    return MotionEvidence(reference_A, precision, np.einsum("nji,nj->ni", back, pull), seen.plane, seen.extent)


def so3_right_jacobian(vectors: Float64) -> Float64:
    """J (n, 3, 3) of rotation vectors (n, 3): exp(ω + δ) is exp(ω) exp(J δ) to first order."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    small = np.maximum(angle, 1e-4)
    cross = np.zeros((len(vectors), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -vectors[:, 2], vectors[:, 1], -vectors[:, 0]
    cross -= cross.transpose(0, 2, 1)
    first, second = (1 - np.cos(small)) / small**2, (small - np.sin(small)) / small**3
    return np.asarray(np.eye(3) - first * cross + second * cross @ cross, dtype=np.float64)


def estimate_fulcrum(motion: Motion, reach_A: float, home_A: Float64 | None = None) -> FulcrumEstimate:
    """The fulcrum of a motion and the widths about it. reach_A: how far from home it may be, as the mask's radius.

    In a direction that the motion does not determine (all of it about one axis; too few particles) it is drawn to
    home_A, by default the reference point c, by a Gaussian of the width `reach_A`.
    """
    r = _point_of_least_motion(motion.covariance)
    slopes = np.stack([_fulcrum_derivative(motion.covariance, basis) for basis in symmetric_basis()], axis=1)
    told = np.linalg.pinv(slopes @ motion.error @ slopes.T, hermitian=True)
    covariance = np.asarray(np.linalg.inv(told + np.eye(3) / reach_A**2), dtype=np.float64)
    home = np.zeros(3) if home_A is None else home_A - motion.reference_A
    r = covariance @ (told @ r + home / reach_A**2)
    values, vectors = np.linalg.eigh(covariance)
    turn, shift = _per_axis(motion.covariance, r)
    # At the fulcrum the shifts are least: where it is changes them by nothing of first order.
    moments = np.array([_per_axis_squares(basis, r) for basis in symmetric_basis()])
    errors = np.sqrt(np.einsum("ai,ab,bi->i", moments, motion.error, moments))
    return FulcrumEstimate(
        motion.reference_A + r,
        covariance,
        vectors.T[np.sqrt(np.maximum(values, 0.0)) > FREE_DIRECTION_ERROR * reach_A],
        turn,
        shift,
        float(errors[0] / (2 * turn)),
        float(errors[1] / (2 * shift)),
        motion.covariance[:3, :3],
        anisotropy_chi2(motion.covariance, motion.error, ROTATION_ANISOTROPY_DOF),
    )


def prior_widths(motion: Motion, point_A: Float64) -> tuple[float, float]:
    """SDs (rad, Å) per axis that a prior about the input poses and a point has to have: of the mean, too."""
    turn, shift = mean_widths(second_moment_at(motion, point_A))
    return float(turn), float(shift)


def second_moment_at(motion: Motion, point_A: Float64) -> Float64:
    """(6, 6) second moment of the motion about the input poses, of the mean, too, seen at another point; rad and Å."""
    to = lever_arm_transform(point_A - motion.reference_A)
    return np.asarray(to @ (motion.covariance + np.outer(motion.mean, motion.mean)) @ to.T, dtype=np.float64)


def lever_arm_transform(r: Float64) -> Float64:
    """(6, 6): the motion of the reference point as that of the point at r from it, d + ω × r = d − [r]× ω."""
    return np.block([[np.eye(3), np.zeros((3, 3))], [-_cross(r), np.eye(3)]])


def _per_axis(moment: Float64, r: Float64) -> tuple[float, float]:
    """Root mean squares over the axes, (rad, Å), of a motion with this second moment, seen at r from the reference."""
    turn, shift = np.sqrt(_per_axis_squares(moment, r))
    return float(turn), float(shift)


def _per_axis_squares(moment: Float64, r: Float64) -> Float64:
    """Their squares (2,), which are linear in the moment."""
    to = lever_arm_transform(r)
    squares = np.diag(to @ moment @ to.T)
    return np.array([squares[:3].mean(), squares[3:].mean()])


def _point_of_least_motion(covariance: Float64) -> Float64:
    """Where, as r = y − c, is the point that moves least: (tr W − W) r = E[ω × d], W the covariance of ω."""
    W = covariance[:3, :3]
    mixed = covariance[:3, 3:]
    turning = np.array([mixed[1, 2] - mixed[2, 1], mixed[2, 0] - mixed[0, 2], mixed[0, 1] - mixed[1, 0]])
    return np.asarray(np.linalg.lstsq(np.trace(W) * np.eye(3) - W, turning, rcond=None)[0], dtype=np.float64)


def _fulcrum_derivative(covariance: Float64, direction: Float64) -> Float64:
    """Change (3,) of the quietest point when the covariance changes along a direction."""
    step = 1e-4 * np.sqrt(np.abs(np.outer(np.diag(covariance), np.diag(covariance)))[direction > 0].mean())
    ahead, behind = (_point_of_least_motion(covariance + sign * step * direction) for sign in (1, -1))
    return (ahead - behind) / (2 * step)


def _cross(v: Float64) -> Float64:
    """[v]×."""
    x, y, z = v
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
