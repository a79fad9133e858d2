"""Fit the Gaussian of motions by maximum likelihood: mean μ, covariance Ψ, outlier class, and the errors of Ψ.

A motion m (6,) is N(μ, Ψ), and an image gives the evidence G = Bᵀ J B (6, 6) and g = Bᵀ h (6,) of it (`model`). Its
posterior is N(⟨m⟩, Λ⁻¹) with Λ = G + Ψ⁻¹ and ⟨m⟩ = Λ⁻¹ (g + Ψ⁻¹ μ), and its log evidence

    ½ log det Λ⁻¹ − ½ log det Ψ + ½ (g + Ψ⁻¹ μ)ᵀ ⟨m⟩ − ½ μᵀ Ψ⁻¹ μ + const

Images whose pose is in a wrong mode are a second class: a Gaussian in θ about 0 with one variance for ω and one for t.
Its share and variances are fitted, too.

EM converges slowly where the images say little, so that it only assigns the classes; μ is solved for, and Ψ is
maximised by Fisher scoring: with Ψ = L Lᵀ, L exp(S) Lᵀ is positive definite for any symmetric S. No step is taken that
lowers the probability. A Wishart prior with the weight of less than one perfect image draws Ψ to the widths of the
prior of the poses where the images say nothing. The second class has similar priors about the extents of the search.
"""

from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float64

MAX_ROUNDS = 100
"""Largest number of rounds."""
WARM_UP_ROUNDS = 2
"""Number of rounds of EM at the start, which are safe far from the maximum."""
CONVERGED_GAIN = 1e-4
"""Gain in log probability below which the fit has converged: parameters are then within a twentieth of their error."""
COVARIANCE_PRIOR_WEIGHT = 0.25
"""Weight of the prior of Ψ in images; its mode is at the widths of the prior of the poses."""
OUTLIER_SHARE_PRIOR_WEIGHT = 100.0
"""Weight of the prior of the second class's share, in images."""
OUTLIER_WIDTH_PRIOR_WEIGHT = 10.0
"""Weight of the prior of the second class's variances, in images."""
RIM_VARIANCE_FACTOR = 2.0
"""Largest variance of the second class, over that of poses uniform in the extents.

No pose is beyond the extents: with all poses on the rim, rotations have 5/3 and shifts twice the uniform variance.
"""
DEGREES_OF_FREEDOM = np.array([3, 2])
"""Number of components of the rotation and of the shift in θ."""
INITIAL_OUTLIER_SHARE = 0.03
"""Share of the second class at the start, and the mode of its prior."""
MIN_IMAGES = 210
"""Number of images, ten for each number in Ψ, from which on the scatter of their scores gives the error."""
MAX_LOG_STEP = 1.5
"""Largest change of a variance in one step, as the logarithm of a factor."""
MAX_MISSING = 0.9
"""Largest share of the information that is taken as missing; where the classes overlap, it would be nearly all."""
MAX_DAMPING = 1e6
"""Damping beyond which no step helps any more."""
TRIANGLE = np.triu_indices(6)
"""Rows and columns of the upper triangle of Ψ: 21 numbers."""
TRIANGLE_MULTIPLICITY = np.where(TRIANGLE[0] == TRIANGLE[1], 1.0, 2.0)
"""Number of times each of them occurs in the symmetric matrix."""


@dataclass(frozen=True)
class MotionParameters:
    """Parameters of the fit.

    Attributes
    ----------
    mean : μ (6,)
    covariance : Ψ (6, 6)
    outlier_share : share of the second class
    outlier_variance : (2,) of its rotations (rad²) and shifts (Å²)
    """

    mean: Float64
    covariance: Float64
    outlier_share: float
    outlier_variance: Float64


@dataclass(frozen=True)
class EStepResult:
    """Result of an E-step for n images.

    Attributes
    ----------
    mean : ⟨m⟩ (n, 6)
    covariance : Λ⁻¹ (n, 6, 6)
    inlier_probability : (n,) probability of the first class
    outlier_evidence : (n,) log evidence under the second class
    moments : (n, 2), expected |ω|² and |t|² under the second class
    log_probability : of all images and of the parameters under their priors
    """

    mean: Float64
    covariance: Float64
    inlier_probability: Float64
    outlier_evidence: Float64
    moments: Float64
    log_probability: float


