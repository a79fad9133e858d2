"""How the body moves: one Gaussian of motions for all particles, and from it the fulcrum and the widths of the priors.

Each body moves by m = (ω, d), a rotation vector and a translation of a reference point c, in the frame of the map;
m ~ N(μ, Ψ). An image sees ω and the part of d in its plane, θ = (ω, (A d)_xy) = B m, with the precision J and the
information h = J θ̂ of its likelihood: that of the posterior less that of the prior. Maximum likelihood by EM:

    E: Λ = Bᵀ J B + Ψ⁻¹,  ⟨m⟩ = Λ⁻¹ (Bᵀ h + Ψ⁻¹ μ)      M: μ = mean ⟨m⟩,  Ψ = mean (Λ⁻¹ + (⟨m⟩ − μ)(⟨m⟩ − μ)ᵀ)

so that errors of the poses are not taken for motion. Poses in a wrong mode, which no Gaussian describes, are a second
class whose θ is as wide as the extents; particles count by the probability that they are of the first.

A point at y moves by d + ω × (y − c). The fulcrum is the point that moves least, the minimum of E|u(y)|².
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.aberrations import lens
from lrcore.defects import skipped
from lrcore.poses import seen_through
from lrcore.records import Expectation, Particles, Poses
from lrcore.rotations import relative

Float64 = npt.NDArray[np.float64]

ROUNDS = 400
"""Rounds of EM at most."""
SETTLED = 1e-4
"""Relative change of Ψ at which EM ends."""
ENOUGH = 210
"""Sights, ten for each number in Ψ, from which on their scatter tells the error."""
OUTLIERS = 0.03
"""Share of the second class to begin with."""
REBASED = 2
"""How often the motion is fitted again about the fulcrum that was found."""
AT_MOST = 20_000
"""Particles that are looked at; more tell hardly more of 27 numbers."""


@dataclass(frozen=True)
class Sights:
    """What n images say of the motion of their body about `reference_A` (x, y, z), Å from the box centre.

    precision: (n, 5, 5) J and information: (n, 5) h of θ, rad and Å, of the likelihood alone. plane: (n, 2, 3), the
    rows of A that make x and y. extent: (rad, Å), how far a pose may be from its middle.
    """

    reference_A: Float64
    precision: Float64
    information: Float64
    plane: Float64
    extent: tuple[float, float]

    def select(self, rows: npt.NDArray[np.integer]) -> "Sights":
        """Of the given rows."""
        return Sights(self.reference_A, self.precision[rows], self.information[rows], self.plane[rows], self.extent)


def motions(before: Poses, after: Poses, reference_A: Float64, behind: Float64 | None = None) -> Float64:
    """θ (n, 5) from poses `before` to `after`: ω in rad, and the shift of the image of the reference point in Å."""
    moved = (seen_through(after.rotation - before.rotation, behind) @ reference_A)[:, :2]
    shift = before.origin_A + moved - after.origin_A
    return np.concatenate([relative(before.rotation, after.rotation), shift], axis=1)


def sights(
    particles: Particles,
    found: Expectation,
    centres: Poses,
    prior_sd: tuple[float, float],
    extent: tuple[float, float],
    fulcrum_A: tuple[float, float, float],
) -> tuple[Sights, npt.NDArray[np.int64]]:
    """What the images say when the prior is taken out of what was found, and the rows of those that say anything.

    particles: at their input poses, from which motions are counted. centres: middles of the search and of the prior.
    prior_sd, extent: (rad, Å), the SDs infinite without a prior. fulcrum_A: of the search, (x, y, z) from the centre.
    """
    reference = np.array(fulcrum_A, dtype=np.float64)
    rows = np.nonzero(~skipped(found.flags))[0]
    if len(rows) > AT_MOST:
        rows = rows[:: -(-len(rows) // AT_MOST)]
    behind = lens(particles, rows)
    given, middle, here = (poses.select(rows) for poses in (particles.poses, centres, found.poses))
    held = np.diag(np.repeat(np.array(prior_sd, dtype=np.float64) ** -2.0, (3, 2)))
    whole = np.linalg.inv(found.covariance[rows])
    information = np.einsum("nij,nj->ni", whole, motions(given, here, reference, behind))
    information -= motions(given, middle, reference, behind) @ held
    values, vectors = np.linalg.eigh(whole - held)
    precision = (vectors * np.maximum(values, 0.0)[:, None]) @ vectors.transpose(0, 2, 1)
    plane = seen_through(given.rotation, behind)[:, :2]
    return Sights(reference, precision, information, plane, extent), rows


@dataclass(frozen=True)
class Motion:
    """The motion of a body.

    reference_A: (3,) c. mean: (6,) μ and covariance: (6, 6) Ψ of (ω, d), rad and Å. error: (21, 21) covariance of the
    upper triangle of Ψ. outliers: share of particles in the second class. member: (n,) probability of not being there.
    coordinates, spread: (n, 6) ⟨m⟩ and (n, 6, 6) Λ⁻¹ of each particle.
    """

    reference_A: Float64
    mean: Float64
    covariance: Float64
    error: Float64
    outliers: float
    member: Float64
    coordinates: Float64
    spread: Float64


def fit(seen: Sights, prior_sd: tuple[float, float] = (0.09, 3.0)) -> Motion:
    """The motion that makes the sights most likely. prior_sd: (rad, Å), where EM begins.

    Where the sights say little of a direction, EM creeps, and ends nearer to where it began than the likelihood would.
    """
    (G, g), beyond = _in_map(seen), _beyond(seen)
    state = _Fitted(np.zeros(6), np.diag(np.repeat(np.array(prior_sd, dtype=np.float64) ** 2, 3)), OUTLIERS)
    for _ in range(ROUNDS):
        before = state.covariance
        state, found = _round(G, g, beyond, state)
        change = np.abs(state.covariance - before)
        if change.max() < SETTLED * np.abs(before).max() and _alike(state.covariance, before):
            break
    found = _found(G, g, beyond, state)
    error = _robust(_error(G, found.member, state.covariance), state, found)
    return Motion(
        seen.reference_A, state.mean, state.covariance, error, state.outliers, found.member, found.at, found.spread
    )


def _alike(one: Float64, other: Float64) -> bool:
    scale = np.sqrt(np.diag(one))
    return bool(np.abs((one - other) / np.outer(scale, scale)).max() < SETTLED)


@dataclass(frozen=True)
class _Fitted:
    """What is fitted: μ, Ψ and the share of the second class."""

    mean: Float64
    covariance: Float64
    outliers: float


@dataclass(frozen=True)
class _Found:
    """What that says of each sight: ⟨m⟩, Λ⁻¹, probability of the first class; and the log likelihood of all."""

    at: Float64
    spread: Float64
    member: Float64
    likelihood: float


def _found(G: Float64, g: Float64, beyond: Float64, state: _Fitted) -> _Found:
    """The E-step."""
    at, spread, within = _expected(G, g, state.mean, state.covariance)
    first, second = within + np.log1p(-state.outliers), beyond + np.log(max(state.outliers, 1e-9))
    both = np.logaddexp(first, second)
    return _Found(at, spread, np.exp(first - both), float(both.sum()))


def _round(G: Float64, g: Float64, beyond: Float64, state: _Fitted) -> tuple[_Fitted, _Found]:
    """A round of EM, and the E-step that it was made of."""
    found = _found(G, g, beyond, state)
    mean = found.member @ found.at / found.member.sum()
    return _Fitted(mean, _moment(found, mean), float(1 - found.member.mean())), found


def _moment(found: _Found, mean: Float64) -> Float64:
    """Mean of Λ⁻¹ + (⟨m⟩ − μ)(⟨m⟩ − μ)ᵀ over the first class."""
    off = found.at - mean
    each = found.spread + off[:, :, None] * off[:, None]
    return np.asarray(np.einsum("n,nij->ij", found.member, each) / found.member.sum(), dtype=np.float64)


def _scores(state: _Fitted, found: _Found) -> Float64:
    """Slope of each sight's log likelihood along the upper triangle of Ψ: (n, 21)."""
    inverse, off = np.linalg.inv(state.covariance), found.at - state.mean
    beyond = found.spread + off[:, :, None] * off[:, None] - state.covariance
    slope = 0.5 * found.member[:, None, None] * (inverse @ beyond @ inverse)
    return np.asarray(np.where(TRIANGLE[0] == TRIANGLE[1], 1.0, 2.0) * slope[:, TRIANGLE[0], TRIANGLE[1]])


