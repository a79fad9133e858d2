"""Principal motions of simulated bodies: axis, amplitude, and coordinates that are as good as their error bars say."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lrcore.imaging.rotations import rotation_exp
from lrcore.masks import soft_sphere
from lrcore.motion.model import ANISOTROPY_CHI2, estimate_fulcrum, fit_motion
from lrcore.motion.principal import decompose_motion, radius_of_gyration_A, to_dataset
from tests.lrcore.motion.simulated_evidence import noisy_evidence

EXTENT = (np.radians(20.0), 12.0)
RADIUS = 25.0


def hinged(seed: int, error_deg: float, n: int = 1200, amplitude_deg: float = 4.0, wrong: float = 0.03):
    """Bodies that turn about one axis through a hinge, and tremble a little; their sights, angles and geometry."""
    rng = np.random.default_rng(seed)
    axis = Rotation.random(random_state=seed).apply([0.0, 0.0, 1.0])
    place = rng.normal(size=3)
    place = rng.uniform(15, 45) * place / np.linalg.norm(place)
    A = Rotation.random(n, random_state=seed).as_matrix()
    angle = np.radians(rng.normal(0, amplitude_deg, n))
    turn = angle[:, None] * axis + np.radians(rng.normal(0, 0.4, (n, 3)))
    moved = place - rotation_exp(turn) @ place + rng.normal(0, 0.4, (n, 3))
    seen, lost = noisy_evidence(turn, moved, A, (np.radians(error_deg), 1.0), (wrong, 0.7), EXTENT, rng)
    return seen, axis, place, angle, lost


@pytest.mark.slow
@pytest.mark.parametrize("error_deg", [1.0, 3.0, 6.0])
def test_axis_amplitude_and_coordinates_of_a_hinge(error_deg: float) -> None:
    apart, amplitudes, correlations = [], [], []
    for seed in range(5):
        seen, axis, _, angle, lost = hinged(seed, error_deg)
        motion = fit_motion(seen)
        located = estimate_fulcrum(motion, 40.0)
        found = decompose_motion(motion, located, RADIUS)
        first, (sds, axes) = found.rotation[0], located.axes
        assert located.anisotropy_chi2 > ANISOTROPY_CHI2
        assert sds[0] > 1.5 * sds[1]
        assert abs(axes[0] @ axis) > np.cos(np.radians(10))
        sd_deg = np.degrees(np.linalg.norm(first))
        apart.append(np.degrees(np.arccos(min(1.0, abs(first @ axis) / np.linalg.norm(first)))))
        amplitudes.append(sd_deg)
        good = ~lost
        sign = np.sign(first @ axis)
        truth, own = angle[good], sign * found.coordinates[good, 0]
        measured = np.corrcoef(truth, own)[0, 1]
        expected = np.sqrt(1 - (found.coordinate_sd[good, 0] ** 2).mean())
        correlations.append((measured, expected))
        z = (own - truth / np.radians(sd_deg)) / found.coordinate_sd[good, 0]
        assert 0.85 < np.std(z) < 1.2
    print(
        f"errors of {error_deg}°: axis off by {np.round(apart, 1)}°, SD {np.round(amplitudes, 2)}° (4 in truth), "
        f"correlation measured and expected {np.round(correlations, 3).tolist()}"
    )
    assert max(apart) < 10
    assert np.allclose(amplitudes, 4.0, rtol=0.15)
    for measured, expected in correlations:
        assert measured == pytest.approx(expected, abs=0.05)


def test_motions_add_up_to_the_covariance() -> None:
    """Σ of the outer products of one SD of each motion, brought back to the reference point, is Ψ."""
    seen, *_ = hinged(3, 2.0, n=300)
    motion = fit_motion(seen)
    at = estimate_fulcrum(motion, 40.0)
    found = decompose_motion(motion, at, RADIUS)
    r = at.fulcrum_A - motion.reference_A
    steps = np.concatenate([found.rotation, found.shift_A - np.cross(found.rotation, r)], axis=1)
    assert np.allclose(steps.T @ steps, motion.covariance, rtol=1e-6, atol=1e-9)
    assert np.all(np.diff(found.displacement_A) <= 0)
    per = np.sqrt(RADIUS**2 * (found.rotation**2).sum(axis=1) + (found.shift_A**2).sum(axis=1))
    assert np.allclose(per, found.displacement_A)


def test_the_widths_and_their_errors_are_in_the_dataset() -> None:
    seen, *_ = hinged(3, 2.0, n=300)
    motion = fit_motion(seen)
    at = estimate_fulcrum(motion, 40.0)
    found = to_dataset(decompose_motion(motion, at, RADIUS), np.arange(300, dtype=np.uint64), np.ones(300, np.int8))
    told = {name: float(found[name]) for name in ("rotation_sd", "rotation_sd_error", "shift_sd", "shift_sd_error")}
    assert told["rotation_sd"] == pytest.approx(np.degrees(at.rotation_sd))
    assert told["rotation_sd_error"] == pytest.approx(np.degrees(at.rotation_sd_error))
    assert (told["shift_sd"], told["shift_sd_error"]) == (at.shift_sd_A, at.shift_sd_error_A)
    assert 0 < told["rotation_sd_error"] < 0.2 * told["rotation_sd"]


def test_gyration_of_a_ball() -> None:
    ball, apix = soft_sphere(64, 12.0, 1.0), 2.0
    own = np.sqrt(3 / 5) * 12.5 * apix
    assert radius_of_gyration_A(ball, apix, np.zeros(3)) == pytest.approx(own, rel=0.02)
    away = np.array([10.0, -20.0, 5.0])
    assert radius_of_gyration_A(ball, apix, away) == pytest.approx(np.hypot(own, np.linalg.norm(away)), rel=0.02)


def test_as_xarray() -> None:
    seen, *_ = hinged(1, 2.0, n=50)
    motion = fit_motion(seen)
    data = to_dataset(
        decompose_motion(motion, estimate_fulcrum(motion, 40.0), RADIUS),
        np.arange(50, dtype=np.uint64),
        np.ones(50, np.int8),
    )
    assert data["coordinate"].dims == ("particle", "motion")
    assert data["turn"].attrs["units"] == "degree"
    assert float(data["share"].sum()) == pytest.approx(1.0)
