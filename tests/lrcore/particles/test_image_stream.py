"""What is measured of images, and which of them."""

import numpy as np
import pytest

from lrcore.imaging.grids import ft, window_at
from lrcore.particles.bad_images import is_constant
from lrcore.refinement.noise import MAX_SAMPLED_IMAGES, choose_sample, crop_about_points


@pytest.mark.parametrize("n", [16, 17])
@pytest.mark.parametrize("size", [8, 9])
def test_the_middle_is_cut_about_the_point(n, size):
    images = np.random.default_rng(n).normal(size=(2, n, n))
    points = np.array([[2.0, -1.0], [0.0, 3.0]])
    found = crop_about_points(ft(images, 2).astype(np.complex64), points, size)
    for image, (x, y), cut in zip(images, points.astype(int), found, strict=True):
        assert cut == pytest.approx(window_at(image, (n // 2 + y, n // 2 + x), size), abs=1e-5)


def test_only_constant_images_are_flat():
    images = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)
    images[1] = 3.0
    images[2, 0] = 3.0
    assert is_constant(images).tolist() == [False, True, False, False]


@pytest.mark.parametrize("count", [1, MAX_SAMPLED_IMAGES, MAX_SAMPLED_IMAGES + 1, 10 * MAX_SAMPLED_IMAGES + 7])
def test_a_sample_is_spread_over_the_half_set(count):
    rows = 2 * np.random.default_rng(count).permutation(count)
    chosen = choose_sample(rows, 2 * count)
    assert len(chosen) == 2 * count
    assert min(count, MAX_SAMPLED_IMAGES // 2) <= chosen.sum() <= MAX_SAMPLED_IMAGES
    assert not chosen[1::2].any()
    places = np.nonzero(chosen[rows])[0]
    assert len(set(np.diff(places))) <= 1