def _robust(error: Float64, state: _Fitted, found: _Found) -> Float64:
    """The error of Ψ whether motions are Gaussian or not: Fisher's about the scatter of the sights' own slopes.

    Huber's sandwich. Turns of several degrees about a far point are not Gaussian in what they shift. Of fewer than
    `ENOUGH` sights the scatter says too little, and Fisher's stands.
    """
    if len(found.member) < ENOUGH:
        return error
    scores = _scores(state, found)
    scores = scores - scores.mean(axis=0)
    return np.asarray(error @ (scores.T @ scores) @ error, dtype=np.float64)


def _in_map(seen: Sights) -> tuple[Float64, Float64]:
    """Bᵀ J B (n, 6, 6) and Bᵀ h (n, 6)."""
    B = np.zeros((len(seen.plane), 5, 6))
    B[:, :3, :3] = np.eye(3)
    B[:, 3:, 3:] = seen.plane
    G = B.transpose(0, 2, 1) @ seen.precision @ B
    return G, np.einsum("nij,ni->nj", B, seen.information)


def _expected(G: Float64, g: Float64, mean: Float64, covariance: Float64) -> tuple[Float64, Float64, Float64]:
    """⟨m⟩ (n, 6), Λ⁻¹ (n, 6, 6), and the log evidence of each sight, (n,), up to what all classes share."""
    inverse = np.linalg.inv(covariance)
    pull = g + inverse @ mean
    spread = np.linalg.inv(G + inverse)
    coordinates = np.einsum("nij,nj->ni", spread, pull)
    evidence = 0.5 * (np.linalg.slogdet(spread)[1] - np.linalg.slogdet(covariance)[1])
    evidence += 0.5 * ((pull * coordinates).sum(axis=1) - mean @ inverse @ mean)
    return coordinates, spread, evidence


