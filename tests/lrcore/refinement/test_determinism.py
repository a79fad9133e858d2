"""The same input, spec and seed give the same bits, whatever the threads and whatever the order of the table."""

from dataclasses import replace

import numba
import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.io import read_volume
from lrcore.records import Particles, Step, Volume
from lrcore.refinement import calibration
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from tests.fakes import same_bits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    folder = tmp_path_factory.mktemp("data")
    return simulate_flexible_particle(folder, n=90, box=40, pixel_size_A=4.6, snr=0.2, groups=2)


def run(particles: Particles, mask: Volume, threads: int, seed: int = 0) -> Step:
    """Two iterations from half maps of the particles' own."""
    backend = get_backend("cpu", threads)
    assert numba.get_num_threads() == threads
    job = Job(particles, mask, RefineSpec(seed=seed))
    *_, first = start(job, backend)
    assert isinstance(first, Step)
    last = first
    for _ in range(2):
        *_, found = run_iteration(job, first, last, backend)
        assert isinstance(found, Step)
        last = found
    return last


def bits(step: Step) -> tuple[object, ...]:
    """All but the history, which says how long everything took."""
    return (step.expectation, step.half_maps.first.data, step.half_maps.second.data, step.fsc, step.noise)


@pytest.fixture(scope="module")
def once(data: FlexibleParticle) -> Step:
    return run(data.particles, read_volume(data.map("mask_b")), 1)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits_again(data: FlexibleParticle, once: Step, threads: int) -> None:
    again = run(data.particles, read_volume(data.map("mask_b")), threads)
    assert same_bits(bits(once), bits(again))


def test_same_bits_from_a_table_in_another_order(data: FlexibleParticle, once: Step) -> None:
    order = np.random.default_rng(0).permutation(len(data.particles))
    other = run(data.particles.select(order), read_volume(data.map("mask_b")), 2)
    assert same_bits(bits(replace(once, expectation=once.expectation.select(order))), bits(other))


def test_another_seed_draws_other_images(data: FlexibleParticle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MAX_SAMPLED_IMAGES", 20)
    one, other = (run(data.particles, read_volume(data.map("mask_b")), 2, seed=seed) for seed in (0, 1))
    assert not same_bits(bits(one), bits(other))
