"""What an iteration learns from the last one: a fulcrum and widths of either half set, and when it learns nothing."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from lrcore.imaging.grids import radius_grid
from lrcore.imaging.rotations import rotation_exp
from lrcore.masks import cosine_edge
from lrcore.motion.model import lever_arm_transform
from lrcore.records import Expectation, Particles, Poses, SearchSettings, Step, Volume
from lrcore.refinement import motion_prior
from lrcore.refinement.geometry import MotionPrior, search_geometry, search_limits, search_settings
from lrcore.refinement.motion_prior import (
    _average_with_last,
    _limited_prior,
    evidence_from_search,
    rows_for_motion_estimate,
    split_by_half_set,
)
from lrcore.refinement.parameters import RefineSpec
from tests.fakes import make_job, make_particles, make_step

BODY_A = np.array([20.0, 0.0, 10.0])
HINGE_A = np.array([4.0, -12.0, 0.0])
MASK = Volume(np.roll(cosine_edge(radius_grid(48, 3), 5, 9), (5, 0, 10), (0, 1, 2)), 2.0)
TURN_DEG, SHIFT_A = 4.0, 0.8
LEARN = RefineSpec(prior="motion", fulcrum="estimate", rotation_extent_deg=20, shift_extent_A=25)


def found(
    n: int = 3000, hinges: tuple[np.ndarray, np.ndarray] = (HINGE_A, HINGE_A), turns_deg: npt.ArrayLike = TURN_DEG
) -> tuple[Particles, Step]:
    """Particles whose bodies turn about the hinge of their half set, and a step that knows each pose but for an error.

    Its search turned about the mask's centre, under a prior that the poses are drawn towards.
    """
    rng, particles = np.random.default_rng(3), make_particles(n)
    given, search = particles.poses, search_settings(search_geometry(MASK, LEARN), LEARN)
    turn = np.radians(rng.normal(0, turns_deg, (n, 3)))
    at = np.where((particles.half == 1)[:, None], *hinges)
    R = rotation_exp(turn)
    moved = at + rng.normal(0, SHIFT_A, (n, 3)) - np.einsum("nij,nj->ni", R, at)  # of the map's origin
    rotation = given.rotation @ R
    origin = given.origin_A - np.einsum("nij,nj->ni", given.rotation, moved)[:, :2]
    sd = np.repeat([np.radians(1.5), 0.8], (3, 2)) * np.ones((n, 5))
    pull = np.repeat([np.radians(search.rotation_sd_deg), search.shift_sd_A], (3, 2)) ** -2.0
    fulcrum = np.array(search.fulcrum_A)
    shift = ((rotation - given.rotation) @ fulcrum)[:, :2] + given.origin_A - origin
    theta = np.concatenate([turn, shift], axis=1) + sd * rng.normal(size=(n, 5))
    theta = theta * sd**-2 / (sd**-2 + pull)
    R = given.rotation @ rotation_exp(theta[:, :3])
    poses = Poses(R, given.origin_A + ((R - given.rotation) @ fulcrum)[:, :2] - theta[:, 3:])
    covariance = np.zeros((n, 5, 5))
    covariance[:, np.arange(5), np.arange(5)] = 1 / (sd**-2 + pull)
    step = make_step(make_job(), make_step(make_job()))
    curvature = np.linalg.inv(covariance).astype(np.float32)
    found = replace(Expectation.before_search(poses), covariance=covariance, curvature=curvature)
    return particles, replace(step, expectation=found, search=search)


def learned(particles: Particles, step: Step, mask: Volume, spec: RefineSpec) -> MotionPrior | None:
    """Learned of what the search itself says of its poses."""
    if not rows_for_motion_estimate(particles, step, spec):
        return None
    seen, rows = evidence_from_search(particles, step.expectation, particles.poses, step.search)
    return motion_prior.estimate_motion_prior(split_by_half_set(seen, particles.half[rows]), step.search, mask, spec)


def test_fulcrum_and_widths_are_those_of_the_motion() -> None:
    particles, step = found()
    got = learned(particles, step, MASK, LEARN)
    assert got is not None
    assert np.linalg.norm(np.subtract(got.fulcrum_A, HINGE_A)) < 2.0
    assert got.rotation_sd_deg == pytest.approx(TURN_DEG, rel=0.1)
    assert got.shift_sd_A == pytest.approx(SHIFT_A, rel=0.25)
    shape = search_geometry(MASK, LEARN, got)
    assert np.allclose(shape.fulcrum_A, got.fulcrum_A)
    assert search_settings(shape, LEARN).rotation_sd_deg == pytest.approx(got.rotation_sd_deg)


@pytest.mark.slow
@pytest.mark.parametrize("fulcrum", ["estimate", "mask"])
def test_the_prior_is_as_wide_along_each_axis_as_the_motion(fulcrum: str) -> None:
    turns = np.array([1.0, 2.0, 6.0])
    particles, step = found(turns_deg=turns)
    spec = RefineSpec(prior="motion", fulcrum=fulcrum, rotation_extent_deg=20, shift_extent_A=25)
    got = learned(particles, step, MASK, spec)
    assert got is not None
    lever = lever_arm_transform(np.subtract(search_geometry(MASK, spec, got).fulcrum_A, HINGE_A))
    truth = lever @ np.diag([*np.radians(turns) ** 2, *[SHIFT_A**2] * 3]) @ lever.T
    ratio = np.linalg.eigvals(np.linalg.solve(truth, np.reshape(got.covariance, (6, 6)))).real
    assert np.abs(np.sqrt(ratio) - 1).max() < 0.2, "in every direction of the six"
    shape = search_geometry(MASK, spec, got)
    assert np.allclose(search_settings(shape, spec).covariance, got.covariance)
    seen = search_limits(search_settings(shape, spec)).precision(particles.poses.rotation)
    pixels = np.array([1, 1, 1, MASK.pixel_size_A, MASK.pixel_size_A])
    assert np.allclose(shape.limits.precision(particles.poses.rotation), seen * np.outer(pixels, pixels))


def test_no_axis_is_narrower_or_wider_than_a_search_can_use() -> None:
    stiff = _limited_prior((0.0, 0.0, 0.0), np.diag([0.0, 1e-9, 0.01, 0.0, 1.0, 4.0]))
    least = np.sqrt(np.diag(np.reshape(stiff.covariance, (6, 6))))
    assert np.allclose(least, [*np.radians([0.25, 0.25]), 0.1, 0.25, 1.0, 2.0])
    loose = _limited_prior((0.0, 0.0, 0.0), np.diag([9.0, 9.0, 9.0, 1e6, 1e6, 1e6]))
    assert (loose.rotation_sd_deg, loose.shift_sd_A) == pytest.approx((90.0, 200.0))
    assert np.allclose(np.diag(np.reshape(loose.covariance, (6, 6))), np.repeat([np.pi / 2, 200.0], 3) ** 2)


def test_about_another_point_the_prior_is_as_wide_as_the_turns_shift_it() -> None:
    particles, step = found()
    spec = RefineSpec(prior="motion", rotation_extent_deg=20, shift_extent_A=25)
    got = learned(particles, step, MASK, spec)
    assert got is not None
    lever = np.linalg.norm(HINGE_A - search_geometry(MASK, spec).fulcrum_A)
    wanted = np.sqrt(SHIFT_A**2 + 2 / 3 * (np.radians(TURN_DEG) * lever) ** 2)
    assert got.shift_sd_A == pytest.approx(wanted, rel=0.15)
    assert np.allclose(search_geometry(MASK, spec, got).fulcrum_A, search_geometry(MASK, spec).fulcrum_A), (
        "not asked to move it"
    )


def test_either_half_set_tells_as_much_as_the_other() -> None:
    """Of two half sets that turn about different points neither has its way; what is learned lies between."""
    aside = np.array([0.0, 0.0, 10.0])
    got = learned(*found(hinges=(HINGE_A - aside, HINGE_A + aside)), MASK, LEARN)
    assert got is not None
    assert np.linalg.norm(np.subtract(got.fulcrum_A, HINGE_A)) < 3.0


@pytest.mark.slow
def test_what_was_learned_before_is_left_by_half() -> None:
    particles, step = found()
    got = learned(particles, step, MASK, LEARN)
    assert got is not None
    swung = replace(step.search, fulcrum_A=(10.0, 0.0, 0.0), rotation_sd_deg=6.0, shift_sd_A=3.0)
    pulled = replace(step, search=swung)
    assert learned(particles, pulled, MASK, LEARN) == _average_with_last(
        undamped(particles, pulled), swung, step.search
    )
    half = _average_with_last(got, swung, step.search)
    assert np.allclose(half.fulcrum_A, np.add(got.fulcrum_A, (10.0, 0.0, 0.0)) / 2)
    assert half.rotation_sd_deg == pytest.approx(np.sqrt(6.0 * got.rotation_sd_deg), rel=0.02)
    free = replace(swung, rotation_sd_deg=np.inf, shift_sd_A=np.inf)
    assert _average_with_last(got, free, step.search).rotation_sd_deg == pytest.approx(got.rotation_sd_deg, rel=1e-9), (
        "no prior before"
    )
    assert _average_with_last(got, step.search, step.search) == got, "the first time there is nothing to leave"


def undamped(particles: Particles, step: Step) -> MotionPrior:
    """As if what the step held had been given, not learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrcore.refinement.motion_prior._average_with_last", lambda now, *_: now)
        got = learned(particles, step, MASK, LEARN)
    assert got is not None
    return got


