"""InspectWidget: every figure is drawn for the step that is chosen, values can be read from it, and errors are told."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lrcore.analysis.pose_uncertainty import Uncertainty
from lrcore.maps.local_resolution import LocalResolution
from lrcore.records import Progress, Step, Volume
from lrcore.refinement.job import Job
from lrwidgets import plots
from lrwidgets.gui.motion_surface import motion_surfaces_of
from lrwidgets.jupyter import InspectWidget
from lrwidgets.jupyter.figure_view import figure_axes_data, render_figure
from lrwidgets.jupyter.inspect import MAPS, SPECIAL
from lrwidgets.plots.catalogue import FIGURES, SDS
from lrwidgets.session import step_analysis
from lrwidgets.session.session import Session
from tests.fakes import PIXEL, FakeEngine, make_job
from tests.lrwidgets.jupyter.widgets import classes_of, opened


@pytest.fixture
def session(session: Session) -> Session:
    session.run(2, wait=True)
    return session


@pytest.fixture
def inspect(session: Session) -> Iterator[InspectWidget]:
    yield from opened(InspectWidget(session))


def settle(inspect: InspectWidget) -> None:
    """Wait for all three of its threads."""
    assert inspect.publisher.flush(60)
    assert inspect.slow.flush(60)
    assert inspect.flush(60)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Volume]:
    """Local resolution in no time: 4 Å at the left to 6 Å at the right. What it was asked of."""
    asked: list[Volume] = []

    def local_resolution(first: Volume, second: Volume, mask: Volume, **_: Any) -> Iterator[Any]:
        asked.append(mask)
        yield Progress(0, "local resolution", 1, 2)
        data = np.broadcast_to(np.linspace(4, 6, first.box, dtype=np.float32), first.data.shape)
        yield LocalResolution(Volume(data, PIXEL), np.zeros((0, 3), int), np.zeros(0), (4.5, 5.0, 5.5), 20.0, 5.0)

    monkeypatch.setattr(step_analysis, "estimate_local_resolution", local_resolution)
    return asked


def test_before_the_first_step_there_is_a_sentence() -> None:
    with Session(make_job(), engine=FakeEngine()) as session:
        inspect = InspectWidget(session)
        inspect.figure_choice.value = "History"
        settle(inspect)
        assert "run a step" in inspect.message.value
        session.run(1, wait=True)
        settle(inspect)
        assert inspect.figure.title == FIGURES["History"][1], "it shows as soon as there is something"
        inspect.close()


@pytest.mark.parametrize("what", [*FIGURES, "Before / after"])
def test_every_figure_is_drawn_and_names_its_data(inspect: InspectWidget, session: Session, what: str) -> None:
    session.load_step()[1].half_maps.first.data[:] += 1  # a map with power in every shell, for Guinier
    inspect.figure_choice.value = what
    settle(inspect)
    if "too few to fit" not in inspect.message.value:
        assert inspect.message.value == ""
        assert inspect.figure.png.startswith(b"\x89PNG")
        assert inspect.figure.title
        assert eval(inspect.figure.code, {"session": session}) is not None


@pytest.mark.parametrize("what", ["FSC", "Before / after", "Motion"])
def test_the_code_names_the_step_that_is_shown(inspect: InspectWidget, session: Session, what: str) -> None:
    early = session.path()[1].id
    settle(inspect)
    inspect.step.value, inspect.figure_choice.value = early, what
    settle(inspect)
    assert repr(early) in inspect.figure.code


def test_the_other_half_is_asked_and_the_figure_has_its_answer(
    inspect: InspectWidget, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uncertainty(job: Job, first: Step, last: Step, *_: object) -> Iterator[Progress | Uncertainty]:
        n = len(job.particles)
        yield Progress(last.iteration, "uncertainty", n, n)
        yield Uncertainty(4.0 * last.expectation.covariance, np.zeros((n, 5)), np.full(n, 90.0))

    monkeypatch.setattr("lrwidgets.session.pose_uncertainty.uncertainty", uncertainty)
    inspect.figure_choice.value = "Uncertainty"
    settle(inspect)
    before = inspect.figure.png
    assert inspect.figure.code == f"session.results(){SDS}"
    inspect.validate.click()
    settle(inspect)
    settle(inspect)
    assert inspect.message.value == ""
    assert inspect.figure.png != before
    drawn, searched = (session.results()[name]["rotation_sd"].values for name in ("uncertainty", "particles"))
    assert np.allclose(drawn, 2 * searched[-1])
    assert np.array_equal(eval(inspect.figure.code, {"session": session})["rotation_sd"].values, drawn)
    inspect.figure_choice.value = "History"
    settle(inspect)
    assert inspect.validate not in inspect.choices.children


def test_a_figure_that_is_old_is_dimmed_until_the_new_one_is_there(
    inspect: InspectWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(inspect)
    assert inspect.figure.busy == ""
    gate = threading.Event()

    def waiting(*_: Any, **__: Any) -> Iterator[Any]:
        gate.wait(30)
        yield from ()

    monkeypatch.setattr(step_analysis, "estimate_local_resolution", waiting)
    inspect.figure_choice.value = "Local resolution"
    assert inspect.figure.busy == "Local resolution …"
    gate.set()
    settle(inspect)
    assert "no sampling point" in inspect.message.value
    assert inspect.figure.busy == "", "what has failed is not waited for"
    inspect.figure_choice.value = "Slices"
    settle(inspect)
    assert inspect.body.children == (inspect.view.widget,)
    assert inspect.waiting.value == ""


def test_the_motion_is_drawn_and_the_start_has_none(inspect: InspectWidget, session: Session) -> None:
    inspect.figure_choice.value = "Motion"
    settle(inspect)
    assert inspect.message.value == ""
    assert inspect.figure.png.startswith(b"\x89PNG")
    names: dict[str, Any] = {"session": session}
    exec(inspect.figure.code, names)
    assert names["motions"].sizes["particle"] <= 40
    inspect.step.value = session.path()[0].id
    settle(inspect)
    assert "run an iteration" in inspect.message.value


def test_a_step_is_chosen_and_stays_chosen(inspect: InspectWidget, session: Session) -> None:
    settle(inspect)
    one = session.state.tree[1].id
    inspect.step.value = one
    settle(inspect)
    before = inspect.figure.png
    session.step(wait=True)
    settle(inspect)
    assert inspect.step.value == one
    assert inspect.figure.png == before
    inspect.step.value = ""
    settle(inspect)
    assert inspect.figure.png != before


def test_it_follows_the_present_step(inspect: InspectWidget, session: Session) -> None:
    settle(inspect)
    before = inspect.figure.png
    session.step(wait=True)
    settle(inspect)
    assert inspect.figure.png != before
    assert len(inspect.step.options) == 1 + len(session.state.tree)


def test_pairs_of_maps_go_to_the_slices(inspect: InspectWidget) -> None:
    inspect.figure_choice.value = "Slices"
    settle(inspect)
    slices = inspect.view.slices
    assert (slices.names, slices.mode) == (["before", "after"], "blend")
    inspect.maps.value = MAPS[1]
    settle(inspect)
    assert (slices.names, slices.mode) == (["half A", "half B"], "flicker")
    assert len(slices.volume) == len(slices.second) == 12**3


def test_local_resolution_is_measured_once_for_a_step(inspect: InspectWidget, measured: list[Volume]) -> None:
    inspect.figure_choice.value = "Local resolution"
    settle(inspect)
    assert inspect.figure.title == "Local resolution"
    assert "median 5.00 Å" in inspect.message.value
    inspect.figure_choice.value, inspect.maps.value = "Slices", MAPS[2]
    settle(inspect)
    assert inspect.view.slices.mode == "colour"
    assert len(measured) == 1


def test_the_surface_is_coloured_by_local_resolution(inspect: InspectWidget, measured: list[Volume]) -> None:
    pytest.importorskip("k3d")
    pytest.importorskip("skimage")
    inspect.figure_choice.value = "Surface"
    settle(inspect)
    (plot,) = inspect.body.children
    (mesh,) = plot.objects
    assert mesh.vertices.shape[1] == 3
    assert np.allclose(mesh.attribute, 4 + 2 * (np.rint(mesh.vertices[:, 0] / PIXEL) + 6) / 11, atol=0.1)


def test_what_cannot_be_measured_is_told(inspect: InspectWidget) -> None:
    inspect.figure_choice.value = "Local resolution"
    settle(inspect)
    assert "half the box" in inspect.message.value
    inspect.figure_choice.value = "FSC"
    settle(inspect)
    assert inspect.message.value == ""


def test_a_comparison_is_shown_and_another_may_be_chosen(inspect: InspectWidget, session: Session) -> None:
    settle(inspect)
    start, one, two = (node.id for node in session.state.tree)
    inspect.compare(session.compare(start, two))
    settle(inspect)
    assert inspect.figure_choice.value == "Compare"
    assert "iteration 0 → 2" in inspect.figure.title
    inspect.other.value = one
    settle(inspect)
    assert "iteration 0 → 1" in inspect.figure.title


def test_controls_can_be_found(inspect: InspectWidget) -> None:
    settle(inspect)
    assert {"lrw-inspect-what", "lrw-inspect-step", "lrw-inspect-figure", "lrw-message"} <= classes_of(inspect.widget)
    assert [*FIGURES, *SPECIAL] == list(inspect.figure_choice.options)


def test_a_figure_can_be_read_where_it_is_drawn(session: Session) -> None:
    """The frame of every axis, as shares of the picture, and its curves and bars as they were drawn."""
    tree = session.results()
    figure = plots.fsc(tree)
    render_figure(figure, "png")
    axes = figure_axes_data(figure)
    assert len(axes) == 3
    left, top, width, height = axes[0]["frame"]
    assert 0 < left < left + width < axes[1]["frame"][0] < 1
    assert 0 < top < top + height < 1
    assert axes[0]["x"][0] == "spatial frequency, 1/Å"
    curve = next(series for series in axes[0]["series"] if series["label"] == "masked")
    assert np.allclose(curve["y"], tree["fsc"]["masked"].values[-1], rtol=1e-4)
    bars = plots.changes(tree)
    render_figure(bars, "png")
    (histogram,) = [one for one in figure_axes_data(bars)[0]["series"] if one["label"] == "bar"]
    assert sum(histogram["y"]) == 40
    sphere = plots.directions(tree)
    render_figure(sphere, "png")
    (axis,) = figure_axes_data(sphere)
    assert axis["cells"]["columns"] == 36
    assert sum(axis["cells"]["values"]) == 40


def test_svg_is_drawn_when_it_is_wished_for(inspect: InspectWidget) -> None:
    settle(inspect)
    assert inspect.figure.svg == b""
    inspect.figure.request = "svg 1"
    settle(inspect)
    assert b"<svg" in inspect.figure.svg
    inspect.figure_choice.value = "History"
    settle(inspect)
    assert inspect.figure.svg == b"", "it was of another figure"


def test_the_body_swings_along_its_motion(inspect: InspectWidget, session: Session) -> None:
    pytest.importorskip("k3d")
    pytest.importorskip("skimage")
    for half in (session.load_step()[1].half_maps.first, session.load_step()[1].half_maps.second):
        half.data[4:8, 4:8, 4:8] += 5.0
    inspect.figure_choice.value = "Motion in 3D"
    settle(inspect)
    assert inspect.message.value == ""
    (box,) = inspect.body.children
    plot, (play, _) = box.children[0], box.children[1].children
    frames = plot.objects[0].vertices
    assert len(frames) == play.max + 1 == 24
    shown = motion_surfaces_of(session, session.state.node, 1)
    assert np.allclose(frames["0"], shown.body[0])
    assert np.allclose(frames["12"], shown.body[12])
    assert np.allclose(frames["13"], shown.body[11]), "and back"
