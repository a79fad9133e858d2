"""Pure noise gives no resolution: not from half maps of its own, nor when it was drawn to a map that is not in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import shell_frequency, shell_mean
from lrcore.io import read_volume
from lrcore.masks import soft_sphere
from lrcore.records import Expectation, Fsc, HalfMaps, Particles, Step, Volume
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle, simulate_noise_particles
from lrcore.simulation.images import noise_variance
from tests.validation.judge import last_step, print_measurement

BOX, PIXEL, LOWPASS_A = 64, 3.0, 12.0
SPEC = RefineSpec(initial_lowpass_A=LOWPASS_A, subtract_outside=False)
AMID_START = 6
"""Shell from which on a map of a window has nothing of the start's coarsest shells, inside the mask."""
FREQUENCY = shell_frequency(BOX, PIXEL)
# Wide, so that a shell holds enough independent samples for its chance correlation to stay below 0.143.
MASK = Volume(soft_sphere(BOX, 18.0, 5.0), PIXEL)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Particles:
    return simulate_noise_particles(tmp_path_factory.mktemp("noise"), n=500, box=BOX, pixel_size_A=PIXEL)


def highest(step: Step) -> float:
    """The highest corrected FSC beyond the initial low-pass."""
    return float(step.fsc["corrected"].value[FREQUENCY > 1 / LOWPASS_A].max())


def five_more(job: Job, first: Step, backend: Backend) -> list[Step]:
    steps = [first]
    for _ in range(5):
        steps.append(last_step(run_iteration(job, first, steps[-1], backend)))
    return steps[1:]


def test_half_maps_of_noise_stay_noise(noise: Particles, backend: Backend) -> None:
    job = Job(noise, MASK, SPEC)
    steps = five_more(job, last_step(start(job, backend)), backend)
    found = [highest(step) for step in steps]
    print_measurement(
        f"noise, half maps of its own: highest corrected FSC beyond {LOWPASS_A:g} Å {np.round(found, 3).tolist()}"
    )
    assert max(found) < 0.143


def test_noise_forgets_a_map_that_is_not_in_it(noise: Particles, backend: Backend, tmp_path: Path) -> None:
    data = simulate_flexible_particle(tmp_path, n=8, box=BOX, pixel_size_A=PIXEL, snr=0.1)
    job = Job(noise, MASK, SPEC)
    steps = five_more(job, convinced(job, data.map("gt_full")), backend)
    found = [highest(step) for step in steps]
    inside = [float(step.fsc["corrected"].value[AMID_START:16].mean()) for step in steps]
    print_measurement(
        f"noise, from a map: mean corrected FSC, shell {AMID_START} to {LOWPASS_A:g} Å, {np.round(inside, 2).tolist()}"
    )
    print_measurement(f"highest beyond: {np.round(found, 3).tolist()}")
    assert inside[0] > 0.4
    assert inside[-1] < 0.2
    assert found[-1] < 0.143


def convinced(job: Job, path: Path) -> Step:
    """A start that takes the same low-passed map for both half maps, at full strength, and believes in it."""
    truth = read_volume(path)
    sure = np.where(FREQUENCY <= 1 / LOWPASS_A, 0.999, 0.0)
    noise = shell_mean(noise_variance(BOX, PIXEL, "coloured", 0), BOX, 2) * BOX**2
    nothing = Expectation.before_search(job.particles.poses)
    low = replace(truth, data=filter_map(truth.data, sure))
    curves = {kind: Fsc(kind, FREQUENCY, sure) for kind in ("masked", "corrected")}
    return Step(0, nothing, HalfMaps(low, low), curves, np.tile(noise, (2, 1, 1)), LOWPASS_A, ())
