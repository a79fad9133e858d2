"""Search frame, posterior, spec: what a fulcrum means, and that it costs nothing to change it."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from lrcore.imaging.poses import displaced_poses, pose_differences
from lrcore.imaging.rotations import from_euler, rotation_exp
from lrcore.kernels.constants import MAX_MODES
from lrcore.kernels.local_search import PosteriorModes, SearchLimits
from lrcore.masks import soft_sphere
from lrcore.records import OTHER_MODES, Poses, Volume
from lrcore.refinement.geometry import resolution_bands, search_geometry
from lrcore.refinement.parameters import RefineSpec, fulcrum_point
from lrcore.refinement.posterior import laplace_posterior
from lrcore.refinement.search import _other_modes, poses_to_theta, theta_to_poses
from lrcore.refinement.search_frame import SearchFrame, make_lattice

LIMITS = SearchLimits(0.3, 5.0, 0.1, 2.0)


def frame(fulcrum_A):
    return SearchFrame(None, None, np.zeros(3), np.array(fulcrum_A), LIMITS, make_lattice(LIMITS, 5.0, 0.1), 2.0)


@pytest.fixture
def poses():
    rng = np.random.default_rng(1)
    return Poses(from_euler(rng.uniform(-90, 90, (6, 3))), rng.normal(0, 3, (6, 2)))


def test_frames_undo_each_other(poses):
    rng = np.random.default_rng(2)
    theta = np.concatenate([rng.normal(0, 0.05, (6, 3)), rng.normal(0, 0.5, (6, 2))], axis=1)
    here = frame([10.0, -20.0, 30.0])
    assert np.allclose(poses_to_theta(poses, theta_to_poses(poses, theta, here), here), theta)


def test_a_turn_about_the_fulcrum_leaves_its_image_where_it_is(poses):
    fulcrum = np.array([10.0, -20.0, 30.0])
    theta = np.zeros((6, 5))
    theta[:, :3] = 0.1
    moved = theta_to_poses(poses, theta, frame(fulcrum))
    before = (poses.rotation @ fulcrum)[:, :2] - poses.origin_A
    assert np.allclose((moved.rotation @ fulcrum)[:, :2] - moved.origin_A, before)
    angle, shift = pose_differences(poses, moved, tuple(fulcrum))
    assert np.allclose(angle, np.degrees(0.1 * np.sqrt(3)))
    assert np.allclose(shift, 0, atol=1e-9)


def test_poses_outside_the_extents_are_pulled_in(poses):
    far = Poses(poses.rotation @ rotation_exp([[0.5, 0, 0]]), poses.origin_A + 40)
    theta = poses_to_theta(poses, far, frame([0.0, 0.0, 0.0]))
    assert np.allclose(np.linalg.norm(theta[:, :3], axis=1), 0.3)
    assert np.allclose(np.linalg.norm(theta[:, 3:], axis=1), 5.0)


def test_lattice_forbids_shifts_beyond_the_extent():
    lattice = make_lattice(LIMITS, 5.0, 0.1)
    y, x = np.meshgrid(lattice.shifts, lattice.shifts, indexing="ij")
    assert np.array_equal(lattice.penalty_shift > 1e20, np.hypot(x, y) > 5.0 + 1e-6)
    assert lattice.penalty_rotation[0] == 0


def test_a_mode_without_a_peak_is_as_wide_as_the_extents_and_leaves_the_others_alone():
    hessian = np.zeros((2, MAX_MODES, 5, 5))
    hessian[0] = np.diag([400.0, 400, 400, 4, 4])
    hessian[1] = np.diag([-4000.0, 400, 400, 4, -100])
    value = np.full((2, MAX_MODES), np.inf)
    value[:, 0] = -5.0
    modes = PosteriorModes(np.zeros((2, MAX_MODES, 5)), value, value, hessian, np.zeros(2, np.int32))
    free = replace(LIMITS, rotation_sd=np.inf, shift_sd=np.inf)
    found = laplace_posterior(modes, free, np.tile(np.eye(3), (2, 1, 1)))
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    assert np.allclose(np.diag(found.covariance[0, 0]), [1 / 400] * 3 + [1 / 4] * 2, rtol=1e-3)
    assert np.sqrt(found.covariance[1, 0, 0, 0]) == pytest.approx(LIMITS.rotation / np.sqrt(3), rel=0.03)
    assert np.isfinite(found.weight).all()


def test_of_a_hinge_the_lattice_prefers_turns_about_its_axis():
    axis = np.array([1.0, -2.0, 2.0]) / 3
    motion = np.zeros((6, 6))
    motion[:3, :3], motion[3:, 3:] = np.outer(axis, axis) * 0.15**2 + np.eye(3) * 0.005**2, np.eye(3)
    same, hinge = (make_lattice(limits, 5.0, 0.1) for limits in (LIMITS, replace(LIMITS, motion=motion)))
    assert np.array_equal(same.vectors, hinge.vectors)
    along = np.abs(hinge.vectors @ axis)
    across = np.sqrt((hinge.vectors**2).sum(axis=1) - along**2)
    # Nothing narrower than a cell: its points would all be off the axis.
    wanted = 0.5 * (along**2 / (0.15**2 + 0.005**2 + 0.05**2) + across**2 / (0.005**2 + 0.05**2))
    assert np.allclose(hinge.penalty_rotation, wanted)
    assert np.array_equal(same.penalty_shift, hinge.penalty_shift)


def test_posterior_of_one_mode_is_the_inverse_curvature_and_of_two_equal_ones_a_coin():
    hessian = np.zeros((2, MAX_MODES, 5, 5))
    hessian[:, :2] = np.diag([400.0, 400, 400, 4, 4])
    value = np.full((2, MAX_MODES), np.inf)
    value[:, 0] = -5.0
    value[1, 1] = -5.0
    modes = PosteriorModes(np.zeros((2, MAX_MODES, 5)), value, value, hessian, np.zeros(2, np.int32))
    found = laplace_posterior(modes, LIMITS, np.tile(np.eye(3), (len(modes.value), 1, 1)))
    assert np.allclose(np.diag(found.covariance[0, 0]), [1 / 500] * 3 + [1 / 4.25] * 2, rtol=1e-3)
    assert found.weight[:, 0] == pytest.approx([1, 0.5])
    assert found.ess == pytest.approx([1, 2])


def test_other_modes_are_kept_as_poses_away_from_the_reported_one(poses):
    rng = np.random.default_rng(3)
    assert MAX_MODES == 1 + OTHER_MODES
    theta = np.concatenate([rng.normal(0, 0.08, (6, MAX_MODES, 3)), rng.normal(0, 1, (6, MAX_MODES, 2))], axis=2)
    weight = np.tile([0.6, 0.25, 0.14, 0.01], (6, 1))
    bad = np.arange(6) == 5
    absent = np.zeros((6, MAX_MODES))
    modes = PosteriorModes(theta, absent, absent, np.zeros((6, MAX_MODES, 5, 5)), np.zeros(6, np.int32))
    here = frame([10.0, -20.0, 30.0])
    offset, probability = _other_modes(modes, weight, bad, here.pixel_size_A)
    assert np.allclose(probability[:5], [0.25, 0.14, 0.0])
    assert np.isnan(offset[:5, 2]).all()
    assert np.isnan(offset[5]).all()
    assert (probability[5] == 0).all()
    fine = poses.select(np.arange(5))
    reported = theta_to_poses(fine, theta[:5, 0], here)
    for m in (0, 1):
        there, wanted = (
            displaced_poses(reported, offset[:5, m], here.fulcrum_A),
            theta_to_poses(fine, theta[:5, m + 1], here),
        )
        assert np.allclose(there.rotation, wanted.rotation, atol=1e-6)
        assert np.allclose(there.origin_A, wanted.origin_A, atol=1e-5)


def test_fulcrum_notations():
    assert fulcrum_point("mask", 64, 2.0, (1, 2, 3)) == (1, 2, 3)
    assert fulcrum_point("box", 64, 2.0, (1, 2, 3)) == (0, 0, 0)
    assert fulcrum_point("32, 33, 30 px", 64, 2.0, (1, 2, 3)) == (0, 2, -4)
    assert fulcrum_point("64,66,60A", 64, 2.0, (1, 2, 3)) == (0, 2, -4)
    assert fulcrum_point("-36, -34, 10 map", 64, 2.0, (1, 2, 3), (-100.0, -100.0, -50.0)) == (0, 2, -4)


def test_a_fulcrum_in_a_models_coordinates_follows_the_header_of_the_mask():
    mask = Volume(np.roll(soft_sphere(32, 6.0, 3.0), 2, axis=2), 2.0, (-30.0, 5.0, 0.0))
    corner = search_geometry(mask, RefineSpec(fulcrum="40, 30, 36 A"))
    model = search_geometry(mask, RefineSpec(fulcrum="10, 35, 36 map"))
    assert np.array_equal(corner.fulcrum, model.fulcrum)


@pytest.mark.parametrize(
    ("field", "value"),
    [("fulcrum", "1, 2 px"), ("rotation_prior_sd_deg", -1), ("symmetry", "X3"), ("max_iterations", 0), ("nonsense", 1)],
)
def test_spec_refuses(field, value):
    with pytest.raises(ValidationError, match=field):
        RefineSpec(**{field: value})


def test_extents_default_to_three_sd_and_are_kept_when_typed():
    assert RefineSpec().rotation_limit_deg == 15
    assert RefineSpec().shift_limit_A == 9
    assert RefineSpec(prior="none").rotation_limit_deg == 20
    assert RefineSpec(prior="none").shift_limit_A == 10
    assert RefineSpec(rotation_extent_deg=7, shift_extent_A=2).shift_limit_A == 2


@pytest.mark.parametrize("fulcrum", ["mask", "box", "40, 40, 10 px"])
def test_the_window_holds_the_mask_wherever_the_extents_let_it_go(fulcrum):
    mask = np.roll(soft_sphere(96, 10, 4), (12, -5, 3), axis=(0, 1, 2))
    spec = RefineSpec(fulcrum=fulcrum)
    shape = search_geometry(Volume(mask, 1.0), spec)
    assert np.array_equal(shape.centre, [3, -5, 12])
    lever = np.linalg.norm(shape.centre - shape.fulcrum)
    assert shape.window >= min(96, 2 * (13 + 9 + np.radians(15) * lever))
    samples, period, _ = resolution_bands(shape, 4.0)
    assert np.hypot(samples.kx, samples.ky).max() <= shape.window / 4.0
    assert period >= 4.0