@dataclass(frozen=True)
class MapFrameEvidence:
    """Evidence of n images, in the frame of the map and in their own, with the modes of the priors.

    Attributes
    ----------
    G : (n, 6, 6)
    g : (n, 6)
    precision : J (n, 5, 5)
    information : h (n, 5)
    prior_covariance : (6, 6), mode of the prior of Ψ
    prior_outlier_variance : (2,), mode of the prior of the second class's variances
    """

    G: Float64
    g: Float64
    precision: Float64
    information: Float64
    prior_covariance: Float64
    prior_outlier_variance: Float64

    def e_step(self, parameters: MotionParameters, last: EStepResult | None = None) -> EStepResult:
        """Run the E-step. last: result with the same second class, whose terms are used again."""
        mean, covariance, inlier_evidence = posterior_moments(self.G, self.g, parameters.mean, parameters.covariance)
        outlier_evidence, moments = (
            (last.outlier_evidence, last.moments) if last else _outlier_evidence(self, parameters.outlier_variance)
        )
        first, second = (
            inlier_evidence + np.log1p(-parameters.outlier_share),
            outlier_evidence + np.log(max(parameters.outlier_share, 1e-9)),
        )
        both = np.logaddexp(first, second)
        ratio = np.linalg.solve(self.prior_covariance, parameters.covariance)
        log_prior = COVARIANCE_PRIOR_WEIGHT * (np.linalg.slogdet(ratio)[1] - np.trace(ratio))
        log_prior -= parameters.mean @ np.linalg.solve(self.prior_covariance, parameters.mean)
        log_prior += (
            OUTLIER_WIDTH_PRIOR_WEIGHT
            * (
                DEGREES_OF_FREEDOM
                * (
                    np.log(self.prior_outlier_variance / parameters.outlier_variance)
                    - self.prior_outlier_variance / parameters.outlier_variance
                )
            ).sum()
        )
        log_prior += (
            2
            * OUTLIER_SHARE_PRIOR_WEIGHT
            * (
                INITIAL_OUTLIER_SHARE * np.log(max(parameters.outlier_share, 1e-9))
                + (1 - INITIAL_OUTLIER_SHARE) * np.log1p(-parameters.outlier_share)
            )
        )
        return EStepResult(
            mean, covariance, np.exp(first - both), outlier_evidence, moments, float(both.sum() + 0.5 * log_prior)
        )


def maximise(evidence: MapFrameEvidence, initial: MotionParameters) -> tuple[MotionParameters, EStepResult]:
    """Return the most probable parameters, maximised from `initial`, and their E-step."""
    parameters, damping = initial, 1e-3
    for _ in range(WARM_UP_ROUNDS):
        parameters = _em_round(evidence, parameters)
    result = evidence.e_step(parameters)
    for _ in range(MAX_ROUNDS):
        last_probability = result.log_probability
        parameters, result = _best_of(
            evidence, parameters, result, _update_share_and_mean(evidence, parameters, result)
        )
        gradient, information = _slope_and_information(evidence, parameters, result)
        while damping < MAX_DAMPING:
            step = _step(gradient, information, damping)
            proposal = MotionParameters(
                parameters.mean,
                _apply_step(parameters.covariance, step),
                parameters.outlier_share,
                parameters.outlier_variance,
            )
            proposal_result = evidence.e_step(proposal, result)
            if proposal_result.log_probability >= result.log_probability:
                parameters, result, damping = proposal, proposal_result, damping / 4
                break
            damping *= 4
        if damping >= MAX_DAMPING or result.log_probability - last_probability < CONVERGED_GAIN:
            break
    return parameters, result


def posterior_moments(G: Float64, g: Float64, mean: Float64, covariance: Float64) -> tuple[Float64, Float64, Float64]:
    """Return ⟨m⟩ (n, 6), Λ⁻¹ (n, 6, 6), and the log evidence (n,) up to a constant that both classes share."""
    inverse = np.linalg.inv(covariance)
    weighted = g + inverse @ mean
    spread = np.linalg.inv(G + inverse)
    coordinates = np.einsum("nij,nj->ni", spread, weighted)
    evidence = 0.5 * (np.linalg.slogdet(spread)[1] - np.linalg.slogdet(covariance)[1])
    evidence += 0.5 * ((weighted * coordinates).sum(axis=1) - mean @ inverse @ mean)
    return coordinates, spread, evidence


