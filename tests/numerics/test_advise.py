"""Advice: each finding where its evidence says so, a remedy that the spec takes, and silence where all is well."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrcore.advise import advise
from lrcore.grids import radius_grid
from lrcore.masks import cosine_edge
from lrcore.records import Step, Volume
from lrcore.spec import RefineSpec
from tests.fakes import make_job, make_step

GOOD = {
    "resolution_masked_A": 4.0,
    "resolution_corrected_A": 4.0,
    "angle_from_input_deg": 3.0,
    "shift_from_input_A": 1.0,
    "change_in_sd": 0.3,
    "at_rotation_extent": 0.01,
    "at_shift_extent": 0.0,
}
SOFT = Volume(cosine_edge(radius_grid(48, 3), 6, 14), 2.0)
"""An edge of 28 Å; the rule asks for 20 Å at 4 Å."""


def step_with(*iterations: dict[str, Any]) -> Step:
    """A step whose history has a start and these iterations, all good but for what they say."""
    last = make_step(make_job())
    for _ in iterations:
        last = make_step(make_job(), last)
    numbers = [GOOD, *({**GOOD, **changes} for changes in iterations)]
    history = tuple(replace(line, **given) for line, given in zip(last.history, numbers, strict=True))
    return replace(last, history=history, converged=False)


def names(step: Step, mask: Volume = SOFT, **spec: Any) -> list[str]:
    return [advice.name for advice in advise(step, RefineSpec(**spec), mask)]


def test_nothing_wrong_is_said_too() -> None:
    assert names(step_with({}, {})) == ["nothing"]


@pytest.mark.parametrize(
    ("what", "spec", "changes"),
    [
        ("rotation", {}, {"rotation_prior_sd_deg": 7.5}),
        ("rotation", {"rotation_extent_deg": 8.0}, {"rotation_extent_deg": 12.0}),
        ("rotation", {"prior": "none"}, {"rotation_extent_deg": 30.0}),
        ("rotation", {"rotation_extent_deg": 90.0}, {}),
        ("shift", {}, {"shift_prior_sd_A": 4.5}),
        ("shift", {"shift_extent_A": 4.0}, {"shift_extent_A": 6.0}),
    ],
)
def test_many_particles_at_an_extent(what: str, spec: dict[str, Any], changes: dict[str, float]) -> None:
    step = step_with({}, {f"at_{what}_extent": 0.12})
    (advice,) = advise(step, RefineSpec(**spec), SOFT)
    assert (advice.name, advice.evidence, dict(advice.changes)) == (f"at_{what}_extent", 0.12, changes)
    assert "12 %" in advice.finding
    after = RefineSpec(**{**spec, **changes})
    before = RefineSpec(**spec)
    wider = after.rotation_limit_deg * after.shift_limit_A > before.rotation_limit_deg * before.shift_limit_A
    assert wider == bool(changes)


def test_drift_is_told_of_what_is_recentred_alone() -> None:
    step = step_with({}, {"angle_from_input_deg": 4.0, "shift_from_input_A": 2.0})
    assert names(step) == ["nothing"]
    assert names(step, recenter_rotations=True) == ["drift_of_rotations"]
    assert names(step, recenter_rotations=True, recenter_shifts=True) == ["drift_of_rotations", "drift_of_shifts"]
    (advice,) = advise(step, RefineSpec(recenter_shifts=True), SOFT)
    assert dict(advice.changes) == {"recenter_shifts": False}
    assert names(step_with({}, {}), recenter_rotations=True, recenter_shifts=True) == ["nothing"]


def test_a_sharp_mask() -> None:
    sharp = Volume(cosine_edge(radius_grid(48, 3), 6, 3), 2.0)
    (advice,) = advise(step_with({}, {}), RefineSpec(), sharp)
    assert advice.name == "mask_edge"
    assert "6 Å wide" in advice.finding
    assert "20 Å wide" in advice.remedy
    assert advice.evidence < advice.limit
    assert names(step_with({}, {"resolution_masked_A": 1.5}), sharp) == ["nothing"]


def test_poses_that_do_not_come_to_rest() -> None:
    moving = step_with({}, {"change_in_sd": 1.5}, {"change_in_sd": 1.6})
    (advice,) = advise(moving, RefineSpec(), SOFT)
    assert (advice.name, dict(advice.changes)) == ("not_converging", {"rotation_prior_sd_deg": 3.333})
    assert names(step_with({}, {"change_in_sd": 1.5}, {"change_in_sd": 1.2})) == ["nothing"], "it calms"
    assert names(replace(moving, converged=True)) == ["nothing"]


def test_a_run_that_was_cut_short() -> None:
    gains = [{"resolution_corrected_A": value} for value in (6.0, 5.0, 4.0)]
    (advice,) = advise(step_with(*gains), RefineSpec(max_iterations=3), SOFT)
    assert (advice.name, dict(advice.changes)) == ("still_improving", {"max_iterations": 7})
    assert np.isclose(advice.evidence, 0.2)
    assert names(step_with(*gains)) == ["nothing"]
