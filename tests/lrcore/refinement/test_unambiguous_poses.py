"""The lattice is for particles in doubt: it is spared for the others, and sparing it changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.io import read_volume
from lrcore.records import FLAG_AT_SHIFT_EXTENT, Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.search import UNAMBIGUOUS_ABOVE, is_unambiguous
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.testing import rotation_error_deg


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    data = simulate_flexible_particle(tmp_path_factory.mktemp("data"), n=90, box=40, pixel_size_A=4.6, snr=0.2)
    return Job(data.particles, read_volume(data.map("mask_b")), RefineSpec())


@pytest.fixture(scope="module")
def steps(job: Job) -> list[Step]:
    """The start and one iteration."""
    *_, first = start(job, get_backend("cpu"))
    return [first, following(job, first, first)]


def following(job: Job, first: Step, last: Step) -> Step:
    *_, step = run_iteration(job, first, last, get_backend("cpu"))
    assert isinstance(step, Step)
    return step


def share(step: Step) -> float:
    return step.history[-1].lattice_share


def test_doubt_is_a_second_mode_or_an_extent(steps: list[Step]) -> None:
    found = steps[1].expectation
    n = len(found.flags)
    clear = replace(found, mode_probability=np.ones(n), flags=np.zeros(n, np.uint8))
    assert is_unambiguous(clear).all()
    doubtful = np.arange(n) % 3 == 0
    assert np.array_equal(
        is_unambiguous(replace(clear, mode_probability=np.where(doubtful, UNAMBIGUOUS_ABOVE, 1.0))), ~doubtful
    )
    flags = np.where(doubtful, FLAG_AT_SHIFT_EXTENT, 0).astype(np.uint8)
    assert np.array_equal(is_unambiguous(replace(clear, flags=flags)), ~doubtful)


def test_the_first_iteration_looks_everywhere_and_the_next_where_there_is_doubt(job: Job, steps: list[Step]) -> None:
    assert share(steps[1]) == 1.0
    second = following(job, *steps)
    assert share(second) == pytest.approx(1 - is_unambiguous(steps[1].expectation).mean())
    assert share(second) < 0.5


def test_sparing_the_lattice_leaves_the_poses_as_they_are(job: Job, steps: list[Step]) -> None:
    first, last = steps
    spared = following(job, first, last).expectation
    doubted = following(job, first, replace(last, search_key="another")).expectation
    moved = np.radians(rotation_error_deg(spared.poses, doubted.poses))
    sd = np.sqrt(np.linalg.eigvalsh(spared.covariance[:, :3, :3])[:, 0])  # of the best known rotation
    assert np.mean(moved < 0.1 * sd) > 0.97  # nobody moves but the odd particle with another mode
    assert np.mean(doubted.gain - spared.gain) < 0.05  # log units, out of a mean gain of tens


@pytest.mark.parametrize(
    "changes", [{"rotation_extent_deg": 25.0}, {"shift_prior_sd_A": 4.0}, {"fulcrum": "box"}, {"symmetry": "C2"}]
)
def test_another_question_is_asked_of_everyone(job: Job, steps: list[Step], changes: dict[str, object]) -> None:
    edited = replace(job, spec=RefineSpec(**changes))
    assert share(following(edited, *steps)) == 1.0


def test_what_does_not_concern_the_poses_is_no_other_question(job: Job, steps: list[Step]) -> None:
    edited = replace(job, spec=RefineSpec(max_iterations=3, extra_final_passes=2))
    assert share(following(edited, *steps)) == share(following(job, *steps))
