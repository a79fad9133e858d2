"""Expansion: the copies see the same image of a symmetric map, are marked, keep their half, and are not made twice."""

from dataclasses import replace

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.particles.duplicates import require_disjoint_half_sets
from lrcore.particles.symmetry_expansion import derived_uid, expand_symmetry
from tests.fakes import make_particles


def test_a_symmetric_point_is_seen_where_it_was() -> None:
    particles = make_particles(6)
    out = expand_symmetry(particles, "T")
    assert len(out) == 72
    assert np.array_equal(out.images.index, np.repeat(particles.images.index, 12))
    assert np.array_equal(out.half, np.repeat(particles.half, 12))
    assert np.array_equal(out.poses.origin_A, np.repeat(particles.poses.origin_A, 12, axis=0))
    orbit = symmetry_operators("T") @ np.array([11.0, -3.0, 7.0])
    for i in range(6):
        before = sorted_points(orbit @ particles.poses.rotation[i].T)
        for k in range(12):
            assert sorted_points(orbit @ out.poses.rotation[12 * i + k].T) == pytest.approx(before, abs=1e-9)
    # ... and one and the same part of it is seen at every place of its orbit.
    one = out.poses.rotation[:12] @ orbit[0]
    assert sorted_points(one) == pytest.approx(sorted_points(orbit @ particles.poses.rotation[0].T), abs=1e-9)


def sorted_points(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 6).T)]


def test_the_first_copy_is_the_particle_and_uid_are_distinct() -> None:
    particles = make_particles(10)
    out = expand_symmetry(particles, "O")
    assert np.array_equal(out.uid[::24], particles.uid)
    assert np.allclose(out.poses.rotation[::24], particles.poses.rotation)
    assert len(set(out.uid.tolist())) == 240
    again = expand_symmetry(particles.select(np.array([3])), "O")
    assert np.array_equal(again.uid, out.uid[72:96])


def test_derived_uid_are_splitmix() -> None:
    """The first outputs of SplitMix64 from seed 0."""
    zero = np.zeros(3, np.uint64)
    assert [hex(int(one)) for one in derived_uid(zero, np.arange(3))[1:]] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
    ]


def test_expanding_twice_is_refused() -> None:
    once = expand_symmetry(make_particles(4), "C2")
    with pytest.raises(InputError, match="4 rows repeat an image: if the particles are expanded already"):
        expand_symmetry(once, "C2")


def test_nothing_to_expand() -> None:
    with pytest.raises(InputError, match="C1: has only one operator"):
        expand_symmetry(make_particles(4), "c1")
    with pytest.raises(InputError, match="write Cn, Dn"):
        expand_symmetry(make_particles(4), "Q")


def test_copies_in_both_half_sets_are_refused() -> None:
    out = expand_symmetry(make_particles(4), "D2")
    require_disjoint_half_sets(out)
    half = out.half.copy()
    half[5] = 3 - half[5]
    with pytest.raises(InputError, match=r"rows 5 and 6 list the same image 2@s\.mrcs in different half sets") as error:
        require_disjoint_half_sets(replace(out, half=half))
    assert "\n" not in str(error.value)
