"""The motion model at the level of poses: fulcrum, widths, their errors; outliers; what cannot be known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lrcore.imaging.rotations import rotation_exp
from lrcore.kernels.local_search import SearchLimits
from lrcore.motion import fit as motion_fit
from lrcore.motion.fit import MapFrameEvidence, MotionParameters
from lrcore.motion.model import (
    MotionEvidence,
    _evidence_in_map_frame,
    _point_of_least_motion,
    estimate_fulcrum,
    fit_about_fulcrum,
    fit_motion,
    motion_between_poses,
    motion_evidence,
    with_reference_point,
)
from lrcore.records import Expectation, ImageSource, Optics, Particles, Poses
from lrcore.simulation.phantom import SimulatedMotion as Moved
from tests.lrcore.motion.simulated_evidence import noisy_evidence

FULCRUM = np.array([20.0, -28.0, 18.0])
EXTENT = (np.radians(15.0), 9.0)


def seen(motion_deg, error_deg, seed=0, n=1200, wrong=0.0, axis=None, shift_A=1.0, error_A=1.0):
    """Sights of bodies that turn about FULCRUM, 39 Å from the reference point, with Gaussian errors of their poses."""
    rng = np.random.default_rng(seed)
    A = Rotation.random(n, random_state=seed).as_matrix()
    turn = np.radians(rng.normal(0, motion_deg, (n, 3) if axis is None else (n, 1))) * (1 if axis is None else axis)
    moved = FULCRUM - rotation_exp(turn) @ FULCRUM + rng.normal(0, shift_A, (n, 3))
    return noisy_evidence(turn, moved, A, (np.radians(error_deg), error_A), (wrong, 0.75), EXTENT, rng)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("motion_deg", "error_deg", "wrong", "bound_A"), [(4, 1.6, 0, 3), (4, 4, 0, 4), (2, 4, 0, 14), (4, 2.5, 0.05, 3)]
)
def test_the_fulcrum_is_found_and_its_error_is_honest(motion_deg, error_deg, wrong, bound_A):
    off, distances = [], []
    for seed in range(3):
        sight, _ = seen(motion_deg, error_deg, seed, wrong=wrong)
        found = estimate_fulcrum(fit_motion(sight), 40.0)
        error = found.fulcrum_A - FULCRUM
        off.append(np.linalg.norm(error))
        distances.append(error @ np.linalg.solve(found.covariance_A2, error))
        assert len(found.free_directions) == 0
        assert np.degrees(found.rotation_sd) == pytest.approx(motion_deg, rel=0.1)
        assert found.shift_sd_error_A < 0.15
        assert abs(found.shift_sd_A - 1.0) < 3 * found.shift_sd_error_A
    print(
        f"motion {motion_deg}°, errors {error_deg}°, {wrong:.0%} wrong: {np.round(off, 1)} Å, {np.round(distances, 1)}"
    )
    assert max(off) < bound_A
    assert max(distances) < 16.3  # 99.9 % of χ² with 3 degrees of freedom


def test_a_naive_fit_of_the_same_poses_lands_elsewhere():
    """Least squares takes the poses' errors for motion: that is why there is a model of them."""
    sight, _ = seen(2, 4)
    theta = np.linalg.solve(sight.precision, sight.information[..., None])[..., 0]
    rows = np.zeros((len(theta), 2, 3))
    for i, cross in enumerate(np.cross(theta[:, :3, None], np.eye(3)[None], axisa=1, axisb=1, axisc=1)):
        rows[i] = sight.plane[i] @ cross
    r = np.linalg.lstsq(-rows.reshape(-1, 3), theta[:, 3:].ravel(), rcond=None)[0]
    assert np.linalg.norm(r - FULCRUM) > 3 * np.linalg.norm(
        estimate_fulcrum(fit_motion(sight), 40.0).fulcrum_A - FULCRUM
    )


def test_particles_in_wrong_modes_are_known():
    sight, lost = seen(4, 1.6, wrong=0.08)
    found = fit_motion(sight)
    assert found.outlier_share == pytest.approx(0.08, abs=0.04)
    assert found.inlier_probability[lost].mean() < found.inlier_probability[~lost].mean() - 0.3


def test_motion_about_one_axis_leaves_the_fulcrum_free_along_it():
    axis = np.array([0.6, 0.0, 0.8])
    found = estimate_fulcrum(fit_motion(seen(4, 2, axis=axis)[0]), 40.0)
    (free,) = found.free_directions
    assert abs(free @ axis) > 0.99
    across = found.fulcrum_A - FULCRUM
    assert np.linalg.norm(across - (across @ axis) * axis) < 4


