"""Beam tilt, Zernike polynomials, anisotropic magnification and images multiplied by their CTF: by hand and by law."""

from dataclasses import replace

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.aberrations import (
    IDENTITY,
    even_phase,
    largest_magnification,
    magnification_in_3d,
    odd_phase,
    odd_phase_correction,
    zernike,
)
from lrcore.imaging.ctf import particle_ctf
from lrcore.imaging.fourier_volume import map_to_fourier_volume
from lrcore.imaging.grids import ft, half_plane
from lrcore.imaging.poses import magnified_rotation, pose_differences
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.kernels.model_images.reference import apply_shifts
from lrcore.particles.image_stream import MIN_CTF, batches
from lrcore.particles.recentring import Recentring, crop_offsets, recentre_poses, undo_pose_recentring
from lrcore.records import Optics, Poses, Volume
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.parameters import RefineSpec
from lrcore.simulation.data_set import make_particles, random_rotations
from lrcore.testing import smooth_map

BACKEND = get_backend("cpu")
MAGNIFIED = (1.02, 0.006, -0.004, 0.97)
BOX, PIXEL = 40, 2.0


def group(**changes):
    return replace(Optics("og1", 300, 2.7, 0.1, PIXEL, BOX), **changes)


def some_particles(folder, n=6, box=BOX, **optics):
    """Particles at random poses with B-factors and scales, in one group of the given optics and one of usual ones."""
    rng = np.random.default_rng(3)
    poses = Poses(random_rotations(n, rng), rng.normal(0, 3, (n, 2)))
    made = make_particles(folder, poses, box, PIXEL, (8000.0, 12000.0), 2, rng)
    first, second = made.optics
    made = replace(made, bfactor_A2=rng.uniform(0, 80, n), scale=rng.uniform(0.5, 1.5, n))
    return replace(made, optics=(replace(first, **optics), second))


@pytest.mark.parametrize(
    ("n", "m", "expected"),
    [
        (1, 1, lambda x, y: x),
        (1, -1, lambda x, y: y),
        (2, 0, lambda x, y: 2 * (x**2 + y**2) - 1),
        (2, -2, lambda x, y: 2 * x * y),
        (3, 1, lambda x, y: (3 * (x**2 + y**2) - 2) * x),
        (3, 3, lambda x, y: x**3 - 3 * x * y**2),
        (4, 0, lambda x, y: 6 * (x**2 + y**2) ** 2 - 6 * (x**2 + y**2) + 1),
        (4, -4, lambda x, y: 4 * (x**3 * y - x * y**3)),
    ],
)
def test_zernike_polynomials_by_hand(n, m, expected):
    x, y = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 20))
    np.testing.assert_allclose(zernike(n, m, x, y), expected(x, y), atol=1e-12)


def test_coefficients_are_in_relions_order():
    x, y = np.random.default_rng(1).uniform(-0.3, 0.3, (2, 20))
    odd = [(1, -1), (1, 1), (3, -3), (3, -1), (3, 1), (3, 3), (5, -5)]
    even = [(0, 0), (2, -2), (2, 0), (2, 2), (4, -4)]
    for place, name in enumerate(odd):
        alone = (0.0,) * place + (2.0,)
        np.testing.assert_allclose(odd_phase(group(odd_zernike=alone), x, y), 2 * zernike(*name, x, y))
    for place, name in enumerate(even):
        alone = (0.0,) * place + (2.0,)
        np.testing.assert_allclose(even_phase(group(even_zernike=alone), x, y), 2 * zernike(*name, x, y))


