"""Reconstruction: a known map comes back, symmetry is applied, weights do what the CTF asks."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.fourier_volume import map_to_fourier_volume
from lrcore.imaging.grids import half_plane
from lrcore.imaging.rotations import from_euler
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.kernels.model_images.reference import make_column_hermitian
from lrcore.maps.fsc import masked_fsc
from lrcore.masks import soft_sphere
from lrcore.particles.image_stream import Batch
from lrcore.records import Poses, WeightedPoses
from lrcore.refinement.reconstruction import backproject, empty_accumulator, regularisation_from_fsc, solve_map
from lrcore.testing import smooth_map

N = 32
BACKEND = get_backend("cpu")


def projections(array, count, seed, ctf=1.0):
    """A batch of noiseless projections at random poses, with their poses."""
    rng = np.random.default_rng(seed)
    poses = Poses(from_euler(rng.uniform(-180, 180, (count, 3))), rng.normal(0, 2, (count, 2)))
    samples = half_plane(N, (N // 2 - 1.0,))
    planes = BACKEND.kernels.project_slices(map_to_fourier_volume(array, N // 2 - 1), poses.rotation, samples)
    k = np.stack([samples.kx, samples.ky])
    spectrum = np.zeros((count, N, N // 2 + 1), np.complex64)
    spectrum[:, 0, 0] = array.sum()
    spectrum[:, samples.ky, samples.kx] = planes * np.exp(2j * np.pi / N * poses.origin_A @ k)
    make_column_hermitian(spectrum, samples)
    values = np.broadcast_to(np.asarray(ctf, np.float32), spectrum.shape).copy()
    return Batch(np.arange(count), spectrum * values, values, np.zeros(count, bool)), poses


def rebuilt(batch, poses, group="C1", rho=1e-3):
    sums = empty_accumulator(N, BACKEND)
    backproject(
        sums,
        batch,
        WeightedPoses.from_poses(poses),
        1.0,
        np.ones((1, 1)),
        np.zeros(len(poses), int),
        symmetry_operators(group),
        BACKEND,
    )
    return solve_map(sums, 1.0, rho)


@pytest.mark.parametrize(("rho", "least"), [(1e-3, 0.995), (1.0, 0.96)])
def test_a_map_comes_back_from_its_projections_with_its_amplitude(rho, least):
    array = smooth_map(N, 3, 8.0)
    found = rebuilt(*projections(array, 400, 1), rho=rho)
    assert masked_fsc(found.data, array, None)[1:9].min() > least
    slope = (found.data * array).sum() / (array**2).sum()
    assert slope == pytest.approx(1, abs=0.05)


def test_the_ctf_is_divided_out():
    array = smooth_map(N, 3, 8.0)
    shells = np.hypot(np.fft.fftfreq(N, 1 / N)[:, None], np.arange(N // 2 + 1))
    batch, poses = projections(array, 400, 2, ctf=0.2 + 0.6 * np.cos(shells / 4))
    found = rebuilt(batch, poses)
    slope = (found.data * array).sum() / (array**2).sum()
    assert slope == pytest.approx(1, abs=0.07)


def test_symmetry_gives_a_symmetric_map_about_the_box_centre():
    found = rebuilt(*projections(smooth_map(N, 3, 8.0), 60, 4), group="C2").data
    turned = np.roll(found[:, ::-1, ::-1], (1, 1), axis=(1, 2))
    inside = soft_sphere(N, 10, 2)
    assert masked_fsc(found, turned, inside)[1:10].min() > 0.98


def test_a_bad_image_weighs_nothing():
    array = smooth_map(N, 3, 8.0)
    batch, poses = projections(array, 100, 5)
    empty_image = Batch(batch.rows, batch.spectrum.copy(), batch.ctf.copy(), batch.bad)
    empty_image.spectrum[7] = 0
    empty_image.ctf[7] = 0
    keep = np.delete(np.arange(100), 7)
    without = Batch(keep, batch.spectrum[keep], batch.ctf[keep], batch.bad[keep])
    assert np.array_equal(rebuilt(empty_image, poses).data, rebuilt(without, poses.select(keep)).data)


def test_regularisation_follows_the_fsc():
    rho = regularisation_from_fsc(np.array([1.0, 0.999, 0.5, 0.05, 0.5]))
    assert rho == pytest.approx([0.02, 0.02, 1.0, 10.0, 10.0])
