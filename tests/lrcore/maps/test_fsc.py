"""The FSC family and masks: identities, known signal-to-noise, honest correction."""

import numpy as np
import pytest
import scipy.fft

from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import crop_ft, ft, ift, index_grid, interpolate_linear
from lrcore.maps.conical_fsc import compute_conical_fsc, conical_fsc_dataset, fibonacci_half_sphere
from lrcore.maps.fsc import (
    fsc_curves,
    mask_corrected_fsc,
    masked_fsc,
    randomisation_shell,
    randomise_phases,
    wiener_gain,
)
from lrcore.maps.solvent_mask import LOOSE_A, TIGHT_A, cosine_falloff, outline_distance_A
from lrcore.masks import centre_of_mass, cosine_edge, farthest_voxel_distance, soft_sphere, validate_mask
from lrcore.records import Fsc, Volume
from lrcore.testing import smooth_map

SPOTS = ((0, 0, 0), (3, 1, -2), (-2, 3, 1), (1, -3, 2), (-3, -1, -2))
"""Where a body's atoms are, in voxels from the middle."""
N = 32


def noise(seed):
    return np.random.default_rng(seed).normal(size=(N, N, N)).astype(np.float32)


def test_fsc_of_a_map_with_itself_is_one_and_with_its_negative_minus_one():
    a = noise(0)
    assert np.allclose(masked_fsc(a, a, None), 1)
    assert np.allclose(masked_fsc(a, -3 * a, None), -1)


def test_fsc_of_noisy_halves_is_snr_over_one_plus_snr():
    signal = noise(1)
    first, second = signal + 0.5 * noise(2), signal + 0.5 * noise(3)
    assert masked_fsc(first, second, None)[8:].mean() == pytest.approx(1 / (1 + 0.25), abs=0.01)


def test_randomised_phases_keep_amplitudes_and_low_shells():
    a = smooth_map(N, 0)
    b = randomise_phases(a, 6, seed=1)
    assert np.allclose(np.abs(ft(a, 3)), np.abs(ft(b, 3)), atol=1e-2 * np.abs(ft(a, 3)).max() * 1e-2)
    curve = masked_fsc(a, b, None)
    assert np.all(curve[:6] > 0.999)
    assert abs(curve[8:]).max() < 0.3


def test_a_tight_mask_on_noise_correlates_and_the_correction_takes_it_away():
    """A mask multiplies two independent maps by the same sharp shape: FSC from nothing. Mean of six draws of phases."""
    mask = np.zeros((N, N, N), np.float32)
    mask[10:22, 10:22, 10:22] = 1
    low = smooth_map(N, 5)
    halves = [Volume(low + noise(seed) * 0.3 + 1, 1.0) for seed in (1, 2)]
    draws = [fsc_curves(*halves, Volume(mask, 1.0), seed) for seed in range(6)]
    tail = {kind: np.mean([curves[kind].value[10:] for curves in draws]) for kind in ("masked", "corrected")}
    print(f"mean of the tail: masked {tail['masked']:.3f}, corrected {tail['corrected']:.3f}")
    assert tail["masked"] > 0.7
    assert abs(tail["corrected"]) < 0.1
    assert draws[0]["masked"].value[0] > 0.99


def test_of_a_part_of_a_particle_the_correction_starts_where_its_own_signal_has_fallen():
    """A small body in a box of noise: the unmasked FSC falls at once, the one inside of the body's outline does not."""
    n, apix = 48, 4.0
    z, y, x = np.meshgrid(*[np.arange(n) - n // 2] * 3, indexing="ij")
    body = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 3.0) for a, b, c in SPOTS)
    rng = np.random.default_rng(5)
    halves = [Volume((body + 0.12 * rng.standard_normal((n, n, n))).astype(np.float32), apix) for _ in range(2)]
    mask = Volume(soft_sphere(n, 8.0, 3.0), apix)
    whole, part = fsc_curves(*halves, mask), fsc_curves(*halves, mask, part=True)
    starts = {name: randomisation_shell(whole[name].value) for name in ("unmasked", "loose")}
    assert starts["unmasked"] < starts["loose"] - 2
    same = slice(0, starts["loose"] + 2)
    assert np.array_equal(part["corrected"].value[same], part["masked"].value[same])
    assert not np.array_equal(whole["corrected"].value[same], whole["masked"].value[same])
    assert not np.array_equal(part["corrected"].value, part["masked"].value)
    for kind in ("unmasked", "spherical", "loose", "tight", "masked"):
        assert np.array_equal(part[kind].value, whole[kind].value), kind


