"""Combine all sections in one dock panel: data, mask, fulcrum, priors, run, sweep, inspect, export."""

import contextlib
import weakref
from dataclasses import replace
from typing import Any

from napari.utils.theme import get_theme
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel, QMainWindow, QMessageBox, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from lrcore import masks
from lrcore.analysis.comparison import Comparison
from lrcore.refinement.density import final_map
from lrwidgets.gui.threads import LatestTasks
from lrwidgets.napari_panel.data_section import DataSection
from lrwidgets.napari_panel.export_section import ExportSection
from lrwidgets.napari_panel.fulcrum_section import FulcrumSection
from lrwidgets.napari_panel.inspect_section import InspectSection
from lrwidgets.napari_panel.layers import MAP, NEW_MASK, LayerData, map_layer
from lrwidgets.napari_panel.mask_section import MaskSection
from lrwidgets.napari_panel.prior_section import PriorSection
from lrwidgets.napari_panel.qt_updates import QtPublisher
from lrwidgets.napari_panel.run_section import RunSection
from lrwidgets.napari_panel.section import Section
from lrwidgets.napari_panel.sweep_section import SweepSection
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.step_analysis import current_map
from lrwidgets.session.view_state import make_view_state

WIDTH = 420
INPUT_LOWPASS_A = 10.0
"""Low-pass of the input half maps' mean, which in 3D would be a ball of noise; a step's map is filtered by its FSC."""
_RESUMABLE_SESSIONS: dict[int, Session] = {}
"""The session that a viewer shows, by its id: a new panel of that viewer shows it again."""


class SessionPanel(QWidget):
    """Everything about a session next to the density. Without a session it asks for data first.

    Closing the panel stops nothing: the session continues, and a new panel of the viewer shows it again. Closing the
    viewer while something runs asks first. sections: by the name of their tab.
    """

    def __init__(self, viewer: Viewer, session: Session | None = None) -> None:
        self._is_docked = self._left = False
        super().__init__()
        self.scene = ViewerLayers(viewer)
        self.session: Session | None = None
        self.sections: dict[str, Section] = {}
        self.setMinimumWidth(WIDTH)
        self.publisher = QtPublisher(self._show_error, self)
        self.latest = LatestTasks(self.publisher, self._show_error)
        self.head = QLabel()
        self.head.setObjectName("lrw-head")
        self.head.setWordWrap(True)
        self.tabs = QTabWidget()
        self.data = DataSection(self.open)
        self._add("Data", self.data)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(4, 4, 4, 4)
        rows.addWidget(self.head)
        rows.addWidget(self.tabs, 1)
        self._node: str | None = None
        self._guard = _CloseGuard(self)
        viewer.events.theme.connect(self._use_theme)
        self.scene.show_axes()
        session = session or _RESUMABLE_SESSIONS.get(id(viewer))
        if session is not None:
            self.open(session)
        self.destroyed.connect(_shut_down_callback(self))

    def open(self, session: Session) -> None:
        """Show a session in place of the one before, which continues without a view."""
        self._forget()
        if self.session is not session:
            self.scene.drop(NEW_MASK)
        self.session = session
        self._remember(session)
        self.data.model.show(session)
        self.sections = {
            "Mask": MaskSection(session, self.scene),
            "Fulcrum": FulcrumSection(session, self.scene),
            "Priors": PriorSection(session),
            "Run": RunSection(session),
            "Sweep": SweepSection(session),
            "Inspect": InspectSection(session, self.scene),
            "Export": ExportSection(session),
        }
        for name, section in self.sections.items():
            self._add(name, section)
        run = self.sections["Run"]
        assert isinstance(run, RunSection)
        run.model.figure_requested.connect(self._show_requested_figure)
        run.model.comparison_done.connect(self._show_comparison)
        session.state_changed.connect(self._changed)
        self.tabs.setCurrentIndex(self._index("Run" if session.state.tree else "Mask"))
        self._changed(session.state)
        self._load_map()

    def showEvent(self, event: Any) -> None:
        """Watch the window in which the panel is now docked."""
        super().showEvent(event)
        if not self._left:
            self._guard.watch()

    def shut_down(self) -> None:
        """Disconnect from session and viewer, and end the threads; the session continues."""
        if self._left:
            return
        self._left = True
        self._guard.stop_watching()
        self._forget()
        self.data.shut_down()
        self.latest.close()
        self.publisher.close()
        self.scene.viewer.events.theme.disconnect(self._use_theme)
        self.scene.viewer = None  # or a panel that Qt still holds would hold the viewer

    def _remember(self, session: Session) -> None:
        """Remember the session for the viewer's next panel."""
        viewer = self.scene.viewer
        if id(viewer) not in _RESUMABLE_SESSIONS:
            weakref.finalize(viewer, _RESUMABLE_SESSIONS.pop, id(viewer), None)
        _RESUMABLE_SESSIONS[id(viewer)] = session

    def event(self, event: QEvent) -> bool:
        """Shut down when the dock is closed: napari then takes the panel out of it and keeps it without a parent."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._is_docked = True
            elif self._is_docked and not self._left:
                QTimer.singleShot(0, self._leave_dock)
        return bool(super().event(event))

    def _leave_dock(self) -> None:
        if self.parentWidget() is None and not self._left:
            self.shut_down()
            self.deleteLater()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until every request is computed and shown; return whether it is. On Qt's thread."""
        parts = [self.data, *self.sections.values()]
        done = all(part.flush(timeout) for part in parts)
        return done and self.latest.flush(timeout) and self.publisher.flush(timeout)

    def _forget(self) -> None:
        if self.session is not None:
            self.session.state_changed.disconnect(self._changed, missing_ok=True)
        for section in self.sections.values():
            section.shut_down()
        while self.tabs.count() > 1:
            page = self.tabs.widget(1)
            self.tabs.removeTab(1)
            page.deleteLater()
        self.sections = {}

    def _add(self, name: str, section: Section) -> None:
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)  # or figures would change their width
        area.setWidget(section)
        self.tabs.addTab(area, name)
        section.use_theme(self._background())

    def _background(self) -> QColor:
        """Return the background of the viewer's theme."""
        return QColor(get_theme(self.scene.viewer.theme).background.as_hex())

    def _use_theme(self, _: Any) -> None:
        for section in (self.data, *self.sections.values()):
            section.use_theme(self._background())

    def _index(self, name: str) -> int:
        return next(i for i in range(self.tabs.count()) if self.tabs.tabText(i) == name)

    def _show_requested_figure(self, figure: str) -> None:
        self._inspect().figure_choice.setCurrentText(figure)

    def _show_comparison(self, found: Comparison) -> None:
        self._inspect().compare(found)

    def _inspect(self) -> InspectSection:
        """Return the section after selecting its tab."""
        inspect = self.sections["Inspect"]
        assert isinstance(inspect, InspectSection)
        self.tabs.setCurrentIndex(self._index("Inspect"))
        return inspect

    def _changed(self, state: RunState) -> None:
        self.publisher.publish("head", self._show_head)
        if state.node != self._node:
            self._node = state.node
            self._load_map()

    def _show_head(self) -> None:
        """Show the state in the line above the tabs."""
        if self.session is not None:
            shown = make_view_state(self.session.spec, self.session.state)
            words = [self.session.summary(), shown.status, shown.progress]
            self.head.setText(" · ".join(word for word in words if word))

    def _load_map(self) -> None:
        """Show the map of the present step."""
        session = self.session
        if session is not None:
            self.latest.submit(lambda: newest_map_layer(session), self._show_map, "map")

    def _show_map(self, layer: LayerData | None) -> None:
        if layer is None:
            return
        first = self.scene.find(MAP) is None
        shown = self.scene.put(layer)
        if first:
            layers = self.scene.viewer.layers
            layers.move(layers.index(shown), 0)
            self.scene.viewer.reset_view()
            fulcrum = self.sections["Fulcrum"]
            assert isinstance(fulcrum, FulcrumSection)
            fulcrum.go_to_point()

    def _show_error(self, error: Exception) -> None:
        self.data.show_error(error)


