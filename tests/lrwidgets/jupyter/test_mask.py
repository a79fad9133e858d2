"""MaskWidget without a browser: what it shows is what the recipe makes, and nothing that a person does is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore import io, masks
from lrcore.errors import InputError
from lrcore.records import HalfMaps, Volume
from lrwidgets.gui.mask_settings import MaskSettings
from lrwidgets.jupyter.mask import MaskWidget
from lrwidgets.jupyter.number import NumberControl
from lrwidgets.session.session import Session
from tests.fakes import BOX, PIXEL, FakeEngine, make_job, make_mask
from tests.lrwidgets.jupyter.browser import render
from tests.lrwidgets.jupyter.widgets import by_hand, of_class

pytestmark = pytest.mark.filterwarnings("ignore:.*the soft edge is")
N, APIX = 40, 2.0


def body() -> Volume:
    """Two balls of density, one of them weaker, in weak noise."""
    z, y, x = (np.indices((N, N, N)) - N // 2) * APIX
    data = sum(
        height / (1 + np.exp((np.sqrt((x - at) ** 2 + y**2 + z**2) - radius) / 2))
        for height, at, radius in ((1.0, -14.0, 12.0), (0.7, 16.0, 9.0))
    )
    noise = np.random.default_rng(0).normal(0, 0.02, (N, N, N))
    return Volume((data + noise).astype(np.float32), APIX, (3.0, 0.0, -5.0))


def large(n: int = 256) -> Volume:
    """A Gaussian body of a usual size in a box of 256, in noise."""
    x = (np.arange(n, dtype=np.float32) - n // 2) / 30
    line = np.exp(-x * x)
    noise = np.random.default_rng(0).standard_normal((n, n, n), np.float32)
    return Volume(line[:, None, None] * line[:, None] * line + np.float32(0.02) * noise, 1.1)


Make = Callable[..., MaskWidget]


@pytest.fixture
def make() -> Iterator[Make]:
    """`make(source)` is a widget that has come to rest; every one is closed in the end."""
    made: list[MaskWidget] = []

    def build(source: Volume | Session, **options: Any) -> MaskWidget:
        made.append(MaskWidget(source, **options))
        assert made[-1].flush()
        return made[-1]

    yield build
    for widget in made:
        widget.close()


@pytest.fixture
def session() -> Iterator[Session]:
    job = make_job()
    random = np.random.default_rng(3)
    maps = [Volume(random.normal(size=(BOX,) * 3).astype(np.float32), PIXEL) for _ in (1, 2)]
    with Session(type(job)(job.particles, job.mask, job.spec, HalfMaps(*maps)), engine=FakeEngine()) as session:
        yield session


def shown(widget: MaskWidget) -> np.ndarray:
    """The mask that the browser has, on the grid of the map, from a whole one."""
    slices = widget.view.slices
    grid, out = slices.overlay_grid, np.zeros((slices.box,) * 3)
    assert grid["step"] == 1
    block = tuple(slice(int(s), int(s) + n) for s, n in zip(grid["start"][::-1], grid["shape"][::-1], strict=True))
    out[block] = np.frombuffer(slices.overlay, np.uint8).reshape(grid["shape"][::-1]) / 255
    return out


def move(widget: MaskWidget, **values: Any) -> None:
    """As the browser does: a control gets a value."""
    for name, value in values.items():
        by_hand(widget._controls[name], value)
    assert widget.flush()


def message(widget: MaskWidget) -> str:
    assert widget.flush()
    return str(widget.message.value)


def click(widget: MaskWidget, name: str) -> None:
    """Press the button of a class."""
    of_class(widget.widget, f"lrw-mask-{name}").click()


def test_it_shows_what_it_makes(make: Make) -> None:
    volume = body()
    widget = make(volume)
    assert widget.recipe == masks.MaskRecipe(threshold="auto", components=1, dilate_A=3.0, soft_A=15.0)
    expected = masks.make_mask(volume, masks.MaskRecipe())
    assert np.array_equal(widget.mask.data, expected.mask)
    assert widget.mask.header_origin_A == volume.header_origin_A
    assert np.abs(shown(widget) - expected.mask).max() <= 0.5 / 255 + 1e-6
    assert widget._controls["threshold"].value == pytest.approx(expected.threshold)
    assert "✓ values lie between 0 and 1" in widget.facts.value
    assert sum(widget._controls["threshold"].counts) == pytest.approx(N**3, rel=0.05)
    assert message(widget) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 0.5),
        ("lowpass_A", 8.0),
        ("components", 0),
        ("dilate_A", -2.0),
        ("soft_A", 6.0),
        ("fill", True),
        ("invert", True),
        ("resolution_A", 3.0),
    ],
)
def test_every_control_has_its_part_in_the_mask(name: str, value: Any, make: Make) -> None:
    volume = body()
    widget = make(volume)
    move(widget, **{name: value})
    more = {"found": False} if name == "threshold" else {}
    assert widget.settings == MaskSettings(**{name: value}, **more)
    expected = masks.make_mask(volume, widget.recipe).mask
    assert np.array_equal(widget.mask.data, expected)
    assert np.abs(shown(widget) - expected).max() <= 0.5 / 255 + 1e-6
    assert widget._controls["found"].value == (name != "threshold")


def test_a_control_makes_room_for_what_is_set(make: Make) -> None:
    widget = make(body())
    widget.set(soft_A=95.0, lowpass_A=70.0)
    assert [widget._controls[name].value for name in ("soft_A", "lowpass_A")] == [95.0, 70.0]
    assert widget.flush()
    assert np.array_equal(widget.mask.data, masks.make_mask(body(), widget.recipe).mask)


def test_the_histogram_follows_the_low_pass_and_nothing_else(make: Make) -> None:
    widget = make(body())
    counts: list[list[int]] = []
    threshold = widget._controls["threshold"]
    threshold.observe(lambda change: counts.append(change["new"]), "counts")
    for value in (4.0, 6.0, 8.0):
        move(widget, soft_A=value)
    assert counts == []
    for value in (9.0, 8.0, 7.0, 6.0):  # faster than they can be shown
        by_hand(widget._controls["lowpass_A"], value)
    assert widget.flush()
    low, high = threshold.low, threshold.high
    filtered = masks.lowpass(body().data, APIX, 6.0)
    assert high == pytest.approx(filtered.max())
    assert counts[-1] == np.histogram(filtered, len(counts[-1]), (low, high))[0].tolist()


def test_a_large_map_is_shown_coarse_and_then_whole(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrwidgets.jupyter.mask.COARSE", N // 2)
    widget = make(body())
    steps: list[float] = []
    widget.view.slices.observe(lambda _: steps.append(widget.view.slices.overlay_grid["step"]), "seq")
    move(widget, threshold=0.4)
    assert steps == [2.0, 1.0]
    assert np.abs(shown(widget) - widget.mask.data).max() <= 0.5 / 255 + 1e-6


@pytest.mark.alone
def test_two_hundred_moves_leave_the_last_one_and_nothing_behind(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fast as they can come; a callback only asks, and few of the masks between are made."""
    monkeypatch.setattr("lrwidgets.jupyter.mask.COARSE", N // 2)
    widget = make(body())
    asked = widget.view.slices.seq
    slowest = 0.0
    for threshold in np.linspace(0.1, 0.6, 200):
        began = time.perf_counter()
        by_hand(widget._controls["threshold"], float(threshold))
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(0.002)
    assert widget.flush()
    assert widget.settings.threshold == 0.6
    assert np.array_equal(widget.mask.data, masks.make_mask(body(), widget.recipe).mask)
    assert np.abs(shown(widget) - widget.mask.data).max() <= 0.5 / 255 + 1e-6
    assert widget.view.slices.seq - asked < 50
    assert slowest < 0.1
    assert message(widget) == ""
    assert len(widget._history) <= 3


@pytest.mark.alone
def test_the_overlay_follows_a_slider_within_150_ms_in_a_box_of_256(make: Make) -> None:
    """Measured: from the slider's value in the kernel to the overlay's bytes on their way to the browser.

    That is the coarse mask, which is what a drag shows. The best of a few, for the machine may be busy with else.
    """
    widget = make(large())
    seen: list[float] = []
    widget.view.slices.observe(lambda _: seen.append(time.perf_counter()), "seq")
    took: list[float] = []
    for threshold in np.linspace(0.3, 0.5, 6):
        seen.clear()
        began = time.perf_counter()
        by_hand(widget._controls["threshold"], float(threshold))
        while not seen:
            time.sleep(0.001)
        took.append(seen[0] - began)
        assert widget.view.slices.overlay_grid["step"] == 2.0
        time.sleep(0.1)
    assert min(took) < 0.15, took


def test_nothing_changes_without_a_hand(make: Make) -> None:
    """A browser returns what it shows, rounded to steps or cut off at ends that have changed meanwhile."""
    widget = make(body(), resolution_A=6.0)
    before, mask = widget.settings, widget.mask.data
    for name, control in widget._controls.items():
        if isinstance(control.value, float):
            control.set_state({"value": control.value - 0.4})
            control.set_state({"value": control.low if hasattr(control, "low") else control.min})
        assert widget.flush()
        assert widget.settings == before, name
    assert np.array_equal(widget.mask.data, mask)


def test_the_threshold_stays_when_the_automatic_one_is_turned_off(make: Make) -> None:
    widget = make(body())
    mask = widget.mask.data
    move(widget, found=False)
    assert not widget.settings.found
    assert np.array_equal(widget.mask.data, mask)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("soft_A", "-4", "soft edge, Å: -4 typed: type 0 or more"),
        ("resolution_A", "-3", "type 0 or more"),
        ("components", "1.5", "type a whole number"),
        ("lowpass_A", "far", "type a number"),
        ("threshold", "", "type a number"),
    ],
)
def test_a_number_that_cannot_be_is_refused_and_nothing_changes(name: str, text: str, words: str, make: Make) -> None:
    widget = make(body())
    before, shown = widget.settings, widget._controls[name].value
    move(widget, **{name: text})
    assert words in message(widget)
    assert widget.settings == before
    assert widget._controls[name].value == shown
    move(widget, soft_A="9 Å")
    assert (widget.settings.soft_A, message(widget)) == (9.0, "")


