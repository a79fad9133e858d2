"""The Gaussian of motions that makes what the images say most probable: its mean, its covariance Ψ, their error.

A motion m (6,) is N(μ, Ψ); a sight says of it G = Bᵀ J B (6, 6) and g = Bᵀ h (6,). Sights in a wrong mode are a second
class, whose share and widths are fitted too. EM creeps where the sights say little, so that it only weighs the classes;
μ is solved for, and Ψ climbs by Fisher's scoring: L exp(S) Lᵀ with Ψ = L Lᵀ is positive for any symmetric S. No step is
taken that lowers the probability. A Wishart prior weaker than one perfect sight, most probable at the widths that the
prior of the poses had, holds what the sights do not tell; others as weak hold the second class to the extents.
"""

from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float64

MAX_ROUNDS = 100
"""Rounds at most."""
WARM_UP_ROUNDS = 2
"""Rounds of EM to begin with, which are safe far from the top."""
CONVERGED_GAIN = 1e-4
"""Gain in log probability at which the climb ends: the numbers are then within a twentieth of their error."""
COVARIANCE_PRIOR_WEIGHT = 0.25
"""Of the prior of Ψ, in sights: it is most probable at the widths where the search begins."""
OUTLIER_SHARE_PRIOR_WEIGHT = 100.0
"""Of the prior of the second class's share, in sights."""
OUTLIER_WIDTH_PRIOR_WEIGHT = 10.0
"""Of the prior of the second class's widths, in sights."""
RIM_VARIANCE_FACTOR = 2.0
"""No pose is beyond the extents: on their rim, a turn has 5/3 and a shift twice the variance that it has all over."""
DEGREES_OF_FREEDOM = np.array([3, 2])
"""Numbers in a turn and in a shift of θ."""
INITIAL_OUTLIER_SHARE = 0.03
"""Share of the second class to begin with."""
MIN_IMAGES = 210
"""Sights, ten for each number in Ψ, from which on their scatter tells the error."""
MAX_LOG_STEP = 1.5
"""A variance changes by this factor's exponential at most in a round."""
MAX_DAMPING = 1e6
"""Damping at which no step helps any more."""
TRIANGLE = np.triu_indices(6)
TRIANGLE_MULTIPLICITY = np.where(TRIANGLE[0] == TRIANGLE[1], 1.0, 2.0)


@dataclass(frozen=True)
class MotionParameters:
    """What is fitted: μ (6,), Ψ (6, 6); share of the second class and its variances (2,), of turns and of shifts."""

    mean: Float64
    covariance: Float64
    outliers: float
    outlier_variance: Float64


@dataclass(frozen=True)
class EStepResult:
    """What that says of each sight: ⟨m⟩ (n, 6), Λ⁻¹ (n, 6, 6), probability of the first class (n,).

    beyond: (n,) log evidence and moments: (n, 2), |ω|² and |t|², were it of the second. probability: log, of all sights
    and of the fit itself under the weak priors.
    """

    mean: Float64
    covariance: Float64
    inlier_probability: Float64
    outlier_evidence: Float64
    moments: Float64
    log_probability: float


@dataclass(frozen=True)
class MapFrameEvidence:
    """What n sights say: G (n, 6, 6), g (n, 6) in the frame of the map, J (n, 5, 5), h (n, 5) in their own.

    given, astray: (6, 6) Ψ and (2,) variances of the second class, at which their priors are most probable.
    """

    G: Float64
    g: Float64
    precision: Float64
    information: Float64
    given: Float64
    outlier_variance: Float64

    def e_step(self, state: MotionParameters, last: EStepResult | None = None) -> EStepResult:
        """The E-step. last: of a fit with the same second class, which need not be looked at again."""
        at, spread, within = posterior_moments(self.G, self.g, state.mean, state.covariance)
        beyond, moments = (
            (last.outlier_evidence, last.moments) if last else _outlier_evidence(self, state.outlier_variance)
        )
        first, second = within + np.log1p(-state.outliers), beyond + np.log(max(state.outliers, 1e-9))
        both = np.logaddexp(first, second)
        ratio = np.linalg.solve(self.given, state.covariance)
        weak = COVARIANCE_PRIOR_WEIGHT * (np.linalg.slogdet(ratio)[1] - np.trace(ratio))
        weak -= state.mean @ np.linalg.solve(self.given, state.mean)
        weak += (
            OUTLIER_WIDTH_PRIOR_WEIGHT
            * (
                DEGREES_OF_FREEDOM
                * (
                    np.log(self.outlier_variance / state.outlier_variance)
                    - self.outlier_variance / state.outlier_variance
                )
            ).sum()
        )
        weak += (
            2
            * OUTLIER_SHARE_PRIOR_WEIGHT
            * (
                INITIAL_OUTLIER_SHARE * np.log(max(state.outliers, 1e-9))
                + (1 - INITIAL_OUTLIER_SHARE) * np.log1p(-state.outliers)
            )
        )
        return EStepResult(at, spread, np.exp(first - both), beyond, moments, float(both.sum() + 0.5 * weak))