def newest_map_layer(session: Session) -> LayerData | None:
    """Return the present step's map filtered by its FSC, or the low-passed mean of the input half maps, or None."""
    if session.state.node is not None:
        node, step = session.load_step()
        return map_layer(final_map(session.job_of(node), step))
    volume = current_map(session)
    if volume is None:
        return None
    filtered = masks.lowpass(volume.data, volume.pixel_size_A, max(INPUT_LOWPASS_A, 2 * volume.pixel_size_A))
    return map_layer(replace(volume, data=filtered))


class _CloseGuard(QObject):
    """Ask before the viewer's window is closed during a run, and shut the panel down when it is."""

    def __init__(self, panel: SessionPanel) -> None:
        super().__init__(panel)
        self._panel = panel
        self._window: QMainWindow | None = None

    def watch(self) -> None:
        """Watch the window in which the panel is docked."""
        found = self._panel.parentWidget()
        while found is not None and not isinstance(found, QMainWindow):
            found = found.parentWidget()
        if found is not self._window:
            self.stop_watching()
            self._window = found
            if found is not None:
                found.installEventFilter(self)

    def stop_watching(self) -> None:
        """Stop watching."""
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Handle an event; return whether it goes no further."""
        if event.type() == QEvent.Type.Close and watched is self._window:
            if not self._may_close():
                event.ignore()
                return True
            self._panel.shut_down()
        return False

    def _may_close(self) -> bool:
        session = self._panel.session
        if session is None or session.state.phase == "idle":
            return True
        buttons = QMessageBox.StandardButton
        asked = "A refinement is running. Stop it at the next chunk of particles and close? Finished steps are kept."
        if QMessageBox.question(self._panel, "lrwidgets", asked, buttons.Yes | buttons.No) != buttons.Yes:
            return False
        session.stop()
        return True


def _shut_down_callback(panel: SessionPanel) -> Any:
    """Return a callback for a deleted dock: Qt's half of the panel is gone by then, so that only ours is shut down."""
    found = weakref.ref(panel)

    def leave(*_: object) -> None:
        ours = found()
        if ours is not None:
            with contextlib.suppress(RuntimeError):  # a wrapped C++ object has been deleted
                ours.shut_down()

    return leave