def test_extents_follow_the_wider_prior() -> None:
    particles, step = found()
    spec = RefineSpec(prior="motion", rotation_prior_sd_deg=1.0, shift_prior_sd_A=9.0)
    got = learned(particles, step, MASK, spec)
    assert got is not None
    now = search_settings(search_geometry(MASK, spec, got), spec)
    widest = np.sqrt(np.linalg.eigvalsh(np.reshape(got.covariance, (6, 6))[:3, :3])[-1])
    assert now.rotation_extent_deg == pytest.approx(3 * np.degrees(widest))
    assert now.rotation_extent_deg >= 3 * got.rotation_sd_deg
    assert now.shift_extent_A == pytest.approx(27.0), "a prior that narrows cuts nobody off"


def test_nothing_is_learned_where_nothing_is_told() -> None:
    particles, step = found()
    assert learned(particles, step, MASK, RefineSpec()) is None, "not asked for"
    assert learned(particles, replace(step, search=None), MASK, LEARN) is None, "the start"
    recentred = SearchSettings(**{**vars(step.search), "recentred": True})
    assert learned(particles, replace(step, search=recentred), MASK, LEARN) is None
    few = found(300)
    assert learned(*few, MASK, LEARN) is None, "150 in each half set"


@pytest.mark.parametrize("what", [{"prior": "motion"}, {"fulcrum": "estimate"}])
def test_recentring_and_learning_exclude_each_other(what: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="input poses"):
        RefineSpec(recenter_rotations=True, **what)
