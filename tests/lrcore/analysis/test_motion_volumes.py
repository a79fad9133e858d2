"""The body moved rigidly along a motion, and particles in bins of it."""

import numpy as np
import pytest

from lrcore.analysis.motion_volumes import move_body, reconstruct_bins
from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.imaging.grids import radius_grid
from lrcore.imaging.rotations import rotation_exp
from lrcore.masks import centre_of_mass, cosine_edge
from lrcore.records import Volume
from tests.fakes import make_particles

N, PIXEL = 32, 2.0


def ball(at_zyx: tuple[int, int, int]) -> np.ndarray:
    return np.roll(cosine_edge(radius_grid(N, 3), 1, 3), at_zyx, (0, 1, 2))


def test_the_body_goes_where_its_motion_says_and_the_rest_stays() -> None:
    body, rest = ball((6, -2, 1)), ball((-8, 0, 0))
    mask = Volume(np.roll(cosine_edge(radius_grid(N, 3), 5, 6), (6, -2, 1), (0, 1, 2)), PIXEL)
    fulcrum, turn, shift = np.array([4.0, -6.0, 2.0]), np.array([0.2, -0.3, 0.4]), np.array([1.0, 2.0, -3.0])
    made = move_body(Volume(body + rest, PIXEL), mask, fulcrum, turn, shift)
    at = PIXEL * np.array([1.0, -2.0, 6.0])  # (x, y, z)
    there = rotation_exp(turn[None])[0] @ (at - fulcrum) + fulcrum + shift
    new = made.data.copy()
    new[: N // 2] = 0.0
    assert np.allclose(centre_of_mass(new) * PIXEL, there, atol=0.2)
    assert np.allclose(made.data[: N // 2 - 2], rest[: N // 2 - 2], atol=0.02)


def test_no_motion_changes_nothing() -> None:
    volume, mask = Volume(ball((5, 0, 0)), PIXEL), Volume(ball((5, 0, 0)), PIXEL)
    zero = np.zeros(3)
    assert np.allclose(move_body(volume, mask, np.ones(3), zero, zero).data, volume.data, atol=1e-5)


def test_a_bin_of_few_particles_makes_no_map() -> None:
    particles = make_particles(50)
    with pytest.raises(InputError, match="3 bins: 50 particles are too few"):
        next(reconstruct_bins(particles, np.arange(50), np.arange(50.0), 3, np.ones(7), get_backend("reference")))
