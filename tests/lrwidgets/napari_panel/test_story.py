"""One person's work in the real viewer, sample to export. `LRW_SCREENSHOTS=DIR` keeps a picture of each stage."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox, QPushButton

from lrcore.io import read_particles, read_volume
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets import show_napari
from lrwidgets.napari_panel import layers, sample_data
from lrwidgets.napari_panel.mask_section import PAINT
from lrwidgets.napari_panel.panel import SessionPanel
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import settings_of_rank

FROZEN_S = 0.2
"""Longer than this the window never stands still while a step runs or is stopped."""
STOPPED_S = 3.0


class Heartbeat:
    """A timer of the window: how long it was kept from ticking."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setInterval(10)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now

    def begin(self) -> None:
        """Count from now on."""
        self.longest, self._last = 0.0, time.perf_counter()

    def stop(self) -> None:
        self._timer.stop()


class Person:
    """Sees the window, presses its buttons and waits."""

    def __init__(self, viewer, panel: SessionPanel) -> None:
        self.viewer, self.panel, self._shots = viewer, panel, 0

    def see(self, seconds: float = 0.1) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def until(self, condition: Callable[[], object], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            QApplication.processEvents()
            time.sleep(0.002)

    def press(self, name: str) -> None:
        self.panel.findChild(QPushButton, f"lrw-{name}").click()

    def tab(self, name: str) -> None:
        self.panel.tabs.setCurrentIndex(self.panel._index(name))
        self.see()

    def rest(self) -> None:
        assert self.panel.flush(60)
        self.see()

    def shoot(self, name: str) -> None:
        folder = os.environ.get("LRW_SCREENSHOTS")
        if folder:
            self.see(0.3)
            self._shots += 1
            path = Path(folder) / f"napari_{self._shots:02}_{name}.png"
            self.viewer.screenshot(str(path), canvas_only=False, flash=False)

    def on_canvas(self, layer) -> QPoint:
        """Where the first point of a layer is drawn."""
        visual = self.viewer.window._qt_viewer.canvas.layer_to_visual[layer]
        x, y, _, w = visual.node.get_transform("visual", "canvas").map([*layer.data[0][::-1], 1.0])
        return QPoint(round(x / w), round(y / w))


@pytest.fixture
def small_sample(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample, in fewer and smaller images."""
    from lrwidgets import example

    monkeypatch.setattr(example, "BOX", 40)
    monkeypatch.setattr(example, "PIXEL_A", 4.6)
    monkeypatch.setattr(example, "SNR", 0.2)
    folder = tmp_path_factory.mktemp("sample")
    monkeypatch.setattr(sample_data.tempfile, "gettempdir", lambda: str(folder))
    made = example.make_example(folder / sample_data.FOLDER, particles=400)
    assert made.particles.exists()
    return folder


@pytest.fixture
def person(make_napari_viewer, small_sample: Path) -> Iterator[Person]:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1280, 800)
    panel = SessionPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Local refinement")
    made = Person(viewer, panel)
    made.see()
    yield made
    session = panel.session
    panel.shut_down()
    if session is not None:
        session.close()


@pytest.mark.alone
def test_from_the_sample_to_the_export(person: Person, tmp_path: Path) -> None:
    viewer, panel = person.viewer, person.panel
    person.press("data-demo")
    person.until(lambda: panel.session is not None)
    person.rest()
    session = panel.session
    assert session is not None
    assert [layer.name for layer in viewer.layers] == ["map", "mask", "fulcrum"]
    person.shoot("sample")

    person.press("mask-make")  # a mask by threshold
    person.rest()
    mask = panel.sections["Mask"]
    whole = viewer.layers[layers.NEW_MASK].data.sum()
    mask.threshold.setValue(mask.threshold.value() * 1.6)
    person.rest()
    assert viewer.layers[layers.NEW_MASK].data.sum() < whole
    person.shoot("threshold")

    mask.set(lowpass_A=20.0, soft_A=20.0)  # given back to the body, by hand: erase the other one
    person.rest()
    person.press("mask-paint")
    person.rest()
    labels, body = viewer.layers[PAINT], session.mask.data > 0.5
    labels.data = np.where(body, 1, 0).astype(labels.data.dtype)
    middle = np.argwhere(body).mean(axis=0)
    labels.paint(middle, 1)
    assert labels.mode == "paint"
    person.press("mask-use-paint")
    person.rest()
    person.shoot("painted")
    before = session.mask
    person.press("mask-apply")
    person.rest()
    assert session.mask is not before
    assert np.corrcoef(session.mask.data.ravel(), before.data.ravel())[0, 1] > 0.8

    drag_in_3d(person, session)
    person.tab("Priors")
    slider = panel.sections["Priors"].form.controls["rotation_prior_sd_deg"]
    slider.setValue(6.0)
    person.rest()
    assert session.spec.rotation_prior_sd_deg == 6.0
    person.shoot("prior")

    two_steps(person, session)
    person.tab("Inspect")
    person.rest()
    assert panel.sections["Inspect"].figure.figure is not None
    person.shoot("fsc")
    person.press("inspect-local")
    person.until(lambda: layers.LOCAL in viewer.layers)
    person.rest()
    local = viewer.layers[layers.LOCAL]
    assert local.colorbar.visible
    assert 4.0 < np.median(local.vertex_values) < 40.0
    assert viewer.dims.ndisplay == 3
    person.shoot("local_resolution")
    viewer.dims.ndisplay = 2
    person.press("inspect-maps")
    person.rest()
    first, last = viewer.layers["before"], viewer.layers["after"]
    last.contrast_limits = (0.0, 0.5)
    assert tuple(first.contrast_limits) == (0.0, 0.5), "their contrast is one"

    asked_how_sure(person, session)
    swung(person)
    stopped_in_the_middle(person, session)
    rewound_and_branched(person, session)
    tried_and_compared(person, session)
    person.tab("Export")
    panel.sections["Export"].folder.setText(str(tmp_path / "out"))
    person.press("export-go")
    person.rest()
    assert len(read_particles(tmp_path / "out" / "particles.star")) == 400
    assert read_volume(tmp_path / "out" / "maps" / "map.mrc").box == 40
    person.shoot("exported")


def drag_in_3d(person: Person, session: Session) -> None:
    """Take the point with the mouse, and put it elsewhere; the session follows."""
    viewer, panel = person.viewer, person.panel
    person.tab("Fulcrum")
    for name in ("map", "mask"):
        viewer.layers[name].visible = False  # a surface in software takes seconds a frame
    viewer.dims.ndisplay = 3
    point = viewer.layers["fulcrum"]
    viewer.layers.selection.active, point.mode = point, "select"
    person.see(0.3)
    canvas, start, before = viewer.window._qt_viewer.canvas.native, person.on_canvas(point), point.data[0].copy()
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QTest.mouseMove(canvas, start)
    person.see()
    QTest.mousePress(canvas, left, none, start)
    for i in range(1, 9):
        QTest.mouseMove(canvas, start + QPoint(4 * i, 2 * i))
        person.see(0.03)
    QTest.mouseRelease(canvas, left, none, start + QPoint(32, 16))
    person.rest()
    assert np.linalg.norm(point.data[0] - before) > 2.0
    assert session.spec.fulcrum == layers.fulcrum_text(session.mask, point.data[0])
    assert panel.sections["Fulcrum"].text.text() == session.spec.fulcrum
    viewer.layers["map"].visible = True
    person.shoot("dragged")
    viewer.dims.ndisplay = 2
    viewer.layers["mask"].visible = True
    person.press("fulcrum-mask")
    person.rest()
    assert session.spec.fulcrum == "mask"


def rewound_and_branched(person: Person, session: Session) -> None:
    panel = person.panel
    person.tab("Run")
    run, (_, one, two) = panel.sections["Run"], (node.id for node in session.state.tree)
    run.choose(one)
    person.press("run-rewind")
    person.until(lambda: session.state.node == one)
    run.choose(two)
    session.edit(rotation_prior_sd_deg=3.0)
    person.press("run-branch")
    person.until(lambda: session.state.node == two)
    assert session.spec.rotation_prior_sd_deg == 6.0, "as that step was run"
    person.press("run-rewind")
    run.choose(one)
    person.press("run-rewind")
    person.until(lambda: session.state.node == one)
    person.press("run-step")
    person.until(lambda: len(session.state.tree) == 4 and session.state.phase == "idle")
    person.rest()
    assert run.tree.count() == 4
    assert session.state.tree[-1].parent == one
    person.shoot("branched")


def tried_and_compared(person: Person, session: Session) -> None:
    """A sweep over three widths of the prior, the best of which is used; and the present step beside the start."""
    person.tab("Sweep")
    sweep, tree = person.panel.sections["Sweep"], session.state.tree
    sweep.subset.setText("200")
    person.press("sweep-start")
    person.until(lambda: sweep.model.result is not None)
    person.rest()
    assert sweep.model.result["rank"].shape == (3,)
    person.press("sweep-use")
    assert session.spec.rotation_prior_sd_deg == settings_of_rank(sweep.model.result)["rotation_prior_sd_deg"]
    assert session.state.tree == tree
    person.shoot("swept")
    person.tab("Run")
    person.panel.sections["Run"].choose(tree[0].id)
    person.press("run-compare")
    person.until(lambda: person.panel.tabs.tabText(person.panel.tabs.currentIndex()) == "Inspect")
    person.rest()
    person.shoot("compared")


def two_steps(person: Person, session: Session) -> None:
    person.tab("Run")
    for iteration in (1, 2):
        person.press("run-step")
        person.until(lambda n=iteration: session.state.iteration == n and session.state.phase == "idle")
        person.rest()
    person.shoot("stepped")


def asked_how_sure(person: Person, session: Session) -> None:
    person.press("inspect-sure")
    person.until(lambda: "uncertainty" in session.results().children)
    person.until(lambda: person.panel.sections["Inspect"].figure_choice.currentText() == "Uncertainty")
    person.rest()
    person.shoot("uncertainty")


def swung(person: Person) -> None:
    person.press("inspect-swing")
    person.until(lambda: layers.MOTION in person.viewer.layers)
    person.rest()
    assert person.viewer.dims.ndisplay == 3
    ends = []
    for place in (0, 12):
        person.viewer.dims.set_point(0, place)
        person.rest()
        ends.append(person.viewer.layers[layers.MOTION]._view_vertices.copy())
        person.shoot(f"swing_{place}")
    assert ends[0].shape == ends[1].shape
    assert 1.0 < np.linalg.norm(ends[1] - ends[0], axis=1).mean() < 60.0
    person.viewer.layers.remove(layers.MOTION)
    assert person.viewer.dims.ndim == 3


def stopped_in_the_middle(person: Person, session: Session) -> None:
    """Stop while particles are searched: at rest soon, and the window never stands still."""
    person.tab("Run")
    beat = Heartbeat()
    person.see(0.5)
    beat.begin()
    person.press("run-step")
    person.until(lambda: session.state.stage == "search" and session.state.done > 0)
    asked = time.monotonic()
    person.press("run-stop")
    person.until(lambda: session.state.phase == "idle")
    took = time.monotonic() - asked
    person.see(0.3)
    beat.stop()
    print(f"idle {took:.2f} s after Stop; the window stood still for {1000 * beat.longest:.0f} ms at most")
    assert took < STOPPED_S
    assert beat.longest < FROZEN_S
    assert len(session.state.tree) == 3, "the unfinished step is dropped"


@pytest.mark.parametrize("answer", ["No", "Yes"])
def test_closing_the_viewer_over_a_run_asks(person: Person, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    panel, window = person.panel, person.viewer.window._qt_window
    person.press("data-demo")
    person.until(lambda: panel.session is not None)
    person.rest()
    session = panel.session
    assert session is not None
    asked: list[str] = []

    def question(_: object, __: str, text: str, *___: object) -> QMessageBox.StandardButton:
        asked.append(text)
        return getattr(QMessageBox.StandardButton, answer)

    monkeypatch.setattr(QMessageBox, "question", question)
    session.run()
    person.until(lambda: session.state.phase == "running" and session.state.done > 0)
    closed = window.close() if answer == "No" else not panel._guard.eventFilter(window, _close_event())
    assert asked == [
        "A refinement is running. Stop it at the next chunk of particles and close? Finished steps are kept."
    ]
    if answer == "No":
        assert not closed
        assert session.state.phase == "running"
        session.stop(wait=True)
    else:
        assert closed
        person.until(lambda: session.state.phase == "idle")
    assert window.isVisible() or answer == "Yes"


def _close_event():
    from qtpy.QtGui import QCloseEvent

    return QCloseEvent()


def test_a_session_is_shown_from_a_script(make_napari_viewer, tmp_path: Path) -> None:
    simulate_flexible_particle(tmp_path / "p", n=20, box=24, pixel_size_A=6.0, snr=0.2)
    viewer = make_napari_viewer()
    with Session.load(tmp_path / "p" / "particles.star", tmp_path / "p" / "mask_b.mrc") as session:
        assert show_napari(session, viewer) is viewer
        (dock,) = viewer.window.dock_widgets.values()
        panel = dock if isinstance(dock, SessionPanel) else dock.inner_widget()
        assert panel.session is session
        assert panel.flush()
        assert "fulcrum" in viewer.layers
        panel.shut_down()