def _beyond(seen: Sights) -> Float64:
    """Log evidence (n,) of the second class: θ as wide as a ball and a disc of the extents are, in variance."""
    turn, shift = seen.extent
    width = np.repeat([turn**2 / 5, shift**2 / 4], (3, 2))
    inverse = seen.precision + np.diag(1 / width)
    at = np.linalg.solve(inverse, seen.information[..., None])[..., 0]
    evidence = -0.5 * (np.linalg.slogdet(inverse)[1] + np.log(width).sum())
    return np.asarray(evidence + 0.5 * (seen.information * at).sum(axis=1), dtype=np.float64)


TRIANGLE = np.triu_indices(6)


def _basis() -> Float64:
    """(21, 6, 6): the symmetric matrices whose coefficients are the upper triangle."""
    out = np.zeros((21, 6, 6))
    for number, (i, j) in enumerate(zip(*TRIANGLE, strict=True)):
        out[number, i, j] = out[number, j, i] = 1.0
    return out


def _error(G: Float64, member: Float64, covariance: Float64) -> Float64:
    """Inverse (21, 21) of Fisher's information ½ Σ tr(K E_a K E_b) on Ψ's upper triangle, K = Bᵀ (B Ψ Bᵀ + J⁻¹)⁻¹ B."""
    K = G - G @ np.linalg.inv(G + np.linalg.inv(covariance)) @ G
    basis = _basis()
    parts = np.einsum("nij,ajk->naik", K, basis)
    information = 0.5 * np.einsum("n,naik,nbki->ab", member, parts, parts, optimize=True)
    return np.asarray(np.linalg.pinv(information, hermitian=True), dtype=np.float64)


@dataclass(frozen=True)
class Hinge:
    """Where a body turns, and how far.

    fulcrum_A: (3,) (x, y, z) from the box centre; covariance_A2: (3, 3) of its error. free: (k, 3) unit directions in
    which the data say little of it, and it was left where it was. rotation_sd: rad and shift_sd_A: Å about it, root
    mean squares over the axes: what a prior should be as wide as.
    """

    fulcrum_A: Float64
    covariance_A2: Float64
    free: Float64
    rotation_sd: float
    shift_sd_A: float


LITTLE = 0.5
"""A direction is free when the error along it is more than this share of `reach_A`."""


def located(
    seen: Sights, prior_sd: tuple[float, float], reach_A: float, home_A: Float64 | None = None
) -> tuple[Motion, Hinge]:
    """The motion about its own fulcrum, and the fulcrum: fitted, and fitted again with the reference point there.

    About a point far from the fulcrum, what a turn shifts is no linear function of it, and the larger turns widen the
    error. prior_sd: as in `fit`. reach_A, home_A: as in `hinge`; home is the reference of `seen` by default.
    """
    home = seen.reference_A if home_A is None else home_A
    motion = fit(seen, prior_sd)
    found = hinge(motion, reach_A, home)
    for _ in range(REBASED):
        motion = fit(rebased(seen, found.fulcrum_A, motion), prior_sd)
        found = hinge(motion, reach_A, home)
    return motion, found


