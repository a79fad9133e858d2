"""The four contracts: laws of the definition, and every backend against it."""

from dataclasses import replace

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.fourier_volume import (
    QUADRATIC,
    TRILINEAR,
    FourierVolume,
    fourier_volume_shape,
    gridding_correction,
    make_hermitian,
    map_to_fourier_volume,
)
from lrcore.imaging.grids import FourierSamples, ft, half_plane
from lrcore.imaging.rotations import from_euler, rotation_exp
from lrcore.kernels.backproject.reference import CURVATURE_MARGIN, half_plane_samples
from lrcore.kernels.constants import POLISH_STEPS
from lrcore.kernels.local_search import SearchLimits
from lrcore.kernels.local_search.reference import project_slices_quadratic
from lrcore.testing import numerical_gradient, smooth_map
from tests.lrcore.kernels.images import LEVER, LIMIT, SIZE, noisy_images


def blob(n):
    """A Gaussian off the centre of an n³ box, and the function that gives its slices exactly."""
    point, sigma = np.array([4.0, -3.0, 2.0]), 1.5
    grid = np.stack(np.meshgrid(*[np.arange(n) - n // 2] * 3, indexing="ij")[::-1])
    array = np.exp(-((grid - point[:, None, None, None]) ** 2).sum(axis=0) / (2 * sigma**2)).astype(np.float32)

    def transform(rotations, samples):
        k = np.stack([samples.kx, samples.ky])
        amplitude = (2 * np.pi * sigma**2) ** 1.5 * np.exp(-2 * (np.pi * sigma / n) ** 2 * (k**2).sum(axis=0))
        return amplitude * np.exp(-2j * np.pi / n * (rotations @ point)[:, :2] @ k)

    return array, transform


def empty_sums():
    """Numerator and denominator of an insertion up to LIMIT."""
    return np.zeros(fourier_volume_shape(LIMIT), np.complex64), np.zeros(fourier_volume_shape(LIMIT), np.float32)


@pytest.fixture(params=["reference", "cpu"])
def kernels(request):
    return get_backend(request.param).kernels


@pytest.fixture(scope="module")
def problem():
    """Three images of a smooth map at known poses, with weights: volume, samples, W, w, centres, truth θ."""
    return noisy_images(3)


def test_slice_of_a_quarter_turn_is_the_rotated_image(kernels):
    array = smooth_map(SIZE + 1, 2, 6.0)
    volume = map_to_fourier_volume(array, LIMIT)
    samples = half_plane(SIZE + 1, (float(LIMIT),))
    z, y, x = gridding_correction(SIZE + 1)
    image = (array / z / y / x).sum(axis=0)
    straight = kernels.project_slices(volume, np.eye(3)[None], samples)[0]
    assert np.allclose(straight, ft(image, 2)[samples.ky, samples.kx], atol=1e-5 * np.abs(straight).max())
    turned = kernels.project_slices(volume, from_euler([[0, 0, 90]]), samples)[0]
    # A(psi = 90°) takes the map point (x, y) to (y, −x): rows y down, columns x right, that is one rot90.
    assert np.allclose(turned, ft(np.rot90(image), 2)[samples.ky, samples.kx], atol=1e-5 * np.abs(turned).max())


@pytest.mark.parametrize("n", [24, 25])
def test_slices_of_a_blob_match_its_analytic_transform(kernels, n):
    """A Gaussian at x, seen at A: exp(−2π² σ² k²/n²) exp(−2πi k·(A x)/n), within the interpolation error."""
    rotations = from_euler(np.random.default_rng(5).uniform(-180, 180, (40, 3)))
    samples = half_plane(n, (float(LIMIT),))
    array, transform = blob(n)
    found = kernels.project_slices(map_to_fourier_volume(array, LIMIT), rotations, samples)
    expected = transform(rotations, samples)
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)


def test_the_search_reads_slices_ten_times_closer():
    """The quadratic B-spline that `evaluate` reads with, on the same blob."""
    rotations = from_euler(np.random.default_rng(5).uniform(-180, 180, (40, 3)))
    samples = half_plane(SIZE, (float(LIMIT),))
    array, transform = blob(SIZE)
    expected = transform(rotations, samples)
    volumes = [map_to_fourier_volume(array, LIMIT, kernel=kernel) for kernel in (TRILINEAR, QUADRATIC)]
    linear = get_backend("reference").kernels.project_slices(volumes[0], rotations, samples)
    quadratic = project_slices_quadratic(volumes[1], rotations, samples)[0]
    error = [np.linalg.norm(found - expected) / np.linalg.norm(expected) for found in (linear, quadratic)]
    assert error[1] < 0.1 * error[0]


@pytest.mark.parametrize("n", [24, 25])
def test_insert_is_the_adjoint_of_slices(kernels, n):
    rng = np.random.default_rng(n)
    samples = half_plane(n, (float(LIMIT),))
    rotations = from_euler(rng.uniform(-180, 180, (5, 3)))
    volume = map_to_fourier_volume(rng.normal(size=(n, n, n)).astype(np.float32), LIMIT)
    images = np.zeros((5, n, n // 2 + 1), np.complex64)
    images[:, samples.ky, samples.kx] = rng.normal(size=(5, len(samples.kx), 2)) @ [1, 1j]
    numerator = np.zeros(fourier_volume_shape(LIMIT), np.complex64)
    denominator = np.zeros(fourier_volume_shape(LIMIT), np.float32)
    kernels.backproject_images(numerator, denominator, rotations, np.zeros((5, 2)), images, np.abs(images), LIMIT)
    forward = np.vdot(images[:, samples.ky, samples.kx], kernels.project_slices(volume, rotations, samples)).real
    backward = np.vdot(numerator, volume.data).real
    assert abs(backward - forward) < 1e-5 * np.linalg.norm(images) * np.linalg.norm(volume.data)
    assert denominator.sum() == pytest.approx(np.abs(images).sum(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("n", [24, 25])
def test_curved_insert_is_the_adjoint_of_curved_slices(kernels, n):
    """Steep enough that the rim of a slice leaves the volume, and is left out."""
    rng = np.random.default_rng(n)
    curvature = np.array([0.05, -0.05, 0.02, 0.0, -0.01])
    inside, _ = half_plane_samples(n, LIMIT, 0.05)
    samples = FourierSamples(inside.kx, inside.ky, inside.ends, n)
    reach = np.hypot(samples.kx, samples.ky).max()
    assert 5 < reach < np.hypot(reach, 0.05 * reach**2) <= LIMIT + CURVATURE_MARGIN
    rotations = from_euler(rng.uniform(-180, 180, (5, 3)))
    volume = map_to_fourier_volume(rng.normal(size=(n, n, n)).astype(np.float32), LIMIT)
    images = (rng.normal(size=(5, n, n // 2 + 1, 2)) @ [1, 1j]).astype(np.complex64)
    images[:, 0, 0] = 0  # its half weight is no part of the law
    numerator, denominator = empty_sums()
    arguments = (rotations, np.zeros((5, 2)), images, np.abs(images), LIMIT, None, None, curvature)
    kernels.backproject_images(numerator, denominator, *arguments)
    read = get_backend("reference").kernels.project_slices(volume, rotations, samples, curvature)
    forward = np.vdot(images[:, samples.ky, samples.kx], read).real
    backward = np.vdot(numerator, volume.data).real
    assert abs(backward - forward) < 1e-5 * np.linalg.norm(images) * np.linalg.norm(volume.data)
    assert denominator.sum() == pytest.approx(np.abs(images[:, samples.ky, samples.kx]).sum(), rel=1e-4)
    expected = empty_sums()
    get_backend("reference").kernels.backproject_images(*expected, *arguments)
    assert np.abs(numerator - expected[0]).max() < 1e-5 * np.abs(numerator).max()
    assert np.abs(denominator - expected[1]).max() < 1e-5 * denominator.max()


def test_no_curvature_is_a_flat_slice(kernels):
    rng = np.random.default_rng(9)
    images = (rng.normal(size=(3, SIZE, SIZE // 2 + 1, 2)) @ [1, 1j]).astype(np.complex64)
    arguments = (from_euler(rng.uniform(-180, 180, (3, 3))), rng.normal(0, 2, (3, 2)), images, np.abs(images), LIMIT)
    flat, curved = empty_sums(), empty_sums()
    kernels.backproject_images(*flat, *arguments)
    kernels.backproject_images(*curved, *arguments, None, None, np.zeros(3))
    for found, expected in zip(curved, flat, strict=True):
        # Places of 20 samples are known to 2e-6 in float32, and each compilation rounds them in its own way.
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_an_image_at_several_poses_is_inserted_by_its_shares(kernels):
    """As if the image were there as often, times its shares."""
    rng = np.random.default_rng(8)
    n = 2 * LIMIT  # up to and with the Nyquist frequency
    images = (rng.normal(size=(2, n, n // 2 + 1, 2)) @ [1, 1j]).astype(np.complex64)
    weights = rng.uniform(0.5, 1, images.shape).astype(np.float32)
    turns, shifts = from_euler(rng.uniform(-180, 180, (5, 3))), rng.normal(0, 2, (5, 2))
    image, share = np.array([0, 0, 1, 1, 1]), np.array([0.25, 0.75, 0.5, 0.3, 0.2], np.float32)
    sums = [
        (np.zeros(fourier_volume_shape(LIMIT), np.complex64), np.zeros(fourier_volume_shape(LIMIT), np.float32))
        for _ in range(2)
    ]
    kernels.backproject_images(*sums[0], turns, shifts, images, weights, LIMIT, image, share)
    each = share[:, None, None]
    get_backend("reference").kernels.backproject_images(
        *sums[1], turns, shifts, each * images[image], each * weights[image], LIMIT
    )
    for found, expected in zip(*sums, strict=True):
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_insert_undoes_the_shift(kernels):
    rng = np.random.default_rng(8)
    images = (rng.normal(size=(2, SIZE, SIZE // 2 + 1, 2)) @ [1, 1j]).astype(np.complex64)
    shifts = rng.normal(0, 2, (2, 2))
    ky, kx = np.fft.fftfreq(SIZE, 1 / SIZE)[:, None], np.arange(SIZE // 2 + 1)
    moved = images * np.exp(2j * np.pi / SIZE * (shifts[:, :1, None] * kx + shifts[:, 1:, None] * ky))
    weight = np.ones(images.shape, np.float32)
    out = []
    for data, shift in ((images, np.zeros((2, 2))), (moved.astype(np.complex64), shifts)):
        numerator, denominator = (
            np.zeros(fourier_volume_shape(LIMIT), np.complex64),
            np.zeros(fourier_volume_shape(LIMIT), np.float32),
        )
        kernels.backproject_images(
            numerator, denominator, from_euler([[10, 20, 30], [70, 50, 5]]), shift, data, weight, LIMIT
        )
        make_hermitian(numerator)
        out.append(numerator)
    assert np.allclose(*out, atol=1e-4 * np.abs(out[0]).max())


def test_derivatives_agree_with_finite_differences(kernels, problem):
    """To 1e-4, along R exp(δ) and t: the derivative is that of the interpolant itself."""
    volume, samples, W, w, centres, theta = problem
    smooth = FourierVolume(volume.data.astype(np.complex128), volume.size, volume.limit)
    reference = get_backend("reference").kernels
    for b in range(3):
        row = slice(b, b + 1)

        def value(delta, row=row, b=b):
            turned = centres[row] @ rotation_exp(theta[row, :3]) @ rotation_exp(delta[None, :3])
            moved = np.concatenate([np.zeros(3), theta[b, 3:] + delta[3:]])[None]
            # The lever acts from the centre of the search: fold what it did there into the shift.
            moved[:, 3:] += ((turned - centres[row]) @ LEVER)[:, :2]
            return reference.evaluate_with_derivatives(smooth, W[row], w[row], samples, 2, turned, moved, LEVER)[0][0]

        value_here, gradient, hessian = kernels.evaluate_with_derivatives(
            volume, W[row], w[row], samples, 2, centres[row], theta[row], LEVER
        )
        assert value_here[0] == pytest.approx(value(np.zeros(5)), rel=1e-4)
        numeric = numerical_gradient(value, np.zeros(5), np.array([1e-6] * 3 + [1e-5] * 2))
        scale = np.sqrt(np.diag(hessian[0]))
        assert np.abs((gradient[0] - numeric) / scale).max() < 1e-4 * max(1, np.abs(numeric / scale).max())


def test_hessian_is_the_curvature_of_a_perfect_fit(kernels, problem):
    volume, samples, _, w, centres, theta = problem
    reference = get_backend("reference").kernels
    rotations = centres @ rotation_exp(theta[:, :3])
    shift = ((rotations - centres) @ LEVER)[:, :2] + theta[:, 3:]
    k = np.stack([samples.kx, samples.ky])
    W = w * project_slices_quadratic(volume, rotations, samples)[0] * np.exp(-2j * np.pi / SIZE * shift @ k)
    _, gradient, hessian = kernels.evaluate_with_derivatives(
        volume, W.astype(np.complex64), w, samples, 2, centres, theta, LEVER
    )
    scale = np.sqrt(np.einsum("bii->bi", hessian))
    assert np.abs(gradient / scale).max() < 1e-2
    for i in (3, 4):
        step = np.zeros(5)
        step[i] = 1e-2
        up = reference.evaluate_with_derivatives(volume, W, w, samples, 2, centres, theta + step, LEVER)[1][:, i]
        down = reference.evaluate_with_derivatives(volume, W, w, samples, 2, centres, theta - step, LEVER)[1][:, i]
        assert np.allclose((up - down) / 2e-2, hessian[:, i, i], rtol=2e-3)


def test_twins_agree_on_evaluate_and_score(problem):
    volume, samples, W, w, centres, theta = problem
    one, two = get_backend("reference").kernels, get_backend("cpu").kernels
    for band in range(3):
        a = one.evaluate_with_derivatives(volume, W, w, samples, band, centres, theta, LEVER)
        b = two.evaluate_with_derivatives(volume, W, w, samples, band, centres, theta, LEVER)
        for x, y in zip(a, b, strict=True):
            assert np.abs(x - y).max() < 1e-4 * np.abs(x).max()
        many = theta[:, None] + np.random.default_rng(band).normal(0, 0.05, (3, 6, 5))
        a, b = (k.evaluate_likelihood(volume, W, w, samples, band, centres, many, LEVER) for k in (one, two))
        assert a.shape == (3, 6)
        assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()
        at_one = one.evaluate_with_derivatives(volume, W, w, samples, band, centres, many[:, 4], LEVER)[0]
        assert np.array_equal(a[:, 4], at_one)
    shifts = np.linspace(-2, 2, 5)
    penalty = 0.5 * (shifts[:, None] ** 2 + shifts**2)
    lattice = rotation_exp(np.random.default_rng(0).normal(0, 0.1, (7, 3)))
    a = one.search_lattice(volume, W, w, samples, centres, lattice, LEVER, shifts, penalty)
    b = two.search_lattice(volume, W, w, samples, centres, lattice, LEVER, shifts, penalty)
    assert np.allclose(a[0], b[0], atol=1e-4 * np.ptp(a[0]))
    assert (a[1] == b[1]).mean() > 0.9


def test_newton_finds_the_pose_and_twins_agree(problem):
    volume, samples, W, w, centres, theta = problem
    limits = SearchLimits(0.3, 4.0, 0.1, 2.0)
    starts = np.zeros((3, 2, 5))
    starts[:, 1] = theta + 0.02
    valid = np.array([[True, True], [True, False], [False, True]])
    found = [
        get_backend(n).kernels.find_posterior_modes(volume, W, w, samples, centres, starts, valid, LEVER, limits)
        for n in ("reference", "cpu")
    ]
    for modes in found:
        error = modes.theta[:, 0] - theta
        curvature = modes.hessian[:, 0] + np.diag([0.1**-2] * 3 + [2.0**-2] * 2)
        assert np.all(np.einsum("bi,bij,bj->b", error, curvature, error) < 20)
        assert np.all(modes.steps > 5)
    assert np.allclose(found[0].theta[:, 0], found[1].theta[:, 0], atol=1e-3)
    assert np.allclose(found[0].value[:, 0], found[1].value[:, 0], rtol=1e-4)


def test_settled_images_are_polished_at_once_to_the_same_pose(kernels, problem):
    volume, samples, W, w, centres, theta = problem
    limits, one = SearchLimits(0.3, 4.0, 0.1, 2.0), np.ones((3, 1), bool)
    known = (volume, W, w, samples, centres)
    whole = kernels.find_posterior_modes(*known, theta[:, None], one, LEVER, limits)
    curvature = whole.hessian[:, 0] + limits.precision(centres)
    step = np.random.default_rng(2).normal(size=(3, 5))
    step /= np.sqrt(np.einsum("bi,bij,bj->b", step, curvature, step))[:, None]
    settled = np.array([True, True, False])
    for sds, most in ((1.0, 5), (0.005, 1)):
        near = (whole.theta[:, 0] + sds * step)[:, None]
        found = kernels.find_posterior_modes(*known, near, one, LEVER, limits, settled)
        apart = found.theta[:, 0] - whole.theta[:, 0]
        assert np.sqrt(np.einsum("bi,bij,bj->b", apart, curvature, apart)).max() < 0.05
        assert np.allclose(found.value, whole.value, atol=5e-3)
        assert np.allclose(found.hessian[:, 0], whole.hessian[:, 0], atol=0.02 * np.abs(whole.hessian).max())
        assert found.steps[:2].max() <= most < found.steps[2]
        at = found.theta[:, 0]
        likelihood, _, _ = kernels.evaluate_with_derivatives(volume, W, w, samples, 2, centres, at, LEVER)
        prior = 0.5 * np.einsum("bi,bij,bj->b", at, limits.precision(centres), at)
        assert np.allclose(found.likelihood[:, 0], likelihood, atol=2e-3)  # of the last step, which is not evaluated
        assert np.allclose(found.value[:, 0], likelihood + prior, atol=2e-3)


def test_a_settled_image_whose_polish_leads_nowhere_is_searched_in_the_finest_band(kernels, problem):
    volume, samples, W, w, centres, theta = problem
    limits, one = SearchLimits(1.5, 8.0, np.inf, np.inf), np.ones((3, 1), bool)
    far = theta[:, None] + np.array([0.5, -0.6, 0.4, 3.0, -3.0])
    arguments = (volume, W, w, samples, centres, far, one, LEVER, limits)
    found = kernels.find_posterior_modes(*arguments, np.ones(3, bool))
    finest = replace(samples, ends=samples.ends[-1:])
    same = kernels.find_posterior_modes(volume, W, w, finest, *arguments[4:])
    assert np.array_equal(found.theta, same.theta)
    assert np.array_equal(found.steps, same.steps)
    assert found.steps.max() > POLISH_STEPS + 1, "one polish was undone"
    begun, _, _ = kernels.evaluate_with_derivatives(volume, W, w, samples, 2, centres, far[:, 0], LEVER)
    assert np.all(found.value[:, 0] < begun)


def tilted(turns: np.ndarray) -> tuple[SearchLimits, np.ndarray]:
    """A prior of a body that turns about one axis, far away, and the precision of what each image sees of it."""
    axis = np.array([2.0, 1.0, -1.0]) / np.sqrt(6)
    turn = np.outer(axis, axis) * 0.15**2 + np.eye(3) * 0.02**2
    lever = np.cross(np.eye(3), [5.0, -3.0, 8.0])  # (e_i × r) in row i: d = ω × r
    motion = np.block([[turn, turn @ lever], [lever.T @ turn, lever.T @ turn @ lever + np.eye(3)]])
    limits = SearchLimits(0.4, 5.0, 0.1, 2.0, motion=motion)
    wanted = []
    for A in turns:
        B = np.zeros((5, 6))
        B[:3, :3], B[3:, 3:] = np.eye(3), A[:2]
        wanted.append(np.linalg.inv(B @ motion @ B.T))
    return limits, np.array(wanted)


def test_a_prior_of_motions_is_what_each_image_sees_of_them(problem):
    centres = problem[4]
    limits, wanted = tilted(centres)
    assert np.allclose(limits.precision(centres), wanted)
    same = SearchLimits(0.3, 4.0, 0.1, 2.0, motion=np.diag([0.1**2] * 3 + [2.0**2] * 3))
    assert np.allclose(same.precision(centres), SearchLimits(0.3, 4.0, 0.1, 2.0).precision(centres))


def test_newton_ends_where_likelihood_and_a_prior_of_motions_balance(kernels, problem):
    volume, samples, W, w, centres, theta = problem
    limits, precision = tilted(centres)
    starts = np.stack([np.zeros_like(theta), theta], axis=1)
    modes = kernels.find_posterior_modes(volume, W, w, samples, centres, starts, np.ones((3, 2), bool), LEVER, limits)
    at = modes.theta[:, 0]
    value, gradient, hessian = kernels.evaluate_with_derivatives(volume, W, w, samples, 2, centres, at, LEVER)
    curvature = hessian + precision
    left = np.linalg.solve(curvature, (gradient + np.einsum("bij,bj->bi", precision, at))[..., None])[..., 0]
    # To second order the rotation vector moves by more than the step: the slope is along δ, the prior's along ω.
    assert np.sqrt(np.einsum("bi,bij,bj->b", left, curvature, left)).max() < 0.05
    assert np.allclose(modes.value[:, 0], value + 0.5 * np.einsum("bi,bij,bj->b", at, precision, at), rtol=1e-4)
    free = kernels.find_posterior_modes(
        volume, W, w, samples, centres, starts, np.ones((3, 2), bool), LEVER, SearchLimits(0.4, 5.0, np.inf, np.inf)
    ).theta[:, 0]
    squared = [np.einsum("bi,bij,bj->b", x, precision, x) for x in (at, free)]
    assert np.all(squared[0] < squared[1]), "nearer to what the prior expects than without it"


def test_weights_below_0_lead_nowhere_but_to_finite_poses(problem):
    volume, samples, W, w, centres, theta = problem
    limits = SearchLimits(0.3, 4.0, np.inf, np.inf)
    starts, one = theta[:, None] + 0.02, np.ones((3, 1), bool)
    modes = get_backend("cpu").kernels.find_posterior_modes(volume, W, -w, samples, centres, starts, one, LEVER, limits)
    assert np.isfinite(modes.theta[:, 0]).all()
    assert np.isfinite(modes.value[:, 0]).all()
    assert np.linalg.norm(modes.theta[:, 0, :3], axis=1).max() <= 0.3 + 1e-9


def test_newton_stays_within_the_extents(kernels, problem):
    volume, samples, W, w, centres, _ = problem
    limits = SearchLimits(0.01, 0.1, np.inf, np.inf)
    modes = kernels.find_posterior_modes(
        volume, W, w, samples, centres, np.zeros((3, 1, 5)), np.ones((3, 1), bool), LEVER, limits
    )
    assert np.all(np.linalg.norm(modes.theta[:, 0, :3], axis=1) <= 0.01 + 1e-9)
    assert np.all(np.linalg.norm(modes.theta[:, 0, 3:], axis=1) <= 0.1 + 1e-9)
