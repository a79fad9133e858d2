"""FSC curves from the window about a mask against those of the whole box."""

import numpy as np
import pytest
import scipy.fft

from lrcore.imaging.grids import radius_grid, window_at
from lrcore.io.mrc_maps import read_volume
from lrcore.maps.fsc import fsc_curves, masked_fsc, randomisation_shell, randomise_phases
from lrcore.maps.window_fsc import (
    expected_randomised_fsc,
    fsc_in_window,
    lowpass_sharply,
    mask_corrected_fsc,
    power_per_voxel,
    windowed_fsc_curves,
)
from lrcore.masks import cosine_edge
from lrcore.masks.distance import bounding_block
from lrcore.records import Volume
from lrcore.testing import smooth_map

APIX = 1.5
CENTRE = (3, -4, 5)
"""Centre of the mask, (z, y, x) voxels from the middle of the box."""
START = 10


def noisy_halves(n):
    """Two maps with a signal that fades with resolution, in white noise."""
    signal = 6 * smooth_map(n, 4, 3.0)
    rng = np.random.default_rng(0)
    return tuple((signal + rng.normal(size=signal.shape)).astype(np.float32) for _ in range(2))


def mask_of(n, radius=9.0, edge=3.0):
    return cosine_edge(radius_grid(n, 3, CENTRE), radius, edge)


def windows(arrays, n, size):
    return tuple(window_at(a, tuple(c + n // 2 for c in CENTRE), size) for a in arrays)


@pytest.mark.parametrize("n", [64, 63])
def test_on_the_grid_of_the_box_the_masked_curve_is_that_of_the_whole_box(n):
    halves, mask = noisy_halves(n), mask_of(n)
    (window,) = windows((mask,), n, 32)
    found = fsc_in_window(windows(halves, n, 32), window, n, grid=n)
    assert found == pytest.approx(masked_fsc(*halves, mask), abs=1e-5)


@pytest.mark.parametrize(("n", "size"), [(96, 40), (97, 45)])
def test_on_its_own_grid_the_masked_curve_follows_that_of_the_whole_box(n, size):
    halves, mask = noisy_halves(n), mask_of(n, 14.0, 4.0)
    whole = masked_fsc(*halves, mask)
    (window,) = windows((mask,), n, size)
    found = fsc_in_window(windows(halves, n, size), window, n)
    difference = (found - whole)[1:]
    print(f"box {n}, window {size}: rms {difference.std():.4f}, largest {np.abs(difference).max():.4f}")
    assert difference.std() < 0.01
    assert np.abs(difference).max() < 0.03


def test_the_margin_of_the_window_does_not_matter_to_the_masked_curve():
    n = 64
    halves, mask = noisy_halves(n), mask_of(n)
    narrow, wide = (fsc_in_window(windows(halves, n, d), windows((mask,), n, d)[0], n) for d in (27, 40))
    assert narrow == pytest.approx(wide, abs=1e-5)


def test_expected_random_phases_are_the_mean_over_draws():
    n = 64
    halves, mask = noisy_halves(n), mask_of(n)
    draws = [
        masked_fsc(*(randomise_phases(a, START, 2 * seed + i) for i, a in enumerate(halves)), mask)
        for seed in range(24)
    ]
    mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(len(draws))
    power = np.stack([power_per_voxel(scipy.fft.rfftn(a), n) for a in halves])
    low = [lowpass_sharply(a, START) for a in halves]
    (window,) = windows((mask,), n, 32)
    found = expected_randomised_fsc(windows(low, n, 32), window, power, n, START, grid=n)
    tail = slice(START + 2, None)
    assert mean[START + 2] > 0.02  # the mask leaks past the start
    # The mean of a ratio differs from the ratio of means where few samples count.
    assert np.all(np.abs(found - mean)[tail] < 4 * error[tail] + 0.01)
    assert found[:START] == pytest.approx(mean[:START], abs=0.02)


@pytest.mark.parametrize("size", [32, 45])
def test_from_windows_alone_the_corrected_curve_follows_that_of_the_whole_box(size):
    """A body in a box of noise, as half maps of subtracted images are; the whole-box curve is a mean over draws."""
    n = 96
    mask = mask_of(n)
    body, rng = 8 * smooth_map(n, 4, 3.0) * mask_of(n, 7.0, 3.0), np.random.default_rng(1)
    halves = tuple((body + rng.normal(size=body.shape)).astype(np.float32) for _ in range(2))
    volumes = [Volume(a, APIX) for a in (*halves, mask)]
    draws = [fsc_curves(*volumes, seed=seed, part=True) for seed in range(0, 12, 2)]
    start = max(randomisation_shell(draws[0][kind].value) for kind in ("unmasked", "loose"))
    (window,) = windows((mask,), n, size)
    curves = windowed_fsc_curves(windows(halves, n, size), window, n, APIX, start)
    assert list(curves) == ["masked", "randomised", "corrected"]
    whole = np.mean([d["corrected"].resolution_A() for d in draws])
    print(f"window {size}: {curves['corrected'].resolution_A():.3f} Å, whole box {whole:.3f} Å")
    assert curves["corrected"].resolution_A() == pytest.approx(whole, rel=0.03)
    masked = curves["masked"].resolution_A()
    assert masked == pytest.approx(draws[0]["masked"].resolution_A(), rel=0.01)


def test_a_tight_mask_on_noise_is_corrected_to_nothing():
    n = 64
    mask = (mask_of(n, 9.0, 1.0) > 0.5).astype(np.float32)
    low = lowpass_sharply(3 * smooth_map(n, 5), START)
    rng = np.random.default_rng(3)
    halves = tuple((low + 1 + 0.3 * rng.normal(size=low.shape)).astype(np.float32) for _ in range(2))
    power = np.stack([power_per_voxel(scipy.fft.rfftn(a), n) for a in halves])
    below = windows([lowpass_sharply(a, START) for a in halves], n, 32)
    (window,) = windows((mask,), n, 32)
    masked = fsc_in_window(windows(halves, n, 32), window, n)
    corrected = mask_corrected_fsc(masked, expected_randomised_fsc(below, window, power, n, START), START)
    tail = slice(14, None)
    print(f"mean of the tail: masked {masked[tail].mean():.3f}, corrected {corrected[tail].mean():.3f}")
    assert masked[tail].mean() > 0.2
    assert abs(corrected[tail].mean()) < 0.05


def test_the_curves_of_the_shared_data_follow_those_of_the_whole_box(test_data):
    first, second, mask = (
        read_volume(test_data("two_body") / name)
        for name in ("consensus_half1.mrc", "consensus_half2.mrc", "mask_b.mrc")
    )
    n, block = mask.box, bounding_block(mask.data > 0)
    middle = tuple((s.start + s.stop) // 2 for s in block)
    a, b, window = (window_at(v.data, middle, 54) for v in (first, second, mask))
    whole = masked_fsc(first.data, second.data, mask.data)
    exact = windowed_fsc_curves((a, b), window, n, mask.pixel_size_A, 18, grid=n)["masked"]
    assert exact.value == pytest.approx(whole, abs=1e-5)
    found = windowed_fsc_curves((a, b), window, n, mask.pixel_size_A, 18)["masked"]
    assert found.value == pytest.approx(whole, abs=0.015)
    for level in (0.143, 0.5):
        assert found.resolution_A(level) == pytest.approx(exact.resolution_A(level), rel=0.005)