def maximise(seen: MapFrameEvidence, begin: MotionParameters) -> tuple[MotionParameters, EStepResult]:
    """The most probable fit, from `begin` up."""
    state, damping = begin, 1e-3
    for _ in range(WARM_UP_ROUNDS):
        state = _em_round(seen, state)
    found = seen.e_step(state)
    for _ in range(MAX_ROUNDS):
        before = found.log_probability
        state, found = _best_of(seen, state, found, _update_share_and_mean(seen, state, found))
        slope, information = _slope_and_information(seen, state, found)
        while damping < MAX_DAMPING:
            step = _step(slope, information, damping)
            new = MotionParameters(
                state.mean, _apply_step(state.covariance, step), state.outliers, state.outlier_variance
            )
            then = seen.e_step(new, found)
            if then.log_probability >= found.log_probability:
                state, found, damping = new, then, damping / 4
                break
            damping *= 4
        if damping >= MAX_DAMPING or found.log_probability - before < CONVERGED_GAIN:
            break
    return state, found


def posterior_moments(G: Float64, g: Float64, mean: Float64, covariance: Float64) -> tuple[Float64, Float64, Float64]:
    """⟨m⟩ (n, 6), Λ⁻¹ (n, 6, 6), and the log evidence of each sight, (n,), up to what all classes share."""
    inverse = np.linalg.inv(covariance)
    pull = g + inverse @ mean
    spread = np.linalg.inv(G + inverse)
    coordinates = np.einsum("nij,nj->ni", spread, pull)
    evidence = 0.5 * (np.linalg.slogdet(spread)[1] - np.linalg.slogdet(covariance)[1])
    evidence += 0.5 * ((pull * coordinates).sum(axis=1) - mean @ inverse @ mean)
    return coordinates, spread, evidence


def _em_round(seen: MapFrameEvidence, state: MotionParameters) -> MotionParameters:
    """A round of EM."""
    found = seen.e_step(state)
    mean = found.inlier_probability @ found.mean / (found.inlier_probability.sum() + COVARIANCE_PRIOR_WEIGHT)
    moment = _excess(found, mean, np.zeros((6, 6))) + COVARIANCE_PRIOR_WEIGHT * seen.given
    return MotionParameters(
        mean,
        moment / (found.inlier_probability.sum() + COVARIANCE_PRIOR_WEIGHT),
        _outlier_share(found),
        _outlier_variance(seen, found),
    )


def _outlier_evidence(seen: MapFrameEvidence, astray: Float64) -> tuple[Float64, Float64]:
    """Log evidence (n,) of the second class, and what each sight expects there of |ω|² and |t|²: (n, 2)."""
    width = np.repeat(astray, DEGREES_OF_FREEDOM)
    spread = np.linalg.inv(seen.precision + np.diag(1 / width))
    at = np.einsum("nij,nj->ni", spread, seen.information)
    evidence = 0.5 * (np.linalg.slogdet(spread)[1] - np.log(width).sum() + (seen.information * at).sum(axis=1))
    squares = at**2 + np.einsum("nii->ni", spread)
    return np.asarray(evidence), np.stack([squares[:, :3].sum(axis=1), squares[:, 3:].sum(axis=1)], axis=1)


def _outlier_share(found: EStepResult) -> float:
    """Share of the second class."""
    return float(
        ((1 - found.inlier_probability).sum() + OUTLIER_SHARE_PRIOR_WEIGHT * INITIAL_OUTLIER_SHARE)
        / (len(found.inlier_probability) + OUTLIER_SHARE_PRIOR_WEIGHT)
    )


def _outlier_variance(seen: MapFrameEvidence, found: EStepResult) -> Float64:
    """Variances (2,) of the second class; all of it on the rim of the extents would have `RIM` times their own."""
    out = 1 - found.inlier_probability
    fitted = (out @ found.moments + OUTLIER_WIDTH_PRIOR_WEIGHT * DEGREES_OF_FREEDOM * seen.outlier_variance) / (
        (out.sum() + OUTLIER_WIDTH_PRIOR_WEIGHT) * DEGREES_OF_FREEDOM
    )
    return np.asarray(np.minimum(fitted, RIM_VARIANCE_FACTOR * seen.outlier_variance))


def _best_of(
    seen: MapFrameEvidence, state: MotionParameters, found: EStepResult, other: MotionParameters
) -> tuple[MotionParameters, EStepResult]:
    then = seen.e_step(other)
    return (other, then) if then.log_probability >= found.log_probability else (state, found)


