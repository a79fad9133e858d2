"""A half map shows by its noise which half set it was made from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.io import read_volume
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.records import HalfMaps, Particles, Step, Volume
from lrcore.refinement.half_map_order import half_map_order_warning, own_noise_sigmas
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import reconstruct
from lrcore.refinement.start import start
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle

BACKEND = get_backend("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    folder = tmp_path_factory.mktemp("data")
    return simulate_flexible_particle(folder, n=300, box=32, pixel_size_A=5.75, snr=0.06)


@pytest.fixture(scope="module")
def maps(data: FlexibleParticle) -> HalfMaps:
    return reconstructed(data.particles)


def reconstructed(particles: Particles) -> HalfMaps:
    events = ((event for event in reconstruct(particles, half, "C1", BACKEND)) for half in (1, 2))
    return HalfMaps(*(next(event for event in half if isinstance(event, Volume)) for half in events))


def swapped(maps: HalfMaps) -> HalfMaps:
    return HalfMaps(maps.second, maps.first)


def spectra_of(maps: HalfMaps) -> HalfMapSpectra:
    return HalfMapSpectra.from_maps(maps)


def warning_of(particles: Particles, maps: HalfMaps) -> str | None:
    return half_map_order_warning(particles, maps, spectra_of(maps), BACKEND)


def test_images_correlate_with_the_noise_of_their_own_map(data: FlexibleParticle, maps: HalfMaps) -> None:
    own = own_noise_sigmas(data.particles, spectra_of(maps), BACKEND)
    assert len(own) == 300
    assert own.mean() > 1.5
    assert 0.5 < own.std() < 2
    assert own_noise_sigmas(data.particles, spectra_of(swapped(maps)), BACKEND) == pytest.approx(-own)
    assert warning_of(data.particles, maps) is None
    said = warning_of(data.particles, swapped(maps))
    assert said.startswith("half map 1 and half map 2: are in the wrong order")


def test_maps_of_another_split_and_of_other_poses_are_not_called_swapped(
    data: FlexibleParticle, maps: HalfMaps
) -> None:
    particles = data.particles
    other = replace(particles, half=np.random.default_rng(0).permutation(particles.half))
    said = warning_of(other, maps)
    assert said is None or "were not made from these half sets" in said
    turned = replace(particles, poses=replace(particles.poses, rotation=particles.poses.rotation[::-1]))
    sigmas = own_noise_sigmas(turned, spectra_of(maps), BACKEND)
    assert abs(sigmas.mean()) < 5 / np.sqrt(len(sigmas))
    assert warning_of(turned, swapped(maps)) is None


def test_maps_of_other_half_sets_are_told_where_single_images_are_clear(test_data) -> None:
    from lrcore.io import read_particles

    folder: Path = test_data("two_body")
    particles = read_particles(folder / "particles.star")
    given = HalfMaps(*(read_volume(folder / f"consensus_half{i}.mrc") for i in (1, 2)))
    assert warning_of(particles, given) is None
    assert "wrong order: each has the noise" in warning_of(particles, swapped(given))
    other = replace(particles, half=np.random.default_rng(0).permutation(particles.half))
    assert "were not made from these half sets: " in warning_of(other, given)


def test_two_copies_of_a_map_have_no_order(data: FlexibleParticle, maps: HalfMaps) -> None:
    copies = HalfMaps(maps.first, maps.first)
    assert not own_noise_sigmas(data.particles, spectra_of(copies), BACKEND).any()
    assert warning_of(data.particles, copies) is None


@pytest.mark.parametrize("given", [True, False], ids=["half maps swapped", "dark particles"])
def test_the_start_tells_it(data: FlexibleParticle, maps: HalfMaps, given: bool) -> None:
    mask, particles = read_volume(data.map("mask_b")), data.particles
    if not given:
        particles = replace(particles, images=replace(particles.images, sign=-particles.images.sign))
    job = Job(particles, mask, RefineSpec(), swapped(maps) if given else None)
    with pytest.warns(UserWarning, match="are in the wrong order" if given else "contrast is inverted"):
        assert any(isinstance(event, Step) for event in start(job, BACKEND))
