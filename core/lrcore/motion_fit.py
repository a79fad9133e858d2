"""The Gaussian of motions that makes what the images say most probable: its mean, its covariance Ψ, their error.

A motion m (6,) is N(μ, Ψ); a sight says of it G = Bᵀ J B (6, 6) and g = Bᵀ h (6,). Sights in a wrong mode are a second
class, whose share and widths are fitted too. EM creeps where the sights say little, so that it only weighs the classes;
μ is solved for, and Ψ climbs by Fisher's scoring: L exp(S) Lᵀ with Ψ = L Lᵀ is positive for any symmetric S. No step is
taken that lowers the probability. A Wishart prior weaker than one perfect sight, most probable at the widths that the
prior of the poses had, holds what the sights do not tell; others as weak hold the second class to the extents.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

ROUNDS = 100
"""Rounds at most."""
WARM = 2
"""Rounds of EM to begin with, which are safe far from the top."""
SETTLED = 1e-4
"""Gain in log probability at which the climb ends: the numbers are then within a twentieth of their error."""
WEIGHT = 0.25
"""Of the prior of Ψ, in sights: it is most probable at the widths where the search begins."""
COMMON = 100.0
"""Of the prior of the second class's share, in sights."""
STEADY = 10.0
"""Of the prior of the second class's widths, in sights."""
RIM = 2.0
"""No pose is beyond the extents: on their rim, a turn has 5/3 and a shift twice the variance that it has all over."""
SIZES = np.array([3, 2])
"""Numbers in a turn and in a shift of θ."""
OUTLIERS = 0.03
"""Share of the second class to begin with."""
ENOUGH = 210
"""Sights, ten for each number in Ψ, from which on their scatter tells the error."""
STRIDE = 1.5
"""A variance changes by this factor's exponential at most in a round."""
STUBBORN = 1e6
"""Damping at which no step helps any more."""
TRIANGLE = np.triu_indices(6)
TWICE = np.where(TRIANGLE[0] == TRIANGLE[1], 1.0, 2.0)


@dataclass(frozen=True)
class Fitted:
    """What is fitted: μ (6,), Ψ (6, 6); share of the second class and its variances (2,), of turns and of shifts."""

    mean: Float64
    covariance: Float64
    outliers: float
    astray: Float64


@dataclass(frozen=True)
class Found:
    """What that says of each sight: ⟨m⟩ (n, 6), Λ⁻¹ (n, 6, 6), probability of the first class (n,).

    beyond: (n,) log evidence and moments: (n, 2), |ω|² and |t|², were it of the second. probability: log, of all sights
    and of the fit itself under the weak priors.
    """

    at: Float64
    spread: Float64
    member: Float64
    beyond: Float64
    moments: Float64
    probability: float


@dataclass(frozen=True)
class Seen:
    """What n sights say: G (n, 6, 6), g (n, 6) in the frame of the map, J (n, 5, 5), h (n, 5) in their own.

    given, astray: (6, 6) Ψ and (2,) variances of the second class, at which their priors are most probable.
    """

    G: Float64
    g: Float64
    precision: Float64
    information: Float64
    given: Float64
    astray: Float64

    def found(self, state: Fitted, last: Found | None = None) -> Found:
        """The E-step. last: of a fit with the same second class, which need not be looked at again."""
        at, spread, within = expected(self.G, self.g, state.mean, state.covariance)
        beyond, moments = (last.beyond, last.moments) if last else _beyond(self, state.astray)
        first, second = within + np.log1p(-state.outliers), beyond + np.log(max(state.outliers, 1e-9))
        both = np.logaddexp(first, second)
        ratio = np.linalg.solve(self.given, state.covariance)
        weak = WEIGHT * (np.linalg.slogdet(ratio)[1] - np.trace(ratio))
        weak -= state.mean @ np.linalg.solve(self.given, state.mean)
        weak += STEADY * (SIZES * (np.log(self.astray / state.astray) - self.astray / state.astray)).sum()
        weak += 2 * COMMON * (OUTLIERS * np.log(max(state.outliers, 1e-9)) + (1 - OUTLIERS) * np.log1p(-state.outliers))
        return Found(at, spread, np.exp(first - both), beyond, moments, float(both.sum() + 0.5 * weak))


