"""A sweep: settings tried on a subset, ranked, and the run left as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lrcore.analysis.held_out_likelihood import HeldOut
from lrcore.errors import InputError
from lrcore.records import Progress, Step
from lrcore.refinement.job import Job
from lrwidgets import plots
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import ranking_table, sweep
from tests.fakes import FakeEngine, make_job


@pytest.fixture
def session() -> Iterator[Session]:
    with Session(make_job(40), engine=FakeEngine()) as made:
        made.run(1, wait=True)
        yield made


def tried(session: Session, **over: list[object]) -> xr.Dataset:
    *progress, found = sweep(session, over, subset=20, engine=FakeEngine())
    assert all(isinstance(event, Progress) and event.stage == "sweep" for event in progress)
    assert progress[-1].done == progress[-1].total
    assert isinstance(found, xr.Dataset)
    return found


def test_every_combination_is_tried_and_ranked(session: Session) -> None:
    before = session.state.tree
    found = tried(session, rotation_prior_sd_deg=[2.0, 5.0, 9.0], fulcrum=["mask", "box"])
    assert dict(found.sizes) == {"rotation_prior_sd_deg": 3, "fulcrum": 2}
    assert list(found["fulcrum"].values) == ["mask", "box"]
    assert sorted(found["rank"].values.ravel()) == [1, 2, 3, 4, 5, 6]
    assert float(found["gain"][0, 0]) == 0, "the first is what the others are compared with"
    assert float(found["gain"].where(found["rank"] == 1).max()) == float(found["gain"].max())
    assert found.attrs["images"] == 20
    assert session.state.tree == before
    lines = ranking_table(found).splitlines()
    assert len(lines) == 6
    assert lines[0].split()[0] == "1"
    figure = plots.sweep(found)
    assert len(figure.axes[0].get_yticklabels()) == 6


def test_maps_are_made_whole_where_mask_or_settings_say_they_are_others(session: Session) -> None:
    engine = FakeEngine()
    list(sweep(session, {"rotation_prior_sd_deg": [2.0, 4.0]}, engine=engine))
    assert engine.adopted_masks == []
    list(sweep(session, {"subtract_outside": [True, False], "rotation_prior_sd_deg": [2.0, 4.0]}, engine=engine))
    assert len(engine.adopted_masks) == 1, "for those with the other setting, once"
    with pytest.warns(UserWarning, match="soft edge"):
        session.use_mask(replace(session.mask, data=0.5 * session.mask.data))
    engine = FakeEngine()
    list(sweep(session, {"rotation_prior_sd_deg": [2.0, 4.0]}, engine=engine))
    assert len(engine.adopted_masks) == 1
    assert all(mask is session.mask for mask in (*engine.masks, *engine.adopted_masks))


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({}, "name a parameter"),
        ({"fulcrum": []}, "name a parameter"),
        ({"rotation_prior_sd": [1]}, "did you mean rotation_prior_sd_deg"),
        ({"rotation_prior_sd_deg": [1, -1]}, "rotation_prior_sd_deg = -1"),
        ({"initial_lowpass_A": [10]}, "affects only the start"),
        ({"rotation_prior_sd_deg": list(np.linspace(1, 9, 201))}, "201 settings"),
    ],
)
def test_what_cannot_be_tried_is_refused(session: Session, over: dict[str, list[object]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(sweep(session, over, engine=FakeEngine()))


def test_there_has_to_be_a_step(tmp_path: Path) -> None:
    with Session(make_job(), engine=FakeEngine()) as empty, pytest.raises(InputError):
        list(sweep(empty, {"fulcrum": ["box"]}, engine=FakeEngine()))


def test_all_settings_are_scored_alike(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not each to its own resolution and in its own window."""
    session.edit(max_align_resolution_A=20.0)
    engine, scored = FakeEngine(), []
    held_out = engine.held_out

    def score(first: Step, a: tuple[Job, Step], b: tuple[Job, Step], backend: Any, n: int) -> HeldOut:
        scored.append(b[0].spec)
        return held_out(first, a, b, backend, n)

    monkeypatch.setattr(engine, "held_out", score)
    over = {"max_align_resolution_A": [None, 30.0], "shift_extent_A": [2.0, 9.0], "subtract_outside": [True, False]}
    list(sweep(session, over, subset=20, engine=engine))
    assert [spec.max_align_resolution_A for spec in engine.specs[::4]] == [None, 30.0]
    assert scored == [session.spec.model_copy(update={"max_align_resolution_A": None})] * 8


@pytest.mark.parametrize("name", ["max_iterations", "extra_final_passes", "seed", "symmetry", "ewald"])
def test_what_changes_no_iteration_or_the_start_is_refused(session: Session, name: str) -> None:
    value = {"symmetry": "C2", "ewald": "positive"}.get(name, 3)
    with pytest.raises(InputError, match=f"sweep: {name} (decides when|changes nothing but|affects the start)"):
        list(sweep(session, {name: [value]}, engine=FakeEngine()))