def test_undo_and_redo(make: Make) -> None:
    widget = make(body())
    for dilate in (5.0, 7.0):
        move(widget, dilate_A=dilate)
    values = []
    for name in ("undo", "undo", "undo", "redo", "redo", "redo"):
        click(widget, name)
        assert widget.flush()
        values.append(widget.settings.dilate_A)
        assert widget._controls["dilate_A"].value == values[-1]
    assert values == [5.0, 3.0, 3.0, 5.0, 7.0, 7.0]
    click(widget, "undo")
    move(widget, soft_A=9.0)
    click(widget, "redo")
    assert widget.flush()
    assert (widget.settings.dilate_A, widget.settings.soft_A) == (5.0, 9.0)


def test_shapes_of_the_slices_become_shapes_of_the_mask(make: Make) -> None:
    widget = make(body())
    drawn = [
        {"kind": "sphere", "centre": [28, 20, 20], "radius": 6.0},
        {"kind": "box", "centre": [10.5, 20, 21], "size": [4, 6, 8]},
    ]
    widget.view.slices.shapes = drawn[:1]
    assert widget.flush()
    assert widget.settings.drawn == (masks.Sphere((16.0, 0.0, 0.0), 12.0),)
    assert widget.settings.region == "within"
    widget.view.slices.shapes = drawn
    move(widget, region="shapes", dilate_A=0.0, soft_A=0.0)
    assert widget.settings.drawn[1] == masks.Cuboid((-19.0, 0.0, 2.0), (8.0, 12.0, 16.0))
    parts = [masks.sphere_mask(N, APIX, (16, 0, 0), 12.0), masks.box_mask(N, APIX, (-19, 0, 2), (8, 12, 16))]
    assert np.array_equal(widget.mask.data, np.maximum(*parts))
    click(widget, "clear")
    assert widget.flush()
    assert (widget.view.slices.shapes, widget.settings.region) == ([], "dense")
    click(widget, "undo")
    assert widget.flush()
    assert widget.view.slices.shapes == drawn


