"""The FSC family and masks: identities, known signal-to-noise, honest correction."""

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.fsc import corrected, family, masked_correlation, randomise_phases, wiener_gain
from lrcore.grids import ft
from lrcore.masks import centre_of_mass, checked, cosine_edge, reach, soft_sphere
from lrcore.records import Fsc, Volume
from lrcore.testing import smooth_map

N = 32


def noise(seed):
    return np.random.default_rng(seed).normal(size=(N, N, N)).astype(np.float32)


def test_fsc_of_a_map_with_itself_is_one_and_with_its_negative_minus_one():
    a = noise(0)
    assert np.allclose(masked_correlation(a, a, None), 1)
    assert np.allclose(masked_correlation(a, -3 * a, None), -1)


def test_fsc_of_noisy_halves_is_snr_over_one_plus_snr():
    signal = noise(1)
    first, second = signal + 0.5 * noise(2), signal + 0.5 * noise(3)
    assert masked_correlation(first, second, None)[8:].mean() == pytest.approx(1 / (1 + 0.25), abs=0.01)


def test_randomised_phases_keep_amplitudes_and_low_shells():
    a = smooth_map(N, 0)
    b = randomise_phases(a, 6, seed=1)
    assert np.allclose(np.abs(ft(a, 3)), np.abs(ft(b, 3)), atol=1e-2 * np.abs(ft(a, 3)).max() * 1e-2)
    curve = masked_correlation(a, b, None)
    assert np.all(curve[:6] > 0.999)
    assert abs(curve[8:]).max() < 0.3


def test_a_tight_mask_on_noise_correlates_and_the_correction_takes_it_away():
    """A mask multiplies two independent maps by the same sharp shape: FSC from nothing."""
    mask = np.zeros((N, N, N), np.float32)
    mask[10:22, 10:22, 10:22] = 1
    low = smooth_map(N, 5)
    curves = family(Volume(low + noise(1) * 0.3 + 1, 1.0), Volume(low + noise(2) * 0.3 + 1, 1.0), Volume(mask, 1.0))
    tail = slice(10, None)
    assert abs(curves["corrected"].value[tail].mean()) < 0.1
    assert curves["masked"].value[0] > 0.99


def test_correction_of_nothing_is_nothing():
    masked = np.array([1, 1, 0.9, 0.8, 0.5, 0.2])
    assert np.array_equal(corrected(masked, np.zeros(6), 2), masked)
    assert corrected(masked, np.full(6, 0.2), 2)[4] == pytest.approx(0.375)


def test_crossings_are_interpolated():
    curve = Fsc("masked", np.arange(5) / 10, np.array([1, 1, 0.5, 0.1, 0]))
    assert curve.resolution_A(0.3) == pytest.approx(1 / 0.25)
    assert Fsc("masked", np.arange(3) / 4, np.ones(3)).resolution_A() == 2.0


def test_wiener_gain_ends_at_the_first_fall():
    assert np.array_equal(wiener_gain(np.array([1.2, 0.9, 0.5, 0.1, 0.4])), [1, 0.9, 0.5, 0, 0])


def test_mask_middle_and_reach():
    mask = np.roll(soft_sphere(N, 5, 2), (0, 0, 4), axis=(0, 1, 2))
    assert centre_of_mass(mask) == pytest.approx([4, 0, 0], abs=1e-4)
    assert 5.5 < reach(mask, [4, 0, 0]) < 7.1


def test_cosine_edge():
    assert np.allclose(cosine_edge(np.array([0, 4, 5, 6, 9], np.float32), 4, 2), [1, 1, 0.5, 0, 0])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Volume(np.ones((8, 8, 8), np.float32), 1.0), "re-box"),
        (Volume(np.ones((N, N, N), np.float32), 2.0), "resample"),
        (Volume(np.zeros((N, N, N), np.float32), 1.0), "empty"),
        (Volume(np.full((N, N, N), 3, np.float32), 1.0), "between 0 and 1"),
    ],
)
def test_unfit_masks_are_refused(mask, words):
    with pytest.raises(InputError, match=words):
        checked(mask, N, 1.0)


def test_a_binary_mask_is_warned_of():
    mask = (soft_sphere(N, 5, 2) > 0.5).astype(np.float32)
    with pytest.warns(UserWarning, match="binary"):
        checked(Volume(mask, 1.0), N, 1.0)
