"""Images, poses, CTFs and half maps that do not belong together are reported, and those that do are not."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.io import read_particles, read_volume
from lrcore.records import HalfMaps, Particles, Volume
from lrcore.refinement.image_map_agreement import MIN_AGREEMENT, fine_agreement, jackknife
from lrcore.refinement.reconstruction import reconstruct
from lrcore.refinement.region_sums import AS_GIVEN, RegionSums
from lrcore.simulation.data_set import simulate_flexible_particle
from tests.lrcore.refinement.test_outside_fraction import measured

BACKEND = get_backend("cpu")
OWN_POSE, OTHER_CTF = "at their own poses no better", "the images fit the map better .* than with their own CTF"


class Made:
    """Particles, their half maps and mask."""

    def __init__(self, folder: Path, seed: int) -> None:
        made = simulate_flexible_particle(
            folder, n=300, box=64, pixel_size_A=2.6, seed=seed, snr=0.07, hinge_sd_deg=4.0,
        )  # fmt: skip
        self.particles, self.mask = read_particles(made.star), read_volume(made.map("mask_b"))
        self.maps = HalfMaps(*(reconstructed(self.particles, half) for half in (1, 2)))


def reconstructed(particles: Particles, half: int) -> Volume:
    return [event for event in reconstruct(particles, half, "C1", BACKEND) if isinstance(event, Volume)][-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("agreement"), 1)


def shuffled(particles: Particles) -> Particles:
    rows = np.random.default_rng(3).permutation(len(particles))
    return replace(particles, poses=particles.poses.select(rows))


def mirrored(maps: HalfMaps) -> HalfMaps:
    """Return the maps mirrored along z, about the voxel n // 2 of an even box."""
    first, second = (replace(v, data=np.roll(v.data[::-1], 1, axis=0).copy()) for v in (maps.first, maps.second))
    return HalfMaps(first, second)


def with_defocus(factor: float) -> Callable[[Particles], Particles]:
    return lambda particles: replace(particles, defocus_A=factor * particles.defocus_A)


def with_other_defoci(particles: Particles) -> Particles:
    return replace(particles, defocus_A=np.roll(particles.defocus_A, 7, axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_belongs_together_is_no_cause_for_alarm(tmp_path: Path, seed: int) -> None:
    made = Made(tmp_path, seed)
    few = made.particles.select(np.arange(0, 300, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measured(made.particles, made.maps, made.mask) == (1.0, 1.0)
        assert measured(few, made.maps, made.mask) == (1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("subtracted", [False, True])
def test_a_map_of_the_wrong_hand(made: Made, subtracted: bool) -> None:
    """At low resolution a particle and its mirror image are alike, so that a bound on their agreement tells little."""
    particles = replace(made.particles, subtracted=subtracted)
    with pytest.warns(UserWarning, match="wrong hand: mirrored along z they fit the images better, by"):
        found = measured(particles, mirrored(made.maps), made.mask)
    assert found == ((0.0, 0.0) if subtracted else (1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shuffled, OWN_POSE),
        (with_other_defoci, "the mean CTF of many images than|coarse resolution only"),
        (with_defocus(0.0), "images and map have opposite contrast, so the CTF|coarse resolution only"),
        (with_defocus(1.5), OTHER_CTF),
        (with_defocus(2.0), OTHER_CTF),
    ],
)
def test_images_of_other_poses_and_of_another_ctf(
    made: Made, change: Callable[[Particles], Particles], message: str
) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        assert measured(change(made.particles), made.maps, made.mask) == (1.0, 1.0)
    assert len(caught) == 1


@pytest.mark.parametrize("images", [20, 200])
def test_the_error_of_a_mean(images: int) -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(images, 3))
    sums = RegionSums(*[values] * 6, np.ones(3))
    mean, error = jackknife(lambda parts: parts[0][AS_GIVEN].inside.mean(axis=0), [{AS_GIVEN: sums}])
    assert mean == pytest.approx(values.mean(axis=0))
    wanted = values.std(axis=0, ddof=1) / np.sqrt(images)
    assert error == pytest.approx(wanted, rel=1e-9 if images == 20 else 0.6)


@pytest.mark.parametrize(("fine", "belongs"), [(1.0, True), (0.6, True), (0.05, False)])
def test_images_that_show_only_the_coarse_shells_of_a_map(fine: float, belongs: bool) -> None:
    shell, fsc = np.arange(2, 10), np.linspace(0.99, 0.6, 8)
    amplitude = np.where(np.arange(8) < 4, 1.0, fine)
    signal = 40 * amplitude**2 * shell**2 * fsc / (1 - fsc)
    rows = (signal, 0 * signal, signal, 0 * signal, 0 * signal, signal + 1000.0)
    sums = RegionSums(*(np.tile(row, (5, 1)) for row in rows), np.full(8, 1000.0))
    curve = np.concatenate([[1.0, 1.0], fsc, np.zeros(5)])
    assert (fine_agreement(sums, curve) > MIN_AGREEMENT) == belongs
    assert np.isnan(fine_agreement(sums, np.ones(15)))  # one map given twice
