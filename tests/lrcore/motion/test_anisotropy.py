"""A motion that is alike along all axes is told from one that is not, and chance is left out of its covariance."""

import numpy as np
import pytest

from lrcore.motion.anisotropy import (
    anisotropy_chi2,
    interpolate_covariance,
    isotropic_covariance,
    shrink_anisotropy,
    transform_error,
)
from lrcore.motion.fit import TRIANGLE
from lrcore.motion.model import fit_about_fulcrum, lever_arm_transform, second_moment_at
from tests.lrcore.motion.test_principal import hinged
from tests.lrcore.motion.test_simulated_motions import made

PRIOR = (0.09, 3.0)
SETS = 8


def test_the_way_between_is_the_same_wherever_it_is_seen_from() -> None:
    rng = np.random.default_rng(1)
    first, second = (m @ m.T for m in rng.normal(size=(2, 6, 6)))
    half, to = interpolate_covariance(first, second, 0.5), rng.normal(size=(6, 6))
    assert np.allclose(half, interpolate_covariance(second, first, 0.5))
    assert np.allclose(
        interpolate_covariance(to @ first @ to.T, to @ second @ to.T, 0.3),
        to @ interpolate_covariance(first, second, 0.3) @ to.T,
    )
    assert np.allclose(interpolate_covariance(first, 9 * first, 0.5), 3 * first)
    assert np.allclose(interpolate_covariance(first, second, 0), first)
    assert np.allclose(interpolate_covariance(first, second, 1), second)
    assert np.allclose(np.linalg.slogdet(half)[1], np.mean([np.linalg.slogdet(m)[1] for m in (first, second)]))


def test_errors_are_carried_as_their_covariance() -> None:
    rng = np.random.default_rng(2)
    root = rng.normal(size=(21, 21))
    to = lever_arm_transform(np.array([3.0, -2.0, 5.0]))
    drawn = np.zeros((40_000, 6, 6))
    drawn[:, TRIANGLE[0], TRIANGLE[1]] = rng.normal(size=(40_000, 21)) @ root.T
    drawn += np.triu(drawn, 1).transpose(0, 2, 1)
    moved = (to @ drawn @ to.T)[:, TRIANGLE[0], TRIANGLE[1]]
    wanted = transform_error(root @ root.T, to)
    sd = np.sqrt(np.diag(wanted))
    assert np.abs((np.cov(moved.T) - wanted) / np.outer(sd, sd)).max() < 0.05


@pytest.mark.slow
def test_chance_is_a_chi_square_of_sixteen_and_is_left_out() -> None:
    squares, nearer = [], []
    for seed in range(SETS):
        sights, truth = made(seed)
        motion, found = fit_about_fulcrum(sights, PRIOR, 40.0)
        at = lever_arm_transform(found.fulcrum_A - motion.reference_A)
        error = transform_error(motion.error, at)
        covariance = second_moment_at(motion, found.fulcrum_A)
        squares.append(anisotropy_chi2(covariance, error))
        true = np.diag(np.repeat([np.radians(truth.motion_deg) ** 2, truth.shift_A**2], 3))
        widths = isotropic_covariance(covariance)
        kept = shrink_anisotropy(covariance, error)
        apart = [_apart(one, widths) for one in (covariance, kept)]
        nearer.append(apart[1] / apart[0])
        assert np.allclose(np.diag(isotropic_covariance(true)), np.diag(true))
    print(f"chi2 {np.round(np.sort(squares), 1)}; of the differences by axis {np.mean(nearer):.2f} is kept")
    assert 11 < np.median(squares) < 21, "of each one; their sum has 16 times as many degrees of freedom"
    assert abs(np.sum(squares) - 16 * SETS) < 3 * np.sqrt(32 * SETS)
    assert np.mean(nearer) < 0.45


@pytest.mark.slow
@pytest.mark.parametrize("error_deg", [1.0, 3.0, 6.0])
def test_a_hinge_stays_one(error_deg: float) -> None:
    sights, axis, *_ = hinged(2, error_deg)
    motion, found = fit_about_fulcrum(sights, PRIOR, 40.0)
    error = transform_error(motion.error, lever_arm_transform(found.fulcrum_A - motion.reference_A))
    covariance = second_moment_at(motion, found.fulcrum_A)
    kept = shrink_anisotropy(covariance, error)
    assert anisotropy_chi2(covariance, error) > 100
    before, after = (np.sqrt(np.linalg.eigvalsh(one[:3, :3])) for one in (covariance, kept))
    assert after[0] < 1.35 * before[0], "the narrow axis"
    assert after[2] > 0.85 * before[2], "the wide one"
    assert abs(np.linalg.eigh(kept[:3, :3])[1][:, 2] @ axis) > 0.98


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """Distance of two covariances, in logs of ratios."""
    values = np.linalg.eigvals(np.linalg.solve(second, first)).real
    return float(np.sqrt((np.log(values) ** 2).sum()))
