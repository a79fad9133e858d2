"""Grids: the origin, the shift theorem, cropping, shells; odd and even boxes."""

import numpy as np
import pytest

from lrcore.imaging import grids
from lrcore.imaging.grids import (
    ft,
    ft_of_padded,
    half_plane,
    hermitian_weight,
    ift,
    ift_cropped,
    index_grid,
    multiply_shells,
    resize,
    shell_index,
    shell_mean,
    shell_products,
    shell_sum,
    window_at,
)

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


@pytest.mark.parametrize("n", [12, 13])
@pytest.mark.parametrize("reach", [7, 11])
def test_a_padded_transform_is_that_of_the_padded_map(n, reach):
    array = np.random.default_rng(n).normal(size=(n, n, n)).astype(np.float32)
    blocks = list(ft_of_padded(array, 2 * n, reach))
    rows = np.arange(-reach, reach + 1)
    expected = ft(resize(array, 2 * n, 3), 3)[rows[:, None], rows, : reach + 1]
    found = np.concatenate(blocks, axis=2)
    assert found.dtype == np.complex64
    assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("n", [12, 13])
def test_a_cropped_map_is_the_middle_of_the_whole_one(n):
    size, reach = 2 * n, n - 1
    whole = np.zeros((size, size, size // 2 + 1), np.complex64)
    rows = np.arange(-reach, reach + 1)
    held = ft(np.random.default_rng(n).normal(size=(size,) * 3), 3)[rows[:, None], rows, : reach + 1]
    whole[rows[:, None], rows, : reach + 1] = held
    expected = resize(ift(whole, size, 3), n, 3)
    found = ift_cropped(held.astype(np.complex64), size, n)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_padded_transform_and_crop_come_in_any_number_of_blocks(monkeypatch):
    array = np.random.default_rng(0).normal(size=(10, 10, 10)).astype(np.float32)
    whole = np.concatenate(list(ft_of_padded(array, 20, 9)), axis=2)
    back = ift_cropped(whole, 20, 10)
    monkeypatch.setattr(grids, "BLOCK", 3)
    blocks = list(ft_of_padded(array, 20, 9))
    assert [block.shape[2] for block in blocks] == [3, 3, 3, 1]
    assert np.array_equal(np.concatenate(blocks, axis=2), whole)
    assert np.array_equal(ift_cropped(whole, 20, 10), back)


@pytest.mark.parametrize("n", SIZES)
def test_shells_of_a_volume_are_those_of_its_grid(n):
    rng = np.random.default_rng(n)
    first, second = ft(rng.normal(size=(2, n, n, n)), 3)
    shells, weight = shell_index(n, 3), np.broadcast_to(hermitian_weight(n, 3), first.shape)

    def total(values, times):
        return np.bincount(shells.ravel(), weights=(values * times).ravel(), minlength=n)[: n // 2 + 1]

    products = [(first * second.conj()).real, np.abs(first) ** 2, np.abs(second) ** 2]
    assert np.allclose(shell_products(first, second, n), [total(product, 1) for product in products])
    expected = [total(product, weight) for product in products[1:]]
    assert np.allclose(shell_sum(np.abs(np.stack([first, second])) ** 2, n, 3), expected)


@pytest.mark.parametrize("n", SIZES)
def test_gains_are_linear_between_shells_and_nothing_beyond(n):
    gains = np.arange(n // 2 + 1.0) + 1
    spectrum = np.ones((n, n, n // 2 + 1), np.complex64)
    multiply_shells(spectrum, gains, n)
    radius = np.sqrt(sum(k.astype(float) ** 2 for k in index_grid(n, 3)))
    assert np.allclose(spectrum, np.where(radius <= n // 2, radius + 1, 0))
