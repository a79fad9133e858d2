"""Twenty simulated data sets: the fulcrum where it is said to be, and widths that are right."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from lrcore.motion import Sights, located
from lrcore.rotations import exp

EXTENT = (np.radians(25.0), 20.0)
CHI2_95 = 7.815
N = 1500


@dataclass(frozen=True)
class Truth:
    """A data set's hinge, and its motion per axis about it."""

    place: np.ndarray
    motion_deg: float
    shift_A: float
    ratio: float


def made(seed: int) -> tuple[Sights, Truth]:
    """Hinge 10 to 60 Å from the reference, motion 2° to 8°, errors 0.3 to 2 times that, 4 % in a wrong mode."""
    rng = np.random.default_rng([17, seed])
    place = rng.normal(size=3)
    place *= rng.uniform(10, 60) / np.linalg.norm(place)
    motion, ratio, shift = rng.uniform(2, 8), np.exp(rng.uniform(np.log(0.3), np.log(2))), rng.uniform(0.5, 1.5)
    A = Rotation.random(N, random_state=seed).as_matrix()
    turn = np.radians(rng.normal(0, motion, (N, 3)))
    moved = place - exp(turn) @ place + rng.normal(0, shift, (N, 3))
    theta = np.concatenate([turn, np.einsum("nij,nj->ni", A, moved)[:, :2]], axis=1)
    # An error of the pose shifts the body by as much as it turns it, at 25 Å from its middle.
    sd = np.repeat([np.radians(ratio * motion), np.radians(ratio * motion) * 25], (3, 2)) * rng.uniform(
        0.7, 1.4, (N, 1)
    )
    theta += sd * rng.normal(size=(N, 5))
    lost = rng.random(N) < 0.04
    theta[lost] = rng.uniform(-0.75, 0.75, (lost.sum(), 5)) * np.repeat(EXTENT, (3, 2))
    precision = np.zeros((N, 5, 5))
    precision[:, np.arange(5), np.arange(5)] = sd**-2
    sight = Sights(np.zeros(3), precision, np.einsum("nij,nj->ni", precision, theta), A[:, :2], EXTENT)
    return sight, Truth(place, motion, shift, float(ratio))


def naive(sight: Sights) -> np.ndarray:
    """Least squares: the point that the measured poses move least, their errors taken for motion."""
    theta = np.linalg.solve(sight.precision, sight.information[..., None])[..., 0]
    w = theta[:, :3]
    cross = np.zeros((len(w), 3, 3))  # ω × r = [ω]× r
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -w[:, 2], w[:, 1], -w[:, 0]
    cross -= cross.transpose(0, 2, 1)
    rows = sight.plane @ cross
    return np.linalg.lstsq(-rows.reshape(-1, 3), theta[:, 3:].ravel(), rcond=None)[0]


def test_fulcrum_ellipsoid_and_widths_of_twenty_sets() -> None:
    near = within = 0
    off_naive, turns, shifts = [], [], []
    for seed in range(20):
        sight, truth = made(seed)
        _, found = located(sight, (0.09, 3.0), 40.0)
        error = found.fulcrum_A - truth.place
        away, square = float(np.linalg.norm(error)), float(error @ np.linalg.solve(found.covariance_A2, error))
        near, within = near + (away < 5), within + (square < CHI2_95)
        off_naive.append(float(np.linalg.norm(naive(sight) - truth.place)))
        turns.append(np.degrees(found.rotation_sd) / truth.motion_deg)
        shifts.append(found.shift_sd_A / truth.shift_A)
        print(
            f"hinge at {np.linalg.norm(truth.place):.0f} Å, motion {truth.motion_deg:.1f}°, errors {truth.ratio:.1f} "
            f"of it: {away:.1f} Å off (naive {off_naive[-1]:.1f}), distance² {square:.1f}, "
            f"widths {turns[-1]:.2f}, {shifts[-1]:.2f}"
        )
    print(f"within 5 Å: {near}; inside the 95 % ellipsoid: {within}; naive: {np.median(off_naive):.1f} Å off (median)")
    assert near >= 16
    assert within >= 17
    assert np.sum(np.array(off_naive) < 5) <= near - 5, "the naive fit is biased"
    assert np.all(np.abs(np.array(turns) - 1) < 0.15)
