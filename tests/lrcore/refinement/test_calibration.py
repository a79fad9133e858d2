"""The start of a refinement: the scale of given half maps, their contrast, and half maps that say nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import filter_map
from lrcore.io import read_volume
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.records import HalfMaps, Particles, Step, Volume
from lrcore.refinement.calibration import INTENSITY_SD, Calibration, calibrate, intensities
from lrcore.refinement.geometry import resolution_bands, search_geometry
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle, simulate_noise_particles

BACKEND = get_backend("cpu")


SHELLS = 21


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    folder = tmp_path_factory.mktemp("data")
    return simulate_flexible_particle(
        folder, n=60, box=40, pixel_size_A=4.6, snr=0.2, hinge_sd_deg=0.0, hinge_shift_sd_A=0.0
    )


def calibrated(particles: Particles, volume: Volume, mask: Volume) -> Calibration:
    found = calibrate(particles, HalfMapSpectra.from_maps(HalfMaps(volume, volume)), mask, 0, BACKEND)
    return next(event for event in found if isinstance(event, Calibration))


def scaled(particles: Particles, volume: Volume, mask: Volume) -> np.ndarray:
    return filter_map(volume.data, calibrated(particles, volume, mask).scale)


def sums_of(amplitude: list[float], images: list[int], snr: float) -> np.ndarray:
    """Sums of calibrate for groups whose images show the map at an amplitude, noise of variance 1, no chance."""
    found = np.zeros((len(amplitude), 4, SHELLS))
    count = np.array(images, np.float64)[:, None] * np.pi * np.maximum(np.arange(SHELLS), 0.5)
    power = snr * count
    times = np.array(amplitude)[:, None]
    found[:, 0], found[:, 1], found[:, 2], found[:, 3] = times * power, power, times**2 * power + count, count
    return found


def test_intensities_of_large_groups_are_found_and_those_of_small_ones_drawn_to_one() -> None:
    images, amplitude = [500, 500, 2, 0], [1.0, 0.5, 0.5, 0.5]
    found = intensities(sums_of(amplitude, images, 0.1), np.ones(SHELLS), np.array(images))
    assert found[:2] == pytest.approx(amplitude[:2], abs=0.002)
    assert 0.6 < found[2] < 0.75  # half of the way, since images of one group differ as much as groups do
    assert found[3] == 1.0
    # Where the noise leaves little to see, even many images say little: half the way at the prior's own width.
    many = [10**6] * 2
    snr = 0.5 / INTENSITY_SD**2 / sums_of([1.0], many[:1], 1.0)[0, 1].sum()
    weak = intensities(sums_of([1.0, 0.5], many, snr), np.ones(SHELLS), np.array(many))
    assert weak == pytest.approx([1.0, 0.75], abs=0.01)


@pytest.mark.slow
def test_one_group_has_no_intensity_and_maps_that_say_nothing_leave_it_at_one(data: FlexibleParticle) -> None:
    assert calibrated(data.particles, *map(read_volume, (data.map("gt_full"), data.map("mask_b")))).intensity == ()
    assert np.array_equal(intensities(sums_of([1.0], [9], 0.1), np.ones(SHELLS), np.array([9])), [1.0])
    nothing = intensities(sums_of([1.0, 0.5], [9, 9], 0.1), np.zeros(SHELLS), np.array([9, 9]))
    assert np.array_equal(nothing, [1.0, 1.0])


@pytest.mark.slow
def test_the_noise_is_what_the_dimmer_image_leaves(tmp_path: Path) -> None:
    dim = simulate_flexible_particle(
        tmp_path, n=120, box=40, pixel_size_A=4.6, snr=0.5, hinge_sd_deg=0.0, hinge_shift_sd_A=0.0, pose_error_deg=0.0,
        pose_error_A=0.0, groups=2, intensities=(1.0, 0.25), noise="white",
    )  # fmt: skip
    truth, mask = read_volume(dim.map("gt_full")), read_volume(dim.map("mask_full"))
    job = Job(dim.particles, mask, RefineSpec(initial_lowpass_A=9.3), HalfMaps(truth, truth))
    found = next(event for event in start(job, BACKEND) if isinstance(event, Step))
    bright, dimmer = found.intensity
    assert bright / dimmer == pytest.approx(4.0, rel=0.05)
    # White noise of variance 1 per pixel has 40² per coefficient; a model too bright would leave more.
    assert found.noise[:, :, 3:15].mean(axis=(0, 2)) == pytest.approx(1600, rel=0.03)


def times(volume: Volume, factor: float) -> Volume:
    return replace(volume, data=(factor * volume.data).astype(np.float32))


def test_maps_are_brought_to_the_scale_of_the_images(data: FlexibleParticle) -> None:
    truth = read_volume(data.map("gt_full"))
    found = scaled(data.particles, times(truth, 30.0), read_volume(data.map("mask_b")))
    slope = (found * truth.data).sum() / (truth.data**2).sum()
    assert slope == pytest.approx(1, abs=0.05)


def test_opposite_contrast_is_refused(data: FlexibleParticle) -> None:
    with pytest.raises(InputError, match=r"particles\.star: images and map have opposite contrast"):
        calibrated(data.particles, times(read_volume(data.map("gt_full")), -1.0), read_volume(data.map("mask_b")))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_maps_that_the_images_know_nothing_of_are_no_reason_to_fail(
    data: FlexibleParticle, tmp_path: Path, sign: float
) -> None:
    noise = simulate_noise_particles(tmp_path, n=40, box=40, pixel_size_A=4.6)
    truth = read_volume(data.map("gt_full"))
    found = scaled(noise, times(truth, sign), read_volume(data.map("mask_b")))
    power = np.square([found.std(), truth.data.std()])
    assert power[0] < 0.05 * power[1]


def test_poses_always_have_something_to_go_by(data: FlexibleParticle) -> None:
    samples, _, _ = resolution_bands(search_geometry(read_volume(data.map("mask_b")), RefineSpec()), 1000.0)
    assert samples.ends[-1] > 0
