"""Nothing in the panel surprises: docks, paint, looks of maps, themes, and the activity dock."""

import re
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from lrcore.records import Volume
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.gui.panel_base import PanelBase
from lrwidgets.napari_panel import layers, run_section
from lrwidgets.napari_panel.mask_section import PAINT, MaskSection
from lrwidgets.napari_panel.panel import SessionPanel
from lrwidgets.napari_panel.run_section import RunSection
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.view_state import make_view_state
from tests.fakes import BOX, PIXEL, FakeEngine, make_job
from tests.lrwidgets.napari_panel.panels import moved, press, settled


def test_the_slices_are_those_of_the_fulcrum_and_axes_have_names(panel: SessionPanel, session: Session) -> None:
    viewer = panel.scene.viewer
    assert np.allclose(viewer.dims.point, layers.to_world(session.mask, moved(panel).point_A), atol=PIXEL)
    assert viewer.layers["fulcrum"].out_of_slice_display
    overlays = getattr(getattr(viewer, "canvas", viewer), "overlays", viewer)
    assert overlays.axes.visible
    assert overlays.axes.labels


def test_a_fulcrum_is_moved_by_a_switch_and_undone(panel: SessionPanel, session: Session) -> None:
    point, section = panel.scene.viewer.layers["fulcrum"], moved(panel)
    section.move_switch.setChecked(True)
    assert (point.mode, panel.scene.viewer.layers.selection.active) == ("select", point)
    point.data = np.array([layers.to_world(session.mask, (4.0, 0.0, -4.0))])
    settled(panel, session)
    assert session.spec.fulcrum != "mask"
    section.move_switch.setChecked(False)
    assert point.mode == "pan_zoom"
    press(panel, "fulcrum-undo")
    settled(panel, session)
    assert session.spec.fulcrum == "mask"
    assert not section.undo.isEnabled()


def test_a_closed_dock_gives_its_session_to_the_next_panel(session: Session, qtbot) -> None:
    """As napari closes a dock: the panel is taken out of it and has no parent."""
    viewer = ViewerModel()
    window, dock, panel = QMainWindow(), QDockWidget(), SessionPanel(viewer, session)
    qtbot.addWidget(window)
    dock.setWidget(panel)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    assert panel.flush()
    second = SessionPanel(viewer)
    qtbot.addWidget(second)
    assert second.session is session, "not an empty one from the Plugins menu"
    second.shut_down()
    panel.setParent(None)
    qtbot.waitUntil(lambda: panel._left, timeout=5000)
    again = SessionPanel(viewer)
    qtbot.addWidget(again)
    assert again.session is session
    assert again.sections["Run"].stop is not None
    again.shut_down()


def test_no_name_of_ours_hides_one_of_either_binding() -> None:
    """PySide's QObject has methods that PyQt's lacks."""
    ours = {name for name in vars(PanelBase) if not name.startswith("_")}
    assert not ours & {*dir(QWidget), "connect", "disconnect", "emit", "receivers"}


def test_paint_that_was_not_touched_changes_nothing(panel: SessionPanel, session: Session) -> None:
    mask, viewer = panel.sections["Mask"], panel.scene.viewer
    assert isinstance(mask, MaskSection)
    mask.set(lowpass_A=0.0, dilate_A=0.0, soft_A=5.0)
    assert panel.flush()
    before = viewer.layers[layers.NEW_MASK].data.copy()
    for _ in range(3):
        press(panel, "mask-paint")
        assert panel.flush()
        press(panel, "mask-use-paint")
        assert panel.flush()
        assert np.array_equal(viewer.layers[layers.NEW_MASK].data, before)


def test_a_soft_edge_is_that_of_the_paint_and_nothing_else_discards_it_in_silence(panel: SessionPanel) -> None:
    mask, viewer = panel.sections["Mask"], panel.scene.viewer
    assert isinstance(mask, MaskSection)
    press(panel, "mask-paint")
    assert panel.flush()
    viewer.layers[PAINT].data[1:3, 1:3, 1:3] = 1
    press(panel, "mask-use-paint")
    assert panel.flush()
    narrow = viewer.layers[layers.NEW_MASK].data.sum()
    mask.set(soft_A=25.0)
    assert panel.flush()
    assert viewer.layers[layers.NEW_MASK].data[2, 2, 2] == 1
    assert viewer.layers[layers.NEW_MASK].data.sum() > narrow
    mask.set(dilate_A=1.0)
    assert panel.flush()
    assert "Use painted mask" in mask.facts.text()


def test_an_entry_of_the_activity_dock_moves_and_ends(panel: SessionPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one has Qt handle events, so that a second state may come in the meantime."""
    run, made = panel.sections["Run"], []
    assert isinstance(run, RunSection)
    state = make_view_state(RefineSpec(), RunState("running", 1, "search", 500, 1000))

    class Entry:
        def __init__(self, total: int, desc: str) -> None:
            made.append(self)
            self.n, self.open = 0, True
            run.show_state(state)

        def update(self, more: int) -> None:
            self.n += more

        def set_description(self, _: str) -> None: ...

        def close(self) -> None:
            self.open = False

    monkeypatch.setattr(run_section, "progress", Entry)
    run.show_state(state)
    assert [(entry.n, entry.open) for entry in made] == [(500, True)]
    run.show_state(make_view_state(RefineSpec(), RunState()))
    assert [entry.open for entry in made] == [False]


def test_a_map_of_other_values_has_its_own_look_unless_a_person_chose_one() -> None:
    scene = ViewerLayers(ViewerModel())
    data = np.random.default_rng(0).normal(size=(BOX,) * 3).astype(np.float32)
    shown = scene.put(layers.map_layer(Volume(data, PIXEL)))
    level = shown.iso_threshold
    scene.put(layers.map_layer(Volume(3 * data, PIXEL)))
    assert shown.iso_threshold == pytest.approx(3 * level, rel=1e-3)
    shown.iso_threshold = 0.5
    limits = np.array(shown.contrast_limits)
    scene.put(layers.map_layer(Volume(9 * data, PIXEL)))
    assert shown.iso_threshold == 0.5
    assert np.allclose(shown.contrast_limits, 3 * limits, rtol=1e-3)


def test_messages_are_readable_in_both_themes(panel: SessionPanel) -> None:
    section = panel.sections["Mask"]
    for theme in ("light", "dark"):
        panel.scene.viewer.theme = theme
        background = panel._background()
        for tone in ("good", "bad"):
            assert contrast(QColor(section.colours[tone]), background) >= 4.5, (theme, tone)


def contrast(ink: QColor, paper: QColor) -> float:
    """Contrast by WCAG 2."""

    def luminance(colour: QColor) -> float:
        parts = [colour.redF(), colour.greenF(), colour.blueF()]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted((luminance(ink), luminance(paper)))
    return (light + 0.05) / (dark + 0.05)


def test_the_new_mask_of_another_session_is_gone(panel: SessionPanel) -> None:
    mask = panel.sections["Mask"]
    mask.set(lowpass_A=0.0, dilate_A=0.0, soft_A=5.0)
    assert panel.flush()
    assert layers.NEW_MASK in panel.scene.viewer.layers
    with Session(make_job(), engine=FakeEngine()) as other:
        panel.open(other)
        assert panel.flush()
        assert layers.NEW_MASK not in panel.scene.viewer.layers


def test_no_private_module_of_napari_is_used(root: Path) -> None:
    for path in (root / "lrwidgets" / "napari_panel").glob("*.py"):
        assert not re.search(r"_type_string|napari\.[\w.]*\b_\w", path.read_text()), path
