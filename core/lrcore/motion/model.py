"""Model the motion of a body by one Gaussian over all particles, and derive its fulcrum and the widths of the priors.

The body of each particle moves by m = (ω, d), a rotation vector ω and a translation d of a reference point c, in the
frame of the map; m ~ N(μ, Ψ). An image with the rotation A sees ω and the part of d in its plane,

    θ = (ω, (A d)_xy) = B m

and its likelihood has the precision J and the information h = J θ̂: those of the posterior less those of the prior. By
maximum likelihood (`motion.fit`),

    Λ = Bᵀ J B + Ψ⁻¹,  ⟨m⟩ = Λ⁻¹ (Bᵀ h + Ψ⁻¹ μ),  Ψ = mean of Λ⁻¹ + (⟨m⟩ − μ)(⟨m⟩ − μ)ᵀ

so that errors of the poses are not taken for motion. Poses in a wrong mode, which no Gaussian describes, are a second
class about as wide as the extents; each particle counts by the probability that it belongs to the first.

A point y of the body moves by u(y) = d + ω × (y − c). The fulcrum is the point that moves least, f = argmin E|u(y)|².
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
"""Number of times the motion is fitted again about the fulcrum that was found."""
MAX_IMAGES = 20_000
"""Largest number of particles that are used; more would hardly improve 27 numbers."""

ANISOTROPY_RATIO = 2.0
"""Ratio of the rotation SDs about two axes from which on one SD for all axes is a poor prior, if it is significant."""
ANISOTROPY_CHI2 = 40.0
"""χ² of five degrees of freedom from which on different rotation SDs about different axes are significant."""
MAX_RELATIVE_ERROR = 0.15
"""A width is undetermined when its error is more than this share of it."""
FREE_DIRECTION_ERROR = 0.5
"""A direction is free when the error of the fulcrum along it is more than this share of `fulcrum_sd_A`."""


@dataclass(frozen=True)
class MotionEvidence:
    """Evidence of n images about the motion of their body.

    Attributes
    ----------
    reference_A : c (3,), (x, y, z) in Å from the box centre
    precision : J (n, 5, 5) of θ from the likelihood alone, 1/rad² and 1/Å²
    information : h (n, 5)
    plane : (n, 2, 3), the rows of A that give x and y in the image
    extent : hard extents of the search, rad and Å
    """

    reference_A: Float64
    precision: Float64
    information: Float64
    plane: Float64
    extent: tuple[float, float]

    def select(self, rows: npt.NDArray[np.integer]) -> "MotionEvidence":
        """Return the evidence of the given rows."""
        return MotionEvidence(
            self.reference_A, self.precision[rows], self.information[rows], self.plane[rows], self.extent
        )


@dataclass(frozen=True)
class Motion:
    """Motion of a body, with the estimate of each particle.

    Attributes
    ----------
    reference_A : c (3,), (x, y, z) in Å from the box centre
    mean : μ (6,) of (ω, d), rad and Å
    covariance : Ψ (6, 6)
    error : (21, 21) covariance of the error of the upper triangle of Ψ
    outlier_share : share of the particles in the second class
    outlier_variance : (2,) variances of the second class, of rotations (rad²) and shifts (Å²)
    inlier_probability : (n,) probability of the first class
    coordinates : ⟨m⟩ (n, 6)
    coordinate_covariance : Λ⁻¹ (n, 6, 6)
    """

    reference_A: Float64
    mean: Float64
    covariance: Float64
    error: Float64
    outlier_share: float
    outlier_variance: Float64
    inlier_probability: Float64
    coordinates: Float64
    coordinate_covariance: Float64


@dataclass(frozen=True)
class FulcrumEstimate:
    """Point about which a body turns, and how far it turns and shifts.

    Attributes
    ----------
    fulcrum_A : (3,), (x, y, z) in Å from the box centre
    covariance_A2 : (3, 3) of its error
    free_directions : (k, 3) unit vectors along which the data say little, so that the fulcrum stays at its prior
    rotation_sd : rad, root mean square over the axes; width of a prior about the fulcrum
    shift_sd_A : Å, the same of the shifts of the fulcrum
    rotation_sd_error, shift_sd_error_A : SDs of their errors
    rotation_covariance : (3, 3) of ω, rad²
    anisotropy_chi2 : χ² of ROTATION_ANISOTROPY_DOF degrees of freedom, under rotations that are the same about all axes
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
        """SDs (3,) in rad of the rotations about their principal axes, largest first, and the axes in rows (3, 3)."""
        values, vectors = np.linalg.eigh(self.rotation_covariance)
        return np.sqrt(np.maximum(values[::-1], 0.0)), vectors.T[::-1]

    @property
    def has_dominant_axis(self) -> bool:
        """True when the body turns about one axis significantly more than about another."""
        sds, _ = self.axes
        return bool(self.anisotropy_chi2 > ANISOTROPY_CHI2 and sds[0] > ANISOTROPY_RATIO * sds[-1])

    @property
    def undetermined(self) -> tuple[str, ...]:
        """Names of the widths that the data do not determine, "rotation" or "shift"; they stay near their prior."""
        errors = {
            "rotation": self.rotation_sd_error / self.rotation_sd,
            "shift": self.shift_sd_error_A / self.shift_sd_A,
        }
        return tuple(name for name, error in errors.items() if error > MAX_RELATIVE_ERROR)


