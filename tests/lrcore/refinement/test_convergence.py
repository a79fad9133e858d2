"""When a refinement ends: by convergence or the number of iterations, both since the last change of spec or mask."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrcore.records import Step
from lrcore.refinement.convergence import settings_since, stop_reason
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_effects import settings_key
from tests.fakes import make_job, make_step


def run_of(job: Job, iterations: int, converged_at: int = 99, last: Step | None = None) -> Step:
    """A step after so many more iterations, of which those from `converged_at` on change nothing."""
    step = last or make_step(job)
    for _ in range(iterations):
        step = make_step(job, step)
        moved = 0.0 if step.iteration >= converged_at else 5.0
        resolution = 3.0 if step.iteration >= converged_at - 1 else 50.0 / step.iteration
        line = replace(step.history[-1], change_in_sd=moved, resolution_corrected_A=resolution)
        step = replace(step, history=(*step.history[:-1], line))
    return step


def test_it_ends_when_it_has_converged() -> None:
    job = make_job()
    assert stop_reason(job, run_of(job, 4, converged_at=5)) == ""
    assert stop_reason(job, run_of(job, 5, converged_at=5)) == "converged at iteration 5"


def test_it_ends_without_convergence() -> None:
    job = make_job(max_iterations=3)
    assert stop_reason(job, run_of(job, 2)) == ""
    assert stop_reason(job, run_of(job, 3)) == "max_iterations = 3 reached without convergence"
    passes = make_job(max_iterations=3, extra_final_passes=2)
    assert stop_reason(passes, run_of(passes, 3)).endswith("so that extra_final_passes were not run")


@pytest.mark.parametrize("most", [5, 6, 50])
def test_extra_passes_are_run_whatever_the_maximum(most: int) -> None:
    job = make_job(max_iterations=most, extra_final_passes=2)
    for iterations in (4, 5, 6):
        assert stop_reason(job, run_of(job, iterations, converged_at=5)) == ""
    reason = stop_reason(job, run_of(job, 7, converged_at=5))
    assert reason == "converged at iteration 5, extra_final_passes = 2 done"


@pytest.mark.parametrize("change", ["spec", "mask"])
def test_both_count_from_the_last_change(change: str) -> None:
    job = make_job(max_iterations=4)
    ended = run_of(job, 5, converged_at=5)
    assert stop_reason(job, ended)
    other = (
        make_job(max_iterations=4, rotation_prior_sd_deg=2.0)
        if change == "spec"
        else replace(job, mask=replace(job.mask, data=np.roll(job.mask.data, 1, axis=0)))
    )
    assert stop_reason(other, ended) == ""
    again = run_of(other, 1, converged_at=5, last=ended)
    assert again.settings_since == 5
    assert stop_reason(other, again) == "", "one iteration without a change does not prove anything"
    again = run_of(other, 1, converged_at=5, last=again)
    assert stop_reason(other, again) == "converged at iteration 7"
    restless = run_of(other, 4, last=ended)
    assert stop_reason(other, restless) == (
        "max_iterations = 4 reached since the last change of the settings, after iteration 5 without convergence"
    )


@pytest.mark.parametrize("name", ["max_iterations", "extra_final_passes", "initial_lowpass_A", "dynamic_mask_far_A"])
def test_what_changes_no_iteration_is_no_change(name: str) -> None:
    spec: dict[str, Any] = {name: 19}
    job, last = make_job(**spec), run_of(make_job(), 3)
    assert settings_since(settings_key(job.spec, job.mask), last) == 0


def test_a_run_of_an_older_version_counts_from_its_start() -> None:
    job = make_job()
    assert stop_reason(job, replace(run_of(job, 5, converged_at=5), settings_key="")) == "converged at iteration 5"
