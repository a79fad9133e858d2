"""The panel on a mocked session and a viewer without a window: one session, seen twice, and nothing left behind."""

import gc
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QPushButton, QWidget

from lrcore import masks
from lrcore.analysis.advice.finding import Finding
from lrcore.errors import InputError
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.gui.export_model import EXPORT_FILE_NAMES
from lrwidgets.napari_panel import layers, mask_section
from lrwidgets.napari_panel.export_section import ExportSection
from lrwidgets.napari_panel.mask_section import PAINT, SHAPES, MaskSection
from lrwidgets.napari_panel.panel import SessionPanel
from lrwidgets.napari_panel.prior_section import PriorSection
from lrwidgets.napari_panel.run_section import RunSection
from lrwidgets.napari_panel.sweep_section import SweepSection
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import settings_of_rank
from tests.fakes import BOX, PIXEL, FakeEngine
from tests.lrwidgets.conftest import make_files
from tests.lrwidgets.napari_panel.panels import moved, press, settled


def test_map_mask_and_fulcrum_are_shown(panel: SessionPanel, session: Session) -> None:
    viewer = panel.scene.viewer
    assert [layer.name for layer in viewer.layers] == ["map", "mask", "fulcrum"]
    first, second = session.job.half_maps.first.data, session.job.half_maps.second.data
    assert np.allclose(viewer.layers["map"].data, masks.lowpass(0.5 * (first + second), PIXEL, 10.0))
    assert np.array_equal(viewer.layers["mask"].data, session.mask.data)
    assert np.allclose(viewer.layers["fulcrum"].data, layers.to_world(session.mask, moved(panel).point_A))


def test_the_point_and_the_session_follow_each_other_without_an_echo(panel: SessionPanel, session: Session) -> None:
    edits: list[RefineSpec] = []
    session.spec_changed.connect(edits.append)
    point = panel.scene.viewer.layers["fulcrum"]
    changes: list[object] = []
    point.events.data.connect(changes.append)
    volume = session.mask
    place = np.array(layers.to_world(volume, (3.0, -4.0, 5.5)))
    point.data = place[None]
    settled(panel, session)
    assert len(edits) == 1
    assert edits[0].fulcrum == layers.fulcrum_text(volume, place)
    assert moved(panel).text.text() == edits[0].fulcrum
    written = len(changes)
    assert np.allclose(point.data, place)
    session.edit(fulcrum="10, 11, 12.5 A")
    settled(panel, session)
    assert len(edits) == 2, "showing an edit is no edit"
    assert np.allclose(point.data, np.array([[12.5, 11, 10]]) + np.array(volume.header_origin_A)[::-1], atol=0.01)
    assert 0 < len(changes) - written <= 2, "the point is put once (changing, changed)"
    session.edit(fulcrum="box")
    settled(panel, session)
    assert np.allclose(point.data, layers.to_world(volume, (0.0, 0.0, 0.0)))
    assert len(edits) == 3


def test_a_second_point_takes_the_place_of_the_first(panel: SessionPanel, session: Session) -> None:
    point = panel.scene.viewer.layers["fulcrum"]
    new = np.array(layers.to_world(session.mask, (1.0, 2.0, 3.0)))
    point.add(new)
    settled(panel, session)
    assert point.data.shape == (1, 3)
    assert np.allclose(point.data, new, atol=0.01)


def test_a_fulcrum_that_cannot_be_is_refused_in_a_sentence(panel: SessionPanel, session: Session) -> None:
    section = moved(panel)
    section.text.setText("here")
    section.text.editingFinished.emit()
    settled(panel, session)
    assert "fulcrum 'here': write mask, box" in section.message.text()
    assert section.text.text() == session.spec.fulcrum == "mask"


