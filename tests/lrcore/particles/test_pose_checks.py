"""Particles that share one pose are unaligned; those of a search grid, or without shifts, are not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lrcore.errors import InputError
from lrcore.particles.pose_checks import find_shared_pose, require_different_views, shared_pose_warning
from lrcore.records import Particles, Poses
from tests.fakes import make_particles


def particles_with(n: int, rows: slice, rotation: np.ndarray, **origin: np.ndarray) -> Particles:
    """Particles of which some rows have one rotation and shift 0, or the shifts given."""
    particles = make_particles(n)
    poses = Poses(particles.poses.rotation.copy(), particles.poses.origin_A.copy())
    poses.rotation[rows] = rotation
    poses.origin_A[rows] = origin.get("origin_A", 0.0)
    return replace(particles, poses=poses)


@pytest.mark.parametrize("rotation", [np.eye(3), np.diag([-1.0, 1.0, -1.0])], ids=["zeros", "tilt of 180"])
@pytest.mark.parametrize("count", [3, 70, 300])
def test_rows_of_zeros_among_aligned_ones_are_counted(rotation: np.ndarray, count: int) -> None:
    particles = particles_with(1000, slice(5, 5 + count), rotation)
    found = find_shared_pose(particles.poses)
    assert found.rows.tolist() == list(range(5, 5 + count))
    assert found.is_zero == bool(rotation[0, 0] == 1)
    what = "all angles and shifts 0" if found.is_zero else "one and the same rotation"
    assert f"{count} of 1000 particles have {what} (the first in row 6)" in shared_pose_warning(particles)


def test_one_rotation_with_different_shifts_counts_from_a_hundredth_of_the_particles() -> None:
    shifts = np.random.default_rng(0).normal(size=(400, 2))
    assert find_shared_pose(particles_with(1000, slice(0, 9), np.eye(3), origin_A=shifts[:9]).poses) is None
    assert len(find_shared_pose(particles_with(1000, slice(0, 10), np.eye(3), origin_A=shifts[:10]).poses).rows) == 10


def test_aligned_particles_are_not_suspected() -> None:
    particles = make_particles(5000)
    assert shared_pose_warning(particles) is None
    centred = replace(particles, poses=replace(particles.poses, origin_A=np.zeros((5000, 2))))
    assert shared_pose_warning(centred) is None
    lattice = Rotation.random(1000, random_state=1).as_matrix()[np.random.default_rng(1).integers(0, 1000, 5000)]
    assert shared_pose_warning(replace(centred, poses=replace(centred.poses, rotation=lattice))) is None


@pytest.mark.parametrize("psi", [0.0, 180.0], ids=["one pose", "turned in the plane"])
def test_one_direction_of_view_is_refused(psi: float) -> None:
    particles = make_particles(50)
    angles = np.zeros((50, 3))
    angles[:, 2] = np.linspace(-psi, psi, 50)
    poses = replace(particles.poses, rotation=Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix())
    with pytest.raises(InputError, match="all 50 particles have the same direction of view, so they have no 3D poses"):
        require_different_views(replace(particles, poses=poses))
    require_different_views(particles)
