"""Rotations: RELION's Euler angles, CryoSPARC's vectors, lattices, point groups."""

import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrcore.imaging.rotations import (
    ball_lattice,
    from_cryosparc,
    from_euler,
    relative_rotation,
    rotation_log,
    to_cryosparc,
    to_euler,
)
from lrcore.imaging.symmetry import symmetry_operators

ANGLE = st.floats(-180, 180)


def relion_matrix(rot, tilt, psi):
    """RELION's A(rot, tilt, psi) written out."""
    ca, cb, cg = np.cos(np.radians([rot, tilt, psi]))
    sa, sb, sg = np.sin(np.radians([rot, tilt, psi]))
    return np.array([
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ])  # fmt: skip


@given(ANGLE, st.floats(0, 180), ANGLE)
@settings(deadline=None)
def test_euler_angles_are_relions(rot, tilt, psi):
    matrix = from_euler([[rot, tilt, psi]])
    assert np.allclose(matrix[0], relion_matrix(rot, tilt, psi), atol=1e-12)
    assert np.allclose(from_euler(to_euler(matrix)), matrix, atol=1e-7)


@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_poles(tilt):
    matrix = from_euler([[40, tilt, 25]])
    angles = to_euler(matrix)
    assert angles[0, 0] == 0
    assert np.allclose(from_euler(angles), matrix, atol=1e-12)


def test_cryosparc_vectors_are_the_transpose():
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    assert np.allclose(rotation_log(from_cryosparc(vectors)), -vectors)
    assert np.allclose(to_cryosparc(from_cryosparc(vectors)), vectors)


def test_relative_is_in_the_map_frame():
    a = from_euler([[10, 20, 30]])
    turned = a @ from_euler([[0, 0, 7]])
    assert np.degrees(relative_rotation(a, turned)[0]) == pytest.approx([0, 0, -7])


def test_lattice_fills_the_ball():
    points = ball_lattice(0.3, 0.1)
    assert np.array_equal(points[0], [0, 0, 0])
    assert np.linalg.norm(points, axis=1).max() <= 0.3 + 1e-9
    assert len(points) == pytest.approx(2 * 4 / 3 * np.pi * 3**3, rel=0.15)
    gaps = np.linalg.norm(points[:, None] - points, axis=2) + np.eye(len(points))
    assert gaps.min() == pytest.approx(0.1 * np.sqrt(0.75))


@pytest.mark.parametrize("group", ["C1", "C4", "D2", "D3"])
def test_point_groups_are_relions(group, relion):
    program = relion("relion_refine")
    text = subprocess.run([program, "--sym", group, "--print_symmetry_ops"], capture_output=True, text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    numbers = [[float(v) for v in row] for row in rows if len(row) == 3 and all(_is_number(v) for v in row)]
    theirs = np.array(numbers).reshape(-1, 3, 3)
    ours = symmetry_operators(group)
    assert len(theirs) == len(ours)
    for matrix in ours:
        assert np.abs(theirs - matrix).max(axis=(1, 2)).min() < 1e-4


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
