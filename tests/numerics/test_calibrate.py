"""The start of a refinement: the scale of given half maps, their contrast, and half maps that say nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.backend import pick
from lrcore.calibrate import calibrate
from lrcore.errors import InputError
from lrcore.io import read_volume
from lrcore.records import HalfMaps, Particles, Volume
from lrcore.reference import bands, geometry
from lrcore.simulate import FlexibleParticle, flexible_particle, noise_particles
from lrcore.spec import RefineSpec

BACKEND = pick("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    folder = tmp_path_factory.mktemp("data")
    return flexible_particle(folder, n=60, box=40, pixel_size_A=4.6, snr=0.2, hinge_sd_deg=0.0, hinge_shift_sd_A=0.0)


def calibrated(particles: Particles, volume: Volume, mask: Volume) -> HalfMaps:
    found = calibrate(particles, HalfMaps(volume, volume), mask, 0, BACKEND)
    return next(event for event in found if isinstance(event, HalfMaps))


def times(volume: Volume, factor: float) -> Volume:
    return replace(volume, data=(factor * volume.data).astype(np.float32))


def test_maps_are_brought_to_the_scale_of_the_images(data: FlexibleParticle) -> None:
    truth = read_volume(data.map("gt_full"))
    found = calibrated(data.particles, times(truth, 30.0), read_volume(data.map("mask_b"))).first
    slope = (found.data * truth.data).sum() / (truth.data**2).sum()
    assert slope == pytest.approx(1, abs=0.05)


def test_opposite_contrast_is_refused(data: FlexibleParticle) -> None:
    with pytest.raises(InputError, match=r"particles\.star: images and map have opposite contrast"):
        calibrated(data.particles, times(read_volume(data.map("gt_full")), -1.0), read_volume(data.map("mask_b")))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_maps_that_the_images_know_nothing_of_are_no_reason_to_fail(
    data: FlexibleParticle, tmp_path: Path, sign: float
) -> None:
    noise = noise_particles(tmp_path, n=40, box=40, pixel_size_A=4.6)
    truth = read_volume(data.map("gt_full"))
    found = calibrated(noise, times(truth, sign), read_volume(data.map("mask_b"))).first
    power = np.square([found.data.std(), truth.data.std()])
    assert power[0] < 0.05 * power[1]


def test_poses_always_have_something_to_go_by(data: FlexibleParticle) -> None:
    samples, _, _ = bands(geometry(read_volume(data.map("mask_b")), RefineSpec()), 1000.0)
    assert samples.ends[-1] > 0