def test_the_layer_may_be_thrown_away(panel: SessionPanel, session: Session) -> None:
    panel.scene.viewer.layers.remove("fulcrum")
    session.edit(fulcrum="box")
    settled(panel, session)
    point = panel.scene.viewer.layers["fulcrum"]
    assert np.allclose(point.data, layers.to_world(session.mask, (0.0, 0.0, 0.0)))
    point.data = np.array([layers.to_world(session.mask, (2.0, 2.0, 2.0))])
    settled(panel, session)
    assert session.spec.fulcrum.endswith(" A"), "the new point is heard"


def test_the_form_edits_and_follows(panel: SessionPanel, session: Session) -> None:
    form = panel.sections["Priors"].form
    slider = form.controls["rotation_prior_sd_deg"]
    slider.setValue(7.5)
    assert session.spec.rotation_prior_sd_deg == 7.5
    extent = form.controls["shift_extent_A"]
    assert isinstance(extent, QLineEdit)
    assert extent.placeholderText() == "auto: 9"
    extent.setText("12")
    extent.editingFinished.emit()
    assert session.spec.shift_extent_A == 12
    extent.setText("-1")
    extent.editingFinished.emit()
    settled(panel, session)
    assert session.spec.shift_extent_A == 12
    assert extent.text() == "12"
    assert "Shift" in panel.sections["Priors"].message.text() or "shift" in panel.sections["Priors"].message.text()
    session.edit(prior="none", recenter_shifts=True)
    settled(panel, session)
    prior, shifts = form.controls["prior"], form.controls["recenter_shifts"]
    assert isinstance(prior, QComboBox)
    assert isinstance(shifts, QCheckBox)
    assert prior.currentText() == "none"
    assert shifts.isChecked()


def test_a_figure_is_drawn_at_its_own_size(panel: SessionPanel) -> None:
    section = panel.sections["Priors"]
    assert isinstance(section, PriorSection)
    assert section.flush()
    assert section.figure.figure is not None
    assert not section.figure.pixmap().isNull()


def test_a_figure_is_as_wide_as_the_panel(panel: SessionPanel, session: Session, qtbot) -> None:
    session.run(1, wait=True)
    assert panel.flush()
    panel.tabs.setCurrentIndex(panel._index("Inspect"))
    box = panel.sections["Inspect"].figure
    heights = []
    for width in (440, 520):
        panel.resize(width, 700)
        panel.show()
        qtbot.waitUntil(lambda: box.isVisible() and abs(box.pixmap().width() - box.width()) <= 4, timeout=10_000)
        assert box.pixmap().width() <= box.width()
        heights.append(box.pixmap().height())
    assert heights[1] > heights[0]


def test_steps_are_driven_and_listed(panel: SessionPanel, session: Session) -> None:
    run = panel.sections["Run"]
    assert isinstance(run, RunSection)
    press(panel, "run-step")
    until_idle(session, 1)
    assert panel.flush()
    labels = [run.tree.item(i).text() for i in range(run.tree.count())]
    assert [label.startswith(word) for label, word in zip(labels, ("start", "▶ iteration 1"), strict=True)] == [
        True,
        True,
    ]
    start = session.state.tree[0].id
    run.choose(start)
    press(panel, "run-rewind")
    settled(panel, session)
    assert session.state.node == start
    run.count.setText("two")
    press(panel, "run-run")
    settled(panel, session)
    assert "whole number" in run.message.text()
    run.count.setText("2")
    press(panel, "run-run")
    until_idle(session, 2)
    assert panel.flush()
    assert run.tree.count() == 4
    assert not run.stop.isEnabled()
    assert panel.scene.viewer.layers["map"].data.shape == (BOX,) * 3