def climb(seen: Seen, begin: Fitted) -> tuple[Fitted, Found]:
    """The most probable fit, from `begin` up."""
    state, damping = begin, 1e-3
    for _ in range(WARM):
        state = _round(seen, state)
    found = seen.found(state)
    for _ in range(ROUNDS):
        before = found.probability
        state, found = _better(seen, state, found, _classes(seen, state, found))
        slope, information = _slope_and_information(seen, state, found)
        while damping < STUBBORN:
            step = _step(slope, information, damping)
            new = Fitted(state.mean, _moved(state.covariance, step), state.outliers, state.astray)
            then = seen.found(new, found)
            if then.probability >= found.probability:
                state, found, damping = new, then, damping / 4
                break
            damping *= 4
        if damping >= STUBBORN or found.probability - before < SETTLED:
            break
    return state, found


def expected(G: Float64, g: Float64, mean: Float64, covariance: Float64) -> tuple[Float64, Float64, Float64]:
    """⟨m⟩ (n, 6), Λ⁻¹ (n, 6, 6), and the log evidence of each sight, (n,), up to what all classes share."""
    inverse = np.linalg.inv(covariance)
    pull = g + inverse @ mean
    spread = np.linalg.inv(G + inverse)
    coordinates = np.einsum("nij,nj->ni", spread, pull)
    evidence = 0.5 * (np.linalg.slogdet(spread)[1] - np.linalg.slogdet(covariance)[1])
    evidence += 0.5 * ((pull * coordinates).sum(axis=1) - mean @ inverse @ mean)
    return coordinates, spread, evidence


def _round(seen: Seen, state: Fitted) -> Fitted:
    """A round of EM."""
    found = seen.found(state)
    mean = found.member @ found.at / (found.member.sum() + WEIGHT)
    moment = _excess(found, mean, np.zeros((6, 6))) + WEIGHT * seen.given
    return Fitted(mean, moment / (found.member.sum() + WEIGHT), _share(found), _astray(seen, found))


def _beyond(seen: Seen, astray: Float64) -> tuple[Float64, Float64]:
    """Log evidence (n,) of the second class, and what each sight expects there of |ω|² and |t|²: (n, 2)."""
    width = np.repeat(astray, SIZES)
    spread = np.linalg.inv(seen.precision + np.diag(1 / width))
    at = np.einsum("nij,nj->ni", spread, seen.information)
    evidence = 0.5 * (np.linalg.slogdet(spread)[1] - np.log(width).sum() + (seen.information * at).sum(axis=1))
    squares = at**2 + np.einsum("nii->ni", spread)
    return np.asarray(evidence), np.stack([squares[:, :3].sum(axis=1), squares[:, 3:].sum(axis=1)], axis=1)


def _share(found: Found) -> float:
    """Share of the second class."""
    return float(((1 - found.member).sum() + COMMON * OUTLIERS) / (len(found.member) + COMMON))


def _astray(seen: Seen, found: Found) -> Float64:
    """Variances (2,) of the second class; all of it on the rim of the extents would have `RIM` times their own."""
    out = 1 - found.member
    fitted = (out @ found.moments + STEADY * SIZES * seen.astray) / ((out.sum() + STEADY) * SIZES)
    return np.asarray(np.minimum(fitted, RIM * seen.astray))


def _better(seen: Seen, state: Fitted, found: Found, other: Fitted) -> tuple[Fitted, Found]:
    then = seen.found(other)
    return (other, then) if then.probability >= found.probability else (state, found)