def test_correction_of_nothing_is_nothing():
    masked = np.array([1, 1, 0.9, 0.8, 0.5, 0.2])
    assert np.array_equal(mask_corrected_fsc(masked, np.zeros(6), 2), masked)
    assert mask_corrected_fsc(masked, np.full(6, 0.2), 2)[4] == pytest.approx(0.375)


def test_crossings_are_interpolated():
    curve = Fsc("masked", np.arange(5) / 10, np.array([1, 1, 0.5, 0.1, 0]))
    assert curve.resolution_A(0.3) == pytest.approx(1 / 0.25)
    assert Fsc("masked", np.arange(3) / 4, np.ones(3)).resolution_A() == 2.0


def test_wiener_gain_ends_at_the_first_fall():
    assert np.array_equal(wiener_gain(np.array([1.2, 0.9, 0.5, 0.1, 0.4])), [1, 0.9, 0.5, 0, 0])


def test_mask_middle_and_reach():
    mask = np.roll(soft_sphere(N, 5, 2), (0, 0, 4), axis=(0, 1, 2))
    assert centre_of_mass(mask) == pytest.approx([4, 0, 0], abs=1e-4)
    assert 5.5 < farthest_voxel_distance(mask, [4, 0, 0]) < 7.1


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
        validate_mask(mask, N, 1.0)


def test_a_binary_mask_is_warned_of():
    mask = (soft_sphere(N, 5, 2) > 0.5).astype(np.float32)
    with pytest.warns(UserWarning, match="binary"):
        validate_mask(Volume(mask, 1.0), N, 1.0)


def ball_in_noise(seed, offset=0.0):
    """A ball of radius 30 Å in noise, 64³ voxels of 2 Å, with a speck of dust far from it."""
    data = 4 * soft_sphere(64, 15, 2) + np.random.default_rng(seed).normal(size=(64, 64, 64)).astype(np.float32)
    data[4:7, 4:7, 30:33] += 6
    return (data + offset).astype(np.float32)


def test_automatic_masks_follow_the_particle_and_only_it():
    distance = outline_distance_A(ball_in_noise(0), ball_in_noise(1), 2.0)
    radius = 2.0 * np.linalg.norm(np.indices((64, 64, 64)) - 32, axis=0)
    # The outline of a ball low-passed to 20 Å lies outside it by a part of that.
    rim = radius[distance == 0].max()
    assert 30 < rim < 42
    outside = distance > 4
    assert np.abs((radius - distance)[outside] - rim).max() < 8
    tight, loose = cosine_falloff(distance, TIGHT_A), cosine_falloff(distance, LOOSE_A)
    assert tight[32, 32, 32] == loose[32, 32, 32] == 1
    assert np.all(loose >= tight)
    assert tight[5, 5, 31] == 0


def test_automatic_masks_know_neither_scale_nor_offset_nor_order():
    a, b = ball_in_noise(0), ball_in_noise(1)
    one = outline_distance_A(a, b, 2.0)
    assert np.array_equal(one, outline_distance_A(b, a, 2.0))
    other = outline_distance_A(50 * a + 300, 50 * b + 300, 2.0)
    assert np.mean(np.abs(one - other)) < 0.1


def test_a_family_without_and_with_a_mask():
    halves = [Volume(ball_in_noise(seed), 2.0) for seed in (0, 1)]
    assert list(fsc_curves(*halves)) == ["unmasked", "spherical", "loose", "tight"]
    mask = Volume(soft_sphere(64, 18, 6), 2.0)
    curves, again = fsc_curves(*halves, mask), fsc_curves(*halves, mask)
    assert list(curves) == ["unmasked", "spherical", "loose", "tight", "masked", "randomised", "corrected"]
    assert all(np.array_equal(curves[kind].value, again[kind].value) for kind in curves)
    low = slice(2, 8)
    assert curves["tight"].value[low].mean() > curves["loose"].value[low].mean() > curves["unmasked"].value[low].mean()


