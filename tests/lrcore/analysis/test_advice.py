"""Advice: each finding where its evidence says so, a remedy that the spec takes, and silence where all is well."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrcore.analysis.advice.advise import advise_on_step
from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.advice.motion import _common_shift_in_map, motion_findings
from lrcore.analysis.advice.presence import presence_findings
from lrcore.analysis.advice.redundancy import drop_redundant
from lrcore.analysis.held_out_likelihood import compare_scores
from lrcore.analysis.input_audit import HandAndScaleTest, InputAudit, solvent_correlation
from lrcore.analysis.motion_estimate import MotionEstimate
from lrcore.imaging.grids import radius_grid
from lrcore.masks import cosine_edge, edge_width
from lrcore.motion.model import fit_about_fulcrum
from lrcore.records import HalfMaps, Poses, Step, Volume
from lrcore.refinement.parameters import RefineSpec
from tests.fakes import make_job, make_particles, make_step
from tests.lrcore.analysis.test_static_density import BOX, PIXEL_A, halves
from tests.lrcore.motion.test_principal import hinged

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


def told(step: Step, mask: Volume = SOFT, seen: InputAudit | None = None, **spec: Any) -> tuple[Finding, ...]:
    first = make_step(make_job())
    ball = Volume((radius_grid(mask.box, 3) < 6).astype(np.float32), 2.0)
    same = HalfMaps(ball, ball)
    job, begun = replace(make_job(**spec), mask=mask), replace(first, half_maps=same)
    return advise_on_step(job, begun, replace(step, half_maps=same), None, seen)


def names(step: Step, mask: Volume = SOFT, seen: InputAudit | None = None, **spec: Any) -> list[str]:
    return [advice.name for advice in told(step, mask, seen, **spec)]


def test_nothing_wrong_is_said_too() -> None:
    assert names(step_with({}, {})) == ["nothing"]


@pytest.mark.parametrize(("missing", "found"), [(0, []), (4, []), (30, ["body_missing"]), (100, ["body_missing"])])
def test_particles_without_the_body(missing: int, found: list[str]) -> None:
    step = step_with({}, {})
    evidence = np.where(np.arange(100) < missing, -15.0, 20.0)
    nothing = np.zeros(100)
    expectation = replace(step.expectation, evidence=evidence, misfit=nothing - 9, flags=nothing.astype(np.uint8))
    assert [one.name for one in presence_findings(replace(step, expectation=expectation))] == found
    unmeasured = replace(step, expectation=replace(expectation, evidence=nothing, misfit=nothing))
    assert [*presence_findings(unmeasured)] == []
    for one in presence_findings(replace(step, expectation=expectation)):
        assert f"missing in {missing} ±" in one.finding
        assert "--min-presence 0.5" in one.remedy


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
    (advice,) = told(step, **spec)
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
    (advice,) = told(step, recenter_shifts=True)
    assert dict(advice.changes) == {"recenter_shifts": False}
    assert names(step_with({}, {}), recenter_rotations=True, recenter_shifts=True) == ["nothing"]


def test_a_sharp_mask() -> None:
    sharp = Volume(cosine_edge(radius_grid(48, 3), 6, 3), 2.0)
    (advice,) = told(step_with({}, {}), sharp)
    assert advice.name == "mask_edge"
    assert "6 Å wide" in advice.finding
    assert "20 Å wide" in advice.remedy
    assert advice.evidence < advice.limit
    assert names(step_with({}, {"resolution_masked_A": 1.5}), sharp) == ["nothing"]
    (small,) = told(step_with({}, {}), Volume(cosine_edge(radius_grid(48, 3), 2, 3), 2.0))
    assert small.mask is None, "an outline of 3.5 voxels has no room for the edge"
    (advice,) = told(step_with({}, {}), Volume(cosine_edge(radius_grid(64, 3), 14, 3), 2.0))
    assert advice.mask is not None
    assert 18 < edge_width(advice.mask.data) * 2.0 < 23
    assert np.array_equal(advice.mask.data > 0.5, radius_grid(64, 3) < 15.5)


def test_a_mask_that_holds_what_stays() -> None:
    """A third of the density in it agreed better at the start, and the rest agrees better now."""
    mask = Volume(cosine_edge(radius_grid(BOX, 3), 16, 6), PIXEL_A)
    before, after = halves(0.5, 1.3, 1), halves(0.8, 0.6, 2)
    late = replace(step_with({}, {}, {}), half_maps=after)
    job, first = replace(make_job(), mask=mask), replace(make_step(make_job()), half_maps=before)
    (advice,) = [one for one in advise_on_step(job, first, late) if one.name == "mask_still"]
    assert (advice.has_fix, advice.changes) == (True, {})
    assert advice.mask is not None
    assert advice.mask.data[..., :24].sum() < 0.2 * mask.data[..., :24].sum()
    assert advice.mask.data[..., 34:].sum() > 0.9 * mask.data[..., 34:].sum()
    early = replace(step_with({}, {}), half_maps=after)
    assert not [one for one in advise_on_step(job, first, early) if one.name == "mask_still"]
    shared = advise_on_step(job, first, late, None, InputAudit(0.4, 0.3, None))
    assert "mask_still" not in [one.name for one in shared], "such half maps agree everywhere"


def test_poses_that_do_not_come_to_rest() -> None:
    moving = step_with({}, {"change_in_sd": 1.5}, {"change_in_sd": 1.6})
    (advice,) = told(moving)
    assert (advice.name, dict(advice.changes)) == ("not_converging", {"rotation_prior_sd_deg": 3.333})
    assert names(step_with({}, {"change_in_sd": 1.5}, {"change_in_sd": 1.2})) == ["nothing"], "it calms"
    assert names(replace(moving, converged=True)) == ["nothing"]


def test_a_run_that_was_cut_short() -> None:
    gains = [{"resolution_corrected_A": value} for value in (6.0, 5.0, 4.0)]
    (advice,) = told(step_with(*gains), max_iterations=3)
    assert (advice.name, dict(advice.changes)) == ("still_improving", {"max_iterations": 7})
    assert np.isclose(advice.evidence, 0.2)
    assert names(step_with(*gains)) == ["nothing"]


def test_an_extent_that_follows_the_prior_may_hold_more() -> None:
    assert names(step_with({}, {"at_rotation_extent": 0.08})) == ["nothing"]
    assert names(step_with({}, {"at_rotation_extent": 0.08}), prior="none") == ["at_rotation_extent"]


def test_held_out_images_tell_of_poses_that_follow_the_noise_though_the_half_maps_agree_better() -> None:
    step, job = step_with({}, {"at_rotation_extent": 0.15}), replace(make_job(prior="none"), mask=SOFT)
    rows, half, rng = np.arange(400), np.arange(400) % 2 + 1, np.random.default_rng(0)
    found = {}
    for better in (0, 1):
        worth = compare_scores(
            rows, half.astype(np.int8), np.stack([rng.normal(0, 1, 400), rng.normal(4 * better - 2, 1, 400)])
        )
        assert worth.better == better
        found[better] = {one.name: one for one in advise_on_step(job, make_step(make_job()), step, held_out=worth)}
    assert set(found[0]) == {"overfitting"}
    assert found[0]["overfitting"].evidence == pytest.approx(-2, abs=0.2)
    assert "held-out images" in found[0]["overfitting"].finding
    assert set(found[1]) == {"at_rotation_extent"}


def test_an_extent_far_inside_the_prior_cuts_poses_off_and_is_not_overfitting() -> None:
    half, rng = (np.arange(400) % 2 + 1).astype(np.int8), np.random.default_rng(0)
    worse = compare_scores(np.arange(400), half, np.stack([rng.normal(0, 1, 400), rng.normal(-2, 1, 400)]))
    step = step_with({}, {"at_rotation_extent": 0.9, "resolution_corrected_A": 6.0})
    for extent, name in ((2.0, "at_rotation_extent"), (12.0, "overfitting")):
        job = replace(make_job(rotation_extent_deg=extent), mask=SOFT)
        assert [one.name for one in advise_on_step(job, make_step(make_job()), step, held_out=worse)] == [name]


def test_where_a_prior_is_too_wide_that_is_the_cause_of_what_held_out_images_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = Finding("rotation_prior_wide", "the prior is too wide", "", 0.2, 0.45)
    monkeypatch.setattr("lrcore.analysis.advice.advise.motion_findings", lambda *_: iter([wide]))
    half, rng = (np.arange(400) % 2 + 1).astype(np.int8), np.random.default_rng(0)
    worth = compare_scores(np.arange(400), half, np.stack([rng.normal(0, 1, 400), rng.normal(-2, 1, 400)]))
    for prior, name in (("gaussian", "rotation_prior_wide"), ("none", "overfitting")):
        job = replace(make_job(prior=prior), mask=SOFT)
        assert [one.name for one in advise_on_step(job, make_step(make_job()), step_with({}, {}), held_out=worth)] == [
            name
        ]


def test_poses_that_follow_the_noise_are_held_from_the_start_on() -> None:
    worse = step_with({}, {"at_rotation_extent": 0.5, "resolution_corrected_A": 6.0})
    (advice,) = told(worse, prior="none", rotation_extent_deg=40.0)
    assert (advice.name, advice.from_start) == ("overfitting", True)
    assert dict(advice.changes) == {"rotation_extent_deg": None, "shift_extent_A": None, "prior": "gaussian"}
    RefineSpec(**{**RefineSpec(prior="none").model_dump(), **advice.changes})
    better = step_with({}, {"at_rotation_extent": 0.5, "resolution_corrected_A": 3.9})
    assert names(better, prior="none") == ["at_rotation_extent"]


def test_drift_on_the_way_to_a_better_map_is_let_be() -> None:
    found = step_with({"resolution_corrected_A": 3.0}, {"resolution_corrected_A": 3.0, "angle_from_input_deg": 4.0})
    assert names(found, recenter_rotations=True) == ["nothing"]


def test_settings_that_throw_resolution_away() -> None:
    step = step_with({}, {})
    agreed = make_step(make_job()).fsc["corrected"].resolution_A(0.5)
    (advice,) = told(step, initial_lowpass_A=2 * (agreed + 1))
    assert (advice.name, dict(advice.changes), advice.from_start) == (
        "initial_lowpass",
        {"initial_lowpass_A": None},
        True,
    )
    assert names(step, initial_lowpass_A=agreed + 1) == ["nothing"]
    assert names(step, max_align_resolution_A=8.0) == ["resolution_limit"]
    assert names(step, max_align_resolution_A=4.5) == ["nothing"]


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (InputAudit(0.02, 0.02, None), "nothing"),
        (InputAudit(0.4, 0.3, None), "halves_share"),
        (InputAudit(0.4, None, None), "halves_share"),
        (InputAudit(0.6, 0.01, HandAndScaleTest(1e4, "along x", -8e3, 1.0, 0.0)), "half_maps_share"),
        (InputAudit(0.3, 0.01, HandAndScaleTest(2e2, "along z", 9e3, 1.02, 80.0)), "other_hand"),
        (InputAudit(0.0, 0.01, HandAndScaleTest(1e4, "along z", -9e3, 1.04, 2e3)), "other_scale"),
        (InputAudit(0.0, 0.01, HandAndScaleTest(1e4, "along z", -9e3, 1.02, 200.0)), "nothing"),
    ],
)
def test_what_the_input_says_of_itself(seen: InputAudit, name: str) -> None:
    assert names(step_with({}, {}), seen=seen) == [name]
    assert names(step_with(), seen=seen)[0] == name, "of the start, too"


def test_of_a_hinge_the_prior_is_to_follow_the_axis() -> None:
    job = replace(make_job(), particles=make_particles(400))
    step = make_step(job, make_step(job))
    here = replace(step, history=tuple(replace(line, **GOOD) for line in step.history))
    sights, axis, *_ = hinged(1, 1.0)
    motion, found = fit_about_fulcrum(sights, (np.radians(5), 3.0), 40.0)
    for turns, uneven, expected in (
        (found.rotation_covariance, found.anisotropy_chi2, True),
        (found.rotation_covariance, 30.0, False),
        (np.eye(3), 99.0, False),
    ):
        at = replace(found, rotation_covariance=turns, anisotropy_chi2=uneven)
        advice = list(motion_findings(job, here, MotionEstimate(motion, np.arange(1200), at, (at, at))))
        assert ("prior_uneven" in {one.name for one in advice}) == expected
        if expected:
            (one,) = (one for one in advice if one.name == "prior_uneven")
            assert one.changes == {"prior": "motion"}
            assert abs(found.axes[1][0] @ axis) > 0.99
            assert f"{np.degrees(found.axes[0][0]):.2g}°" in one.finding
    learning, found = (
        replace(job, spec=RefineSpec(prior="motion")),
        MotionEstimate(motion, np.arange(9), found, (found,) * 2),
    )
    assert "prior_uneven" not in {one.name for one in motion_findings(learning, here, found)}


def test_shifts_in_common_are_told_from_shifts() -> None:
    job = replace(make_job(), particles=make_particles(400))
    step, poses = make_step(job, make_step(job)), job.particles.poses
    spread = np.random.default_rng(0).normal(0, 1, (400, 2))
    for common, found in ((0.0, []), (2.0, ["off_centre"])):
        moved = Poses(poses.rotation, poses.origin_A - spread - common * np.array([1.0, 0.0]))
        flags = np.zeros(400, np.uint8)
        here = replace(step, expectation=replace(step.expectation, poses=moved, flags=flags))
        here = replace(here, history=tuple(replace(line, **GOOD) for line in here.history))
        assert [one.name for one in motion_findings(job, here, None)] == found


def test_particles_of_one_pose_are_reported_instead_of_what_follows_from_them() -> None:
    seen = InputAudit(0.0, None, None, unaligned=3)
    (found,) = told(step_with({}, {}), SOFT, seen)
    assert found.name == "unaligned"
    assert "3 of 10 particles have one and the same input pose" in found.finding
    shifted = Finding("off_centre", "all particles share a shift", "recenter_shifts on", 1.0, 0.1)
    assert [left.name for left in drop_redundant([found, shifted])] == ["unaligned"]


@pytest.mark.parametrize(("ratio", "expected"), [(0.07, ["nothing"]), (1.5, ["nothing"]), (14.0, ["contrast"])])
def test_a_particle_darker_than_the_solvent_is_called_inverted_contrast(ratio: float, expected: list[str]) -> None:
    assert names(step_with({}, {}), SOFT, InputAudit(0.0, None, None, contrast_ratio=ratio)) == expected


def test_half_maps_of_inverted_contrast_do_not_share_images() -> None:
    """The solvent is found around a dark particle as around a bright one."""
    rng = np.random.default_rng(0)
    body = 3 * cosine_edge(radius_grid(48, 3), 8, 4)
    maps = [Volume((body + rng.normal(0, 0.3, body.shape)).astype(np.float32), 2.5) for _ in "12"]
    bright = solvent_correlation(HalfMaps(*maps))
    dark = solvent_correlation(HalfMaps(*(replace(one, data=-one.data) for one in maps)))
    assert dark == pytest.approx(bright)
    assert abs(dark) < 0.05


def test_a_common_shift_from_one_direction_of_view_has_no_singular_matrix() -> None:
    poses = Poses(np.repeat(np.eye(3)[None], 30, axis=0), np.zeros((30, 2)))
    shift = np.random.default_rng(0).normal([1.0, -2.0], 0.1, (30, 2))
    found, error = _common_shift_in_map(poses, shift)
    assert found == pytest.approx([*shift.mean(axis=0), 0.0])
    assert np.isfinite(error).all()
