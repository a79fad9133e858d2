"""Grids: the origin, the shift theorem, cropping, shells; odd and even boxes."""

import numpy as np
import pytest

from lrcore.grids import ft, half_plane, ift, resize, shell_mean, shell_sum, window_at

SIZES = (8, 9)


@pytest.mark.parametrize("n", SIZES)
def test_the_origin_is_voxel_n_over_2(n):
    point = np.zeros((n, n))
    point[n // 2, n // 2] = 1
    assert np.allclose(ft(point, 2), 1)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_ift_undoes_ft(n, ndim):
    array = np.random.default_rng(n).normal(size=(2, *(n,) * ndim))
    assert np.allclose(ift(ft(array, ndim), n, ndim), array)


@pytest.mark.parametrize("n", SIZES)
def test_shift_theorem(n):
    array = np.random.default_rng(n).normal(size=(n, n))
    moved = np.roll(array, (2, -1), axis=(0, 1))
    ky, kx = np.fft.fftfreq(n)[:, None], np.arange(n // 2 + 1) / n
    assert np.allclose(ft(moved, 2), ft(array, 2) * np.exp(-2j * np.pi * (2 * ky - kx)))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", SIZES)
def test_resize_keeps_the_origin_and_undoes_itself(n, m):
    array = np.random.default_rng(n).normal(size=(n, n, n))
    out = resize(array, m, 3)
    assert out[m // 2, m // 2, m // 2] == array[n // 2, n // 2, n // 2]
    if m >= n:
        assert np.array_equal(resize(out, n, 3), array)


def test_window_outside_the_array_is_filled():
    array = np.ones((2, 6, 6))
    out = window_at(array, (0, 6), 4, fill=-1)
    assert np.array_equal(out[0], [[-1, -1, -1, -1], [-1, -1, -1, -1], [1, 1, -1, -1], [1, 1, -1, -1]])
    assert np.all(window_at(array, (40, 3), 4, fill=-1) == -1)


@pytest.mark.parametrize("n", SIZES)
def test_shells_count_every_sample_of_the_full_transform(n):
    full = np.hypot(*np.meshgrid(np.fft.fftfreq(n, 1 / n), np.fft.fftfreq(n, 1 / n)))
    counts = np.bincount(np.rint(full).astype(int).ravel())[: n // 2 + 1]
    ones = np.ones((n, n // 2 + 1))
    assert np.array_equal(shell_sum(ones, n, 2), counts)
    assert np.allclose(shell_mean(3 * ones, n, 2), 3)


@pytest.mark.parametrize("n", [16, 17])
def test_half_plane_holds_one_of_each_pair_in_nested_bands(n):
    samples = half_plane(n, (3.0, 6.0))
    points = set(zip(samples.kx.tolist(), samples.ky.tolist(), strict=True))
    assert len(points) == len(samples.kx)
    assert not any((-x, -y) in points for x, y in points)
    full = sum(1 for x in range(-6, 7) for y in range(-6, 7) if 0 < x * x + y * y <= 36)
    assert 2 * len(points) == full
    radius = np.hypot(samples.kx, samples.ky)
    assert radius[: samples.ends[0]].max() <= 3 < radius[samples.ends[0] :].min()
