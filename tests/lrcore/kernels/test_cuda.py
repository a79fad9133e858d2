"""The device twins against the others: their sources run on the host, thread by thread, and on a GPU if there is."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import QUADRATIC, fourier_volume_shape, map_to_fourier_volume
from lrcore.imaging.grids import half_plane
from lrcore.imaging.rotations import from_euler, rotation_exp
from lrcore.kernels import gpu
from lrcore.kernels.backproject import cuda as insert_cuda
from lrcore.kernels.ctf import cuda as ctf_cuda
from lrcore.kernels.ewald import cuda as sidebands_cuda
from lrcore.kernels.lattice_search import cuda as score_cuda
from lrcore.kernels.local_search import SearchLimits
from lrcore.kernels.local_search import cuda as newton_cuda
from lrcore.kernels.model_images import cuda as model_cuda
from lrcore.kernels.project import cuda as slice_cuda
from lrcore.kernels.whiten import cuda as weigh_cuda
from lrcore.testing import smooth_map
from tests.lrcore.kernels.host_device import COMPILER, has_gpu, make_host_device
from tests.lrcore.kernels.images import LEVER, LIMIT, SIZE, noisy_images

GPU = has_gpu()
LIMITS = SearchLimits(0.3, 4.0, 0.1, 2.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(params=["forwards", "backwards", *["gpu"] * GPU])
def on_device(request, folder, monkeypatch):
    """The host, whose threads run in either order since none may depend on it; or the GPU."""
    if request.param == "gpu":
        return
    if COMPILER is None:
        pytest.skip("no g++ to run the CUDA sources on the host with")
    here = make_host_device(folder, request.param == "backwards")
    monkeypatch.setattr(gpu, "current_device", lambda: here)


@pytest.fixture(scope="module")
def problem():
    """Four noisy images of a smooth map: volume, samples in three bands, W, w, centres, true θ."""
    return noisy_images(4)


def close(found, expected, tolerance=1e-4):
    return np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def assert_all_close(found, expected, tolerance):
    for one, value in zip(found, expected, strict=True):
        assert one.dtype == value.dtype
        assert close(one, value, tolerance)


@pytest.mark.parametrize("n", [24, 25])
def test_slices(on_device, n):
    rng = np.random.default_rng(n)
    volume = map_to_fourier_volume(rng.normal(size=(n, n, n)).astype(np.float32), LIMIT)
    samples = half_plane(n, (float(LIMIT),))
    rotations = from_euler(rng.uniform(-180, 180, (5, 3)))
    expected = get_backend("reference").kernels.project_slices(volume, rotations, samples)
    assert close(slice_cuda.project_slices(volume, rotations, samples), expected)


def test_slices_outside_the_volume_are_zero(on_device):
    volume = map_to_fourier_volume(np.ones((SIZE, SIZE, SIZE), np.float32), LIMIT)
    samples = half_plane(4 * SIZE, (float(2 * LIMIT),))
    found = slice_cuda.project_slices(volume, np.eye(3)[None], samples)[0]
    outside = np.maximum(samples.kx, np.abs(samples.ky)) > LIMIT
    assert np.all(found[outside] == 0)
    assert np.any(found[~outside] != 0)


@pytest.mark.parametrize(("n", "limit"), [(24, 10), (25, 12), (24, 12)])
def test_insert(on_device, n, limit):
    rng = np.random.default_rng(n)
    data = (rng.normal(size=(3, n, n // 2 + 1, 2)) @ [1, 1j]).astype(np.complex64)
    weight = rng.uniform(0, 1, data.shape).astype(np.float32)
    rotations, shifts = from_euler(rng.uniform(-180, 180, (3, 3))), rng.normal(0, 5, (3, 2))
    sums = []
    for insert in (insert_cuda.backproject_images, get_backend("reference").kernels.backproject_images):
        sums.append(
            (np.zeros(fourier_volume_shape(limit), np.complex64), np.zeros(fourier_volume_shape(limit), np.float32))
        )
        insert(*sums[-1], rotations, shifts, data, weight, limit)
    assert close(sums[0][0], sums[1][0])
    assert close(sums[0][1], sums[1][1])


def test_insert_on_curved_slices(on_device):
    rng = np.random.default_rng(1)
    data = (rng.normal(size=(2, SIZE, SIZE // 2 + 1, 2)) @ [1, 1j]).astype(np.complex64)
    weight = rng.uniform(0, 1, data.shape).astype(np.float32)
    poses = from_euler(rng.uniform(-180, 180, (3, 3))), rng.normal(0, 5, (3, 2))
    rest = (LIMIT, np.array([1, 0, 1]), np.array([0.5, 1, 0.5]), np.array([0.04, -0.04, 0.01]))
    sums = []
    for insert in (insert_cuda.backproject_images, get_backend("reference").kernels.backproject_images):
        sums.append(
            (np.zeros(fourier_volume_shape(LIMIT), np.complex64), np.zeros(fourier_volume_shape(LIMIT), np.float32))
        )
        insert(*sums[-1], *poses, data, weight, *rest)
    assert close(sums[0][0], sums[1][0])
    assert close(sums[0][1], sums[1][1])


def test_insert_refuses_a_volume_of_another_size(on_device):
    data = np.zeros((1, SIZE, SIZE // 2 + 1), np.complex64)
    sums = np.zeros(fourier_volume_shape(LIMIT), np.complex64), np.zeros(fourier_volume_shape(LIMIT), np.float32)
    with pytest.raises(ValueError, match=r"up to \|k\| = 13"):
        insert_cuda.backproject_images(*sums, np.eye(3)[None], np.zeros((1, 2)), data, data.real, 13)
    with pytest.raises(ValueError, match=r"up to \|k\| = 11"):
        insert_cuda.backproject_images(*sums, np.eye(3)[None], np.zeros((1, 2)), data, data.real, 11)


@pytest.fixture(params=[24, 25])
def images(request):
    """Five images as the pipeline holds them: spectrum, CTF, noise of two groups, groups."""
    n, rng = request.param, np.random.default_rng(request.param)
    spectrum = np.fft.rfft2(rng.normal(size=(5, n, n))).astype(np.complex64)
    waves = rng.uniform(-1, 1, (5, 7)) * [0.4, 0.4, 0.2, 1e-4, 1, 1e-3, 1]
    return (
        spectrum,
        get_backend("reference").kernels.compute_ctf(waves, n),
        rng.uniform(1, 9, (2, n // 2 + 1)),
        np.arange(5) % 2,
    )


@pytest.mark.parametrize("n", [24, 25])
def test_ctf(on_device, n):
    waves = np.random.default_rng(n).uniform(-1, 1, (6, 7)) * [3, 3, 1, 1e-3, 1, 2e-3, 1]
    found = gpu.as_numpy(ctf_cuda.compute_ctf(waves, n))
    assert np.abs(found - get_backend("reference").kernels.compute_ctf(waves, n)).max() < 2e-6
    offsets = np.random.default_rng(n).normal(size=(2, n, n // 2 + 1)).astype(np.float32)
    tables = offsets, np.array([1, -1, 0, 0, -1, 1])
    found = gpu.as_numpy(ctf_cuda.compute_ctf(waves, n, *tables))
    assert np.abs(found - get_backend("reference").kernels.compute_ctf(waves, n, *tables)).max() < 2e-6


def test_weigh(on_device, images):
    assert_all_close(weigh_cuda.whiten_images(*images), get_backend("reference").kernels.whiten_images(*images), 1e-5)


def test_sidebands(on_device, images):
    spectrum, ctf, noise, group = images
    rng = np.random.default_rng(3)
    arguments = (
        spectrum,
        ctf,
        rng.uniform(-1, 1, ctf.shape).astype(np.float32),
        noise,
        group,
        rng.uniform(0, 1, (2, 9)),
    )
    expected = get_backend("reference").kernels.whiten_sidebands(*arguments)
    assert_all_close(sidebands_cuda.whiten_sidebands(*arguments), expected, 1e-5)


@pytest.mark.parametrize("size", [16, 17, 24])
def test_window(on_device, images, size):
    points = np.random.default_rng(size).uniform(-5, 5, (5, 2))
    samples = half_plane(size, (3.0, 7.0))
    arguments = (*images, np.linspace(0, 2, 9), points, samples)
    expected = get_backend("reference").kernels.whiten_windows(*arguments)
    assert_all_close(weigh_cuda.whiten_windows(*arguments), expected, 2e-5)


def test_subtract_and_compare(on_device, images):
    spectrum, ctf, _, _ = images
    n, rng = spectrum.shape[1], np.random.default_rng(1)
    samples = half_plane(n, (float(LIMIT),))
    planes = (rng.normal(size=(5, len(samples.kx), 2)) @ [1, 1j]).astype(np.complex64)
    shifts = rng.normal(0, 4, (5, 2))
    expected = get_backend("reference").kernels.correlate_with_model(spectrum, ctf, planes, shifts, samples)
    assert close(model_cuda.correlate_with_model(spectrum, ctf, planes, shifts, samples), expected, 1e-5)
    left, right = spectrum.copy(), spectrum.copy()
    model_cuda.subtract_model(left, ctf, planes, shifts, samples)
    get_backend("reference").kernels.subtract_model(right, ctf, planes, shifts, samples)
    assert close(left, right, 1e-5)
    assert not close(left, spectrum, 1e-2)


@pytest.mark.parametrize("shared", [gpu.SHARED_BYTES, 8 * (gpu.TILE + 100)])
def test_score(on_device, problem, monkeypatch, shared):
    """Also where the shifts along x must come in parts, and the samples in several tiles."""
    monkeypatch.setattr(score_cuda, "SHARED_BYTES", shared)
    volume, samples, W, w, centres, _ = problem
    lattice = rotation_exp(np.random.default_rng(0).normal(0, 0.1, (19, 3)))
    shifts = np.linspace(-3, 3, 7)
    penalty = 0.5 * (shifts[:, None] ** 2 + shifts**2)
    penalty[np.hypot(shifts[:, None], shifts) > 3.5] = 1e30
    arguments = (volume, W, w, samples, centres, lattice, LEVER, shifts, penalty)
    best, where = score_cuda.search_lattice(*arguments)
    expected_best, expected_where = get_backend("reference").kernels.search_lattice(*arguments)
    assert np.abs(best - expected_best).max() < 1e-4 * np.ptp(expected_best)
    assert np.array_equal(where, expected_where)


def test_score_of_more_samples_than_a_tile(on_device):
    rng = np.random.default_rng(1)
    n = 48
    volume = map_to_fourier_volume(smooth_map(n, 1, 8.0), 22, kernel=QUADRATIC)
    samples = half_plane(n, (22.0,))
    assert len(samples.kx) > gpu.TILE
    W = (rng.normal(size=(2, len(samples.kx), 2)) @ [1, 1j]).astype(np.complex64)
    w = rng.uniform(0.5, 1.5, W.shape).astype(np.float32)
    shifts = np.linspace(-2, 2, 5)
    arguments = (
        volume,
        W,
        w,
        samples,
        from_euler([[1, 2, 3], [40, 50, 60]]),
        rotation_exp([[0.1, 0, 0]]),
        np.zeros(3),
        shifts,
    )
    best, where = score_cuda.search_lattice(*arguments, np.zeros((5, 5)))
    expected_best, expected_where = get_backend("reference").kernels.search_lattice(*arguments, np.zeros((5, 5)))
    assert close(best, expected_best)
    assert np.array_equal(where, expected_where)


@pytest.mark.parametrize("band", [0, 1, 2])
def test_evaluate(on_device, problem, band):
    volume, samples, W, w, centres, theta = problem
    arguments = (volume, W, w, samples, band, centres, theta, LEVER)
    expected = get_backend("reference").kernels.evaluate_with_derivatives(*arguments)
    for found, value in zip(newton_cuda.evaluate_with_derivatives(*arguments), expected, strict=True):
        assert found.shape == value.shape
        assert close(found, value)


@pytest.mark.parametrize("band", [0, 2])
def test_values(on_device, problem, band):
    volume, samples, W, w, centres, theta = problem
    many = theta[:, None] + np.random.default_rng(3).normal(0, 0.1, (4, 7, 5))
    arguments = (volume, W, w, samples, band, centres, many, LEVER)
    found = newton_cuda.evaluate_likelihood(*arguments)
    assert found.shape == (4, 7)
    assert close(found, get_backend("reference").kernels.evaluate_likelihood(*arguments))


def same_modes(found, expected, limits, centres):
    """Poses to 0.1 SD, of which the last bits of an image decide how they are polished, and values to 1e-4."""
    there = np.isfinite(expected.value)
    assert np.array_equal(np.isfinite(found.value), there)
    curvature = (expected.hessian + limits.precision(centres)[:, None])[there]
    apart = (found.theta - expected.theta)[there]
    assert np.sqrt(np.einsum("ni,nij,nj->n", apart, curvature, apart)).max() < 0.1
    assert close(found.value[there], expected.value[there])
    assert close(found.likelihood[there], expected.likelihood[there])
    assert close(found.hessian[there], expected.hessian[there], 1e-2)
    assert np.abs(found.steps - expected.steps).max() <= 4


HINGED = SearchLimits(0.3, 4.0, 0.1, 2.0, motion=np.diag([0.15**2, 0.02**2, 0.02**2, 1.0, 4.0, 2.0]) + 0.0003)


@pytest.mark.parametrize(
    "limits", [LIMITS, SearchLimits(0.3, 4.0, np.inf, np.inf), SearchLimits(0.02, 0.1, 0.1, 2.0), HINGED], ids=str
)
def test_newton_takes_the_same_way_as_on_the_cpu(on_device, problem, limits):
    volume, samples, W, w, centres, theta = problem
    starts = theta[:, None] + np.random.default_rng(5).normal(0, 1, (4, 2, 5)) * ([0.1] * 3 + [0.7] * 2)
    valid = np.array([[True, True], [False, True], [True, False], [True, True]])
    arguments = (volume, W, w, samples, centres, starts, valid, LEVER, limits)
    found, expected = (
        newton_cuda.find_posterior_modes(*arguments),
        get_backend("cpu").kernels.find_posterior_modes(*arguments),
    )
    same_modes(found, expected, limits, centres)


def test_newton_keeps_the_same_modes_of_images_of_noise(on_device, problem):
    volume, samples, W, w, centres, _ = problem
    rng = np.random.default_rng(6)
    noise = (rng.normal(size=(*W.shape, 2)) @ [1, 1j] * np.sqrt(w)).astype(np.complex64)
    starts = rng.normal(0, 1, (4, 6, 5)) * ([0.15] * 3 + [1.5] * 2)
    limits = SearchLimits(0.6, 6.0, 0.3, 3.0, drop=30.0)
    arguments = (volume, noise, w, samples, centres, starts, np.ones((4, 6), bool), LEVER, limits)
    found, expected = (
        newton_cuda.find_posterior_modes(*arguments),
        get_backend("cpu").kernels.find_posterior_modes(*arguments),
    )
    assert np.isfinite(expected.value).sum(axis=1).max() > 2
    same_modes(found, expected, limits, centres)


@pytest.mark.parametrize(
    "limits", [LIMITS, SearchLimits(0.3, 4.0, np.inf, np.inf), SearchLimits(0.02, 0.1, 0.1, 2.0), HINGED], ids=str
)
def test_settled_images_are_polished_as_on_the_cpu(on_device, problem, limits):
    volume, samples, W, w, centres, theta = problem
    starts = theta[:, None] + np.random.default_rng(7).normal(0, 1, (4, 1, 5)) * ([0.01] * 3 + [0.1] * 2)
    arguments = (volume, W, w, samples, centres, starts, np.ones((4, 1), bool), LEVER, limits)
    settled = np.array([True, True, False, True])
    found, expected = (
        newton_cuda.find_posterior_modes(*arguments, settled),
        get_backend("cpu").kernels.find_posterior_modes(*arguments, settled),
    )
    same_modes(found, expected, limits, centres)


def test_the_order_of_threads_changes_nothing(folder, problem, monkeypatch):
    volume, samples, W, w, centres, theta = problem
    starts = np.stack([np.zeros_like(theta), theta + 0.02], axis=1)
    found = []
    for backwards in (False, True):
        here = make_host_device(folder, backwards)
        monkeypatch.setattr(gpu, "current_device", lambda here=here: here)
        valid = np.ones((4, 2), bool)
        found.append(newton_cuda.find_posterior_modes(volume, W, w, samples, centres, starts, valid, LEVER, LIMITS))
    for name in ("theta", "value", "likelihood", "hessian", "steps"):
        assert np.array_equal(getattr(found[0], name), getattr(found[1], name))


def test_what_does_not_fit_is_refused(on_device, problem):
    volume, _, W, w, centres, theta = problem
    finer = half_plane(SIZE, (11.0,))
    with pytest.raises(ValueError, match="can be read up to 10"):
        newton_cuda.evaluate_with_derivatives(volume, W, w, finer, 0, centres, theta, LEVER)
    with pytest.raises(ValueError, match="500 starts"):
        newton_cuda.find_posterior_modes(
            volume, W, w, problem[1], centres, np.zeros((4, 500, 5)), np.ones((4, 500), bool), LEVER, LIMITS
        )


def test_short_memory_halves_the_batch_and_warns_once(on_device, problem, monkeypatch):
    volume, samples, W, w, centres, theta = problem
    sizes, enough = [], newton_cuda.empty

    def scarce(shape, dtype):
        sizes.append(shape[0])
        if shape[0] > 1:
            raise MemoryError("no room")
        return enough(shape, dtype)

    gpu._warn_about_memory.cache_clear()
    expected = newton_cuda.evaluate_with_derivatives(volume, W, w, samples, 2, centres, theta, LEVER)
    monkeypatch.setattr(newton_cuda, "empty", scarce)
    with pytest.warns(RuntimeWarning, match="smaller batches") as caught:
        found = newton_cuda.evaluate_with_derivatives(volume, W, w, samples, 2, centres, theta, LEVER)
    assert len(caught) == 1
    assert sizes[:3] == [4, 2, 1]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    monkeypatch.setattr(newton_cuda, "empty", lambda shape, dtype: (_ for _ in ()).throw(MemoryError("no room")))
    with pytest.raises(InputError, match="too little memory for one image"):
        newton_cuda.evaluate_with_derivatives(volume, W, w, samples, 2, centres, theta, LEVER)
