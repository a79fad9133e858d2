"""FulcrumWidget without a browser: one point in every frame, moved by hand, by text and by the session."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lrcore import masks
from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Volume
from lrwidgets.jupyter.fulcrum import FulcrumWidget
from lrwidgets.session.session import Session
from tests.fakes import BOX, PIXEL, FakeEngine, make_job
from tests.lrwidgets.jupyter.widgets import by_hand, of_class, opened

ORIGIN = (10.0, -4.0, 2.5)
HALF = BOX // 2 * PIXEL


@pytest.fixture
def session() -> Iterator[Session]:
    job = make_job()
    mask = replace(job.mask, header_origin_A=ORIGIN)
    with Session(replace(job, mask=mask), engine=FakeEngine()) as session:
        yield session


@pytest.fixture
def widget(session: Session) -> Iterator[FulcrumWidget]:
    yield from opened(FulcrumWidget(session))


def drag(widget: FulcrumWidget, voxel: list[float]) -> None:
    """As the browser does."""
    widget.view.slices.point = voxel
    assert widget.flush()


def shown(widget: FulcrumWidget) -> Any:
    assert widget.flush()
    return widget.view.slices


def click(widget: FulcrumWidget, name: str) -> None:
    of_class(widget.widget, f"lrw-fulcrum-{name}").click()
    assert widget.flush()


def test_it_begins_where_the_session_is(widget: FulcrumWidget, session: Session) -> None:
    middle = masks.centre_of_mass(session.mask.data) * PIXEL
    assert widget.text == "mask"
    assert widget.point_A == pytest.approx(middle)
    assert widget.view.slices.point == pytest.approx(middle / PIXEL + BOX // 2)
    assert widget._field.value == "mask"
    assert "in use: mask centre</div>" in widget._readout.value
    assert not widget.view.slices.point_fixed


def test_dragged_applied_and_read_by_the_session(widget: FulcrumWidget, session: Session) -> None:
    drag(widget, [7.0, 3.5, 6.2])
    assert widget.text == "7.0, 3.5, 6.2 px"
    assert widget._field.value == widget.text
    assert widget.point_A == pytest.approx([2.5, -6.25, 0.5])
    assert "in use: mask centre. Not applied yet" in widget._readout.value
    assert session.spec.fulcrum == "mask"
    click(widget, "apply")
    assert session.spec.fulcrum == "7.0, 3.5, 6.2 px"
    assert "in use: 7.0, 3.5, 6.2 px</div>" in widget._readout.value


@pytest.mark.parametrize(
    ("typed", "text", "point_A"),
    [
        ("7, 3.5, 6 px", "7, 3.5, 6 px", (PIXEL, -2.5 * PIXEL, 0.0)),
        ("17.5, 10, 15 A", "17.5, 10, 15 A", (17.5 - HALF, 10 - HALF, 15 - HALF)),
        ("2.5, -5, 0 centre", "17.5, 10.0, 15.0 A", (2.5, -5.0, 0.0)),
        ("27.5, 6, 17.5 map", "27.5, 6, 17.5 map", (2.5, -5.0, 0.0)),
        ("box", "box", (0.0, 0.0, 0.0)),
        ("  mask ", "mask", None),
    ],
)
def test_typed_in_every_frame(typed: str, text: str, point_A: Any, widget: FulcrumWidget, session: Session) -> None:
    widget._field.value = typed
    assert widget.flush()
    expected = point_A or tuple(masks.centre_of_mass(session.mask.data) * PIXEL)
    assert widget.text == text
    assert widget.point_A == pytest.approx(expected)
    assert shown(widget).point == pytest.approx(np.array(expected) / PIXEL + BOX // 2)
    assert str(widget.message.value) == ""
    widget.apply()
    assert session.spec.fulcrum == text


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("px", "7.0, 4.0, 6.0 px"),
        ("A", "17.5, 10.0, 15.0 A"),
        ("centre", "17.5, 10.0, 15.0 A"),
        ("map", "27.5, 6.0, 17.5 map"),
    ],
)
def test_a_dragged_point_is_written_in_the_unit_chosen(unit: str, text: str, widget: FulcrumWidget) -> None:
    drag(widget, [7.0, 4.0, 6.0])
    widget._unit.value = unit
    assert widget.flush()
    assert widget.text == text
    assert widget._field.value == ("2.5, -5.0, 0.0 centre" if unit == "centre" else text)
    assert widget.point_A == pytest.approx((2.5, -5.0, 0.0))
    drag(widget, [5.0, 4.0, 6.0])
    assert widget.point_A == pytest.approx((-2.5, -5.0, 0.0))


@pytest.mark.parametrize("typed", ["here", "1, 2 px", "1, 2, 3", "1, 2, 3 nm", "1, 2-1, 3 px", "1, x, 3 centre"])
def test_what_cannot_be_read_is_told_and_changes_nothing(typed: str, widget: FulcrumWidget) -> None:
    widget._field.value = typed
    assert widget.flush()
    assert "write mask, box, estimate, or" in widget.message.value
    assert widget.text == "mask"


@pytest.mark.filterwarnings("ignore:fulcrum")
def test_a_fulcrum_outside_the_box_is_doubted_and_one_far_away_refused(widget: FulcrumWidget, session: Session) -> None:
    widget.set("-2, 5, 5 px")
    click(widget, "apply")
    assert "lies outside the box" in widget.message.value
    assert session.spec.fulcrum == "-2, 5, 5 px"
    widget.set("99999, 5, 5 px")
    click(widget, "apply")
    assert "from the centre of a box" in widget.message.value
    assert session.spec.fulcrum == "-2, 5, 5 px"
    widget.set("6, 5, 5 px")
    click(widget, "apply")
    assert "Fulcrum: 6, 5, 5 px (from the next iteration)" in widget.message.value


def test_snapped(widget: FulcrumWidget) -> None:
    click(widget, "box")
    assert (widget.text, widget.point_A) == ("box", (0.0, 0.0, 0.0))
    click(widget, "mask")
    assert widget.text == "mask"
    assert widget._to_estimate.layout.display == "none"
    widget.suggest((5.0, -2.5, 0.0), np.diag([4.0, 9.0, 25.0]))
    assert widget.flush()
    assert widget._to_estimate.layout.display is None
    (mark,) = widget.view.slices.marks
    assert mark["centre"] == [8.0, 5.0, 6.0]
    assert np.diag(mark["covariance"]) * PIXEL**2 == pytest.approx([4, 9, 25])
    click(widget, "estimate")
    assert widget.text == "8.0, 5.0, 6.0 px"


def test_every_step_tells_of_the_hinge_once_for_all_widgets(
    widget: FulcrumWidget, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def estimated(job: Any, step: Any, before: Any) -> Any:
        asked.append(step.iteration)
        place = np.array([2.5, 5.0, -2.5 * step.iteration])
        return SimpleNamespace(
            overall=FulcrumEstimate(
                place, np.diag([1.0, 4.0, 9.0]), np.zeros((0, 3)), 0.02, 0.5, 0.001, 0.05, 4e-4 * np.eye(3), 1.0
            )
        )

    monkeypatch.setattr("lrwidgets.session.step_analysis.estimate_motion", estimated)
    session.step(wait=True)
    assert widget.flush()
    assert widget.text == "mask"
    assert "Estimated from motion: 7.0, 8.0, 5.0 px (" in widget._readout.value
    assert "± 3.0 Å (worst direction)" in widget._readout.value
    assert widget.view.slices.marks[0]["centre"] == [7.0, 8.0, 5.0]
    other = FulcrumWidget(session)
    assert other.flush()
    assert "7.0, 8.0, 5.0 px" in other._readout.value
    other.close()
    assert asked == [1]
    session.step(wait=True)
    assert widget.flush()
    assert asked == [1, 2]
    click(widget, "estimate")
    assert widget.text == "7.0, 8.0, 4.0 px"


def test_what_a_turn_means(widget: FulcrumWidget, session: Session) -> None:
    """Against every voxel of the mask, turned: none moves further than is said, about an axis across it just as far."""
    click(widget, "box")
    by_hand(widget._angle, 12.0)
    assert widget.flush()
    inside = (np.argwhere(session.mask.data > 0)[:, ::-1] - BOX // 2) * PIXEL
    far = inside[np.linalg.norm(inside, axis=1).argmax()]
    across = np.cross(far, [0.0, 0.0, 1.0])
    turn = Rotation.from_rotvec(np.radians(12) * across / np.linalg.norm(across))
    moved = np.linalg.norm(turn.apply(inside) - inside, axis=1)
    words = widget._meaning.value
    assert f"by up to {moved.max():.1f} Å" in words
    assert words.startswith("12°")
    arc = widget.view.slices.arc
    assert arc["angle_deg"] == 12.0
    farthest = (np.array(arc["towards"]) - BOX // 2) * PIXEL
    assert np.linalg.norm(farthest) == pytest.approx(np.linalg.norm(far))
    centre = float(np.linalg.norm(masks.centre_of_mass(session.mask.data))) * PIXEL
    assert f"its centre by {2 * np.sin(np.radians(6)) * centre:.1f} Å" in words


@pytest.mark.filterwarnings("ignore:.*the soft edge")
def test_it_follows_the_session(widget: FulcrumWidget, session: Session) -> None:
    session.edit(fulcrum="box")
    session.stop(wait=True)
    assert widget.flush()
    assert (widget.text, widget.point_A) == ("box", (0.0, 0.0, 0.0))
    session.edit(fulcrum="mask")
    data = np.zeros((BOX,) * 3, np.float32)
    data[2:5, 2:5, 2:5] = 0.5
    data[3, 3, 3] = 1.0
    session.use_mask(Volume(data, PIXEL, ORIGIN))
    session.stop(wait=True)
    assert widget.flush()
    assert widget.point_A == pytest.approx((-3 * PIXEL,) * 3)
    grid = shown(widget).overlay_grid
    assert grid["start"] == [1, 1, 1]


def test_the_map_of_the_first_step_takes_the_place_of_the_mask(widget: FulcrumWidget, session: Session) -> None:
    assert widget.view.slices.names[0] == "mask"
    session.step(wait=True)
    assert widget.flush()
    assert widget.view.slices.names[0] == "map"
    maps = [session.load_step(node.id)[1].half_maps for node in session.path()]  # as far as the run was just then
    means = [0.5 * (halves.first.data + halves.second.data) for halves in maps]
    assert widget.view.volume is not None
    assert any(np.array_equal(widget.view.volume.data, mean) for mean in means)


def test_a_drag_is_not_answered_by_moving_the_point(widget: FulcrumWidget) -> None:
    """Else the point would run after the mouse."""
    points: list[list[float]] = []
    widget.view.slices.observe(lambda change: points.append(change["new"]), "point")
    for x in (3.0, 4.0, 5.0):
        drag(widget, [x, 4.0, 4.04])
    assert points == [[3.0, 4.0, 4.04], [4.0, 4.0, 4.04], [5.0, 4.0, 4.04]]


def test_closing_lets_go_of_the_session(session: Session) -> None:
    widget = FulcrumWidget(session)
    signals = (session.step_done, session.spec_changed, session.mask_changed)
    assert [len(signal) for signal in signals] == [1, 1, 1]
    widget.close()
    assert [len(signal) for signal in signals] == [0, 0, 0]