def _em_round(evidence: MapFrameEvidence, parameters: MotionParameters) -> MotionParameters:
    """Run one round of EM."""
    result = evidence.e_step(parameters)
    mean = result.inlier_probability @ result.mean / (result.inlier_probability.sum() + COVARIANCE_PRIOR_WEIGHT)
    moment = _excess(result, mean, np.zeros((6, 6))) + COVARIANCE_PRIOR_WEIGHT * evidence.prior_covariance
    return MotionParameters(
        mean,
        moment / (result.inlier_probability.sum() + COVARIANCE_PRIOR_WEIGHT),
        _outlier_share(result),
        _outlier_variance(evidence, result),
    )


def _outlier_evidence(evidence: MapFrameEvidence, outlier_variance: Float64) -> tuple[Float64, Float64]:
    """Return the log evidence (n,) under the second class, and the |ω|² and |t|² that are expected there, (n, 2)."""
    width = np.repeat(outlier_variance, DEGREES_OF_FREEDOM)
    spread = np.linalg.inv(evidence.precision + np.diag(1 / width))
    mean = np.einsum("nij,nj->ni", spread, evidence.information)
    log_evidence = 0.5 * (
        np.linalg.slogdet(spread)[1] - np.log(width).sum() + (evidence.information * mean).sum(axis=1)
    )
    squares = mean**2 + np.einsum("nii->ni", spread)
    return np.asarray(log_evidence), np.stack([squares[:, :3].sum(axis=1), squares[:, 3:].sum(axis=1)], axis=1)


def _outlier_share(result: EStepResult) -> float:
    """Return the share of the second class, with its prior."""
    return float(
        ((1 - result.inlier_probability).sum() + OUTLIER_SHARE_PRIOR_WEIGHT * INITIAL_OUTLIER_SHARE)
        / (len(result.inlier_probability) + OUTLIER_SHARE_PRIOR_WEIGHT)
    )


def _outlier_variance(evidence: MapFrameEvidence, result: EStepResult) -> Float64:
    """Return the variances (2,) of the second class, with their prior, and limited by RIM_VARIANCE_FACTOR."""
    outlier_probability = 1 - result.inlier_probability
    fitted = (
        outlier_probability @ result.moments
        + OUTLIER_WIDTH_PRIOR_WEIGHT * DEGREES_OF_FREEDOM * evidence.prior_outlier_variance
    ) / ((outlier_probability.sum() + OUTLIER_WIDTH_PRIOR_WEIGHT) * DEGREES_OF_FREEDOM)
    return np.asarray(np.minimum(fitted, RIM_VARIANCE_FACTOR * evidence.prior_outlier_variance))


def _best_of(
    evidence: MapFrameEvidence, parameters: MotionParameters, result: EStepResult, other: MotionParameters
) -> tuple[MotionParameters, EStepResult]:
    """Return the other parameters where they are more probable."""
    other_result = evidence.e_step(other)
    return (other, other_result) if other_result.log_probability >= result.log_probability else (parameters, result)


def _update_share_and_mean(
    evidence: MapFrameEvidence, parameters: MotionParameters, result: EStepResult
) -> MotionParameters:
    """Update the share and the variances of the second class, and μ, which solves Σ K μ = Σ (1 + G Ψ)⁻¹ g."""
    K = mean_information(evidence.G, result.covariance)
    scaled = evidence.g - np.einsum("nij,nj->ni", evidence.G, np.einsum("nij,nj->ni", result.covariance, evidence.g))
    weight = np.einsum("n,nij->ij", result.inlier_probability, K) + np.linalg.inv(evidence.prior_covariance)
    return MotionParameters(
        np.linalg.solve(weight, result.inlier_probability @ scaled),
        parameters.covariance,
        float(1 - result.inlier_probability.mean()),
        _outlier_variance(evidence, result),
    )


def _excess(result: EStepResult, mean: Float64, covariance: Float64) -> Float64:
    """Return the sum of Λ⁻¹ + (⟨m⟩ − μ)(⟨m⟩ − μ)ᵀ − Ψ over the first class."""
    deviation = result.mean - mean
    moment = (
        np.einsum("n,nij->ij", result.inlier_probability, result.covariance)
        + (result.inlier_probability[:, None] * deviation).T @ deviation
    )
    return np.asarray(moment - result.inlier_probability.sum() * covariance, dtype=np.float64)


