"""Whatever a browser sends: a widget says in one line what is wrong with it, and what was there stays."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from lrcore.records import HalfMaps
from lrcore.refinement.job import Job
from lrwidgets.jupyter.fulcrum import FulcrumWidget
from lrwidgets.jupyter.mask import MaskWidget
from lrwidgets.session.session import Session
from tests.fakes import FakeEngine, make_job, make_step

pytestmark = pytest.mark.filterwarnings("ignore:.*the soft edge is")

SHAPES: dict[str, Any] = {
    "nothing": {},
    "a word": {"kind": "sphere", "centre": "abc", "radius": 3},
    "code": {"kind": "__import__('os').system('true')", "centre": [1, 2, 3], "size": "exit()"},
    "two coordinates": {"kind": "sphere", "centre": [1, 2], "radius": 3},
    "not a number": {"kind": "sphere", "centre": [1, 2, 3], "radius": float("nan")},
    "infinite": {"kind": "box", "centre": [1, 2, 3], "size": [1, float("inf"), 1]},
    "absurd": {"kind": "box", "centre": [1, 2, 3], "size": [1, 1e300, 1]},
    "nested": {"kind": "sphere", "centre": [[1], [2], [3]], "radius": {}},
    "no radius": {"kind": "sphere", "centre": [1, 2, 3]},
}
POINTS: dict[str, list[float]] = {
    "not a number": [float("nan"), 1.0, 2.0],
    "infinite": [1.0, float("-inf"), 2.0],
    "absurd": [1e200, 1.0, 2.0],
}


@pytest.fixture
def session() -> Iterator[Session]:
    job = make_job()
    maps = make_step(job).half_maps
    with Session(Job(job.particles, job.mask, job.spec, HalfMaps(maps.first, maps.second)), engine=FakeEngine()) as one:
        yield one


def said(widget: MaskWidget | FulcrumWidget) -> str:
    """What the slices say below themselves."""
    assert widget.view.flush()
    return re.sub("<[^>]*>", "", widget.view.message.value)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_are_none(name: str, session: Session) -> None:
    widget = MaskWidget(session)
    try:
        assert widget.flush()
        before = widget.recipe
        widget.view.slices.shapes = [SHAPES[name]]
        line = said(widget)
        assert "the browser sent" in line
        assert "internal error" not in line
        assert "\n" not in line
        assert widget.recipe == before
    finally:
        widget.close()


@pytest.mark.parametrize("name", POINTS)
def test_points_that_are_none(name: str, session: Session) -> None:
    widget = FulcrumWidget(session)
    try:
        assert widget.flush()
        before = (widget.text, session.spec)
        widget.view.slices.point = POINTS[name]
        line = said(widget)
        assert "the browser sent" in line
        assert "internal error" not in line
        assert (widget.text, session.spec) == before
    finally:
        widget.close()