def _classes(seen: Seen, state: Fitted, found: Found) -> Fitted:
    """The share of the second class, and μ where the slope is none: Σ K μ = Σ (1 + G Ψ)⁻¹ g."""
    K = known(seen.G, found.spread)
    own = seen.g - np.einsum("nij,nj->ni", seen.G, np.einsum("nij,nj->ni", found.spread, seen.g))
    weight = np.einsum("n,nij->ij", found.member, K) + np.linalg.inv(seen.given)
    return Fitted(
        np.linalg.solve(weight, found.member @ own),
        state.covariance,
        float(1 - found.member.mean()),
        _astray(seen, found),
    )


def _excess(found: Found, mean: Float64, covariance: Float64) -> Float64:
    """Sum of Λ⁻¹ + (⟨m⟩ − μ)(⟨m⟩ − μ)ᵀ − Ψ over the first class."""
    off = found.at - mean
    both = np.einsum("n,nij->ij", found.member, found.spread) + (found.member[:, None] * off).T @ off
    return np.asarray(both - found.member.sum() * covariance, dtype=np.float64)


def _slope_and_information(seen: Seen, state: Fitted, found: Found) -> tuple[Float64, Float64]:
    """Slope (21,) of the log probability along S, and Fisher's information (21, 21) on it, at S = 0."""
    L = np.linalg.cholesky(state.covariance)
    inverse = np.linalg.inv(L)
    weak = L.T @ np.linalg.solve(seen.given, L)
    along = 0.5 * inverse @ _excess(found, state.mean, state.covariance) @ inverse.T
    along += 0.5 * WEIGHT * (np.eye(6) - weak)
    K = L.T @ known(seen.G, found.spread) @ L
    return TWICE * along[TRIANGLE], information(K, found.member) + TOP


def _step(slope: Float64, told: Float64, damping: float) -> Float64:
    """S (6, 6) by damped scoring, no further than STRIDE."""
    S = np.zeros((6, 6))
    S[TRIANGLE] = np.linalg.solve(told + damping * np.diag(np.diag(told)), slope)
    S = S + np.triu(S, 1).T
    return np.asarray(S * min(1.0, STRIDE / max(float(np.abs(np.linalg.eigvalsh(S)).max()), 1e-30)), dtype=np.float64)


def _moved(covariance: Float64, step: Float64) -> Float64:
    """L exp(S) Lᵀ."""
    L = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(step)
    root = L @ (vectors * np.exp(0.5 * values))
    return np.asarray(root @ root.T, dtype=np.float64)


def known(G: Float64, spread: Float64) -> Float64:
    """K = Bᵀ (B Ψ Bᵀ + J⁻¹)⁻¹ B (n, 6, 6), what each sight says of the mean. spread: Λ⁻¹."""
    return np.asarray(G - G @ spread @ G, dtype=np.float64)


def information(K: Float64, member: Float64) -> Float64:
    """Fisher's information (21, 21) on the upper triangle of Ψ, ½ Σ tr(K E_a K E_b)."""
    flat = K.reshape(len(K), 36)
    pairs = (flat * member[:, None]).T @ flat
    return _of_triangle(pairs.reshape(6, 6, 6, 6))


def _of_triangle(pairs: Float64) -> Float64:
    """½ Σ K_ij K_kl E_a,jk E_b,li for the 21 symmetric matrices, of Σ K_ij K_kl (6, 6, 6, 6)."""
    basis = symmetric()
    return 0.5 * np.einsum("ijkl,ajk,bli->ab", pairs, basis, basis, optimize=True)


def symmetric() -> Float64:
    """(21, 6, 6): the symmetric matrices whose coefficients are the upper triangle."""
    out = np.zeros((21, 6, 6))
    for number, (i, j) in enumerate(zip(*TRIANGLE, strict=True)):
        out[number, i, j] = out[number, j, i] = 1.0
    return out


TOP = WEIGHT * _of_triangle(np.einsum("ij,kl->ijkl", np.eye(6), np.eye(6)))
"""Curvature of the prior of Ψ along S where it is most probable, ½ tr S²."""


