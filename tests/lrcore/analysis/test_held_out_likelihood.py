"""Held-out likelihood: when two steps are told apart, and what not knowing a pose costs."""

from dataclasses import replace

import numpy as np
import pytest

from lrcore.analysis.held_out_likelihood import MIN_GAIN, _occam_factor, compare_scores
from lrcore.imaging.rotations import rotation_exp
from lrcore.records import FLAG_BAD_IMAGE, Expectation, Poses, SearchSettings
from tests.fakes import make_particles

HALF = np.tile(np.array([1, 2], np.int8), 500)
ROWS = np.arange(1000)
HELD = SearchSettings((0.0, 0.0, 0.0), 4.0, 2.0, 12.0, 6.0, False)


def scores(first: float, second: float, scatter: float = 1.0) -> np.ndarray:
    """Scores that differ by `first` in half set 1 and by `second` in half set 2, on average."""
    rng = np.random.default_rng(0)
    base, more = rng.normal(50, 20, 1000), rng.normal(0, scatter, 1000)
    for number, mean in ((1, first), (2, second)):
        more[number == HALF] += mean - more[number == HALF].mean()
    return np.stack([base, base + more])


def test_what_both_half_sets_say_is_believed() -> None:
    found = compare_scores(ROWS, HALF, scores(0.3, 0.5))
    assert found.better == 1
    assert found.gain == pytest.approx(0.4)
    assert found.error == pytest.approx(1 / np.sqrt(1000), rel=0.1)
    assert compare_scores(ROWS, HALF, scores(0.3, 0.5)[::-1]).better == 0


@pytest.mark.parametrize(
    ("first", "second", "scatter"),
    [
        (0.8, -0.2, 1.0),  # the half sets disagree
        (0.4, 0.4, 30.0),  # chance may have done it
        (MIN_GAIN / 2, MIN_GAIN / 2, 0.01),  # beyond chance, and of no weight
        (0.0, 0.0, 0.0),  # the same step
    ],
)
def test_what_is_no_difference(first: float, second: float, scatter: float) -> None:
    assert compare_scores(ROWS, HALF, scores(first, second, scatter)).better is None


def posed(n: int = 4000) -> tuple[Poses, np.ndarray]:
    """Poses that the prior HELD scatters about the input ones, and their θ."""
    rng, given = np.random.default_rng(1), make_particles(n).poses
    theta = rng.normal(size=(n, 5)) * np.repeat([np.radians(4.0), 2.0], (3, 2))
    return Poses(given.rotation @ rotation_exp(theta[:, :3]), given.origin_A - theta[:, 3:]), theta


def test_the_right_width_of_a_prior_costs_least() -> None:
    """The mean of log prior is highest for the prior that the poses come from: Gibbs' inequality."""
    poses, _ = posed()
    particles = make_particles(4000)
    found = replace(Expectation.before_search(poses), covariance=np.tile(1e-6 * np.eye(5), (4000, 1, 1)))
    cost = {
        factor: _occam_factor(particles, found, replace(HELD, rotation_sd_deg=4 * factor, shift_sd_A=2 * factor)).mean()
        for factor in (0.5, 0.8, 1.0, 1.25, 2.0)
    }
    assert max(cost, key=cost.__getitem__) == 1.0
    free = replace(HELD, rotation_sd_deg=np.inf, shift_sd_A=np.inf)
    assert _occam_factor(particles, found, free).mean() < cost[1.0], "uniform inside 3 SD knows less"


def test_a_prior_of_motions_costs_least_where_bodies_move_so() -> None:
    """Gibbs' inequality again: about one axis the prior that knows it costs less than one as wide along all."""
    rng, given = np.random.default_rng(2), make_particles(4000).poses
    particles, sd = make_particles(4000), np.array([*np.radians([6.0, 1.0, 1.0]), 2.0, 1.0, 0.5])
    m = rng.normal(size=(4000, 6)) * sd
    rotation = given.rotation @ rotation_exp(m[:, :3])
    shift = np.einsum("nij,nj->ni", given.rotation, m[:, 3:])[:, :2]
    found = replace(
        Expectation.before_search(Poses(rotation, given.origin_A - shift)),
        covariance=np.tile(1e-6 * np.eye(5), (4000, 1, 1)),
    )
    mean = [float(np.sqrt((part**2).mean())) for part in (sd[:3], sd[3:])]
    same = replace(HELD, rotation_sd_deg=np.degrees(mean[0]), shift_sd_A=mean[1])
    other = [np.diag(v).ravel() for v in (sd**2, sd[[1, 0, 2, 3, 4, 5]] ** 2, 1.5 * sd**2, sd**2 / 1.5)]
    cost = [_occam_factor(particles, found, replace(same, covariance=tuple(c))).mean() for c in other]
    assert cost[0] == max(cost)
    assert cost[0] > _occam_factor(particles, found, same).mean() + 1


def test_laplace_is_exact_for_a_gaussian() -> None:
    """∫ N(x; t, s²) N(t; 0, p²) dt of five unknowns by the mode, its width and the prior there."""
    (s, p, x), particles = (0.5, 2.0, 1.3), make_particles(2)
    held = replace(HELD, rotation_sd_deg=np.degrees(p), shift_sd_A=p)
    mode, width = x * p**2 / (p**2 + s**2), 1 / (1 / p**2 + 1 / s**2)
    theta = np.array([[mode, 0, 0, 0, 0], [0, 0, 0, mode, 0]])
    given = particles.poses
    poses = Poses(given.rotation @ rotation_exp(theta[:, :3]), given.origin_A - theta[:, 3:])
    found = replace(Expectation.before_search(poses), covariance=np.tile(width * np.eye(5), (2, 1, 1)))
    likelihood = -0.5 * (x - mode) ** 2 / s**2 - 2.5 * np.log(2 * np.pi * s**2)
    exact = -0.5 * x**2 / (s**2 + p**2) - 2.5 * np.log(2 * np.pi * (s**2 + p**2))
    assert np.allclose(likelihood + _occam_factor(particles, found, held), exact)


def test_a_doubtful_mode_is_one_of_several_and_no_image_costs_nothing() -> None:
    particles = make_particles(2)
    found = replace(Expectation.before_search(particles.poses), covariance=np.tile(1e-4 * np.eye(5), (2, 1, 1)))
    sure = _occam_factor(particles, found, HELD)
    doubtful = _occam_factor(particles, replace(found, mode_probability=np.array([0.5, 1.0])), HELD)
    assert np.allclose(doubtful - sure, [np.log(2), 0])
    none = replace(found, flags=np.array([FLAG_BAD_IMAGE, 0], np.uint8))
    assert _occam_factor(particles, none, HELD)[0] == 0
    assert not _occam_factor(particles, found, None).any(), "the start looked for no pose"
