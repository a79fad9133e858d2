"""The points that stand for a posterior have its weights, its mean and its width."""

import numpy as np
import pytest

from lrcore.imaging.rotations import from_euler, relative_rotation, rotation_exp
from lrcore.kernels.constants import MAX_MODES
from lrcore.kernels.local_search import SearchLimits
from lrcore.records import Poses, WeightedPoses
from lrcore.refinement.posterior import MIN_MODE_SHARE, NARROW_MODE, PointGeometry, Posterior, backprojection_points

FULCRUM_A = np.array([10.0, -20.0, 30.0])
PIXEL_A = 2.0
REACH = 60.0
LIMITS = SearchLimits(np.radians(20), 5.0, np.inf, np.inf)


@pytest.fixture
def poses():
    rng = np.random.default_rng(1)
    return Poses(from_euler(rng.uniform(-90, 90, (6, 3))), rng.normal(0, 3, (6, 2)))


@pytest.fixture
def covariance():
    """(6, KEPT, 5, 5): 1 to 3° and a few tenths of a pixel, correlated."""
    rng = np.random.default_rng(2)
    scale = np.array([0.03, 0.02, 0.04, 0.3, 0.2])
    mix = np.linalg.cholesky(0.5 * np.eye(5) + 0.5)
    return np.einsum("i,ij,kj,k,bm->bmik", scale, mix, mix, scale, rng.uniform(0.5, 1, (6, MAX_MODES)))


def only(n):
    return np.tile(np.eye(MAX_MODES)[0], (n, 1))


def points_of(covariance: np.ndarray, weight: np.ndarray, modes: list[Poses]) -> WeightedPoses:
    """Points of posteriors well inside the extents, whose modes are the centres of the search."""
    n, reached = len(weight), np.zeros(weight.shape, np.bool_)
    posterior = Posterior(covariance, weight, np.zeros((n, 5, 5)), reached)
    return backprojection_points(
        posterior, modes, np.zeros((n, MAX_MODES, 5)), PointGeometry(LIMITS, FULCRUM_A, PIXEL_A, REACH)
    )


def vectors(points: WeightedPoses, poses: Poses) -> np.ndarray:
    """(δ, t) of the points as seen from the poses, (n, P, 5), rad and px."""
    n, p = points.share.shape
    turned = np.repeat(poses.rotation, p, axis=0)
    delta = relative_rotation(turned, points.rotation.reshape(-1, 3, 3)).reshape(n, p, 3)
    moved = ((points.rotation - poses.rotation[:, None]) @ FULCRUM_A)[..., :2]
    return np.concatenate([delta, (poses.origin_A[:, None] + moved - points.origin_A) / PIXEL_A], axis=2)


def test_moments_of_a_wide_mode(poses, covariance):
    points = points_of(covariance, only(6), [poses] * MAX_MODES)
    assert points.share.sum(axis=1) == pytest.approx(np.ones(6))
    assert points.share.shape == (6, 4)
    theta = vectors(points, poses)
    mean = np.einsum("bp,bpi->bi", points.share, theta)
    assert np.abs(mean).max() < 1e-6
    found = np.einsum("bp,bpi,bpj->bij", points.share, theta, theta)
    expected = covariance[:, 0]
    assert np.allclose(found[:, :3, :], expected[:, :3, :], rtol=1e-4, atol=1e-8)
    # Of the shift's width only what goes with the rotation is in the points.
    explained = np.einsum(
        "bir,brs,bsj->bij", expected[:, 3:, :3], np.linalg.inv(expected[:, :3, :3]), expected[:, :3, 3:]
    )
    assert np.allclose(found[:, 3:, 3:], explained, rtol=1e-4, atol=1e-8)


def test_a_narrow_mode_is_its_pose(poses, covariance):
    width = np.sqrt(np.linalg.eigvalsh(covariance[:, 0, :3, :3])[:, -1])
    factor = np.where(np.arange(6) < 3, 0.99, 1.01) * NARROW_MODE / REACH / width
    scaled = covariance * factor[:, None, None, None] ** 2
    points = points_of(scaled, only(6), [poses] * MAX_MODES)
    assert np.array_equal(points.share[:3], np.tile([1, 0, 0, 0], (3, 1)))
    assert np.array_equal(points.rotation[:3, 0], poses.rotation[:3])
    assert np.array_equal(points.origin_A[:3, 0], poses.origin_A[:3])
    assert np.array_equal(points.share[3:], np.full((3, 4), 0.25))


def test_modes_have_their_weights_and_improbable_ones_none(poses, covariance):
    other = Poses(poses.rotation @ rotation_exp([[0.3, 0, 0]]), poses.origin_A + 1)
    weight = np.zeros((6, MAX_MODES))
    weight[:, 0], weight[:, 1], weight[:, 2] = 0.7, 0.3 - 0.5 * MIN_MODE_SHARE, 0.5 * MIN_MODE_SHARE
    points = points_of(covariance, weight, [poses, other, poses, poses])
    assert points.share.shape == (6, 8)
    kept = weight[0, :2] / weight[0, :2].sum()
    assert points.share.reshape(6, 2, 4).sum(axis=2) == pytest.approx(np.tile(kept, (6, 1)))
    around = np.linalg.norm(vectors(points, other)[:, 4:, :3], axis=2)
    assert around.max() < 0.15


def test_one_point_an_image_is_its_pose(poses):
    points = WeightedPoses.from_poses(poses)
    assert np.array_equal(points.rotation[:, 0], poses.rotation)
    assert np.array_equal(points.share, np.ones((6, 1)))
