"""A sweep: settings tried on a subset, ranked, and the run left as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lrcore.errors import InputError
from lrcore.records import Progress
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