def error(seen: Seen, state: Fitted, found: Found) -> Float64:
    """Covariance (21, 21) of the error of Ψ's upper triangle, whether motions are Gaussian or not.

    Huber's sandwich: the information, and the prior's, about the scatter of the sights' own slopes. Turns of several
    degrees about a far point are not Gaussian in what they shift. Of fewer than `ENOUGH` sights the scatter says too
    little, and the information stands. The second class is fitted along: where it overlaps with the first one,
    information is missing of both (Louis).
    """
    inverse = np.linalg.inv(state.covariance)
    weak = np.zeros((24, 24))
    weak[:21, :21] = WEIGHT * _of_triangle(np.einsum("ij,kl->ijkl", inverse, inverse))
    weak[21, 21] = COMMON * OUTLIERS * (1 - OUTLIERS)
    weak[22:, 22:] = np.diag(0.5 * STEADY * SIZES)
    whole = weak + _complete(seen, state, found)
    own = _inverse(whole, _missing(state, found))
    if len(found.member) >= ENOUGH:
        slopes = _slopes(state, found)
        slopes = slopes - slopes.mean(axis=0)
        own = own @ (slopes.T @ slopes + weak) @ own
    return np.asarray(own[:21, :21], dtype=np.float64)


def _complete(seen: Seen, state: Fitted, found: Found) -> Float64:
    """Fisher's information (24, 24) were it known of which class each sight is.

    On Ψ, the logit of the second class's share, and the logs of its variances.
    """
    out, width = 1 - found.member, np.repeat(state.astray, SIZES)
    J = seen.precision
    K = width[:, None] * (J - J @ np.linalg.inv(J + np.diag(1 / width)) @ J)
    told = out @ np.stack([(K[:, part, part] ** 2).sum(axis=(1, 2)) for part in (slice(0, 3), slice(3, 5))], axis=1)
    whole = np.zeros((24, 24))
    whole[:21, :21] = information(known(seen.G, found.spread), found.member)
    whole[21, 21] = len(out) * state.outliers * (1 - state.outliers)
    whole[22:, 22:] = np.diag(0.5 * told)
    return whole


def _missing(state: Fitted, found: Found) -> Float64:
    """Of that, what is missing as no sight tells its class."""
    apart = np.hstack([_triangles(state, found), -np.ones((len(found.member), 1)), -_wider(state, found)])
    return np.asarray((apart * (found.member * (1 - found.member))[:, None]).T @ apart, dtype=np.float64)


def _inverse(whole: Float64, missing: Float64) -> Float64:
    """(whole − missing)⁻¹; no more than `AT_MOST_MISSING` of the whole is taken for missing in any direction."""
    root = np.linalg.cholesky(whole + 1e-12 * np.diag(np.diag(whole)))
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ missing @ inverse.T)
    left = inverse.T @ vectors
    return np.asarray((left / (1 - np.minimum(values, AT_MOST_MISSING))) @ left.T, dtype=np.float64)


AT_MOST_MISSING = 0.9
"""Where the classes are one as good as all is missing, and what is left is not known so well."""


def _slopes(state: Fitted, found: Found) -> Float64:
    """Slope (n, 24) of each sight's log likelihood along the same."""
    out = 1 - found.member
    return np.hstack([
        found.member[:, None] * _triangles(state, found), out[:, None] - state.outliers,
        out[:, None] * _wider(state, found),
    ])  # fmt: skip


def _wider(state: Fitted, found: Found) -> Float64:
    """Slope (n, 2) along the logs of the second class's variances, were each sight of it."""
    return 0.5 * (found.moments / state.astray - SIZES)


def _triangles(state: Fitted, found: Found) -> Float64:
    """Slope (n, 21) along the upper triangle of Ψ, were each sight of the first class."""
    inverse, off = np.linalg.inv(state.covariance), found.at - state.mean
    beyond = found.spread + off[:, :, None] * off[:, None] - state.covariance
    slope = 0.5 * (inverse @ beyond @ inverse)
    return np.asarray(TWICE * slope[:, TRIANGLE[0], TRIANGLE[1]])
