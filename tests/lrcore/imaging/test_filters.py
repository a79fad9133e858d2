"""Filters by law, sharpening by a known B-factor, and each voxel filtered as its neighbour is not."""

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.imaging.filters import butterworth, cosine_lowpass, cutoff_ladder, highpass, local_lowpass, lowpass
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import shell_frequency
from lrcore.maps.fsc import fsc_curves, masked_fsc
from lrcore.maps.sharpening import figure_of_merit, fit_guinier, fsc_weight, sharpen
from lrcore.records import Fsc, Volume

N, PIXEL = 48, 1.5


def noise(seed, n=N):
    return np.random.default_rng(seed).normal(size=(n, n, n)).astype(np.float32)


def gain_of(before, after):
    """Amplitude of one map over another, shell by shell."""
    return masked_fsc(before, after, None) * np.sqrt(
        [np.sum(power) for power in shells(after)] / np.array([np.sum(power) for power in shells(before)])
    )


def shells(data):
    k = np.fft.fftfreq(len(data)) * len(data)
    radius = np.rint(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2)).astype(int)
    power = np.abs(np.fft.fftn(data)) ** 2
    return [power[radius == shell] for shell in range(len(data) // 2 + 1)]


def test_butterworth_is_one_half_and_nothing():
    gain = butterworth(np.array([0, 0.05, 0.1, 0.2]), 0.1)
    assert gain == pytest.approx([1, 1, np.sqrt(0.5), 2.0**-8], rel=1e-3)


def test_cosine_is_one_then_half_then_nothing():
    assert cosine_lowpass(np.array([0, 0.089, 0.1, 0.111, 9]), 0.1) == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-9)


def test_lowpass_and_highpass_part_a_map():
    data = noise(0)
    low, high = lowpass(data, PIXEL, 8.0), highpass(data, PIXEL, 8.0)
    frequency = shell_frequency(N, PIXEL)
    assert gain_of(data, low) == pytest.approx(cosine_lowpass(frequency, 1 / 8), abs=0.08)
    assert np.abs(low + high - data).max() < 1e-5 * np.abs(data).max()
    assert abs(high.mean()) < 1e-6
    assert low.mean() == pytest.approx(data.mean(), abs=1e-6)


def test_a_ladder_has_equal_steps_and_its_ends():
    rungs = cutoff_ladder(3.0, 20.0)
    assert rungs[0] == 20
    assert rungs[-1] == pytest.approx(3.0)
    steps = rungs[:-1] / rungs[1:]
    assert np.allclose(steps, steps[0])
    assert 1 < steps[0] <= 1.1


def test_one_cutoff_everywhere_is_a_lowpass():
    data = noise(1)
    (filtered,) = local_lowpass((data,), PIXEL, np.full(data.shape, 7.0, np.float32))
    assert np.abs(filtered - lowpass(data, PIXEL, 7.0)).max() < 1e-4 * np.abs(data).max()


def test_the_shape_of_the_filters_is_a_choice():
    data = noise(1)
    cutoff = np.full(data.shape, 7.0, np.float32)
    (filtered,) = local_lowpass((data,), PIXEL, cutoff, shape=butterworth)
    assert gain_of(data, filtered) == pytest.approx(butterworth(shell_frequency(N, PIXEL), 1 / 7), abs=0.05)


def test_a_cutoff_at_nyquist_changes_nothing():
    data = noise(2)
    (filtered,) = local_lowpass((data,), PIXEL, np.full(data.shape, 2 * PIXEL, np.float32))
    assert np.abs(filtered - data).max() < 1e-5 * np.abs(data).max()


def test_each_voxel_has_its_own_lowpass():
    data, other = noise(3), noise(4)
    cutoff = np.full(data.shape, 15.0, np.float32)
    cutoff[:, :, N // 2 :] = 5.0
    first, second = local_lowpass((data, other), PIXEL, cutoff)
    for result, source in ((first, data), (second, other)):
        left, right = lowpass(source, PIXEL, 15.0), lowpass(source, PIXEL, 5.0)
        assert np.abs(result[:, :, : N // 2] - left[:, :, : N // 2]).max() < 1e-4 * np.abs(source).max()
        assert np.abs(result[:, :, N // 2 :] - right[:, :, N // 2 :]).max() < 1e-4 * np.abs(source).max()


def test_a_cutoff_between_two_rungs_lies_between_their_filters():
    """Against the plain definition: every voxel filtered at its very own cut-off."""
    data = filter_map(noise(5), np.exp(-8 * shell_frequency(N, PIXEL)))
    cutoff = np.random.default_rng(0).uniform(5, 14, data.shape).astype(np.float32)
    (filtered,) = local_lowpass((data,), PIXEL, cutoff)
    for voxel in [(3, 4, 5), (24, 24, 24), (40, 10, 30)]:
        plain = lowpass(data, PIXEL, float(cutoff[voxel]))[voxel]
        assert filtered[voxel] == pytest.approx(plain, abs=0.05 * float(data.std()))


def test_the_bfactor_that_was_put_in_comes_out():
    frequency = shell_frequency(96, PIXEL)
    data = filter_map(noise(6, 96), np.exp(-0.25 * 120 * frequency**2))
    plot = fit_guinier(data, Fsc("corrected", frequency, np.ones_like(frequency)))
    assert plot.bfactor_A2 == pytest.approx(-120, rel=0.06)
    assert plot.range_A == (10.0, 2 * PIXEL)
    assert plot.correlation < -0.99
    back = sharpen(data, PIXEL, plot.bfactor_A2)
    again = fit_guinier(back, Fsc("corrected", frequency, np.ones_like(frequency)))
    assert again.bfactor_A2 == pytest.approx(0, abs=0.5)


def test_the_fsc_weighs_the_fit():
    """Signal that falls with B in white noise: the mean of the halves looks flat, its weighted amplitudes do not."""
    frequency = shell_frequency(96, PIXEL)
    signal = filter_map(noise(7, 96), 4 * np.exp(-0.25 * 150 * frequency**2))
    halves = [Volume(signal + noise(seed, 96), PIXEL) for seed in (8, 9)]
    curve = fsc_curves(*halves)["unmasked"]
    mean = 0.5 * (halves[0].data + halves[1].data)
    weighted = fit_guinier(mean, curve).bfactor_A2
    bare = fit_guinier(
        mean, Fsc("corrected", frequency, np.ones_like(frequency)), high_A=curve.resolution_A()
    ).bfactor_A2
    print(f"B put in −150, fitted {weighted:.0f} with the weight of the FSC, {bare:.0f} without")
    assert weighted == pytest.approx(-150, rel=0.1)
    assert abs(bare + 150) > 2 * abs(weighted + 150)


def test_too_short_a_range_is_refused():
    frequency = shell_frequency(N, PIXEL)
    curve = Fsc("corrected", frequency, np.where(frequency < 1 / 9, 1.0, 0.0))
    with pytest.raises(InputError, match="too few to fit"):
        fit_guinier(noise(0), curve)


def test_figure_of_merit_ends_for_good():
    assert figure_of_merit(np.array([1, 1, 1 / 3, 0, 0.5])) == pytest.approx([1, 1, np.sqrt(0.5), 0, 0])
    frequency = np.arange(6) / 12
    weight = fsc_weight(Fsc("corrected", frequency, np.array([1, 1, 1, 0.4, 0.1, 0.05])))
    assert np.all(np.diff(weight[2:]) < 0)
    assert weight[:2] == pytest.approx(1, abs=0.01)
