"""Changes of poses: laws of the fulcrum."""

import numpy as np
from scipy.spatial.transform import Rotation

from lrcore.imaging.poses import pose_differences, recentred_poses
from lrcore.imaging.rotations import rotation_exp
from lrcore.records import Poses


def some_poses(n: int = 20, seed: int = 1) -> Poses:
    random = np.random.default_rng(seed)
    return Poses(Rotation.random(n, random_state=seed).as_matrix(), random.normal(0, 5, (n, 2)))


def test_no_change_is_zero() -> None:
    poses = some_poses()
    angle, shift = pose_differences(poses, poses, (10.0, -20.0, 30.0))
    assert np.allclose(angle, 0, atol=1e-6)
    assert np.all(shift == 0)


def test_rotation_about_the_fulcrum_leaves_its_image_where_it_was() -> None:
    before, fulcrum = some_poses(), (12.0, -7.0, 31.0)
    turn = rotation_exp(np.tile([0.0, np.radians(6.0), 0.0], (len(before), 1)))
    rotation = before.rotation @ turn
    origin = before.origin_A + ((rotation - before.rotation) @ np.array(fulcrum))[:, :2]
    angle, shift = pose_differences(before, Poses(rotation, origin), fulcrum)
    assert np.allclose(angle, 6.0)
    assert np.allclose(shift, 0.0, atol=1e-12)


def test_shift_is_how_far_the_image_of_the_fulcrum_moves() -> None:
    before, after, fulcrum = some_poses(seed=1), some_poses(seed=2), np.array([3.0, 4.0, -5.0])
    seen = [(p.rotation @ fulcrum)[:, :2] - p.origin_A for p in (before, after)]
    assert np.allclose(pose_differences(before, after, tuple(fulcrum))[1], np.linalg.norm(seen[1] - seen[0], axis=1))


def test_pure_shift_has_the_same_length_about_every_fulcrum() -> None:
    before = some_poses()
    after = Poses(before.rotation, before.origin_A + [3.0, 4.0])
    for fulcrum in ((0.0, 0.0, 0.0), (50.0, 10.0, -20.0)):
        assert np.allclose(pose_differences(before, after, fulcrum)[1], 5.0)


def test_combined_poses_turn_as_the_one_and_show_the_fulcrum_where_the_other_does() -> None:
    turned, placed, fulcrum = some_poses(seed=1), some_poses(seed=2), np.array([3.0, 40.0, -5.0])
    found = recentred_poses(turned, placed, fulcrum)
    seen = [(p.rotation @ fulcrum)[:, :2] - p.origin_A for p in (found, placed)]
    assert np.array_equal(found.rotation, turned.rotation)
    assert np.allclose(*seen)
    assert np.allclose(pose_differences(placed, found, tuple(fulcrum))[1], 0)
    assert recentred_poses(turned, turned, fulcrum) is turned
