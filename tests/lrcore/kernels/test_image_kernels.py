"""What is done to images before and after the search: CTF, weights, window, models; twins and laws, odd and even."""

from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.ctf import ctf_kernel_parameters, particle_ctf
from lrcore.imaging.grids import ft, half_plane, shell_sum
from lrcore.records import ImageSource, Optics, Particles, Poses

REFERENCE, CPU = get_backend("reference").kernels, get_backend("cpu").kernels
BATCH = 11
"""More than one chunk of images, and no whole number of chunks."""


def close(first, second, relative=1e-5):
    """Whether two arrays agree to that share of the largest value."""
    assert first.dtype == second.dtype
    assert np.abs(first - second).max() < relative * np.abs(first).max()


def particles(n, pixel_A, defocus_A):
    """BATCH particles of two optics groups, astigmatic, with phase shift, B-factor and scale."""
    rng = np.random.default_rng(n)
    optics = (Optics("a", 300, 2.7, 0.1, pixel_A, n), Optics("b", 200, 1.4, 0.07, pixel_A, n))
    none = np.zeros(BATCH, np.int32)
    images = ImageSource((), none, none.astype(np.int64), none.astype(np.float32))
    defocus = defocus_A + rng.uniform(-800, 800, (BATCH, 2))
    angle, phase, bfactor, scale = rng.uniform([[-3], [0], [0], [0.5]], [[3], [2], [80], [1.5]], (4, BATCH))
    group = rng.integers(0, 2, BATCH).astype(np.int32)
    poses = Poses(np.zeros((BATCH, 3, 3)), np.zeros((BATCH, 2)))
    half, uid = np.ones(BATCH, np.int8), np.arange(BATCH, dtype=np.uint64)
    return Particles(uid, half, group, optics, poses, defocus, angle, phase, bfactor, scale, images, Path("p.star"))