def test_the_figure_behind_an_advice_is_shown_and_maps_lie_in_the_viewer(panel: SessionPanel, session: Session) -> None:
    run, inspect = panel.sections["Run"], panel.sections["Inspect"]
    run.model.show_findings(
        (
            Finding("prior_uneven", "uneven", "prior motion", 3.0, 2.0, {"prior": "motion"}),
            Finding("mask_still", "a part stays", "take it out", 0.3, 0.15, mask=session.mask),
        )
    )
    press(panel, "run-advice-show-0")
    assert inspect.figure_choice.currentText() == "Motion"
    assert panel.tabs.tabText(panel.tabs.currentIndex()) == "Inspect"
    assert panel.findChild(QPushButton, "lrw-run-advice-1").text() == "Apply as branch"
    assert panel.findChild(QPushButton, "lrw-run-advice-show-1") is None


def test_two_steps_are_seen_side_by_side(panel: SessionPanel, session: Session) -> None:
    run, inspect = panel.sections["Run"], panel.sections["Inspect"]
    session.run(2, wait=True)
    assert panel.flush()
    run.choose(session.state.tree[1].id)
    press(panel, "run-compare")
    assert panel.flush()
    assert panel.flush()
    assert panel.tabs.tabText(panel.tabs.currentIndex()) == "Inspect"
    assert inspect.figure_choice.currentText() == ""
    assert "better" in inspect.message.text()
    compared = inspect.figure.figure
    inspect.figure_choice.setCurrentText("History")
    assert panel.flush()
    assert inspect.figure.figure is not compared
    press(panel, "run-compare")
    assert panel.flush()
    session.run(1, wait=True)
    assert panel.flush()
    assert inspect.figure_choice.currentText() == "FSC", "another step is shown by itself"


def test_settings_are_tried_and_taken_over(panel: SessionPanel, session: Session) -> None:
    sweep = panel.sections["Sweep"]
    assert isinstance(sweep, SweepSection)
    sweep.model.runner.engine = FakeEngine()
    press(panel, "sweep-start")
    assert panel.flush()
    assert "no step to continue from" in sweep.message.text()
    session.run(1, wait=True)
    before = session.state.tree
    second = panel.findChild(QComboBox, "lrw-sweep-name-1")
    second.setCurrentIndex(second.findData("marginalize"))
    assert panel.findChild(QLineEdit, "lrw-sweep-values-1").text() == "false, true"
    sweep.subset.setText("8")
    press(panel, "sweep-start")
    assert panel.flush()
    assert panel.flush()
    assert sweep.message.text().startswith("marginalize: has no effect on this iteration")  # of the fake engine
    assert sweep.model.result["rank"].shape == (3, 2)
    assert sweep.best.count() == 6
    assert len(sweep.figure.figure.axes[0].get_yticklabels()) == 6
    sweep.best.setCurrentIndex(4)
    press(panel, "sweep-use")
    assert panel.flush()
    wanted = settings_of_rank(sweep.model.result, 5)
    assert {name: getattr(session.spec, name) for name in wanted} == wanted
    assert "from the next iteration" in sweep.message.text()
    assert session.state.tree == before


def test_a_sweep_is_stopped(panel: SessionPanel, session: Session, qtbot) -> None:
    session.run(1, wait=True)
    sweep, gate = panel.sections["Sweep"], threading.Semaphore(0)
    sweep.model.runner.engine = FakeEngine(gate)
    press(panel, "sweep-start")
    gate.release()
    qtbot.waitUntil(lambda: "particles" in sweep.progress.text(), timeout=10_000)
    assert not sweep.start.isEnabled()
    press(panel, "sweep-stop")
    gate.release(100)
    assert panel.flush()
    assert panel.flush()
    assert "stopped" in sweep.message.text()
    assert sweep.start.isEnabled()
    assert sweep.model.result is None


