"""Noise models: what of the measured spectra is kept."""

import numpy as np
import pytest

from lrcore.refinement.noise import apply_noise_model


@pytest.fixture
def noise():
    """(2, 3, 20): half sets, groups, shells."""
    return np.random.default_rng(0).uniform(1, 2, (2, 3, 20))


def test_coloured_is_as_measured(noise):
    assert np.array_equal(apply_noise_model(noise, "coloured"), noise)


def test_symmetric_is_the_mean_of_the_groups(noise):
    found = apply_noise_model(noise, "symmetric")
    assert np.array_equal(found, np.repeat(noise.mean(axis=1, keepdims=True), 3, axis=1))


def test_white_keeps_the_power_of_an_image(noise):
    found = apply_noise_model(noise, "white")
    assert found.shape == noise.shape
    assert np.ptp(found, axis=(1, 2)) == pytest.approx(0)
    samples = np.arange(20)
    assert found[:, 0, 0] == pytest.approx((noise.mean(axis=1) * samples).sum(axis=1) / samples.sum())