def test_the_part_at_the_crosshair(make: Make) -> None:
    widget = make(body())
    move(widget, threshold=0.5, lowpass_A=0.0, dilate_A=0.0, soft_A=0.0)
    assert widget.mask.data[N // 2, N // 2, N // 2 - 7] == 1
    widget.view.slices.position = [N // 2 + 8, N // 2, N // 2]
    widget._at_cross.value = True
    assert widget.flush()
    assert widget.settings.at_A == (16.0, 0.0, 0.0)
    assert widget.mask.data[N // 2, N // 2, N // 2 - 7] == 0
    assert widget.mask.data[N // 2, N // 2, N // 2 + 8] == 1


def test_models_and_other_masks(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("gemmi")
    volume = body()
    widget = make(volume)
    place = np.array([16.0, 0.0, 0.0]) + N // 2 * APIX + np.array(volume.header_origin_A)
    line = "ATOM      1  CA  ALA A   1    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           C\nEND\n"
    (tmp_path / "model.pdb").write_text(line.format(*place))
    widget._model.value, widget._selection.value = str(tmp_path / "model.pdb"), "//A"
    click(widget, "model-add")
    assert widget.flush()
    assert widget.settings.region == "within"
    move(widget, region="shapes", dilate_A=0.0, soft_A=0.0)
    assert np.array_equal(widget.mask.data, masks.sphere_mask(N, APIX, (16, 0, 0), 5.0))
    other = masks.sphere_mask(N, APIX, (0, 0, 0), 10.0, 4.0)
    io.write_volume(tmp_path / "other.mrc", Volume(other, APIX, volume.header_origin_A))
    widget._word.value, widget._other.value = "or", str(tmp_path / "other.mrc")
    click(widget, "join")
    assert widget.flush()
    assert np.array_equal(widget.mask.data, np.maximum(masks.sphere_mask(N, APIX, (16, 0, 0), 5.0), other))
    assert "model.pdb //A" in widget._list.value
    assert "or other.mrc" in widget._list.value


def test_other_masks_are_coarse_where_the_map_is(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lrwidgets.jupyter.mask.COARSE", N // 2)
    widget = make(body())
    io.write_volume(tmp_path / "all.mrc", Volume(masks.sphere_mask(N, APIX, (0, 0, 0), 46.0, 8.0), APIX))
    widget.join("subtract", tmp_path / "all.mrc")
    assert widget.flush()
    assert message(widget) == ""
    assert widget.mask.data.max() < 1e-3
    assert "⚠ the mask is empty" in widget.facts.value


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda w: move(w, threshold=99.0), "no voxel of the map is above it"),
        (lambda w: move(w, region="shapes"), "there are no shapes yet"),
        (lambda w: move(w, dilate_A=-20.0), "nothing is left after this erosion"),
        (lambda w: click(w, "rule"), "type the target resolution"),
        (lambda w: click(w, "join"), "cannot be read"),
        (lambda w: click(w, "model-add"), "no such file"),
        (lambda w: w._path.set_trait("value", "/proc/none/mask.mrc") or click(w, "save"), "choose another place"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_the_widget_goes_on(act: Callable, words: str, make: Make) -> None:
    widget = make(body())
    widget._other.value = "none.mrc"
    widget._model.value = "none.pdb"
    act(widget)
    assert words in message(widget)
    widget.set(region="dense", dilate_A=4.0, threshold=0.4, found=False)
    assert message(widget) == ""
    assert np.array_equal(widget.mask.data, masks.make_mask(body(), widget.recipe).mask)


def test_the_rule_of_the_edge(make: Make) -> None:
    widget = make(body(), resolution_A=2.5)
    click(widget, "rule")
    assert widget.flush()
    assert widget.settings.soft_A == 12.5
    assert "✓ the soft edge is" in widget.facts.value


def test_it_is_saved(make: Make, tmp_path: Path) -> None:
    widget = make(body())
    widget._path.value = str(tmp_path / "mask.mrc")
    click(widget, "save")
    assert "wrote" in message(widget)
    saved = io.read_volume(tmp_path / "mask.mrc")
    assert np.array_equal(saved.data, widget.mask.data)
    assert saved.header_origin_A == pytest.approx(widget.mask.header_origin_A)


def test_a_mask_in_the_way_is_replaced_only_on_a_second_press(make: Make, tmp_path: Path) -> None:
    widget, path = make(body()), tmp_path / "mask.mrc"
    path.write_bytes(b"work of a week")
    widget._path.value = str(path)
    click(widget, "save")
    assert "mask.mrc exists: press save again" in message(widget)
    assert path.read_bytes() == b"work of a week"
    widget._path.value = str(tmp_path / "other.mrc")
    click(widget, "save")
    assert "wrote" in message(widget)
    widget._path.value = str(path)
    click(widget, "save")
    assert "press save again" in message(widget), "the question before was about another press"
    click(widget, "save")
    assert "wrote" in message(widget)
    assert np.array_equal(io.read_volume(path).data, widget.mask.data)


def test_a_mask_on_another_grid_is_refused(make: Make, session: Session) -> None:
    other = Volume(np.zeros((N // 2,) * 3, np.float32), APIX)
    with pytest.raises(InputError, match="the mask is 20³ but the map's box is 40"):
        MaskWidget(body(), mask=other)
    with pytest.raises(InputError, match="mask"):
        MaskWidget(session, mask=other)


def test_of_a_session_its_own_mask_is_shown_until_another_is_made(make: Make, session: Session) -> None:
    widget = make(session)
    own = make_mask().data
    assert np.abs(shown(widget) - own).max() <= 0.5 / 255 + 1e-6
    assert "mask from file" in widget.facts.value
    assert widget.mask is session.mask
    halves = session.job.half_maps
    assert halves is not None
    move(widget, lowpass_A=0.0, threshold=0.5, soft_A=5.0)
    mean = Volume(0.5 * (halves.first.data + halves.second.data), PIXEL)
    expected = masks.make_mask(mean, widget.recipe).mask
    assert np.array_equal(widget.mask.data, expected)
    assert np.array_equal(session.mask.data, own)
    click(widget, "apply")
    assert "in use from the next iteration" in message(widget)
    assert np.array_equal(session.mask.data, expected)
    for _ in range(len(widget._history)):
        click(widget, "undo")
    assert widget.flush()
    assert np.abs(shown(widget) - own).max() <= 0.5 / 255 + 1e-6


def test_a_mask_from_elsewhere_is_shown_as_long_as_nothing_is_set(make: Make, session: Session) -> None:
    widget, other = make(session), make(session)
    move(other, lowpass_A=0.0, threshold=0.5, soft_A=5.0)
    other.apply()
    assert other.flush()
    session.stop(wait=True)
    assert widget.flush()
    assert np.abs(shown(widget) - other.mask.data).max() <= 0.5 / 255 + 1e-6
    assert widget.mask is session.mask
    settings = other.settings
    session.use_mask(make_mask())
    session.stop(wait=True)
    assert other.flush()
    assert other.settings == settings
    assert other.mask is not session.mask


def test_a_session_without_a_map_has_one_from_its_first_step_on(make: Make) -> None:
    with Session(make_job(), engine=FakeEngine()) as session:
        widget = make(session)
        assert "there is no map yet" in message(widget)
        session.step(wait=True)
        assert widget.flush()
        assert widget.view.slices.box == BOX
        assert message(widget) == ""


def test_a_threshold_is_dragged_on_the_histogram(page: Any) -> None:
    counts = [900, 90, 9, 0, 3, 1]
    render(page, NumberControl(0.0, description="threshold", low=-1.0, high=5.0, step=0.5, counts=counts))
    page.wait_for_timeout(200)
    assert page.evaluate("() => model.saved") == [], "nothing is sent without a hand"
    box = page.locator(".lrw-histogram").bounding_box()
    x = [box["x"] + share * box["width"] for share in (0.25, 0.5)]
    sent = "() => Number(model.get('hand').text)"
    page.mouse.move(x[0], box["y"] + 20)
    page.mouse.down()
    assert page.evaluate(sent) == pytest.approx(0.5, abs=0.02)
    page.mouse.move(x[1], box["y"] + 20, steps=3)
    page.mouse.up()
    page.mouse.move(x[0], box["y"] + 20)
    assert page.evaluate(sent) == pytest.approx(2.0, abs=0.02)
    assert page.evaluate("() => model.saved.at(-1).names") == ["hand"]
    assert "threshold 2.0" in page.locator(".lrw-histogram").get_attribute("aria-label")
    inks = """([x, y]) => {
        const canvas = document.querySelector(".lrw-histogram");
        return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
    }"""
    low, high = (page.evaluate(inks, [round(share * box["width"]), 62]) for share in (0.08, 0.92))
    assert (low[:3], high[:3]) == ([0x8C] * 3, [0x56, 0xB4, 0xE9])  # below the threshold, and above it
    assert page.evaluate("() => { end(); return model.listeners(); }") == 0


def test_a_number_is_typed_or_moved_and_shows_what_the_kernel_answers(page: Any) -> None:
    render(page, NumberControl(0.3, description="soft edge, Å", low=0.0, high=80.0, step=0.5))
    box, slider = page.locator(".lrw-number-box"), page.locator(".lrw-number-range")
    assert (box.input_value(), page.evaluate("() => model.saved")) == ("0.3", [])
    box.fill("-4")
    box.press("Enter")
    assert page.evaluate("() => model.get('hand').text") == "-4"
    page.evaluate("() => model.set('seq', 1)")
    assert box.input_value() == "0.3", "the kernel has refused it"
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function("() => Number(model.get('hand').text) === 1")  # moves are sent every 50 ms


def test_closing_ends_the_threads_and_lets_go_of_the_session(session: Session) -> None:
    before = {thread.name for thread in threading.enumerate()}
    widget = MaskWidget(session)
    assert widget.flush()
    assert len(session.step_done) == 1
    widget.close()
    assert len(session.step_done) == 0
    assert {thread.name for thread in threading.enumerate()} <= before
    by_hand(widget._controls["threshold"], 0.01)  # a late message finds nobody