def climbed(sight, monkeypatch, at=0.1):
    """Where the climb ends from a Ψ `at` times as wide as the prior's, and the log probability of every step taken."""
    given, taken = np.diag([0.01] * 3 + [9.0] * 3), []
    seen_ = MapFrameEvidence(
        *_evidence_in_map_frame(sight), sight.precision, sight.information, given, np.array([0.01, 20.0])
    )
    step = motion_fit._slope_and_information
    monkeypatch.setattr(motion_fit, "_slope_and_information", lambda *a: taken.append(a[2].log_probability) or step(*a))
    state, found = motion_fit.maximise(seen_, MotionParameters(np.zeros(6), at * given, 0.03, np.array([0.01, 20.0])))
    return seen_, state, found, [*taken, found.log_probability]


def test_no_step_loses_probability_and_the_end_is_the_top(monkeypatch):
    """From far narrower and far wider; the slope at the end is none, by differences of the probability itself."""
    sight, _ = seen(4, 3, n=300)
    ends = []
    for at in (1e-3, 1.0, 100.0):
        seen_, state, found, values = climbed(sight, monkeypatch, at)
        monkeypatch.undo()
        assert np.diff(values).min() > -1e-9
        assert len(values) < 60
        ends.append((state, found.log_probability))
    assert values[-1] > values[0] + 10
    assert np.ptp([probability for _, probability in ends]) < 0.2, "all end at one top"
    rng, root = np.random.default_rng(0), np.linalg.cholesky(state.covariance)
    for _ in range(10):
        S = rng.normal(size=(6, 6))
        S = 0.02 * (S + S.T) / np.linalg.norm(S + S.T)
        there = [
            seen_.e_step(
                MotionParameters(
                    state.mean, root @ (np.eye(6) + sign * S) @ root.T, state.outlier_share, state.outlier_variance
                )
            )
            for sign in (1, -1)
        ]
        slope = (there[0].log_probability - there[1].log_probability) / 2
        curve = found.log_probability - (there[0].log_probability + there[1].log_probability) / 2
        assert curve > 0
        assert slope**2 / (2 * 2 * curve) < 0.01, "a full step along it would gain nothing"


def test_the_error_of_the_covariance_has_the_slopes_and_the_curvature_of_the_probability():
    """Slopes of the log likelihood by differences: of Ψ, of the share and of the widths of the second class."""
    sight, _ = seen(4, 3, n=250, wrong=0.1)
    state, found, seen_ = fitted(sight)
    slopes = motion_fit._scores(state, found).sum(axis=0)
    shares = np.log(state.outlier_share / (1 - state.outlier_share))

    def moved(number, step):
        covariance, astray, share = state.covariance.copy(), state.outlier_variance.copy(), shares
        if number < 21:
            covariance = covariance + step * motion_fit.symmetric_basis()[number]
        elif number == 21:
            share += step
        else:
            astray[number - 22] *= np.exp(step)
        there = MotionParameters(state.mean, covariance, 1 / (1 + np.exp(-share)), astray)
        _at, _, within = motion_fit.posterior_moments(seen_.G, seen_.g, there.mean, there.covariance)
        beyond, _ = motion_fit._outlier_evidence(seen_, there.outlier_variance)
        return np.logaddexp(within + np.log1p(-there.outlier_share), beyond + np.log(there.outlier_share)).sum()

    scale = np.sqrt(np.outer(np.diag(state.covariance), np.diag(state.covariance)))[motion_fit.TRIANGLE]
    steps = 1e-4 * np.concatenate([scale, np.ones(3)])
    numeric = [(moved(i, step) - moved(i, -step)) / (2 * step) for i, step in enumerate(steps)]
    assert np.allclose(numeric * steps, slopes * steps, atol=1e-6)


def fitted(sight):
    """A fit of sights by `climb`, off its top, as the slopes there are none."""
    given = np.diag([0.01] * 3 + [9.0] * 3)
    seen_ = MapFrameEvidence(
        *_evidence_in_map_frame(sight), sight.precision, sight.information, given, np.array([0.01, 20.0])
    )
    state, _ = motion_fit.maximise(seen_, MotionParameters(np.zeros(6), given, 0.03, np.array([0.01, 20.0])))
    off = MotionParameters(
        state.mean + 0.01, 1.2 * state.covariance, 1.3 * state.outlier_share, 0.8 * state.outlier_variance
    )
    return off, seen_.e_step(off), seen_


@pytest.mark.slow
def test_a_width_that_nothing_tells_stays_where_it_began():
    """Shifts known to 60 Å only: their width is the prior's, and is said to be untold; the turns' is their own."""
    sight, _ = seen(4, 2, error_A=60.0)
    _, found = fit_about_fulcrum(sight, (0.09, 3.0), 40.0, np.zeros(3))
    assert 1.5 < found.shift_sd_A < 6.0
    assert found.undetermined == ("shift",)
    assert found.shift_sd_error_A > 0.3 * found.shift_sd_A
    assert np.degrees(found.rotation_sd) == pytest.approx(4, rel=0.15)
    _, told = fit_about_fulcrum(seen(4, 2)[0], (0.09, 3.0), 40.0)
    assert told.undetermined == ()