def directional(stretch, seed):
    """Signal whose spectrum along z falls √stretch times faster than across it, in white noise."""
    signal = np.random.default_rng(100).normal(size=(64, 64, 64))
    kz, ky, kx = index_grid(64, 3)
    gain = np.exp(-(kx**2 + ky**2 + stretch * kz**2) / (2 * 9.0**2))
    data = scipy.fft.irfftn(scipy.fft.rfftn(signal) * gain, signal.shape)
    return Volume((data + 0.3 * np.random.default_rng(seed).normal(size=data.shape)).astype(np.float32), 2.0)


def test_cones_of_an_isotropic_map_are_alike():
    found = compute_conical_fsc(directional(1.0, 1), directional(1.0, 2))
    assert found.value.shape == (96, 33)
    assert found.ratio > 0.85


def test_the_worst_cone_points_where_the_resolution_is_lost():
    found = compute_conical_fsc(directional(4.0, 1), directional(4.0, 2))
    assert found.ratio < 0.6
    assert found.direction[found.area.argmin()][2] > 0.8
    assert found.direction[found.area.argmax()][2] < 0.5
    across, along = found.resolution_A.min(), found.resolution_A.max()
    assert along / across == pytest.approx(2.0, rel=0.3)
    data = conical_fsc_dataset(found)
    assert data["resolution"].units == "angstrom"
    assert data.attrs["area_ratio"] == found.ratio


def test_a_cone_is_the_plain_sum_over_its_samples():
    """Against the definition: every sample whose angle to the axis is at most 20°, or 160° at least."""
    first, second = directional(2.0, 1), directional(2.0, 2)
    found = compute_conical_fsc(first, second)
    a, b = np.fft.fftn(first.data), np.fft.fftn(second.data)
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(64, 1 / 64)] * 3, indexing="ij")[::-1], axis=-1)
    radius = np.linalg.norm(k, axis=-1)
    for row in (0, 40, 95):
        cosine = np.abs(k @ found.direction[row]) / np.maximum(radius, 1)
        for shell in (12, 20, 30):
            held = (np.rint(radius) == shell) & (cosine >= np.cos(np.radians(20)))
            x, y = a[held], b[held]
            plain = np.sum(x * y.conj()).real / np.sqrt(np.sum(np.abs(x) ** 2) * np.sum(np.abs(y) ** 2))
            # The rim of a cone is made of cells of 2°.
            assert found.value[row, shell] == pytest.approx(plain, abs=0.12)


def test_directions_cover_the_half_sphere():
    axes = fibonacci_half_sphere(96)
    assert np.allclose(np.linalg.norm(axes, axis=1), 1)
    points = np.random.default_rng(0).normal(size=(500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.degrees(np.arccos(np.abs(points @ axes.T).max(axis=1))).max() < 15


@pytest.mark.parametrize(("n", "m"), [(32, 24), (33, 24), (32, 21), (33, 33)])
def test_a_cropped_spectrum_is_the_same_map_on_fewer_voxels(n, m):
    smooth = filter_map(smooth_map(n, 0), np.exp(-0.05 * np.arange(n // 2 + 1) ** 2))
    coarse = ift(crop_ft(ft(smooth, 3), n, m), m, 3) * (m / n) ** 3
    assert coarse[m // 2, m // 2, m // 2] == pytest.approx(smooth[n // 2, n // 2, n // 2], rel=0.02)
    assert coarse.sum() * (n / m) ** 3 == pytest.approx(smooth.sum(), rel=1e-4)


def test_linear_interpolation_is_exact_for_planes():
    z, y, x = np.indices((7, 7, 7)).astype(np.float32)
    at = np.array([0, 0.5, 3.25, 6])
    fine = interpolate_linear(2 * z - y + 3 * x, at)
    assert fine == pytest.approx(2 * at[:, None, None] - at[:, None] + 3 * at, abs=1e-5)