def until_idle(session: Session, iteration: int) -> None:
    """Wait until an iteration is done and nothing runs."""
    end = time.monotonic() + 30
    while session.state.phase != "idle" or session.state.iteration != iteration:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_mask_is_made_painted_and_used(panel: SessionPanel, session: Session) -> None:
    mask, viewer = panel.sections["Mask"], panel.scene.viewer
    assert isinstance(mask, MaskSection)
    mask.set(lowpass_A=0.0, dilate_A=0.0, soft_A=5.0)
    assert panel.flush()
    assert layers.NEW_MASK in viewer.layers
    assert not viewer.layers["mask"].visible
    assert "✓ values lie between 0 and 1" in mask.facts.text()
    before = viewer.layers[layers.NEW_MASK].data.copy()
    mask.set(threshold=0.8, found=False)
    assert panel.flush()
    assert viewer.layers[layers.NEW_MASK].data.sum() < before.sum()
    press(panel, "mask-paint")
    assert panel.flush()
    labels = viewer.layers[PAINT]
    assert labels.mode == "paint"
    labels.data[1:3, 1:3, 1:3] = 1
    press(panel, "mask-use-paint")
    assert panel.flush()
    assert viewer.layers[layers.NEW_MASK].data[2, 2, 2] == 1
    press(panel, "mask-apply")
    settled(panel, session)
    assert session.mask.data[2, 2, 2] == 1
    assert layers.NEW_MASK not in viewer.layers
    assert PAINT not in viewer.layers
    assert np.array_equal(viewer.layers["mask"].data, session.mask.data)
    assert viewer.layers["mask"].visible


def test_of_a_large_map_a_coarse_mask_is_shown_and_a_whole_one_painted_and_used(
    panel: SessionPanel, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_section, "COARSE", 8)
    mask, viewer = panel.sections["Mask"], panel.scene.viewer
    assert isinstance(mask, MaskSection)
    mask.set(lowpass_A=0.0, dilate_A=0.0, soft_A=4.0)
    assert panel.flush()
    shown = viewer.layers[layers.NEW_MASK]
    assert shown.data.shape == (8,) * 3
    middle = np.array(layers.to_world(session.mask, (0.0, 0.0, 0.0)))
    assert np.allclose(shown.data_to_world((4, 4, 4)), middle), "its centre stays in place"
    press(panel, "mask-paint")
    assert panel.flush()
    assert viewer.layers[PAINT].data.shape == (BOX,) * 3
    assert not np.array_equal(viewer.layers[PAINT].data > 0, session.mask.data > 0.5)
    press(panel, "mask-use-paint")
    assert panel.flush()
    painted = viewer.layers[layers.NEW_MASK]
    assert np.allclose(painted.scale, PIXEL)
    assert np.allclose(painted.translate, viewer.layers[PAINT].translate)
    assert np.all(painted.data[viewer.layers[PAINT].data > 0] == 1)
    press(panel, "mask-apply")
    settled(panel, session)
    assert np.array_equal(session.mask.data, painted.data)


def test_shapes_say_where_density_counts(panel: SessionPanel, session: Session) -> None:
    mask, viewer = panel.sections["Mask"], panel.scene.viewer
    press(panel, "mask-use-shapes")
    assert panel.flush()
    assert "press Draw shapes first" in mask.message.text()
    press(panel, "mask-draw")
    middle = np.array(layers.to_world(session.mask, (0.0, 0.0, 0.0)))
    side = 2.5 * PIXEL
    corners = np.array([[0, -side, -side], [0, -side, side], [0, side, side], [0, side, -side]]) + middle
    viewer.layers[SHAPES].add_ellipses(corners)
    press(panel, "mask-use-shapes")
    assert panel.flush()
    assert len(mask.settings.drawn) == 1
    assert mask.settings.region == "within"
    assert layers.NEW_MASK in viewer.layers
    press(panel, "mask-clear")
    assert panel.flush()
    assert SHAPES not in viewer.layers
    assert mask.settings.drawn == ()