def motion_evidence(
    particles: Particles,
    expectation: Expectation,
    centres: Poses,
    limits: SearchLimits,
    fulcrum_A: tuple[float, float, float],
) -> tuple[MotionEvidence, npt.NDArray[np.int64]]:
    """Return what the images say about the motion, with the prior of the search taken out of its posterior.

    With the posterior N(θ̂, Σ) and the prior N(θ₀, P⁻¹) of the search,

        J = Σ⁻¹ − P,  h = Σ⁻¹ θ̂ − P θ₀

    Parameters
    ----------
    particles : at their input poses, from which motions are measured
    expectation : what the search found
    centres : centres of the search and of the prior
    limits : prior and extents of the search, rad and Å
    fulcrum_A : of the search, (x, y, z) in Å from the box centre

    Returns
    -------
    MotionEvidence
        Of m valid images, MAX_IMAGES at most, about the fulcrum of the search.
    ndarray
        (m,) rows of the particles.
    """
    reference_A = np.array(fulcrum_A, dtype=np.float64)
    rows = np.nonzero(~bad_image_mask(expectation.flags))[0]
    if len(rows) > MAX_IMAGES:
        rows = rows[:: -(-len(rows) // MAX_IMAGES)]
    magnification = magnification_in_3d(particles, rows)
    given, centre, posterior_mean = (poses.select(rows) for poses in (particles.poses, centres, expectation.poses))
    prior_precision = limits.precision(magnified_rotation(centre.rotation, magnification))
    posterior_precision = expectation.curvature[rows].astype(np.float64)
    information = np.einsum(
        "nij,nj->ni", posterior_precision, motion_between_poses(given, posterior_mean, reference_A, magnification)
    )
    information -= np.einsum(
        "nij,nj->ni", prior_precision, motion_between_poses(given, centre, reference_A, magnification)
    )
    values, vectors = np.linalg.eigh(posterior_precision - prior_precision)
    precision = (vectors * np.maximum(values, 0.0)[:, None]) @ vectors.transpose(0, 2, 1)
    plane = magnified_rotation(given.rotation, magnification)[:, :2]
    return MotionEvidence(reference_A, precision, information, plane, (limits.rotation, limits.shift)), rows


def motion_between_poses(
    before: Poses, after: Poses, reference_A: Float64, magnification: Float64 | None = None
) -> Float64:
    """Return the motion of a body between two sets of poses.

        ω = log(Aᵀ A'),  t = o + ((A' − A) c)_xy − o'

    Parameters
    ----------
    before : (A, o), n poses
    after : (A', o'), n poses
    reference_A : c (3,), (x, y, z) in Å from the box centre
    magnification : (n, 3, 3) of `aberrations.magnification_in_3d`, or None

    Returns
    -------
    ndarray
        θ (n, 5): ω in rad, and the shift t of the image of the reference point in Å.
    """
    point_shift = (magnified_rotation(after.rotation - before.rotation, magnification) @ reference_A)[:, :2]
    shift = before.origin_A + point_shift - after.origin_A
    return np.concatenate([relative_rotation(before.rotation, after.rotation), shift], axis=1)


def fit_about_fulcrum(
    evidence: MotionEvidence, prior_sd: tuple[float, float], fulcrum_sd_A: float, fulcrum_prior_A: Float64 | None = None
) -> tuple[Motion, FulcrumEstimate]:
    """Fit the motion about its own fulcrum: fit, estimate the fulcrum, and fit again about it.

    About a point far from the fulcrum the shift is not a linear function of the rotation, and large rotations would
    widen the error.

    Parameters
    ----------
    evidence : of n images
    prior_sd : (rad, Å), to which the widths are weakly drawn where the images say nothing
    fulcrum_sd_A : SD of the prior of the fulcrum about `fulcrum_prior_A`, Å; radius of the mask
    fulcrum_prior_A : (3,), centre of that prior, (x, y, z) in Å from the box centre; by default the reference point
        of the evidence

    Returns
    -------
    Motion
        About the fulcrum that was estimated before the last fit.
    FulcrumEstimate
        With its error.
    """
    home = evidence.reference_A if fulcrum_prior_A is None else fulcrum_prior_A
    motion = fit_motion(evidence, prior_sd)
    estimate = estimate_fulcrum(motion, fulcrum_sd_A, home)
    for _ in range(REFITS):
        motion = fit_motion(with_reference_point(evidence, estimate.fulcrum_A, motion), prior_sd, motion)
        estimate = estimate_fulcrum(motion, fulcrum_sd_A, home)
    return motion, estimate


def fit_motion(
    evidence: MotionEvidence, prior_sd: tuple[float, float] = (0.09, 3.0), initial: Motion | None = None
) -> Motion:
    """Return the most probable motion.

    prior_sd: (rad, Å), to which the widths are weakly drawn where the images say nothing. initial: motion to start
    from, by default one with these widths.
    """
    prior_covariance = np.diag(np.repeat(np.array(prior_sd, dtype=np.float64) ** 2, 3))
    rotation_extent, shift_extent = evidence.extent
    outlier_variance = np.array([rotation_extent**2 / 5, shift_extent**2 / 4])
    parameters = MotionParameters(np.zeros(6), prior_covariance, INITIAL_OUTLIER_SHARE, outlier_variance)
    if initial is not None:
        transform = lever_arm_transform(evidence.reference_A - initial.reference_A)
        parameters = MotionParameters(
            transform @ initial.mean,
            transform @ initial.covariance @ transform.T,
            initial.outlier_share,
            initial.outlier_variance,
        )
    map_evidence = MapFrameEvidence(
        *_evidence_in_map_frame(evidence), evidence.precision, evidence.information, prior_covariance, outlier_variance
    )
    fitted, e_step = maximise(map_evidence, parameters)
    return Motion(
        evidence.reference_A,
        fitted.mean,
        fitted.covariance,
        covariance_error(map_evidence, fitted, e_step),
        fitted.outlier_share,
        fitted.outlier_variance,
        e_step.inlier_probability,
        e_step.mean,
        e_step.covariance,
    )


def with_reference_point(evidence: MotionEvidence, reference_A: Float64, motion: Motion) -> MotionEvidence:
    """Return the same evidence about another reference point.

    motion: as fitted to the evidence, with the rotation of each body. With r the vector to the new point, its shift is
    t + A (exp(ω) − 1) r. This is linear in ω about ⟨ω⟩, where the derivative is taken; the mean of the second-order
    term over the uncertainty of ω is added.
    """
    r = reference_A - evidence.reference_A
    omega = motion.coordinates[:, :3]
    R, J = rotation_exp(omega), so3_right_jacobian(omega)
    lever = -R @ _cross(r) @ J  # derivative of exp(ω) r with respect to ω
    uncertainty = J @ motion.coordinate_covariance[:, :3, :3] @ J.transpose(0, 2, 1)
    second_order = 0.5 * (uncertainty @ r - np.trace(uncertainty, axis1=1, axis2=2)[:, None] * r)
    point_shift = R @ r - r + np.einsum("nij,nj->ni", R, second_order) - np.einsum("nij,nj->ni", lever, omega)
    to_old = np.tile(np.eye(5), (len(evidence.plane), 1, 1))  # from the new θ to the old one, less `shift`
    to_old[:, 3:, :3] = -evidence.plane @ lever
    shift = np.einsum("nij,nj->ni", evidence.plane, point_shift)
    information = evidence.information + np.einsum("nij,nj->ni", evidence.precision[:, :, 3:], shift)
    precision = to_old.transpose(0, 2, 1) @ evidence.precision @ to_old
    return MotionEvidence(
        reference_A, precision, np.einsum("nji,nj->ni", to_old, information), evidence.plane, evidence.extent
    )


def estimate_fulcrum(motion: Motion, fulcrum_sd_A: float, fulcrum_prior_A: Float64 | None = None) -> FulcrumEstimate:
    """Return the fulcrum of a motion, and the widths of the motion about it.

    In directions that the motion does not determine (all of it about one axis; too few particles) the fulcrum is drawn
    to `fulcrum_prior_A`, by default the reference point c, by a Gaussian of the width `fulcrum_sd_A`.
    """
    r = _point_of_least_motion(motion.covariance)
    derivatives = np.stack([_fulcrum_derivative(motion.covariance, basis) for basis in symmetric_basis()], axis=1)
    information = np.linalg.pinv(derivatives @ motion.error @ derivatives.T, hermitian=True)
    covariance = np.asarray(np.linalg.inv(information + np.eye(3) / fulcrum_sd_A**2), dtype=np.float64)
    home = np.zeros(3) if fulcrum_prior_A is None else fulcrum_prior_A - motion.reference_A
    r = covariance @ (information @ r + home / fulcrum_sd_A**2)
    values, vectors = np.linalg.eigh(covariance)
    rotation_sd, shift_sd = _per_axis(motion.covariance, r)
    # The shifts are least at the fulcrum, so that an error of its position changes them in second order only.
    moments = np.array([_per_axis_squares(basis, r) for basis in symmetric_basis()])
    errors = np.sqrt(np.einsum("ai,ab,bi->i", moments, motion.error, moments))
    return FulcrumEstimate(
        motion.reference_A + r,
        covariance,
        vectors.T[np.sqrt(np.maximum(values, 0.0)) > FREE_DIRECTION_ERROR * fulcrum_sd_A],
        rotation_sd,
        shift_sd,
        float(errors[0] / (2 * rotation_sd)),
        float(errors[1] / (2 * shift_sd)),
        motion.covariance[:3, :3],
        anisotropy_chi2(motion.covariance, motion.error, ROTATION_ANISOTROPY_DOF),
    )


def prior_widths(motion: Motion, point_A: Float64) -> tuple[float, float]:
    """Return the SDs (rad, Å) per axis that a prior about the input poses and about a point has to have.

    Parameters
    ----------
    motion : whose mean counts, too
    point_A : (3,), (x, y, z) in Å from the box centre
    """
    rotation_sd, shift_sd = mean_widths(second_moment_at(motion, point_A))
    return float(rotation_sd), float(shift_sd)


def second_moment_at(motion: Motion, point_A: Float64) -> Float64:
    """Return the second moment of the motion about the input poses, taken at another point.

    Parameters
    ----------
    motion : whose mean counts, too
    point_A : (3,), (x, y, z) in Å from the box centre

    Returns
    -------
    ndarray
        (6, 6), rad and Å.
    """
    transform = lever_arm_transform(point_A - motion.reference_A)
    return np.asarray(
        transform @ (motion.covariance + np.outer(motion.mean, motion.mean)) @ transform.T, dtype=np.float64
    )


def lever_arm_transform(r: Float64) -> Float64:
    """Return the matrix (6, 6) that turns the motion of the reference point into that of the point at r from it.

        (ω, d) → (ω, d + ω × r) = (ω, d − [r]× ω)

    Parameters
    ----------
    r : (3,), (x, y, z)
    """
    return np.block([[np.eye(3), np.zeros((3, 3))], [-_cross(r), np.eye(3)]])


def so3_right_jacobian(vectors: Float64) -> Float64:
    """Return the right Jacobian J (n, 3, 3) of rotation vectors ω (n, 3).

    To first order, exp(ω + δ) = exp(ω) exp(J δ).
    """
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    small = np.maximum(angle, 1e-4)
    cross = np.zeros((len(vectors), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -vectors[:, 2], vectors[:, 1], -vectors[:, 0]
    cross -= cross.transpose(0, 2, 1)
    first, second = (1 - np.cos(small)) / small**2, (small - np.sin(small)) / small**3
    return np.asarray(np.eye(3) - first * cross + second * cross @ cross, dtype=np.float64)


def _evidence_in_map_frame(evidence: MotionEvidence) -> tuple[Float64, Float64]:
    """Return Bᵀ J B (n, 6, 6) and Bᵀ h (n, 6)."""
    B = projected_motion(evidence.plane)
    G = B.transpose(0, 2, 1) @ evidence.precision @ B
    return G, np.einsum("nij,ni->nj", B, evidence.information)


def _per_axis(moment: Float64, r: Float64) -> tuple[float, float]:
    """Return root mean squares over the axes, (rad, Å), of a motion with this second moment at r from the reference."""
    rotation, shift = np.sqrt(_per_axis_squares(moment, r))
    return float(rotation), float(shift)


def _per_axis_squares(moment: Float64, r: Float64) -> Float64:
    """Return their squares (2,), which are linear in the moment."""
    transform = lever_arm_transform(r)
    squares = np.diag(transform @ moment @ transform.T)
    return np.array([squares[:3].mean(), squares[3:].mean()])


def _point_of_least_motion(covariance: Float64) -> Float64:
    """Return r = f − c of the point that moves least: (tr W − W) r = E[ω × d], W the covariance of ω."""
    W = covariance[:3, :3]
    cross_covariance = covariance[:3, 3:]
    mean_cross = np.array(
        [
            cross_covariance[1, 2] - cross_covariance[2, 1],
            cross_covariance[2, 0] - cross_covariance[0, 2],
            cross_covariance[0, 1] - cross_covariance[1, 0],
        ]
    )
    return np.asarray(np.linalg.lstsq(np.trace(W) * np.eye(3) - W, mean_cross, rcond=None)[0], dtype=np.float64)


def _fulcrum_derivative(covariance: Float64, direction: Float64) -> Float64:
    """Return the derivative (3,) of that point with respect to the covariance along a direction (6, 6)."""
    step = 1e-4 * np.sqrt(np.abs(np.outer(np.diag(covariance), np.diag(covariance)))[direction > 0].mean())
    ahead, behind = (_point_of_least_motion(covariance + sign * step * direction) for sign in (1, -1))
    return (ahead - behind) / (2 * step)


def _cross(v: Float64) -> Float64:
    """Return the cross-product matrix [v]×."""
    x, y, z = v
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