def test_a_beam_tilt_is_two_zernike_polynomials():
    """RELION's insertTilt: −τ s / 3 of Z_3^1 and twice that of Z_1^1, s = 2π C_s λ² 10⁴ for τ in mrad and C_s in mm."""
    x, y = np.random.default_rng(1).uniform(-0.3, 0.3, (2, 20))
    strength = 2 * np.pi * 2.7 * 1e4 * 0.0196875**2 * 0.8 / 3
    by_polynomials = odd_phase(group(odd_zernike=(0, -2 * strength, 0, 0, -strength)), x, y)
    np.testing.assert_allclose(odd_phase(group(beam_tilt_mrad=(0.8, 0.0)), x, y), by_polynomials, rtol=1e-4)


def test_odd_and_even():
    optics = group(odd_zernike=(1.0, 2, 3, 4, 5, 6), beam_tilt_mrad=(1, 2), even_zernike=(1.0, 2, 3, 4, 5, 6))
    x, y = np.random.default_rng(1).uniform(-0.3, 0.3, (2, 20))
    np.testing.assert_allclose(odd_phase(optics, -x, -y), -odd_phase(optics, x, y))
    np.testing.assert_allclose(even_phase(optics, -x, -y), even_phase(optics, x, y))


def test_nothing_is_done_where_there_is_nothing_to_do(tmp_path):
    assert odd_phase_correction(group()) is None
    assert magnification_in_3d(some_particles(tmp_path), np.arange(6)) is None
    assert largest_magnification(some_particles(tmp_path)) == 1.0


OPTICS = {
    "tilt": {"beam_tilt_mrad": (3.0, -2.0)},
    "odd": {"odd_zernike": (0.0, 0.0, 90.0, 0.0, 0.0, -60.0)},
    "even": {"even_zernike": (0.2, 5.0, 2.0, -3.0, 60.0, 0.0, 9.0)},
    "magnification": {"mag_matrix": MAGNIFIED},
    "premultiplied": {"ctf_premultiplied": True},
    "all": {
        "beam_tilt_mrad": (3.0, -2.0),
        "odd_zernike": (1.0, 0.0, 90.0),
        "even_zernike": (0.2, 5.0, 2.0, -3.0, 60.0),
        "mag_matrix": MAGNIFIED,
        "ctf_premultiplied": True,
    },
}