def test_about_another_point_the_sights_say_the_same_of_a_body():
    """Sights that know the poses: what they say about a point 60 Å away is what a body turned by 20° does there."""
    rng, n, r = np.random.default_rng(3), 300, np.array([40.0, -30.0, 33.0])
    A = Rotation.random(n, random_state=1).as_matrix()
    turn, shift = rng.normal(0, np.radians(12), (n, 3)), rng.normal(0, 1, (n, 3))
    here = shift + r - rotation_exp(turn) @ r
    theta = np.concatenate([turn, np.einsum("nij,nj->ni", A, here)[:, :2]], axis=1)
    precision = np.tile(np.diag([1e8] * 3 + [1e4] * 2), (n, 1, 1))
    sight = MotionEvidence(np.zeros(3), precision, np.einsum("nij,nj->ni", precision, theta), A[:, :2], EXTENT)
    there = with_reference_point(sight, r, fit_motion(sight))
    said = np.linalg.solve(there.precision, there.information[..., None])[..., 0]
    assert np.abs(said[:, :3] - turn).max() < 1e-5
    assert np.abs(said[:, 3:] - np.einsum("nij,nj->ni", A[:, :2], shift)).max() < 1e-3


def test_the_quietest_point_is_where_motion_is_least():
    rng = np.random.default_rng(4)
    root = rng.normal(size=(6, 6)) * np.repeat([0.05, 2.0], 3)[:, None]
    covariance = root @ root.T
    r = _point_of_least_motion(covariance)

    def power(at):
        x, y, z = at
        to = np.hstack([-np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.eye(3)])
        return np.trace(to @ covariance @ to.T)

    around = [power(r + step) for step in rng.normal(0, 0.5, (50, 3))]
    assert power(r) < min(around)


def test_a_prior_is_taken_out_and_motions_are_those_of_a_body():
    """θ from poses of a moved body, and the likelihood's mean from a posterior that a prior has drawn in."""
    rng = np.random.default_rng(2)
    n, reference = 40, np.array([3.0, 5.0, -8.0])
    poses = Poses(Rotation.random(n, random_state=1).as_matrix(), rng.normal(0, 3, (n, 2)))
    motion = Moved(np.radians(rng.normal(0, 3, (n, 3))), rng.normal(0, 1, (n, 3)), reference)
    theta = motion_between_poses(poses, motion.poses_of_b(poses), reference)
    np.testing.assert_allclose(theta[:, :3], motion.rotation, atol=1e-9)
    np.testing.assert_allclose(theta[:, 3:], np.einsum("nij,nj->ni", poses.rotation, motion.shift_A)[:, :2], atol=1e-9)

    likelihood = np.diag([900.0, 800, 700, 1.0, 2.0])
    held = np.diag(np.repeat([0.08, 2.0], (3, 2)) ** -2.0)
    whole = likelihood + held
    drawn = np.linalg.solve(whole, (likelihood @ theta.T)).T
    shift = drawn[:, 3:]
    rotation = poses.rotation @ rotation_exp(drawn[:, :3])
    origin = poses.origin_A + ((rotation - poses.rotation) @ reference)[:, :2] - shift
    # The covariance is that inside the extents, and says nothing here.
    curvature = np.tile(whole, (n, 1, 1)).astype(np.float32)
    found = replace(Expectation.before_search(Poses(rotation, origin)), curvature=curvature)
    none, ints = np.zeros(n), np.zeros(n, np.int32)
    images = ImageSource((), ints, ints.astype(np.int64), none.astype(np.float32))
    particles = Particles(
        np.arange(n, dtype=np.uint64), np.ones(n, np.int8), ints, (Optics("a", 300, 2.7, 0.1, 1.0, 64),), poses,
        np.zeros((n, 2)), none, none, none, np.ones(n), images, None,
    )  # fmt: skip
    sight, rows = motion_evidence(particles, found, poses, SearchLimits(*EXTENT, 0.08, 2.0), tuple(reference))
    assert len(rows) == n
    np.testing.assert_allclose(sight.precision, np.tile(likelihood, (n, 1, 1)), rtol=1e-6, atol=1e-6)
    back = np.linalg.solve(sight.precision, sight.information[..., None])[..., 0]
    np.testing.assert_allclose(back, theta, atol=1e-6)


def test_sights_that_contradict_themselves_do_not_run_away():
    """A pull without a precision, as where a posterior is wider than its prior, has no place to go to."""
    sight, _ = seen(4, 3)
    precision = sight.precision.copy()
    precision[::7, 0, 0] = 0.0
    found = fit_motion(MotionEvidence(sight.reference_A, precision, sight.information, sight.plane, sight.extent))
    turn, shift = sight.extent
    assert np.all(found.outlier_variance <= 2.0 * np.array([turn**2 / 5, shift**2 / 4]))
    assert np.all(np.isfinite(found.covariance))