def _slope_and_information(
    evidence: MapFrameEvidence, parameters: MotionParameters, result: EStepResult
) -> tuple[Float64, Float64]:
    """Return the gradient (21,) of the log probability along S, and Fisher's information (21, 21), at S = 0."""
    L = np.linalg.cholesky(parameters.covariance)
    inverse = np.linalg.inv(L)
    prior_ratio = L.T @ np.linalg.solve(evidence.prior_covariance, L)
    gradient = 0.5 * inverse @ _excess(result, parameters.mean, parameters.covariance) @ inverse.T
    gradient += 0.5 * COVARIANCE_PRIOR_WEIGHT * (np.eye(6) - prior_ratio)
    K = L.T @ mean_information(evidence.G, result.covariance) @ L
    return TRIANGLE_MULTIPLICITY * gradient[TRIANGLE], fisher_information(
        K, result.inlier_probability
    ) + PRIOR_INFORMATION


def _step(gradient: Float64, information: Float64, damping: float) -> Float64:
    """Return S (6, 6) of a damped step of Fisher scoring, no longer than MAX_LOG_STEP."""
    S = np.zeros((6, 6))
    S[TRIANGLE] = np.linalg.solve(information + damping * np.diag(np.diag(information)), gradient)
    S = S + np.triu(S, 1).T
    return np.asarray(
        S * min(1.0, MAX_LOG_STEP / max(float(np.abs(np.linalg.eigvalsh(S)).max()), 1e-30)), dtype=np.float64
    )


def _apply_step(covariance: Float64, step: Float64) -> Float64:
    """Return L exp(S) Lᵀ."""
    L = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(step)
    root = L @ (vectors * np.exp(0.5 * values))
    return np.asarray(root @ root.T, dtype=np.float64)


def mean_information(G: Float64, spread: Float64) -> Float64:
    """Return K = Bᵀ (B Ψ Bᵀ + J⁻¹)⁻¹ B (n, 6, 6), the information of each image on μ. spread: Λ⁻¹."""
    return np.asarray(G - G @ spread @ G, dtype=np.float64)


def fisher_information(K: Float64, inlier_probability: Float64) -> Float64:
    """Return Fisher's information (21, 21) on the upper triangle of Ψ, ½ Σ tr(K E_a K E_b).

    inlier_probability: (n,), weight of each image. E_a: `symmetric_basis`.
    """
    flat = K.reshape(len(K), 36)
    pairs = (flat * inlier_probability[:, None]).T @ flat
    return _of_triangle(pairs.reshape(6, 6, 6, 6))


def _of_triangle(pairs: Float64) -> Float64:
    """Return ½ Σ K_ij K_kl E_a,jk E_b,li for the 21 symmetric matrices E, from Σ K_ij K_kl (6, 6, 6, 6)."""
    basis = symmetric_basis()
    return 0.5 * np.einsum("ijkl,ajk,bli->ab", pairs, basis, basis, optimize=True)


def symmetric_basis() -> Float64:
    """Return the symmetric matrices (21, 6, 6) whose coefficients are the upper triangle."""
    out = np.zeros((21, 6, 6))
    for number, (i, j) in enumerate(zip(*TRIANGLE, strict=True)):
        out[number, i, j] = out[number, j, i] = 1.0
    return out


PRIOR_INFORMATION = COVARIANCE_PRIOR_WEIGHT * _of_triangle(np.einsum("ij,kl->ijkl", np.eye(6), np.eye(6)))
"""Curvature of the prior of Ψ along S at its mode, ½ tr S²."""


def covariance_error(evidence: MapFrameEvidence, parameters: MotionParameters, result: EStepResult) -> Float64:
    """Return the covariance (21, 21) of the error of Ψ's upper triangle, valid for motions that are not Gaussian, too.

    It is the sandwich I⁻¹ V I⁻¹ (Huber 1967) of the observed information I and the scatter V of the scores of the
    images, both with the priors. Rotations of several degrees about a far point give shifts that are not Gaussian. With
    fewer than MIN_IMAGES images the scatter is too uncertain, and I⁻¹ is returned. The second class is fitted as well,
    and where it overlaps with the first one information is missing of both (Louis 1982).

    References
    ----------
    Huber (1967), Proc. Fifth Berkeley Symp. Math. Stat. Prob. 1:221. Louis (1982), J. R. Stat. Soc. B 44:226.
    """
    inverse = np.linalg.inv(parameters.covariance)
    prior = np.zeros((24, 24))
    prior[:21, :21] = COVARIANCE_PRIOR_WEIGHT * _of_triangle(np.einsum("ij,kl->ijkl", inverse, inverse))
    prior[21, 21] = OUTLIER_SHARE_PRIOR_WEIGHT * INITIAL_OUTLIER_SHARE * (1 - INITIAL_OUTLIER_SHARE)
    prior[22:, 22:] = np.diag(0.5 * OUTLIER_WIDTH_PRIOR_WEIGHT * DEGREES_OF_FREEDOM)
    complete = prior + _complete_information(evidence, parameters, result)
    inverse_information = _observed_information_inverse(complete, _missing_information(parameters, result))
    if len(result.inlier_probability) >= MIN_IMAGES:
        scores = _scores(parameters, result)
        scores = scores - scores.mean(axis=0)
        inverse_information = inverse_information @ (scores.T @ scores + prior) @ inverse_information
    return np.asarray(inverse_information[:21, :21], dtype=np.float64)