def _update_share_and_mean(seen: MapFrameEvidence, state: MotionParameters, found: EStepResult) -> MotionParameters:
    """The share of the second class, and μ where the slope is none: Σ K μ = Σ (1 + G Ψ)⁻¹ g."""
    K = mean_information(seen.G, found.covariance)
    own = seen.g - np.einsum("nij,nj->ni", seen.G, np.einsum("nij,nj->ni", found.covariance, seen.g))
    weight = np.einsum("n,nij->ij", found.inlier_probability, K) + np.linalg.inv(seen.given)
    return MotionParameters(
        np.linalg.solve(weight, found.inlier_probability @ own),
        state.covariance,
        float(1 - found.inlier_probability.mean()),
        _outlier_variance(seen, found),
    )


def _excess(found: EStepResult, mean: Float64, covariance: Float64) -> Float64:
    """Sum of Λ⁻¹ + (⟨m⟩ − μ)(⟨m⟩ − μ)ᵀ − Ψ over the first class."""
    off = found.mean - mean
    both = (
        np.einsum("n,nij->ij", found.inlier_probability, found.covariance)
        + (found.inlier_probability[:, None] * off).T @ off
    )
    return np.asarray(both - found.inlier_probability.sum() * covariance, dtype=np.float64)


def _slope_and_information(
    seen: MapFrameEvidence, state: MotionParameters, found: EStepResult
) -> tuple[Float64, Float64]:
    """Slope (21,) of the log probability along S, and Fisher's information (21, 21) on it, at S = 0."""
    L = np.linalg.cholesky(state.covariance)
    inverse = np.linalg.inv(L)
    weak = L.T @ np.linalg.solve(seen.given, L)
    along = 0.5 * inverse @ _excess(found, state.mean, state.covariance) @ inverse.T
    along += 0.5 * COVARIANCE_PRIOR_WEIGHT * (np.eye(6) - weak)
    K = L.T @ mean_information(seen.G, found.covariance) @ L
    return TRIANGLE_MULTIPLICITY * along[TRIANGLE], fisher_information(K, found.inlier_probability) + PRIOR_INFORMATION


def _step(slope: Float64, told: Float64, damping: float) -> Float64:
    """S (6, 6) by damped scoring, no further than STRIDE."""
    S = np.zeros((6, 6))
    S[TRIANGLE] = np.linalg.solve(told + damping * np.diag(np.diag(told)), slope)
    S = S + np.triu(S, 1).T
    return np.asarray(
        S * min(1.0, MAX_LOG_STEP / max(float(np.abs(np.linalg.eigvalsh(S)).max()), 1e-30)), dtype=np.float64
    )


def _apply_step(covariance: Float64, step: Float64) -> Float64:
    """L exp(S) Lᵀ."""
    L = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(step)
    root = L @ (vectors * np.exp(0.5 * values))
    return np.asarray(root @ root.T, dtype=np.float64)


def mean_information(G: Float64, spread: Float64) -> Float64:
    """K = Bᵀ (B Ψ Bᵀ + J⁻¹)⁻¹ B (n, 6, 6), what each sight says of the mean. spread: Λ⁻¹."""
    return np.asarray(G - G @ spread @ G, dtype=np.float64)


def fisher_information(K: Float64, member: Float64) -> Float64:
    """Fisher's information (21, 21) on the upper triangle of Ψ, ½ Σ tr(K E_a K E_b)."""
    flat = K.reshape(len(K), 36)
    pairs = (flat * member[:, None]).T @ flat
    return _of_triangle(pairs.reshape(6, 6, 6, 6))


def _of_triangle(pairs: Float64) -> Float64:
    """½ Σ K_ij K_kl E_a,jk E_b,li for the 21 symmetric matrices, of Σ K_ij K_kl (6, 6, 6, 6)."""
    basis = symmetric_basis()
    return 0.5 * np.einsum("ijkl,ajk,bli->ab", pairs, basis, basis, optimize=True)


def symmetric_basis() -> Float64:
    """(21, 6, 6): the symmetric matrices whose coefficients are the upper triangle."""
    out = np.zeros((21, 6, 6))
    for number, (i, j) in enumerate(zip(*TRIANGLE, strict=True)):
        out[number, i, j] = out[number, j, i] = 1.0
    return out


PRIOR_INFORMATION = COVARIANCE_PRIOR_WEIGHT * _of_triangle(np.einsum("ij,kl->ijkl", np.eye(6), np.eye(6)))
"""Curvature of the prior of Ψ along S where it is most probable, ½ tr S²."""


