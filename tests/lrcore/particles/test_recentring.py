"""Framing: what a cut image shows at its new pose is what the whole one showed; maps go there and back; boxes hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.imaging.grids import ft, ift, shell_mean
from lrcore.particles import recentring
from lrcore.particles.recentring import Recentring, recentre_images, recentre_map, recentre_poses, recentring_at
from lrcore.records import Optics, Particles, Poses, Volume
from lrcore.simulation.data_set import make_particles, random_rotations
from lrcore.simulation.images import noise_ft, project, write_images, write_stack
from lrcore.simulation.phantom import Phantom, SimulatedMotion
from lrcore.units import electron_wavelength_A

PIXEL = 2.0


def make_poses(n: int, seed: int = 0, spread_A: float = 3.0) -> Poses:
    rng = np.random.default_rng(seed)
    return Poses(random_rotations(n, rng), rng.normal(0, spread_A, (n, 2)))


def test_a_point_is_seen_where_it_was() -> None:
    """In the image p' = p − s a for every point of the map, with x' = x − f."""
    frame, poses = Recentring((7, -4, 3), 20, 33, PIXEL), make_poses(50)
    cut = recentring.crop_offsets(poses, frame)
    x = np.random.default_rng(1).normal(0, 20, (50, 3))
    before = np.einsum("nij,nj->ni", poses.rotation, x)[:, :2] - poses.origin_A
    after = recentre_poses(poses, frame, cut)
    seen = np.einsum("nij,nj->ni", after.rotation, x - frame.point_A)[:, :2] - after.origin_A
    assert seen == pytest.approx(before - cut * PIXEL, abs=1e-9)
    assert np.abs(after.origin_A).max() <= 0.5 * PIXEL + 1e-9
    back = recentring.undo_pose_recentring(after, frame, cut)
    assert back.origin_A == pytest.approx(poses.origin_A, abs=1e-9)


def flat_particles(folder: Path, poses: Poses, box: int) -> Particles:
    """Particles whose CTF is the same at all frequencies, so that nothing spreads."""
    particles = make_particles(folder, poses, box, PIXEL, (1.0, 2.0), 1, np.random.default_rng(2))
    optics = Optics("flat", 300.0, 0.0, 0.9, PIXEL, box)
    return replace(particles, optics=(optics,), defocus_A=np.zeros((len(poses), 2)))


@pytest.mark.parametrize(("before", "box"), [(64, 40), (64, 41), (63, 40), (63, 80)])
def test_cut_images_are_those_of_the_moved_map(before: int, box: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    atoms = rng.normal(0, 6, (40, 3)) + [14.0, -6.0, 4.0]
    frame, poses = recentring_at([13.5, -6.4, 3.0], box, before, PIXEL), make_poses(12)
    still = SimulatedMotion(np.zeros((12, 3)), np.zeros((12, 3)), np.zeros(3))
    particles = flat_particles(tmp_path, poses, before)
    whole = Phantom(atoms, np.zeros((0, 3)), np.zeros(3))
    write_stack(particles, project(whole, particles, poses, still, 200.0), False)
    cut = recentring.crop_offsets(poses, frame)
    found = np.concatenate(list(recentre_images(particles, frame, cut)))
    moved = Phantom(atoms - frame.point_A, np.zeros((0, 3)), np.zeros(3))
    there = recentre_poses(poses, frame, cut)
    (expected,) = project(moved, flat_particles(tmp_path, there, box), there, still, 200.0)
    expected = ift(expected, box, 2)
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


def test_pixels_are_cut_and_never_interpolated(tmp_path: Path) -> None:
    poses = make_poses(70, spread_A=8.0)
    particles = flat_particles(tmp_path, poses, 24)
    images = np.random.default_rng(4).normal(5, 1, (70, 24, 24)).astype(np.float32)
    write_images(particles, [images], False)
    particles = replace(particles, images=replace(particles.images, sign=-np.ones(70, np.float32)))
    frame = Recentring((3, 2, -5), 16, 24, PIXEL)
    cut = recentring.crop_offsets(poses, frame)
    found = np.concatenate(list(recentre_images(particles, frame, cut)))
    share = recentring.visible_fraction(cut, frame)
    for row in range(70):
        wide = np.pad(images[row], 40, constant_values=np.nan)
        x, y = cut[row] + 12 - 8 + 40
        expected = wide[y : y + 16, x : x + 16]
        known = np.isfinite(expected)
        assert known.mean() == pytest.approx(share[row])
        assert np.array_equal(found[row][known], expected[known])  # as stored: the sign stays in the table
    again = np.concatenate(list(recentre_images(particles, frame, cut)))
    assert np.array_equal(again, found)
    assert 0 < np.mean(share == 1) < 1


def test_what_is_not_shown_is_filled_with_noise_of_the_same_kind(tmp_path: Path) -> None:
    """Coloured noise about a mean of 3: mean, variance and spectrum go on where the images end."""
    n = 400
    particles = flat_particles(tmp_path, make_poses(n), 48)
    images = np.concatenate([ift(batch, 48, 2) for batch in noise_ft(particles, "coloured", np.random.default_rng(7))])
    fill = recentring.matching_noise(images.astype(np.float32) + 3, 72, particles.uid)
    assert fill.mean() == pytest.approx(3.0, abs=0.05)
    assert fill.var() == pytest.approx(images.var(), rel=0.05)
    theirs = shell_mean(np.abs(ft(images, 2)) ** 2, 48, 2).mean(axis=0)[2:24] / 48**2
    ours = shell_mean(np.abs(ft(fill, 2)) ** 2, 72, 2).mean(axis=0)[3:36] / 72**2
    ratio = ours / np.interp(np.arange(3, 36) / 72, np.arange(2, 24) / 48, theirs)
    assert theirs.max() > 2 * theirs.min()
    assert ratio == pytest.approx(np.ones(33), rel=0.2)
    assert np.abs(np.corrcoef(fill[0].ravel(), fill[1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("before", "box"), [(16, 24), (16, 31), (17, 30)])
def test_maps_go_there_and_back(before: int, box: int) -> None:
    data = np.random.default_rng(5).normal(size=(before,) * 3).astype(np.float32)
    volume = Volume(data, PIXEL, (5.0, -3.0, 40.0))
    frame = Recentring((4, -2, 1), box, before, PIXEL)
    there = recentre_map(volume, frame)
    c, d = before // 2, box // 2
    assert there.data[d, d, d] == data[c + 1, c - 2, c + 4]
    back = recentre_map(there, frame.inverse)
    assert np.array_equal(back.data, data)
    assert back.header_origin_A == pytest.approx(volume.header_origin_A)


def test_a_map_stays_where_it_was_in_space() -> None:
    data = np.zeros((16,) * 3, np.float32)
    data[9, 7, 12] = 1
    there = recentre_map(Volume(data, PIXEL, (5.0, -3.0, 40.0)), Recentring((4, -2, 1), 9, 16, PIXEL))
    z, y, x = (int(i) for i in np.argwhere(there.data == 1)[0])
    assert np.array([x, y, z]) * PIXEL + there.header_origin_A == pytest.approx([12 * 2 + 5, 7 * 2 - 3, 9 * 2 + 40])


def test_a_frame_is_on_a_voxel_of_the_box() -> None:
    assert recentring_at([3.1, -4.9, 0.9], 16, 20, PIXEL).point == (2, -2, 0)
    with pytest.raises(InputError, match="is outside the box of 20 pixels"):
        recentring_at([0, 0, 20.0], 16, 20, PIXEL)
    with pytest.raises(InputError, match="box of 4 pixels: give one from 8 to 80 pixels"):
        recentring_at([0, 0, 0], 4, 20, PIXEL)


def test_a_box_holds_the_rings_of_the_ctf(tmp_path: Path) -> None:
    """Without Cs, signal at k is spread by λ Δf k, so that a room r holds it to d = λ Δf / r."""
    particles = make_particles(tmp_path, make_poses(40), 64, 1.0, (15000.0, 15000.0), 1, np.random.default_rng(6))
    particles = replace(
        particles, optics=(replace(particles.optics[0], cs_mm=0.0),), defocus_A=np.full((40, 2), 15000.0)
    )
    spread = electron_wavelength_A(300.0) * 15000.0
    assert recentring.ctf_delocalisation_limit_A(particles, 164, 64.0) == pytest.approx(spread / 50.0, rel=0.01)
    assert recentring.ctf_delocalisation_limit_A(particles, 1000, 64.0) == pytest.approx(2.0, rel=0.01)
    assert recentring.ctf_delocalisation_limit_A(particles, 60, 64.0) == np.inf
    # One in ten has twice the defocus: more than the 5 % that may be cut off.
    more = particles.defocus_A.copy()
    more[:4] = 30000.0
    assert recentring.ctf_delocalisation_limit_A(replace(particles, defocus_A=more), 164, 64.0) == pytest.approx(
        spread / 25.0, rel=0.02
    )
