"""The simulator: exact projections at the poses that the conventions say, noise as asked, and a truth that is true."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.imaging.ctf import particle_ctf
from lrcore.imaging.grids import ft, ift, index_grid, shell_mean
from lrcore.imaging.rotations import rotation_angle_deg, rotation_exp
from lrcore.io import StackReader, mrc_maps, read_particles
from lrcore.records import Particles, Poses
from lrcore.simulation import atoms, data_set, phantom
from lrcore.simulation import images as simulation_images

TINY = {"n": 12, "box": 32, "pixel_size_A": 4.0, "radius_a_A": 18.0, "radius_b_A": 14.0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> data_set.FlexibleParticle:
    return data_set.simulate_flexible_particle(tmp_path_factory.mktemp("tiny"), **TINY)


def images_of(particles: Particles) -> np.ndarray:
    with StackReader(particles.images, particles.box) as reader:
        return reader.read(np.arange(len(particles)))


def clean_images(made: data_set.FlexibleParticle, bfactor_A2: float = 80.0) -> np.ndarray:
    batches = simulation_images.project(made.phantom, made.particles, made.poses_a, made.motion, bfactor_A2)
    return made.gain * ift(np.concatenate(list(batches)), made.particles.box, 2)


def frequencies(n: int, ndim: int) -> np.ndarray:
    """Frequency vectors of a half-complex FT in 1/pixel, x first: (..., ndim)."""
    return np.stack(np.broadcast_arrays(*[k / n for k in index_grid(n, ndim)[::-1]]), axis=-1)


@pytest.mark.parametrize("n", [20, 21])
@pytest.mark.parametrize("ndim", [2, 3])
def test_points_ft_is_the_sum_over_points(n: int, ndim: int) -> None:
    points = np.random.default_rng(1).normal(0.0, 3.0, (50, ndim))
    k = frequencies(n, ndim)
    direct = np.exp(-2j * np.pi * (k @ points.T)).sum(axis=-1)
    has_mate = (np.abs(k) < 0.5 - 1e-9).all(axis=-1)
    found = atoms.points_ft(points, n)
    assert np.abs(found - direct)[has_mate].max() < 0.005 * np.abs(direct).max()
    assert np.abs(found[~has_mate]).sum() == 0.0


def test_points_are_spread_in_chunks_and_wrap_around() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(-8.0, 8.0, (atoms.POINTS_PER_BATCH + 100, 2))
    parts = atoms.points_ft(points[:50], 16) + atoms.points_ft(points[50:], 16)
    assert np.allclose(atoms.points_ft(points, 16), parts, atol=1e-8)
    assert np.allclose(atoms.points_ft(points + [16.0, -32.0], 16), parts, atol=1e-8)


@pytest.mark.parametrize("box", [32, 33])
def test_an_atom_is_seen_where_the_pose_says(tmp_path: Path, box: int) -> None:
    pixel, atom = 2.0, np.array([[3.0, -7.0, 11.0]])
    rng = np.random.default_rng(3)
    poses = Poses(data_set.random_rotations(5, rng), rng.normal(0.0, 4.0, (5, 2)))
    particles = data_set.make_particles(tmp_path, poses, box, pixel, (8000.0, 9000.0), 1, rng)
    still = phantom.SimulatedMotion(np.zeros((5, 3)), np.zeros((5, 3)), np.zeros(3))
    lonely = phantom.Phantom(atom, np.empty((0, 3)), np.zeros(3))
    (batch,) = simulation_images.project(lonely, particles, poses, still, 80.0)
    images = ift(batch / particle_ctf(particles, np.arange(5)), box, 2)
    axis = np.arange(box) - box // 2
    for row in range(5):
        x, y = (poses.rotation[row] @ atom[0])[:2] - poses.origin_A[row]
        blob = np.maximum(images[row], 0) ** 2
        assert (blob.sum(axis=0) @ axis) / blob.sum() * pixel == pytest.approx(x, abs=0.1)
        assert (blob.sum(axis=1) @ axis) / blob.sum() * pixel == pytest.approx(y, abs=0.1)


def test_ctf_is_applied(tiny: data_set.FlexibleParticle) -> None:
    row, particles = 3, tiny.particles
    seen = np.concatenate([tiny.phantom.body_a, tiny.motion.move(row, tiny.phantom.body_b)])
    seen = seen @ tiny.poses_a.rotation[row, :2].T - tiny.poses_a.origin_A[row]
    k = frequencies(particles.box, 2) / particles.pixel_size_A
    direct = np.exp(-2j * np.pi * (k @ seen.T)).sum(axis=-1) * np.exp(-80.0 / 4 * (k**2).sum(axis=-1))
    expected = tiny.gain * direct * particle_ctf(particles, [row])[0]
    expected[(np.abs(k * particles.pixel_size_A) > 0.5 - 1e-9).any(axis=-1)] = 0.0
    found = ft(clean_images(tiny)[row], 2)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("noise", ["white", "coloured"])
@pytest.mark.parametrize("groups", [1, 2])
def test_snr_and_noise_are_as_asked(tmp_path: Path, noise: simulation_images.Noise, groups: int) -> None:
    made = data_set.simulate_flexible_particle(tmp_path, **TINY | {"n": 100}, snr=0.2, noise=noise, groups=groups)
    clean, images = clean_images(made), images_of(made.particles)
    hum = images - clean
    assert clean.var(axis=(1, 2)).mean() == pytest.approx(0.2, rel=0.1)
    assert hum.var(axis=(1, 2)).mean() == pytest.approx(1.0, rel=0.02)
    power = shell_mean(np.abs(ft(hum, 2)) ** 2, 32, 2) / 32**2
    low = [power[made.particles.group == group, 1:3].mean() for group in range(groups)]
    if noise == "white":
        assert low == pytest.approx([1.0] * groups, rel=0.15)
    else:
        assert np.all(np.array(low) > 2.0)
        assert np.all(np.diff(low) > 1.0)
    high = power[:, 8:].mean(axis=0)
    assert high == pytest.approx([high.mean()] * len(high), rel=0.1)


def test_a_moved_body_looks_as_the_body_at_rest_at_its_true_pose(tiny: data_set.FlexibleParticle) -> None:
    body = tiny.phantom.body_b
    for row in range(len(tiny.particles)):
        moved = tiny.motion.move(row, body) @ tiny.poses_a.rotation[row, :2].T - tiny.poses_a.origin_A[row]
        at_rest = body @ tiny.poses_b.rotation[row, :2].T - tiny.poses_b.origin_A[row]
        assert np.abs(moved - at_rest).max() < 1e-9


def test_motion_turns_about_the_fulcrum_and_then_shifts() -> None:
    motion = phantom.SimulatedMotion(
        np.array([[0.0, 0.0, np.pi / 2]]), np.array([[0.0, 0.0, 5.0]]), np.array([1.0, 0.0, 0.0])
    )
    moved = motion.move(0, np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
    assert np.allclose(moved, [[1.0, 0.0, 5.0], [1.0, 2.0, 5.0]])


def test_errors_and_motions_have_the_size_asked_for(tmp_path: Path) -> None:
    made = data_set.simulate_flexible_particle(
        tmp_path, **TINY | {"n": 300, "box": 16, "pixel_size_A": 8.0}, hinge_sd_deg=4.0, pose_error_deg=1.0
    )
    # The length of a 3-vector with unit SD per axis has the median 1.538.
    assert np.median(rotation_angle_deg(made.poses_a.rotation, made.particles.poses.rotation)) == pytest.approx(
        1.538, rel=0.15
    )
    assert np.median(rotation_angle_deg(made.poses_a.rotation, made.poses_b.rotation)) == pytest.approx(
        4 * 1.538, rel=0.15
    )
    assert (made.particles.poses.origin_A - made.poses_a.origin_A).std() == pytest.approx(0.5, rel=0.1)
    assert np.abs(np.bincount(made.particles.half)[1:] - 150).max() == 0


def test_true_maps_project_to_the_images(tiny: data_set.FlexibleParticle) -> None:
    truth = mrc_maps.read_volume(tiny.map("gt_full")).data
    still = dataclasses.replace(tiny.motion, rotation=np.zeros((12, 3)), shift_A=np.zeros((12, 3)))
    face_on = Poses(np.stack([np.eye(3)] * 12), np.zeros((12, 2)))
    (batch,) = simulation_images.project(tiny.phantom, tiny.particles, face_on, still, 80.0)
    image = tiny.gain * ift(batch / particle_ctf(tiny.particles, np.arange(12)), 32, 2)[0]
    assert np.abs(image - truth.sum(axis=0)).max() < 0.005 * np.abs(image).max()


def test_masks_hold_their_body(tiny: data_set.FlexibleParticle) -> None:
    body, everything = (mrc_maps.read_volume(tiny.map(name)).data for name in ("mask_b", "mask_full"))
    assert np.all(body <= everything)
    assert body.min() == 0.0
    assert body.max() == 1.0
    for mask, points in ((body, tiny.phantom.body_b), (everything, tiny.phantom.atoms)):
        x, y, z = np.rint(points / 4.0).astype(int).T + 16
        assert np.all(mask[z, y, x] == 1.0)
    outside = atoms.distance_to_atoms_A(tiny.phantom.body_b, 32, 4.0) > data_set.MASK_REACH_A + data_set.MASK_EDGE_A
    assert np.all(body[outside] == 0.0)


def test_files_read_back_as_they_were_meant(tiny: data_set.FlexibleParticle) -> None:
    read, truth = read_particles(tiny.star), read_particles(tiny.truth_b_star)
    assert np.array_equal(read.half, tiny.particles.half)
    assert np.allclose(read.defocus_A, tiny.particles.defocus_A, atol=1e-5)
    assert rotation_angle_deg(read.poses.rotation, tiny.particles.poses.rotation).max() < 1e-4
    assert rotation_angle_deg(truth.poses.rotation, tiny.poses_b.rotation).max() < 1e-4
    assert np.allclose(truth.poses.origin_A, tiny.poses_b.origin_A, atol=1e-5)
    stored = np.load(tiny.truth)
    assert np.array_equal(stored["rotation_b"], tiny.poses_b.rotation)
    assert np.allclose(stored["rotation_a"] @ rotation_exp(stored["motion_rotation_rad"]), stored["rotation_b"])


def test_float16_stacks_hold_the_same_images(tiny: data_set.FlexibleParticle, tmp_path: Path) -> None:
    half = data_set.simulate_flexible_particle(tmp_path, **TINY, float16=True)
    assert half.particles.images.stacks[0].stat().st_size == 1024 + 12 * 32 * 32 * 2
    assert np.allclose(images_of(half.particles), images_of(tiny.particles), atol=2e-3)


def test_the_seed_decides(tiny: data_set.FlexibleParticle, tmp_path: Path) -> None:
    again = data_set.simulate_flexible_particle(tmp_path / "again", **TINY)
    for name in ("particles.mrcs", "particles.star", "truth_b.star", "mask_b.mrc", "gt_full.mrc"):
        assert (again.folder / name).read_bytes() == (tiny.folder / name).read_bytes()
    other = data_set.simulate_flexible_particle(tmp_path / "other", **TINY, seed=1)
    assert np.abs(np.corrcoef(images_of(other.particles).ravel(), images_of(tiny.particles).ravel())[0, 1]) < 0.05


def test_the_phantom_is_like_protein() -> None:
    half_axes = 20.0 * phantom.ASPECT_B
    rng = np.random.default_rng(0)
    trace = phantom.relax_trace(phantom.random_ca_trace(rng, 240, half_axes), half_axes)
    bonds = np.linalg.norm(np.diff(trace, axis=0), axis=1)
    assert np.abs(bonds - phantom.BOND_A).max() < 0.3
    distance = np.linalg.norm(trace[:, None] - trace, axis=2)
    strangers = np.abs(np.subtract.outer(np.arange(240), np.arange(240))) > 2
    assert distance[strangers].min() > 4.0
    assert np.linalg.norm(trace / half_axes, axis=1).max() < 1.05
    made = phantom.make_two_body_phantom(0, 24.0, 20.0)
    residues = 4 / 3 * np.pi * 20.0**3 * np.prod(phantom.ASPECT_B) / phantom.RESIDUE_A3
    assert len(made.body_b) / residues == pytest.approx(7.0, abs=0.5)
    reach = np.linalg.norm(made.body_b - made.fulcrum_A, axis=1)
    assert reach.min() < 8.0
    assert reach.max() == pytest.approx(2 * 20.0 * phantom.ASPECT_B[2], rel=0.15)


def test_noise_particles_show_nothing(tmp_path: Path) -> None:
    particles = data_set.simulate_noise_particles(tmp_path, n=40, box=24, noise="white")
    images = images_of(read_particles(particles.path))
    assert images.shape == (40, 24, 24)
    assert images.var() == pytest.approx(1.0, rel=0.03)
    assert np.abs(images.mean(axis=0)).max() < 5 / np.sqrt(40)


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"taken: cannot be created .*: it exists already, choose another place$"):
        data_set.simulate_flexible_particle(tmp_path / "taken", **TINY)