def covariance_error(seen: MapFrameEvidence, state: MotionParameters, found: EStepResult) -> Float64:
    """Covariance (21, 21) of the error of Ψ's upper triangle, whether motions are Gaussian or not.

    Huber's sandwich: the information, and the prior's, about the scatter of the sights' own slopes. Turns of several
    degrees about a far point are not Gaussian in what they shift. Of fewer than `ENOUGH` sights the scatter says too
    little, and the information stands. The second class is fitted along: where it overlaps with the first one,
    information is missing of both (Louis).
    """
    inverse = np.linalg.inv(state.covariance)
    weak = np.zeros((24, 24))
    weak[:21, :21] = COVARIANCE_PRIOR_WEIGHT * _of_triangle(np.einsum("ij,kl->ijkl", inverse, inverse))
    weak[21, 21] = OUTLIER_SHARE_PRIOR_WEIGHT * INITIAL_OUTLIER_SHARE * (1 - INITIAL_OUTLIER_SHARE)
    weak[22:, 22:] = np.diag(0.5 * OUTLIER_WIDTH_PRIOR_WEIGHT * DEGREES_OF_FREEDOM)
    whole = weak + _complete_information(seen, state, found)
    own = _observed_information_inverse(whole, _missing_information(state, found))
    if len(found.inlier_probability) >= MIN_IMAGES:
        slopes = _scores(state, found)
        slopes = slopes - slopes.mean(axis=0)
        own = own @ (slopes.T @ slopes + weak) @ own
    return np.asarray(own[:21, :21], dtype=np.float64)


def _complete_information(seen: MapFrameEvidence, state: MotionParameters, found: EStepResult) -> Float64:
    """Fisher's information (24, 24) were it known of which class each sight is.

    On Ψ, the logit of the second class's share, and the logs of its variances.
    """
    out, width = 1 - found.inlier_probability, np.repeat(state.outlier_variance, DEGREES_OF_FREEDOM)
    J = seen.precision
    K = width[:, None] * (J - J @ np.linalg.inv(J + np.diag(1 / width)) @ J)
    told = out @ np.stack([(K[:, part, part] ** 2).sum(axis=(1, 2)) for part in (slice(0, 3), slice(3, 5))], axis=1)
    whole = np.zeros((24, 24))
    whole[:21, :21] = fisher_information(mean_information(seen.G, found.covariance), found.inlier_probability)
    whole[21, 21] = len(out) * state.outliers * (1 - state.outliers)
    whole[22:, 22:] = np.diag(0.5 * told)
    return whole


def _missing_information(state: MotionParameters, found: EStepResult) -> Float64:
    """Of that, what is missing as no sight tells its class."""
    apart = np.hstack(
        [
            _covariance_scores(state, found),
            -np.ones((len(found.inlier_probability), 1)),
            -_outlier_width_scores(state, found),
        ]
    )
    return np.asarray(
        (apart * (found.inlier_probability * (1 - found.inlier_probability))[:, None]).T @ apart, dtype=np.float64
    )


def _observed_information_inverse(whole: Float64, missing: Float64) -> Float64:
    """(whole − missing)⁻¹; no more than `AT_MOST_MISSING` of the whole is taken for missing in any direction."""
    root = np.linalg.cholesky(whole + 1e-12 * np.diag(np.diag(whole)))
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ missing @ inverse.T)
    left = inverse.T @ vectors
    return np.asarray((left / (1 - np.minimum(values, AT_MOST_MISSING))) @ left.T, dtype=np.float64)


AT_MOST_MISSING = 0.9
"""Where the classes are one as good as all is missing, and what is left is not known so well."""


def _scores(state: MotionParameters, found: EStepResult) -> Float64:
    """Slope (n, 24) of each sight's log likelihood along the same."""
    out = 1 - found.inlier_probability
    return np.hstack([
        found.inlier_probability[:, None] * _covariance_scores(state, found), out[:, None] - state.outliers,
        out[:, None] * _outlier_width_scores(state, found),
    ])  # fmt: skip


def _outlier_width_scores(state: MotionParameters, found: EStepResult) -> Float64:
    """Slope (n, 2) along the logs of the second class's variances, were each sight of it."""
    return 0.5 * (found.moments / state.outlier_variance - DEGREES_OF_FREEDOM)


def _covariance_scores(state: MotionParameters, found: EStepResult) -> Float64:
    """Slope (n, 21) along the upper triangle of Ψ, were each sight of the first class."""
    inverse, off = np.linalg.inv(state.covariance), found.mean - state.mean
    beyond = found.covariance + off[:, :, None] * off[:, None] - state.covariance
    slope = 0.5 * (inverse @ beyond @ inverse)
    return np.asarray(TRIANGLE_MULTIPLICITY * slope[:, TRIANGLE[0], TRIANGLE[1]])
