"""Place the fulcrum in the viewer: drag its point in 2D and 3D, pick it on a surface, type it, snap it."""

from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtWidgets import QLineEdit, QPushButton

from lrcore.motion.model import FulcrumEstimate
from lrcore.refinement.geometry import fulcrum_A
from lrwidgets.gui.fulcrum_model import TIPS, FulcrumModel, Point, estimate_line, parse_fulcrum, readout_lines
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.napari_panel.layers import (
    ESTIMATE,
    FULCRUM,
    ellipsoid_layer,
    from_world,
    fulcrum_layer,
    fulcrum_text,
    to_world,
)
from lrwidgets.napari_panel.picking import pick_surface_point
from lrwidgets.napari_panel.section import Section
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.session.session import Session

SAME_A = 0.02
"""Largest distance in Å of two points that count as the same: what is written is rounded to 0.01 Å."""


class FulcrumSection(Section):
    """Move the session's fulcrum with the point, and the point with the session's fulcrum."""

    def __init__(self, session: Session, scene: ViewerLayers) -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.model = FulcrumModel(session, self, self._show_estimate)
        self._silent = ProgrammaticChange()
        self._listening: Points | None = None
        self._earlier: list[str] = []
        self._build()
        self.subscribe(session.spec_changed, lambda _: self._publish())
        self.subscribe(session.mask_changed, lambda _: self._publish())
        self.subscribe(session.step_done, lambda *_: self.model.request_estimate())
        scene.viewer.mouse_drag_callbacks.append(self._pressed)
        scene.viewer.layers.events.removed.connect(self._removed)
        self._show()
        self.model.request_estimate()

    def _build(self) -> None:
        self.text = QLineEdit()
        self.text.setObjectName("lrw-fulcrum-text")
        self.text.setToolTip("mask, box, or x, y, z followed by px or A (from the corner of the box) or map")
        self.text.editingFinished.connect(self.catch_errors(self._typed))
        self.rows.addWidget(self.text)
        self.pick = QPushButton("Pick on the surface")
        self.pick.setObjectName("lrw-fulcrum-pick")
        self.pick.setCheckable(True)
        self.pick.setToolTip("place the fulcrum with the next click on a map, in 3D or in a slice")
        button, model = self.button, self.model
        self.row(
            button("fulcrum-mask", "Mask centre", TIPS["mask"], lambda: self._edit("mask")),
            button("fulcrum-box", "Box centre", TIPS["box"], lambda: self._edit("box")),
        )
        self.estimate = button("fulcrum-estimate", "Estimate", TIPS["estimate"], self._use_estimate)
        self.estimate.setEnabled(model.estimate is not None)
        self.row(self.pick, self.estimate)
        self.move_switch = QPushButton("Move")
        self.move_switch.setObjectName("lrw-fulcrum-move")
        self.move_switch.setCheckable(True)
        self.move_switch.setToolTip("drag the point in the slices: selects its layer and the tool that moves points")
        self.move_switch.toggled.connect(self.catch_errors(self._let_move))
        self.undo = button("fulcrum-undo", "Undo", "go back to the fulcrum before", self._undo)
        self.undo.setEnabled(False)
        go = button("fulcrum-go", "Go to it", "show the slices through the fulcrum", self.go_to_point)
        self.row(self.move_switch, self.undo, go)
        self.readout = self.label("fulcrum-readout")
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)

    @property
    def point_A(self) -> Point:
        """The session's fulcrum (x, y, z) in Å from the box centre."""
        return fulcrum_A(self.session.job)

    def shut_down(self) -> None:
        """Disconnect from the session and the viewer, and end the threads."""
        callbacks = self.scene.viewer.mouse_drag_callbacks
        if self._pressed in callbacks:
            callbacks.remove(self._pressed)
        self.scene.viewer.layers.events.removed.disconnect(self._removed)
        if self._listening is not None:
            self._listening.events.data.disconnect(self._moved)
            self._listening = None
        super().shut_down()

    # --- what a person does

    def _typed(self) -> None:
        text = self.text.text().strip()
        if text and text != self.session.spec.fulcrum:
            self._edit(text)

    def _edit(self, text: str) -> None:
        before = self.session.spec.fulcrum
        try:
            self.model.apply(parse_fulcrum(self.session.mask, text))
        except Exception:
            self._publish()
            raise
        if self.session.spec.fulcrum != before:
            self._earlier.append(before)
            self.undo.setEnabled(True)

    def _undo(self) -> None:
        """Go back to the fulcrum before the last one that was set here."""
        if self._earlier:
            self.model.apply(self._earlier.pop())
            self.undo.setEnabled(bool(self._earlier))

    def _let_move(self, on: bool) -> None:
        """Select the point's layer with the tool that moves it, or the one that moves the view."""
        layer = self.scene.find(FULCRUM)
        if layer is not None:
            self.scene.viewer.layers.selection.active = layer
            layer.mode = "select" if on else "pan_zoom"

    def go_to_point(self) -> None:
        """Show the slices through the fulcrum."""
        self.scene.go_to(to_world(self.session.mask, self.point_A))

    def _moved(self, _: Any) -> None:
        """Follow the layer's data, unless the section has changed them."""
        layer = self._listening
        if self._silent.is_active or layer is None:
            return
        if len(layer.data) == 0:
            self._publish()
            return
        volume, place = self.session.mask, np.asarray(layer.data[-1])
        if len(layer.data) > 1 or _distance_A(from_world(volume, place), self.point_A) > SAME_A:
            self.catch_errors(self._edit)(fulcrum_text(volume, place))

    def _pressed(self, viewer: Any, event: Any) -> None:
        """Place the fulcrum where a map is clicked while the pick button is down."""
        if not self.pick.isChecked():
            return
        place = pick_surface_point(viewer, event)
        if place is None:
            self.show_message("no surface under the mouse: click on the surface of a map", "bad")
            return
        self.pick.setChecked(False)
        self.catch_errors(self._edit)(fulcrum_text(self.session.mask, place))

    def _use_estimate(self) -> None:
        if self.model.estimate is not None:
            volume = self.session.mask
            self._edit(fulcrum_text(volume, to_world(volume, self.model.estimate.fulcrum_A)))

    def _removed(self, event: Any) -> None:
        """Forget a layer that was deleted; it comes back with the next change."""
        if event.value is self._listening:
            self._listening = None

    # --- what the session does

    def _publish(self) -> None:
        self.publisher.publish("fulcrum", self._show)

    def _show_estimate(self, estimate: FulcrumEstimate | None) -> None:
        self.estimate.setEnabled(estimate is not None)
        if self.isVisible():
            self._show_ellipsoid()
        self._show()

    def showEvent(self, event: Any) -> None:
        """Add the ellipsoid only now, since a new layer takes time."""
        super().showEvent(event)
        self._show_ellipsoid()

    def _show_ellipsoid(self) -> None:
        estimate = self.model.estimate
        if estimate is None:
            self.scene.drop(ESTIMATE)
        else:
            x, y, z = (float(a) for a in estimate.fulcrum_A)
            self.scene.put(ellipsoid_layer(self.session.mask, (x, y, z), estimate.covariance_A2))

    def _show(self) -> None:
        """Update text, readout and point from the session."""
        session, point_A = self.session, self.point_A
        self.text.setText(session.spec.fulcrum)
        self.readout.setText("\n".join(self._readout_lines(point_A)))
        layer = self.scene.find(FULCRUM)
        place = np.array([to_world(session.mask, point_A)])
        with self._silent():
            if layer is None or len(layer.data) != 1 or np.abs(layer.data - place).max() > SAME_A:
                layer = self.scene.put(fulcrum_layer(session.mask, point_A))
        if layer is not self._listening:
            layer.events.data.connect(self._moved)
            self._listening = layer

    def _readout_lines(self, point_A: Point) -> list[str]:
        """Return the point in every frame, and the estimate."""
        volume, estimate = self.session.mask, self.model.estimate
        lines = readout_lines(volume, point_A)
        if estimate is not None:
            lines.append(estimate_line(volume, point_A, estimate.fulcrum_A, estimate.covariance_A2))
        return lines


def _distance_A(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))
