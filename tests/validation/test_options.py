"""Options that change the map, each with and without, against the truth."""

import pytest

from lrcore.backend import Backend
from lrcore.records import Step
from lrcore.refine import advance, start
from lrcore.simulate import flexible_particle
from lrcore.spec import RefineSpec
from lrcore.testing import against, rotation_error_deg
from tests.validation.judge import Case, last_step, load, mean_map, refined, tell

Run = tuple[Step, Step]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """SNR 0.02: posteriors are 4° wide."""
    folder = tmp_path_factory.mktemp("noisy")
    flexible_particle(folder, n=4000, box=64, pixel_size_A=3.0, snr=0.02, hinge_sd_deg=4.0, seed=7)
    return load(folder)


def truth_A(case: Case, step: Step) -> float:
    """Resolution of the mean map against the truth inside the mask, at FSC 0.5."""
    return against(mean_map(step), case.gt_b, case.mask).resolution_A(0.5)


def median_error_deg(case: Case, step: Step) -> float:
    return float(sorted(rotation_error_deg(step.expectation.poses, case.truth))[len(case.particles) // 2])


def iterated(case: Case, spec: RefineSpec, n: int, backend: Backend) -> Step:
    """So many iterations, converged or not."""
    job = case.job(spec)
    first = last = last_step(start(job, backend))
    for _ in range(n):
        last = last_step(advance(job, first, last, backend))
    return last


def test_marginalization_on_clean_data(two_body: Case, two_body_run: Run, backend: Backend) -> None:
    _, without = refined(two_body.job(RefineSpec(marginalize=False)), backend)
    pair = [two_body_run[1], without]
    at = [truth_A(two_body, step) for step in pair]
    wrong = [median_error_deg(two_body, step) for step in pair]
    tell(f"two_body with, without marginalization: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°")
    assert at[0] < at[1] - 0.03
    assert wrong[0] < wrong[1]


def test_marginalization_on_noisy_data(noisy: Case, backend: Backend) -> None:
    pair = [iterated(noisy, RefineSpec(marginalize=on), 7, backend) for on in (True, False)]
    at = [truth_A(noisy, step) for step in pair]
    wrong = [median_error_deg(noisy, step) for step in pair]
    claimed = [step.fsc["masked"].resolution_A() for step in pair]
    tell(f"SNR 0.02 with, without marginalization: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°")
    tell(f"half maps claim {claimed[0]:.2f}, {claimed[1]:.2f} Å")
    assert at[0] < at[1] - 0.1
    assert wrong[0] < wrong[1] - 0.2
