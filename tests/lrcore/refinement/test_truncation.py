"""What is left of a Gaussian inside the extents: compared with draws, its uniform limit, its points in a map."""

import numpy as np
import pytest

from lrcore.imaging.rotations import from_euler, relative_rotation, rotation_exp, rotation_log
from lrcore.kernels.constants import MAX_MODES
from lrcore.kernels.local_search import PosteriorModes, SearchLimits
from lrcore.records import Poses
from lrcore.refinement.posterior import PointGeometry, backprojection_points, laplace_posterior
from lrcore.refinement.truncation import normal_points, truncate_modes

LIMITS = SearchLimits(np.radians(10), 4.0, np.inf, np.inf)
DRAWS = 400_000


def drawn(theta: np.ndarray, covariance: np.ndarray, gradient: np.ndarray) -> tuple[float, np.ndarray]:
    """Mass and covariance inside the extents, from draws that are thrown away where they lie beyond."""
    rng = np.random.default_rng(0)
    delta = rng.multivariate_normal(-covariance @ gradient, covariance, size=DRAWS)
    omega = rotation_log(rotation_exp(theta[:3]) @ rotation_exp(delta[:, :3]))
    inside = np.linalg.norm(omega, axis=1) <= LIMITS.rotation
    inside &= np.linalg.norm(theta[3:] + delta[:, 3:], axis=1) <= LIMITS.shift
    evidence = float(inside.mean()) * np.exp(0.5 * gradient @ covariance @ gradient)
    return evidence, np.cov(delta[inside].T)


@pytest.mark.parametrize("width", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("place", "push"), [(0.0, 0.0), (0.7, 0.0), (1.0, 0.0), (1.0, 1.0), (1.0, 2.0)])
def test_mass_and_widths_agree_with_draws(width: float, place: float, push: float) -> None:
    """Rotation and shift are correlated, as about a fulcrum that is not the middle of the body.

    push: gradient towards the rim, in units of the SD along it; the same as a Gaussian about a point beyond.
    """
    scale = width * np.array([0.1, 0.06, 0.08, 2.0, 1.5])
    mix = np.linalg.cholesky(0.6 * np.eye(5) + 0.4)
    covariance = scale[:, None] * (mix @ mix.T) * scale
    theta = place * np.array([0.0, LIMITS.rotation, 0.0, 0.6 * LIMITS.shift, 0.8 * LIMITS.shift])
    outward = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    gradient = -push * outward / np.sqrt(np.linalg.inv(np.linalg.inv(covariance)[1:2, 1:2])[0, 0])
    found = truncate_modes(theta[None], covariance[None], gradient[None], LIMITS)
    mass, second = drawn(theta, covariance, gradient)
    assert found.mass[0] == pytest.approx(mass, rel=0.2)
    assert np.sqrt(np.diag(found.covariance[0])) == pytest.approx(np.sqrt(np.diag(second)), rel=0.15)


def test_moments_are_continuous_where_truncation_begins() -> None:
    """Of a mode that just reaches the extents the covariance is the whole one, whatever the error of the sampling."""
    sd = LIMITS.rotation / 4.0 * np.array([1.001, 1.0, 1.0])
    covariance = np.diag([*sd, 0.3, 0.3])[None] ** 2
    found = truncate_modes(np.zeros((1, 5)), covariance, np.zeros((1, 5)), LIMITS)
    assert found.changed[0]
    assert found.mass[0] == pytest.approx(1.0, abs=0.05)
    assert np.sqrt(np.diag(found.covariance[0])) == pytest.approx(np.sqrt(np.diag(covariance[0])), rel=0.03)


def test_without_information_it_is_uniform_inside_the_extents() -> None:
    wide = np.diag([100.0, 100, 100, 1e4, 1e4])[None]
    found = truncate_modes(np.zeros((1, 5)), wide, np.zeros((1, 5)), LIMITS)
    sd = np.sqrt(np.diag(found.covariance[0]))
    assert sd[:3] == pytest.approx([LIMITS.rotation / np.sqrt(5)] * 3, rel=0.15)
    assert sd[3:] == pytest.approx([LIMITS.shift / 2] * 2, rel=0.2)


def test_well_inside_nothing_changes() -> None:
    covariance = np.diag([0.01, 0.01, 0.01, 0.2, 0.2])[None] ** 2
    found = truncate_modes(np.full((1, 5), 0.02), covariance, np.zeros((1, 5)), LIMITS)
    assert not found.changed[0]
    assert np.array_equal(found.covariance, covariance)
    assert found.mass[0] == 1.0