@pytest.fixture(params=[24, 25, 96])
def problem(request):
    """Spectra of noise, their CTFs, noise and groups, the reference's variance, and points: odd and even boxes."""
    n = request.param
    rng = np.random.default_rng(n)
    some = particles(n, 2.0, 9000.0)
    spectrum = ft(rng.normal(size=(BATCH, n, n)), 2).astype(np.complex64)
    noise, variance = n**2 * rng.uniform(0.5, 2, (2, n // 2 + 1)), n**2 * rng.uniform(0, 1, n // 2 + 1)
    points = rng.uniform(-0.2 * n, 0.2 * n, (BATCH, 2))
    return spectrum, particle_ctf(some, np.arange(BATCH)), noise, some.group, variance, points


def test_twins_agree_on_sidebands(problem):
    spectrum, ctf, noise, group, _, _ = problem
    quadrature, overlap = ctf[::-1].copy(), np.random.default_rng(2).uniform(-0.1, 1, (2, spectrum.shape[1] // 3))
    arguments = (spectrum, ctf, quadrature, noise, group, overlap)
    for one, two in zip(*(kernels.whiten_sidebands(*arguments) for kernels in (REFERENCE, CPU)), strict=True):
        close(one, two)


@pytest.mark.parametrize("kernels", [REFERENCE, CPU], ids=["reference", "cpu"])
def test_sidebands_that_overlap_are_the_weighed_image(kernels, problem):
    spectrum, ctf, noise, group, _, _ = problem
    upper, lower, weight = kernels.whiten_sidebands(spectrum, ctf, ctf[::-1].copy(), noise, group, np.ones((2, 1)))
    data, norm = kernels.whiten_images(spectrum, ctf, noise, group)
    close(upper + lower, data)
    close(2 * weight, norm)


@pytest.mark.parametrize("kernels", [REFERENCE, CPU], ids=["reference", "cpu"])
@pytest.mark.parametrize(("n", "pixel_A", "defocus_A"), [(64, 1.0, 60000.0), (65, 0.6, 60000.0), (128, 3.0, -4000.0)])
def test_ctf_is_its_definition(kernels, n, pixel_A, defocus_A):
    some, rows = particles(n, pixel_A, defocus_A), np.arange(BATCH)
    found = kernels.compute_ctf(ctf_kernel_parameters(some, rows), n)
    assert found.dtype == np.float32
    assert np.abs(found - particle_ctf(some, rows)).max() < 2e-5


@pytest.mark.parametrize("kernels", [REFERENCE, CPU], ids=["reference", "cpu"])
def test_ctf_with_what_its_group_adds(kernels):
    """A table in turns for the images that have one, and no change of the others."""
    n, some = 33, particles(33, 1.5, 9000.0)
    which = np.arange(BATCH) % 3 - 1
    offsets = np.random.default_rng(5).normal(0, 2, (2, n, n // 2 + 1)).astype(np.float32)
    found = kernels.compute_ctf(ctf_kernel_parameters(some, np.arange(BATCH)), n, offsets, which)
    expected = REFERENCE.compute_ctf(ctf_kernel_parameters(some, np.arange(BATCH)), n, offsets, which)
    plain = REFERENCE.compute_ctf(ctf_kernel_parameters(some, np.arange(BATCH)), n)
    assert np.abs(found - expected).max() < 2e-5
    assert np.array_equal(np.abs(found - plain).max(axis=(1, 2)) > 0.1, which >= 0)


def test_twins_agree_on_weigh(problem):
    spectrum, ctf, noise, group, _, _ = problem
    for one, two in zip(
        *(kernels.whiten_images(spectrum, ctf, noise, group) for kernels in (REFERENCE, CPU)), strict=True
    ):
        close(one, two)


@pytest.mark.parametrize("share", [1.0, 0.7, 0.5])
def test_twins_agree_on_window(problem, share):
    n = problem[0].shape[1]
    size = round(share * n)
    samples = half_plane(size, (0.2 * size, 0.45 * size))
    for one, two in zip(*(kernels.whiten_windows(*problem, samples) for kernels in (REFERENCE, CPU)), strict=True):
        assert one.shape == (BATCH, len(samples.kx))
        close(one, two)


@pytest.mark.parametrize("kernels", [REFERENCE, CPU], ids=["reference", "cpu"])
def test_a_window_of_the_whole_box_is_the_weighed_image(kernels, problem):
    spectrum, ctf, noise, group, _, points = problem
    n = spectrum.shape[1]
    samples = half_plane(n, (n / 2,))
    W, w = kernels.whiten_windows(spectrum, ctf, noise, group, np.zeros(1), 0 * points, samples)
    data, weight = kernels.whiten_images(spectrum, ctf, noise, group)
    close(data[:, samples.ky, samples.kx], W)
    close(weight[:, samples.ky, samples.kx], w)


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("size", [12, 13])
def test_a_point_is_brought_to_the_middle_of_the_window(n, size):
    image = np.zeros((1, n, n))
    image[0, n // 2 - 2, n // 2 + 3] = 1
    samples = half_plane(size, (size / 2,))
    flat = np.ones((1, n, n // 2 + 1), np.float32)
    spectrum = ft(image, 2).astype(np.complex64)
    for kernels in (REFERENCE, CPU):
        found, _ = kernels.whiten_windows(
            spectrum, flat, np.ones((1, 1)), np.zeros(1, int), np.zeros(1), np.array([[3.0, -2.0]]), samples
        )
        assert found == pytest.approx(np.full(found.shape, (n / size) ** 2), rel=1e-4)


def test_the_variance_of_the_reference_adds_to_the_noise(problem):
    spectrum, ctf, noise, group, _, points = problem
    samples = half_plane(spectrum.shape[1], (5.0,))
    alike = np.broadcast_to(np.float32(0.5), ctf.shape).copy()
    for kernels in (REFERENCE, CPU):
        one = kernels.whiten_windows(spectrum, alike, noise, group, np.full(1, 40.0), points, samples)
        two = kernels.whiten_windows(spectrum, alike, noise + 10.0, group, np.zeros(1), points, samples)
        close(one[0], two[0])
        close(one[1], two[1])


@pytest.fixture
def models(problem):
    """Slices on samples up to the Nyquist frequency, and shifts."""
    spectrum = problem[0]
    n = spectrum.shape[1]
    samples = half_plane(n, (0.3 * n, (n - 1) / 2))
    planes = np.random.default_rng(1).normal(size=(BATCH, len(samples.kx), 2)) @ [1, 1j] * n
    return planes.astype(np.complex64), problem[-1], samples


def test_twins_agree_on_subtract_and_compare(problem, models):
    spectrum, ctf = problem[:2]
    found = []
    for kernels in (REFERENCE, CPU):
        rest = spectrum.copy()
        kernels.subtract_model(rest, ctf, *models)
        found.append((rest, kernels.correlate_with_model(spectrum, ctf, *models)))
    close(found[0][0], found[1][0])
    for i in range(3):
        close(found[0][1][:, i], found[1][1][:, i])


@pytest.mark.parametrize("kernels", [REFERENCE, CPU], ids=["reference", "cpu"])
def test_an_image_less_itself_is_nothing_and_is_like_itself(kernels, problem, models):
    """X = C S, origin and all: nothing is left but the origin; all three sums are the power."""
    _, shifts, samples = models
    spectrum, n = problem[0].copy(), problem[0].shape[1]
    flat = np.ones(spectrum.shape, np.float32)
    planes = spectrum[:, samples.ky, samples.kx]
    dot, model, power = kernels.correlate_with_model(spectrum, flat, planes, 0 * shifts, samples).transpose(1, 0, 2)
    assert dot == pytest.approx(power, rel=1e-4)
    assert model == pytest.approx(power, rel=1e-4)
    inside = slice(1, (n - 1) // 2)
    assert 2 * power[:, inside] == pytest.approx(shell_sum(np.abs(spectrum) ** 2, n, 2)[:, inside], rel=1e-4)
    kernels.subtract_model(spectrum, flat, planes, 0 * shifts, samples)
    assert np.abs(spectrum[:, samples.ky, samples.kx]).max() == 0
    assert np.abs(spectrum[:, -samples.ky, 0][:, samples.kx == 0]).max() == 0
