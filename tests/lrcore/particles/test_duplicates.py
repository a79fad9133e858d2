"""Duplicates by image and by place, and the census of half sets and directions."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lrcore.imaging.rotations import from_euler
from lrcore.io.micrograph_coordinates import MicrographCoordinates
from lrcore.particles.duplicates import find_repeated_images, find_repeated_places
from lrcore.particles.statistics import fibonacci_sphere, half_set_overlap, view_distribution
from lrcore.particles.symmetry_expansion import expand_symmetry
from lrcore.records import Particles, Poses
from tests.fakes import make_particles


def listed(images: list[int]) -> Particles:
    """Particles that list the given images of one stack."""
    particles = make_particles(len(images))
    return replace(particles, images=replace(particles.images, index=np.array(images)))


def placed(points: list[tuple[int, float, float]], origin: float = 0.0) -> tuple[Particles, MicrographCoordinates]:
    """Particles at (micrograph, x, y) px of 2 Å, with origins (origin, 0) Å."""
    particles = make_particles(len(points))
    origins = np.tile([origin, 0.0], (len(points), 1))
    table = np.array(points, float)
    where = MicrographCoordinates(table[:, 0].astype(int), table[:, 1:], np.full(len(points), 2.0), False)
    return replace(particles, poses=Poses(particles.poses.rotation, origins)), where


def test_the_first_or_the_best_of_an_image_is_kept() -> None:
    particles = listed([4, 2, 4, 0, 2, 4])
    found = find_repeated_images(particles)
    assert found.keep.tolist() == [0, 1, 3]
    assert list(zip(found.removed.tolist(), found.twin.tolist(), strict=True)) == [(2, 0), (4, 1), (5, 0)]
    best = find_repeated_images(particles, score=np.array([1.0, 2, 3, 4, 2, 3]))
    assert best.keep.tolist() == [1, 2, 3]
    assert best.twin.tolist() == [2, 1, 2]


def test_slices_of_another_stack_are_other_images() -> None:
    particles = make_particles(4)
    stack = particles.path.with_name("t.mrcs")
    images = replace(
        particles.images,
        stacks=(*particles.images.stacks, stack),
        stack=np.array([0, 0, 1, 1], np.int32),
        index=np.array([0, 1, 0, 0]),
    )
    assert find_repeated_images(replace(particles, images=images)).removed.tolist() == [3]


def test_near_in_one_micrograph_is_the_same_place() -> None:
    particles, where = placed([(0, 10, 10), (0, 14, 10), (0, 18, 10), (1, 10, 10), (0, 10, 40)])
    found = find_repeated_places(particles, where, 9.0)
    assert found.removed.tolist() == [1]  # 2 is near to 1 alone, which is gone
    assert found.twin.tolist() == [0]
    best = find_repeated_places(particles, where, 9.0, score=np.array([1.0, 5, 2, 1, 1]))
    assert best.removed.tolist() == [0, 2]
    assert best.twin.tolist() == [1, 1]
    assert find_repeated_places(particles, where, 7.9).removed.tolist() == []


def test_origins_move_places() -> None:
    """A particle with origin (6, 0) Å is seen 6 Å left of its image's centre."""
    particles, where = placed([(0, 10, 10), (0, 13, 10)])
    moved = replace(particles.poses, origin_A=np.array([[0.0, 0.0], [6.0, 0.0]]))
    assert find_repeated_places(particles, where, 1.0).removed.tolist() == []
    assert find_repeated_places(replace(particles, poses=moved), where, 1.0).removed.tolist() == [1]


def test_copies_of_a_particle_stay_together() -> None:
    particles, where = placed([(0, 10, 10), (0, 11, 10), (0, 90, 90)])
    out = expand_symmetry(particles, "C2")
    rows = np.repeat(np.arange(3), 2)
    copies = MicrographCoordinates(where.micrograph[rows], where.centre_px[rows], where.pixel_size_A[rows], False)
    assert find_repeated_places(out, copies, 5.0).keep.tolist() == [0, 1, 4, 5]


def test_no_place_is_counted_twice_against_all_pairs() -> None:
    rng = np.random.default_rng(0)
    particles, where = placed([(int(m), x, y) for m, x, y in rng.uniform(0, [3, 100, 100], (200, 3))])
    kept = find_repeated_places(particles, where, 12.0).keep
    point, micrograph = where.centre_px[kept] * 2.0, where.micrograph[kept]
    apart = np.linalg.norm(point[:, None] - point, axis=2) + 1e9 * np.eye(len(kept))
    assert apart[micrograph[:, None] == micrograph].min() > 12.0
    for row in np.setdiff1d(np.arange(200), kept):
        near = np.linalg.norm(point - 2.0 * where.centre_px[row], axis=1)
        assert near[micrograph == where.micrograph[row]].min() <= 12.0


def test_what_stands_in_both_half_sets() -> None:
    particles, where = placed([(0, 10, 10), (0, 12, 10), (0, 50, 50), (1, 0, 0), (1, 0, 1)])
    particles = replace(particles, half=np.array([1, 2, 1, 1, 1], np.int8))
    found = half_set_overlap(particles, where, 5.0)
    assert found.count == (4, 1)
    assert found.images_in_both == 0
    assert found.places_in_both == 1
    assert half_set_overlap(particles, None, 5.0).places_in_both is None
    assert half_set_overlap(listed([0, 0, 1, 1]), None, 5.0).images_in_both == 2


def test_cells_of_the_sphere_are_alike() -> None:
    """Monte Carlo: each of 50 cells of a Fibonacci lattice has the same share of directions within its noise."""
    cells = fibonacci_sphere(50)
    assert np.linalg.norm(cells, axis=1) == pytest.approx(np.ones(50))
    random = Rotation.random(50_000, random_state=0).as_matrix()[:, 2]
    share = np.bincount((random @ cells.T).argmax(axis=1), minlength=50) / 1000
    assert np.abs(share - 1).max() < 0.15


def test_even_views_are_even() -> None:
    found = view_distribution(Poses(Rotation.random(20_000, random_state=1).as_matrix(), np.zeros((20_000, 2))))
    assert found.covered == 1.0
    assert found.most_times < 1.5
    assert found.least_times > 0.85


def test_views_of_a_side_are_found_out() -> None:
    """Views from within 20° of (rot 30°, tilt 60°): there they crowd, and along there Fourier space is empty."""
    rng = np.random.default_rng(2)
    towards = from_euler([[30.0, 60.0, 0.0]])
    wobble = Rotation.from_rotvec(np.radians(rng.uniform(-10, 10, (2000, 3)))).as_matrix()
    found = view_distribution(Poses(wobble @ towards, np.zeros((2000, 2))))
    assert found.most_deg == pytest.approx((30.0, 60.0), abs=15.0)
    assert found.most_times > 20
    assert found.covered < 0.1
    assert found.covered_if_even > 0.99
    assert found.least_times == 0.0
    least = from_euler([[*found.least_deg, 0.0]])[0, 2]
    assert abs(least @ towards[0, 2]) > np.sin(np.radians(20.0))


def test_symmetry_shares_out_views() -> None:
    one = Poses(from_euler([[0.0, 0.0, 0.0]] * 10), np.zeros((10, 2)))
    assert view_distribution(one).covered == pytest.approx(2 / 500)
    assert view_distribution(one, "O").covered == pytest.approx(6 / 500)
