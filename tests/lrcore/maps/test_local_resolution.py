"""Local resolution reads what it should: known regions, one resolution everywhere, and nothing in noise."""

import numpy as np
import pytest
import scipy.fft

from lrcore.errors import InputError
from lrcore.imaging.filters import local_lowpass, lowpass
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import radius_grid, shell_frequency, shell_mean
from lrcore.maps.fsc import masked_fsc
from lrcore.maps.local_resolution import (
    LocalFscWindow,
    LocalResolution,
    equalise_shell_power,
    estimate_local_resolution,
    grid_points,
    interpolate_resolutions,
)
from lrcore.masks import cosine_edge, soft_sphere
from lrcore.records import Fsc, Progress, Volume

N, PIXEL = 96, 1.5
REGIONS_A = (4.0, 6.0, 9.0)


def measured(first, second, mask, **how) -> LocalResolution:
    *progress, found = estimate_local_resolution(*(Volume(data, PIXEL) for data in (first, second, mask)), **how)
    assert all(isinstance(event, Progress) for event in progress)
    assert progress[-1].done == progress[-1].total == len(found.points)
    return found


def noise(seed, n=N):
    return np.random.default_rng(seed).normal(size=(n, n, n)).astype(np.float32)


def halves_of_regions():
    """Slabs along x whose signal falls as exp(−B k² / 4) to where, in white noise, the FSC is 0.143: REGIONS_A."""
    frequency = shell_frequency(N, PIXEL)
    everything = filter_map(noise(0), 1 + 20 * np.exp(-((50 * frequency) ** 2)))
    signal, region = np.zeros((N, N, N), np.float32), np.zeros(N, int)
    for i, resolution in enumerate(REGIONS_A):
        # Power 4 exp(−B k² / 2) over noise of power 1: SSNR 1/6, so FSC 1/7, at the resolution.
        bfactor = 2 * np.log(24) * resolution**2
        slab = slice(i * N // 3, (i + 1) * N // 3)
        signal[:, :, slab] = filter_map(everything, 2 * np.exp(-0.25 * bfactor * frequency**2))[:, :, slab]
        region[slab] = i
    mask = cosine_edge(radius_grid(N, 3), 0.4 * N, 4.0)
    return signal, [signal + noise(seed) for seed in (1, 2)], region, mask


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 24.0, 32.0])
def test_each_region_reads_its_resolution(width):
    _, halves, region, mask = halves_of_regions()
    found = measured(*halves, mask, window_A=width, workers=2)
    inside = np.minimum(np.arange(N) % (N // 3), N // 3 - 1 - np.arange(N) % (N // 3)) >= 8
    for i, resolution in enumerate(REGIONS_A):
        chosen = (mask > 0.5) & (inside & (region == i))[None, None, :]
        read = float(np.median(found.map.data[chosen]))
        print(f"window {found.window_A:.0f} Å: {resolution:g} Å is read as {read:.2f} Å")
        assert read == pytest.approx(resolution, rel=0.1)


@pytest.mark.slow
def test_filtered_by_it_every_region_is_truer_than_by_one_lowpass():
    truth, (a, b), region, mask = halves_of_regions()
    mean = 0.5 * (a + b)
    one = Fsc("masked", shell_frequency(N, PIXEL), masked_fsc(a, b, mask)).resolution_A()
    found = measured(a, b, mask, workers=2)
    (local,) = local_lowpass((mean,), PIXEL, found.map.data, workers=2)
    for i, resolution in enumerate(REGIONS_A):
        chosen = (mask > 0.5) & (region == i)[None, None, :]
        with_it, without = (
            np.corrcoef(data[chosen], truth[chosen])[0, 1] for data in (local, lowpass(mean, PIXEL, one))
        )
        print(f"{resolution:g} Å: correlation with the truth {with_it:.3f}, low-passed at {one:.2f} Å {without:.3f}")
        assert with_it > without
    assert with_it > without + 0.05


@pytest.mark.slow
def test_noise_has_no_resolution():
    found = measured(noise(3), noise(4), soft_sphere(N, 30, 6), window_A=30.0)
    assert np.mean(found.resolution_A > 15) > 0.9
    assert found.median_A == np.median(found.map.data[soft_sphere(N, 30, 6) > 0.5]) > 25


def test_a_map_with_itself_reaches_nyquist():
    data = noise(5, 48)
    found = measured(data, data, soft_sphere(48, 16, 4), window_A=20.0, sampling_A=6.0)
    assert np.allclose(found.resolution_A, 2 * PIXEL)
    assert found.median_A == pytest.approx(2 * PIXEL)
    assert found.quartiles_A == pytest.approx((2 * PIXEL,) * 3)
    assert found.sampling_A == 6.0
    assert np.allclose(found.map.data, 2 * PIXEL)


@pytest.mark.parametrize("box", [24, 25])
def test_a_windows_fsc_is_the_fsc_of_the_windowed_maps(box):
    """The plain definition, at one point, for even and odd boxes."""
    a, b = noise(6, 40) + 0.1, noise(6, 40) + noise(7, 40)
    window = LocalFscWindow.of_width((box - 1) / 1.5)
    n = window.box
    point = np.array([[20, 18, 22]])
    low = point[0] - n // 2
    cut = tuple(slice(start, start + n) for start in low)
    x, y = (np.fft.fftn(data[cut].astype(np.float64) * window.weight) for data in (a, b))
    axis = np.fft.fftfreq(n, 1 / n) ** 2
    shell = np.rint(np.sqrt(axis[:, None, None] + axis[:, None] + axis)).astype(int)
    cross, power_a, power_b = (
        np.bincount(shell.ravel(), product.ravel())[: n // 2 + 1]
        for product in ((x * y.conj()).real, np.abs(x) ** 2, np.abs(y) ** 2)
    )
    assert window.correlations(a, b, point)[0] == pytest.approx(cross / np.sqrt(power_a * power_b), abs=1e-5)


def test_flattening_changes_no_fsc_and_makes_shells_alike():
    steep = np.exp(-20 * shell_frequency(48, 1.0))
    a = filter_map(noise(8, 48), steep)
    b = a + 0.3 * filter_map(noise(9, 48), steep)
    flat = equalise_shell_power(a, b, np.ones_like(a))
    # Gains are linear between shells, so a steep spectrum's FSC within a shell is weighed a little otherwise.
    assert masked_fsc(*flat, None)[1:] == pytest.approx(masked_fsc(a, b, None)[1:], abs=0.01)
    spectra = [scipy.fft.rfftn(data) for data in flat]
    mean = sum(shell_mean(np.abs(spectrum) ** 2, 48, 3) for spectrum in spectra)
    assert np.abs(np.log(mean)).max() < 0.3
    assert np.log(a.std()) < -2  # it was steep


def test_points_lie_in_the_mask_and_values_come_back_where_they_were():
    mask = soft_sphere(41, 12, 3)
    points = grid_points(mask, 5)
    assert len(points) > 30
    assert (mask[tuple(points.T)] > 0.5).all()
    assert [20, 20, 20] in points.tolist()
    values = np.random.default_rng(0).uniform(3, 9, len(points))
    data = interpolate_resolutions(points, values, 5, 41)
    assert data[tuple(points.T)] == pytest.approx(values, rel=1e-5)
    assert data.min() >= 3 * 0.999
    assert data.max() <= 9 * 1.001


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"window_A": 6.0}, "between 12 Å"),
        ({"window_A": 100.0}, "half the box"),
        ({"window_A": 20.0, "sampling_A": 60.0}, "at most half the box"),
    ],
)
def test_impossible_windows_are_refused(how, words):
    with pytest.raises(InputError, match=words):
        measured(noise(0, 48), noise(1, 48), soft_sphere(48, 16, 4), **how)


def test_a_mask_between_the_points_is_refused():
    mask = np.zeros((48, 48, 48), np.float32)
    mask[2, 2, 2] = 1
    with pytest.raises(InputError, match="sample more finely"):
        measured(noise(0, 48), noise(1, 48), mask, window_A=20.0, sampling_A=30.0)
