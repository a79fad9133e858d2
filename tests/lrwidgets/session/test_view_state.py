"""What a view shows, from a snapshot alone; and the form, which knows every parameter of the spec."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lrcore.records import Progress
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.view_state import describe_differences, format_remaining_time, make_view_state, step_names
from lrwidgets.text import fields
from tests.fakes import FakeEngine, make_job
from tests.lrwidgets.conftest import make_files


@pytest.fixture
def branched() -> RunState:
    """Start → 1 → 2, and from 1 a branch to 2′ → 3′, where we are."""
    with Session(make_job(), engine=FakeEngine()) as session:
        session.run(2, wait=True)
        session.branch(session.state.tree[1].id, rotation_prior_sd_deg=2.0, rotation_extent_deg=8.0)
        session.run(2, wait=True)
        return session.state


def test_branches_stand_below_the_step_they_grew_from(branched: RunState) -> None:
    shown = make_view_state(branched.tree[-1].spec, branched).tree
    assert [(branch.depth, branch.label.split("  ")[0].split(",")[0]) for branch in shown] == [
        (0, "start"), (0, "iteration 1"), (0, "iteration 2"), (1, "iteration 2"), (1, "iteration 3"),
    ]  # fmt: skip
    assert [branch.is_present for branch in shown] == [False, False, False, False, True]
    changes = "Rotation prior SD, ° 5 → 2, Rotation search extent, ° auto → 8"
    assert shown[3].label.endswith(f"[from iteration 1; {changes}]")
    assert all(" Å" in branch.label.split("  ")[0] for branch in shown), "every step has its resolution"
    names = list(step_names(branched).values())
    assert names[1:] == [
        "iteration 1 (trunk)", "iteration 2 (trunk)", f"iteration 2 of the branch with {changes}",
        f"iteration 3 of the branch with {changes}",
    ]  # fmt: skip


def test_no_resolution_is_lost_by_a_rewind_or_when_a_run_is_opened_again(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    with Session.load(files.star, files.mask, files.halves, out=tmp_path / "r.zarr", engine=FakeEngine()) as session:
        session.run(2, wait=True)
        session.branch(session.state.tree[1].id, rotation_prior_sd_deg=2.0, wait=True)
        session.run(1, wait=True)
        session.rewind(session.state.tree[0].id, wait=True)
        known = session.state.resolutions_A
        assert set(known) == {node.id for node in session.state.tree}
    with Session.open(tmp_path / "r.zarr", engine=FakeEngine()) as again:
        assert again.state.resolutions_A == pytest.approx(known)


def test_what_an_edit_will_change_is_shown_until_it_has_run(branched: RunState) -> None:
    spec = branched.tree[-1].spec
    assert make_view_state(spec, branched).pending_changes == ""
    assert (
        make_view_state(spec.model_copy(update={"marginalize": False}), branched).pending_changes
        == "Marginalization True → False"
    )


def test_progress_tells_stage_share_and_time_left() -> None:
    state = RunState("running", iteration=3, stage="search", done=500, total=2000, spent_s=10.0)
    shown = make_view_state(RefineSpec(), state)
    assert shown.share == 0.25
    assert shown.progress == "iteration 3, search: 500 of 2,000 particles, 30 s left"
    assert make_view_state(RefineSpec(), replace(state, done=2000)).progress.endswith("particles")
    assert make_view_state(RefineSpec(), RunState()).progress == ""


@pytest.mark.parametrize(("left", "words"), [(12.3, "12 s"), (300, "5 min"), (9000, "2.5 h")])
def test_times_are_told_as_a_person_tells_them(left: float, words: str) -> None:
    assert format_remaining_time(left) == words


def test_time_is_counted_by_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("lrwidgets.session.run_loop.time", SimpleNamespace(monotonic=lambda: now))
    with Session(make_job(), engine=FakeEngine()) as session:
        session._settle()
        now = 103.0
        session._report(Progress(1, "search", 1, 4))
        now = 107.0
        session._report(Progress(1, "search", 2, 4))
        assert session.state.spent_s == 7
        session._report(Progress(2, "search", 1, 4))
        assert session.state.spent_s == 0


def test_phase_and_trouble_are_words() -> None:
    shown = make_view_state(RefineSpec(), RunState("idle", message="failed", error="mask.mrc: is gone"))
    assert (shown.status, shown.failure, shown.busy) == ("ready: failed", "mask.mrc: is gone", False)
    assert make_view_state(RefineSpec(), RunState("pausing")).paused
    assert make_view_state(RefineSpec(), RunState("stopping")).status.startswith("stopping at the next chunk")


def test_the_form_has_every_parameter_with_label_help_and_kind() -> None:
    assert [field.name for field in fields.parameter_fields()] == list(RefineSpec.model_fields)
    for field in fields.parameter_fields():
        assert field.label
        assert len(field.help) > 10
        assert isinstance(field.default, bool) == (field.kind == "switch")
        assert bool(field.choices) == (field.kind == "choice")
    sd = fields.parameter_field("rotation_prior_sd_deg")
    assert (sd.title, sd.low, sd.high, sd.optional) == ("Rotation prior SD, °", 0, 90, False)
    assert fields.parameter_field("rotation_extent_deg").optional


def test_an_empty_field_says_what_it_means() -> None:
    assert fields.automatic_text(RefineSpec(), "rotation_extent_deg") == "auto: 15"
    assert fields.automatic_text(RefineSpec(prior="none"), "shift_extent_A") == "auto: 10"
    assert (fields.format_value(None), fields.format_value(3.0), fields.format_value("box")) == ("", "3", "box")


def test_equal_specs_differ_in_nothing() -> None:
    assert describe_differences(RefineSpec(), RefineSpec()) == ""