def _complete_information(evidence: MapFrameEvidence, parameters: MotionParameters, result: EStepResult) -> Float64:
    """Return Fisher's information (24, 24) if the class of each image were known.

    It is on the upper triangle of Ψ, the logit of the second class's share, and the logarithms of its variances.
    """
    outlier_probability, width = (
        1 - result.inlier_probability,
        np.repeat(parameters.outlier_variance, DEGREES_OF_FREEDOM),
    )
    J = evidence.precision
    K = width[:, None] * (J - J @ np.linalg.inv(J + np.diag(1 / width)) @ J)
    width_information = outlier_probability @ np.stack(
        [(K[:, part, part] ** 2).sum(axis=(1, 2)) for part in (slice(0, 3), slice(3, 5))], axis=1
    )
    complete = np.zeros((24, 24))
    complete[:21, :21] = fisher_information(mean_information(evidence.G, result.covariance), result.inlier_probability)
    complete[21, 21] = len(outlier_probability) * parameters.outlier_share * (1 - parameters.outlier_share)
    complete[22:, 22:] = np.diag(0.5 * width_information)
    return complete


def _missing_information(parameters: MotionParameters, result: EStepResult) -> Float64:
    """Return the part (24, 24) of this information that is missing since the classes are not known."""
    difference = np.hstack(
        [
            _covariance_scores(parameters, result),
            -np.ones((len(result.inlier_probability), 1)),
            -_outlier_width_scores(parameters, result),
        ]
    )
    return np.asarray(
        (difference * (result.inlier_probability * (1 - result.inlier_probability))[:, None]).T @ difference,
        dtype=np.float64,
    )


def _observed_information_inverse(complete: Float64, missing: Float64) -> Float64:
    """Return (complete − missing)⁻¹, with at most MAX_MISSING of the complete information missing in any direction."""
    root = np.linalg.cholesky(complete + 1e-12 * np.diag(np.diag(complete)))
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ missing @ inverse.T)
    basis = inverse.T @ vectors
    return np.asarray((basis / (1 - np.minimum(values, MAX_MISSING))) @ basis.T, dtype=np.float64)


def _scores(parameters: MotionParameters, result: EStepResult) -> Float64:
    """Return the score (n, 24) of each image: the gradient of its log likelihood in these parameters."""
    outlier_probability = 1 - result.inlier_probability
    covariance_scores = result.inlier_probability[:, None] * _covariance_scores(parameters, result)
    width_scores = outlier_probability[:, None] * _outlier_width_scores(parameters, result)
    return np.hstack([covariance_scores, outlier_probability[:, None] - parameters.outlier_share, width_scores])


def _outlier_width_scores(parameters: MotionParameters, result: EStepResult) -> Float64:
    """Return the scores (n, 2) along the logarithms of the second class's variances, if each image belonged to it."""
    return 0.5 * (result.moments / parameters.outlier_variance - DEGREES_OF_FREEDOM)


def _covariance_scores(parameters: MotionParameters, result: EStepResult) -> Float64:
    """Return the scores (n, 21) along the upper triangle of Ψ, if each image belonged to the first class."""
    inverse, deviation = np.linalg.inv(parameters.covariance), result.mean - parameters.mean
    excess = result.covariance + deviation[:, :, None] * deviation[:, None] - parameters.covariance
    gradient = 0.5 * (inverse @ excess @ inverse)
    return np.asarray(TRIANGLE_MULTIPLICITY * gradient[:, TRIANGLE[0], TRIANGLE[1]])