def test_an_extent_of_zero_truncates_nothing_along_its_unknowns() -> None:
    only_shifts = SearchLimits(0.0, 4.0, np.inf, np.inf)
    covariance = np.diag([1e-9, 1e-9, 1e-9, 4.0, 4.0])[None]
    found = truncate_modes(np.zeros((1, 5)), covariance, np.zeros((1, 5)), only_shifts)
    assert np.isfinite(found.covariance).all()
    assert np.diag(found.covariance[0])[:3] == pytest.approx([1e-9] * 3, rel=0.2)
    assert np.sqrt(found.covariance[0, 3, 3]) < 2.0


def test_points_of_a_normal_distribution_have_its_moments() -> None:
    z = normal_points(256)
    assert z.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-12)
    assert z.T @ z / 256 == pytest.approx(np.eye(5), abs=1e-9)
    assert (z**4).mean(axis=0) == pytest.approx([3.0] * 5, rel=0.15)


def modes_of(theta: np.ndarray, sd: np.ndarray) -> PosteriorModes:
    """Two modes of equal height for each image, without a prior."""
    n = len(theta)
    value = np.full((n, MAX_MODES), np.inf)
    value[:, :2] = -3.0
    hessian = np.tile(np.diag(sd**-2.0), (n, MAX_MODES, 1, 1))
    return PosteriorModes(theta, value, value, hessian, np.zeros(n, np.int32))


def test_a_mode_at_the_rim_weighs_what_is_left_of_it() -> None:
    theta = np.zeros((1, MAX_MODES, 5))
    theta[0, 1, 0] = LIMITS.rotation
    found = laplace_posterior(modes_of(theta, np.array([0.01] * 3 + [0.2] * 2)), LIMITS, np.eye(3)[None])
    assert found.weight[0, 1] / found.weight[0, 0] == pytest.approx(0.5, rel=0.15)
    half = 0.01**2 * (1 - 2 / np.pi)  # of a Gaussian cut in halves
    assert found.covariance[0, 1, 0, 0] == pytest.approx(half, rel=0.25)


@pytest.mark.parametrize("width", [0.2, 1.0, 20.0])
def test_no_point_of_the_reconstruction_lies_beyond_the_extents(width: float) -> None:
    rng, n, fulcrum_A, pixel_A = np.random.default_rng(4), 40, np.array([30.0, -10.0, 20.0]), 2.0
    theta = rng.normal(size=(n, MAX_MODES, 5))
    theta[..., :3] *= LIMITS.rotation / np.linalg.norm(theta[..., :3], axis=2, keepdims=True)
    theta[..., 3:] *= LIMITS.shift / np.linalg.norm(theta[..., 3:], axis=2, keepdims=True)
    theta[: n // 2] *= rng.uniform(0, 1, (n // 2, MAX_MODES, 1))
    centre = Poses(from_euler(rng.uniform(-90, 90, (n, 3))), rng.normal(0, 3, (n, 2)))
    modes = []
    for m in range(MAX_MODES):
        turned = centre.rotation @ rotation_exp(theta[:, m, :3])
        moved = ((turned - centre.rotation) @ fulcrum_A)[:, :2]
        modes.append(Poses(turned, centre.origin_A + moved - pixel_A * theta[:, m, 3:]))
    sd = width * np.array([LIMITS.rotation] * 3 + [LIMITS.shift] * 2)
    posterior = laplace_posterior(modes_of(theta, sd), LIMITS, centre.rotation)
    points = backprojection_points(posterior, modes, theta, PointGeometry(LIMITS, fulcrum_A, pixel_A, 60.0))
    count = points.share.shape[1]
    around = np.repeat(centre.rotation, count, axis=0)
    omega = relative_rotation(around, points.rotation.reshape(-1, 3, 3))
    moved = ((points.rotation - centre.rotation[:, None]) @ fulcrum_A)[..., :2]
    shift = (centre.origin_A[:, None] + moved - points.origin_A) / pixel_A
    assert points.share.sum(axis=1) == pytest.approx(np.ones(n))
    assert np.linalg.norm(omega, axis=1).max() <= LIMITS.rotation * (1 + 1e-6)
    assert np.linalg.norm(shift, axis=2).max() <= LIMITS.shift * (1 + 1e-6)
    sds = np.sqrt(np.diagonal(posterior.covariance[:, :2], axis1=2, axis2=3))
    assert sds[..., :3].max() < LIMITS.rotation
    assert sds[..., 3:].max() < LIMITS.shift