def rebased(seen: Sights, reference_A: Float64, motion: Motion) -> Sights:
    """The same sights of another reference point. motion: as fitted, which says how far each body has turned.

    With r to the new point, its shift is t + A (exp(ω) − 1) r. The precision follows the linear part, −A [r]× ω; the
    information the second order too, whose expectation is ½ A (⟨ω ωᵀ⟩ − tr⟨ω ωᵀ⟩) r.
    """
    r = reference_A - seen.reference_A
    back = np.tile(np.eye(5), (len(seen.plane), 1, 1))  # T⁻¹, from the new θ to the old one
    back[:, 3:, :3] = seen.plane @ _cross(r)
    turned = motion.coordinates[:, :3]
    squares = turned[:, :, None] * turned[:, None] + motion.spread[:, :3, :3]
    second = 0.5 * (squares @ r - np.trace(squares, axis1=1, axis2=2)[:, None] * r)
    shift = np.zeros((len(seen.plane), 5))
    shift[:, 3:] = np.einsum("nij,nj->ni", seen.plane, second)
    precision = back.transpose(0, 2, 1) @ seen.precision @ back
    information = np.einsum("nji,nj->ni", back, seen.information) + np.einsum("nij,nj->ni", precision, shift)
    return Sights(reference_A, precision, information, seen.plane, seen.extent)


def hinge(motion: Motion, reach_A: float, home_A: Float64 | None = None) -> Hinge:
    """The fulcrum of a motion and the widths about it. reach_A: how far from home it may be, as the mask's radius.

    In a direction that the motion does not determine (all of it about one axis; too few particles) it is drawn to
    home_A, by default the reference point c, by a Gaussian of the width `reach_A`.
    """
    r = _quietest(motion.covariance)
    slopes = np.stack([_slope(motion.covariance, basis) for basis in _basis()], axis=1)
    told = np.linalg.pinv(slopes @ motion.error @ slopes.T, hermitian=True)
    covariance = np.asarray(np.linalg.inv(told + np.eye(3) / reach_A**2), dtype=np.float64)
    home = np.zeros(3) if home_A is None else home_A - motion.reference_A
    r = covariance @ (told @ r + home / reach_A**2)
    values, vectors = np.linalg.eigh(covariance)
    turn, shift = _per_axis(motion.covariance, r)
    return Hinge(
        motion.reference_A + r,
        covariance,
        vectors.T[np.sqrt(np.maximum(values, 0.0)) > LITTLE * reach_A],
        turn,
        shift,
    )


def widths(motion: Motion, point_A: Float64) -> tuple[float, float]:
    """SDs (rad, Å) per axis that a prior about the input poses and a point has to have: of the mean, too."""
    return _per_axis(motion.covariance + np.outer(motion.mean, motion.mean), point_A - motion.reference_A)


def carried(r: Float64) -> Float64:
    """(6, 6): the motion of the reference point as that of the point at r from it, d + ω × r = d − [r]× ω."""
    return np.block([[np.eye(3), np.zeros((3, 3))], [-_cross(r), np.eye(3)]])


def _per_axis(moment: Float64, r: Float64) -> tuple[float, float]:
    """Root mean squares over the axes, (rad, Å), of a motion with this second moment, seen at r from the reference."""
    to = carried(r)
    squares = np.diag(to @ moment @ to.T)
    return float(np.sqrt(squares[:3].sum() / 3)), float(np.sqrt(squares[3:].sum() / 3))


def _quietest(covariance: Float64) -> Float64:
    """Where, as r = y − c, is the point that moves least: (tr W − W) r = E[ω × d], W the covariance of ω."""
    W = covariance[:3, :3]
    mixed = covariance[:3, 3:]
    turning = np.array([mixed[1, 2] - mixed[2, 1], mixed[2, 0] - mixed[0, 2], mixed[0, 1] - mixed[1, 0]])
    return np.asarray(np.linalg.lstsq(np.trace(W) * np.eye(3) - W, turning, rcond=None)[0], dtype=np.float64)


def _slope(covariance: Float64, direction: Float64) -> Float64:
    """Change (3,) of the quietest point when the covariance changes along a direction."""
    step = 1e-4 * np.sqrt(np.abs(np.outer(np.diag(covariance), np.diag(covariance)))[direction > 0].mean())
    ahead, behind = (_quietest(covariance + sign * step * direction) for sign in (1, -1))
    return (ahead - behind) / (2 * step)


def _cross(v: Float64) -> Float64:
    """[v]×."""
    x, y, z = v
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