def test_two_faces_show_one_session(panel: SessionPanel, session: Session) -> None:
    """The notebook's fulcrum and the viewer's are one."""
    pytest.importorskip("ipywidgets")
    from lrwidgets.jupyter.fulcrum import FulcrumWidget

    notebook = FulcrumWidget(session)
    try:
        point = panel.scene.viewer.layers["fulcrum"]
        point.data = np.array([layers.to_world(session.mask, (4.0, 0.0, -4.0))])
        settled(panel, session)
        assert notebook.flush()
        assert np.allclose(notebook.point_A, (4.0, 0.0, -4.0), atol=0.01)
        notebook.set("7, 8, 9 px")
        notebook.apply()
        settled(panel, session)
        assert np.allclose(point.data, np.array([[9, 8, 7]]) * PIXEL, atol=0.01)
    finally:
        notebook.close()


def test_data_are_asked_for(qtbot) -> None:
    panel = SessionPanel(ViewerModel())
    qtbot.addWidget(panel)
    assert [panel.tabs.tabText(i) for i in range(panel.tabs.count())] == ["Data"]
    panel.data.fields["particles"].setText("nowhere.star")
    press(panel, "data-load")
    assert panel.flush()
    assert "no mask and no half maps given" in panel.data.message.text()
    panel.data.fields["mask"].setText("nowhere.mrc")
    press(panel, "data-load")
    assert panel.flush()
    assert "nowhere" in panel.data.message.text()
    panel.shut_down()


def test_a_step_is_exported_in_every_kind(qtbot, tmp_path: Path) -> None:
    files = make_files(tmp_path)
    with Session.load(files.star, files.mask, files.halves, engine=FakeEngine()) as session:
        session.run(1, wait=True)
        panel = SessionPanel(ViewerModel(), session)
        qtbot.addWidget(panel)
        section = panel.sections["Export"]
        assert isinstance(section, ExportSection)
        for box in section.kinds.values():
            box.setChecked(True)
        section.folder.setText(str(tmp_path / "out"))
        press(panel, "export-go")
        assert panel.flush()
        assert section.message.text().startswith("wrote ")
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            *EXPORT_FILE_NAMES.values(),
            "particles.csg",
        }
        panel.shut_down()


def test_closing_leaves_nothing_behind(session: Session, qtbot) -> None:
    before = {thread.name for thread in threading.enumerate()}
    signals = (session.state_changed, session.spec_changed, session.mask_changed, session.step_done, session.progress)
    counts = [len(signal) for signal in signals]
    viewer = ViewerModel()
    callbacks = list(viewer.mouse_drag_callbacks)
    panel = SessionPanel(viewer, session)
    assert panel.flush()
    sections = [weakref.ref(section) for section in panel.sections.values()]
    panel.shut_down()
    panel.deleteLater()
    del panel
    for _ in range(3):
        qtbot.wait(20)
        gc.collect()
    assert [len(signal) for signal in signals] == counts
    assert {thread.name for thread in threading.enumerate()} <= before | {"lrwidgets-session", *before}
    assert [section() for section in sections if isinstance(section(), QWidget) and _alive(section())] == []
    assert viewer.mouse_drag_callbacks == callbacks
    session.edit(fulcrum="box")  # nobody is left to fail
    session._do(lambda: None, True)


def _alive(widget: QWidget) -> bool:
    try:
        widget.objectName()
    except RuntimeError:
        return False
    return True


def test_a_session_outlives_its_panel(session: Session, qtbot) -> None:
    gate = threading.Semaphore(0)
    session._engine.gate = gate
    viewer = ViewerModel()
    panel = SessionPanel(viewer, session)
    session.step()
    gate.release()
    qtbot.waitUntil(lambda: session.state.phase == "running", timeout=10_000)
    panel.shut_down()
    assert session.state.phase == "running"
    again = SessionPanel(viewer)
    qtbot.addWidget(again)
    assert again.session is session, "a new panel of that viewer takes it up"
    for _ in range(20):
        gate.release()
    until_idle(session, 1)
    assert again.flush()
    again.shut_down()
    with pytest.raises(InputError):
        session.edit(fulcrum="nowhere")