@pytest.mark.parametrize("name", OPTICS)
@pytest.mark.parametrize("box", [40, 41])
def test_a_batch_is_the_model_of_its_images(tmp_path, name, box):
    """Images of a map, made sample by sample from the formulas, come out of `batches` as CTF × slice at the lens."""
    particles = some_particles(tmp_path, box=box, **OPTICS[name])
    rows, limit = np.arange(len(particles)), (box - 1) // 2
    samples = half_plane(box, (limit / largest_magnification(particles) - 1,))
    volume = map_to_fourier_volume(smooth_map(box, 3, 12.0), limit)
    turns = magnified_rotation(particles.poses.rotation, magnification_in_3d(particles, rows))
    planes = BACKEND.kernels.project_slices(volume, turns, samples)
    planes = apply_shifts(planes, particles.poses.origin_A / PIXEL, samples)

    k = [index / (box * PIXEL) for index in (samples.kx, samples.ky)]
    phase = np.array([odd_phase(optics, *k) for optics in particles.optics])[particles.group]
    values = particle_ctf(particles, rows)[:, samples.ky, samples.kx]
    plain = replace(particles, bfactor_A2=0 * particles.bfactor_A2, scale=np.ones(len(particles)))
    pure = particle_ctf(plain, rows)[:, samples.ky, samples.kx]
    twice = np.array([optics.ctf_premultiplied for optics in particles.optics])[particles.group]
    spectra = np.zeros((len(particles), box, box // 2 + 1), np.complex128)
    made = planes * values * np.exp(1j * phase) * np.where(twice[:, None], pure, 1.0)
    spectra[:, samples.ky, samples.kx] = made
    column = samples.kx == 0
    spectra[:, -samples.ky[column], 0] = made[:, column].conj()
    images = np.roll(np.fft.irfft2(spectra, (box, box)), box // 2, (1, 2)).astype(np.float32)
    write_image_stack(particles.images.stacks[0], len(images), box, PIXEL, [images])

    found = next(batches(particles, rows, BACKEND))
    kept = ~twice[:, None] | (np.abs(pure) > 1.01 * MIN_CTF)
    expected = np.where(kept, planes * values, 0.0)
    size = np.abs(planes * values).max()
    off_axes = (samples.kx > 0) & (samples.ky != 0)  # the background, a plane, lies on the axes
    difference = np.where(kept, found.spectrum[:, samples.ky, samples.kx], 0) - expected
    assert np.abs(difference[:, off_axes]).max() < 2e-4 * size
    assert np.abs(np.where(kept, found.ctf[:, samples.ky, samples.kx] - values, 0)).max() < 5e-5
    lost = twice[:, None] & (np.abs(pure) < 0.99 * MIN_CTF)
    assert not found.spectrum[:, samples.ky, samples.kx][lost].any()
    assert not found.ctf[:, samples.ky, samples.kx][lost].any()


def test_the_ft_of_a_raw_image_is_corrected_by_the_conjugate_phase(tmp_path):
    optics = group(beam_tilt_mrad=(2.0, 1.0), mag_matrix=MAGNIFIED)
    image = np.random.default_rng(1).normal(size=(BOX, BOX))
    table = odd_phase_correction(optics)
    assert np.abs(np.abs(table) - 1).max() < 1e-6
    ky, kx = np.fft.fftfreq(BOX, PIXEL)[:, None], np.arange(BOX // 2 + 1) / (BOX * PIXEL)
    tilted = ft(image, 2) * np.exp(1j * odd_phase(optics, kx, ky))
    assert np.abs(tilted * table - ft(image, 2))[:, :-1].max() < 1e-3


def test_a_point_is_seen_through_the_lens(tmp_path):
    """Where `centre_in`, `cuts` and `changes` say that a point of the map is: L A x − o."""
    particles = some_particles(tmp_path, mag_matrix=MAGNIFIED)
    poses, behind = particles.poses, magnification_in_3d(particles, np.arange(6))
    mask = np.zeros((BOX, BOX, BOX), np.float32)
    mask[25:30, 12:15, 8:11] = 1.0
    shape = search_geometry(Volume(mask, PIXEL), RefineSpec())
    point = shape.centre * PIXEL
    matrices = np.array([np.reshape(optics.mag_matrix, (2, 2)).T for optics in particles.optics])[particles.group]
    expected = np.einsum("nij,nj->ni", matrices, (poses.rotation @ point)[:, :2]) - poses.origin_A
    np.testing.assert_allclose(shape.centre_in(poses, behind) * PIXEL, expected)
    frame = Recentring(tuple(int(c) for c in shape.centre), 24, BOX, PIXEL)
    cut = crop_offsets(poses, frame, behind)
    assert np.abs(cut * PIXEL - expected).max() <= 0.5 * PIXEL + 1e-9
    framed = recentre_poses(poses, frame, cut, behind)
    np.testing.assert_allclose(undo_pose_recentring(framed, frame, cut, behind).origin_A, poses.origin_A)
    moved = Poses(poses.rotation, poses.origin_A + [3.0, 4.0])
    assert pose_differences(poses, moved, tuple(point), behind)[1] == pytest.approx(5.0)


def test_a_usual_group_beside_a_magnified_one_is_left_as_it_is(tmp_path):
    particles = some_particles(tmp_path, mag_matrix=MAGNIFIED)
    behind = magnification_in_3d(particles, np.arange(6))
    usual = np.array([optics.mag_matrix == IDENTITY for optics in particles.optics])[particles.group]
    assert usual.any()
    assert not usual.all()
    np.testing.assert_array_equal(behind[usual], np.tile(np.eye(3), (usual.sum(), 1, 1)))
    assert 1.02 < largest_magnification(particles) < 1.03
