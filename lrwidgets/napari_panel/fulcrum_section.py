"""The fulcrum as a point among the layers: dragged in 2D and 3D, picked on a surface, typed, snapped, or estimated."""

from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtWidgets import QLabel, QLineEdit, QPushButton

from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Volume
from lrcore.refinement.geometry import fulcrum_A
from lrcore.refinement.parameter_checks import parameter_warnings
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.napari_panel.layers import (
    ESTIMATE,
    FULCRUM,
    Point,
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
from lrwidgets.session.step_analysis import current_fulcrum_estimate

SAME_A = 0.02
"""Two points are one if they are so near: what is written is rounded to 0.01 Å."""


class FulcrumSection(Section):
    """Moves the session's fulcrum with the point, and the point with the session's fulcrum."""

    def __init__(self, session: Session, scene: ViewerLayers) -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self._hinge: FulcrumEstimate | None = None
        self._silent = False
        self._listening: Points | None = None
        self.text = QLineEdit()
        self.text.setObjectName("lrw-fulcrum-text")
        self.text.setToolTip("mask, box, or x, y, z followed by px or A (from the corner of the box) or map")
        self.text.editingFinished.connect(self.catch_errors(self._typed))
        self.rows.addWidget(self.text)
        button = self.button
        self.pick = QPushButton("Pick on the surface")
        self.pick.setObjectName("lrw-fulcrum-pick")
        self.pick.setCheckable(True)
        self.pick.setToolTip("the next click on a map, in 3D or in a slice, puts the fulcrum there")
        self.row(
            button("fulcrum-mask", "Mask centre", "the mask's centre of mass", lambda: self._edit("mask")),
            button("fulcrum-box", "Box centre", "the centre of the box", lambda: self._edit("box")),
        )
        self.estimate = button(
            "fulcrum-estimate", "Estimate", "where the poses of the present step put it", self._use_estimate
        )
        self.estimate.setEnabled(False)
        self.row(self.pick, self.estimate)
        self.readout = QLabel()
        self.readout.setObjectName("lrw-fulcrum-readout")
        self.readout.setWordWrap(True)
        self.rows.addWidget(self.readout)
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)
        self.connect(session.spec_changed, lambda _: self._publish())
        self.connect(session.mask_changed, lambda _: self._publish())
        self.connect(session.step_done, lambda *_: self._request_estimate())
        scene.viewer.mouse_drag_callbacks.append(self._pressed)
        scene.viewer.layers.events.removed.connect(self._removed)
        self._show()
        self._request_estimate()

    @property
    def point_A(self) -> Point:
        """The session's fulcrum (x, y, z) in Å from the box centre."""
        return fulcrum_A(self.session.job)

    def shut_down(self) -> None:
        """Let go of the session and the viewer."""
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
        try:
            spec = self.session.edit(fulcrum=text)
        except Exception:
            self._publish()
            raise
        unwise = "; ".join(parameter_warnings(self.session.mask, spec))
        self.show_message(unwise or f"the next iteration rotates about {text}", "bad" if unwise else "good")

    def _moved(self, _: Any) -> None:
        """The layer's data have changed: by a person unless we are at it."""
        layer = self._listening
        if self._silent or layer is None:
            return
        if len(layer.data) == 0:
            self._publish()
            return
        volume, place = self.session.mask, np.asarray(layer.data[-1])
        if len(layer.data) > 1 or _distance_A(from_world(volume, place), self.point_A) > SAME_A:
            self.catch_errors(self._edit)(fulcrum_text(volume, place))

    def _pressed(self, viewer: Any, event: Any) -> None:
        """A click on a map while *pick* is down."""
        if not self.pick.isChecked():
            return
        place = pick_surface_point(viewer, event)
        if place is None:
            self.show_message("there is no map's surface under the mouse: click where there is", "bad")
            return
        self.pick.setChecked(False)
        self.catch_errors(self._edit)(fulcrum_text(self.session.mask, place))

    def _use_estimate(self) -> None:
        if self._hinge is not None:
            volume = self.session.mask
            self._edit(fulcrum_text(volume, to_world(volume, self._hinge.fulcrum_A)))

    def _removed(self, event: Any) -> None:
        """A person may throw the layer away; it comes back with the next change."""
        if event.value is self._listening:
            self._listening = None

    # --- what the session does

    def _publish(self) -> None:
        self.publisher.publish("fulcrum", self._show)

    def _request_estimate(self) -> None:
        self.latest.submit(lambda: current_fulcrum_estimate(self.session), self._show_hinge, "hinge")

    def _show_hinge(self, hinge: FulcrumEstimate | None) -> None:
        self._hinge = hinge
        self.estimate.setEnabled(hinge is not None)
        if self.isVisible():
            self._show_ellipsoid()
        self._show()

    def showEvent(self, event: Any) -> None:
        """A new layer takes its time, so that the ellipsoid waits until it is looked for."""
        super().showEvent(event)
        self._show_ellipsoid()

    def _show_ellipsoid(self) -> None:
        if self._hinge is None:
            self.scene.drop(ESTIMATE)
        else:
            x, y, z = (float(a) for a in self._hinge.fulcrum_A)
            self.scene.put(ellipsoid_layer(self.session.mask, (x, y, z), self._hinge.covariance_A2))

    def _show(self) -> None:
        """Text, readout and point follow the session."""
        session, point_A = self.session, self.point_A
        self.text.setText(session.spec.fulcrum)
        self.readout.setText("\n".join(self._readout_lines(session.mask, session.spec, point_A)))
        layer = self.scene.find(FULCRUM)
        place = np.array([to_world(session.mask, point_A)])
        self._silent = True
        try:
            if layer is None or len(layer.data) != 1 or np.abs(layer.data - place).max() > SAME_A:
                layer = self.scene.put(fulcrum_layer(session.mask, point_A))
        finally:
            self._silent = False
        if layer is not self._listening:
            layer.events.data.connect(self._moved)
            self._listening = layer

    def _readout_lines(self, volume: Volume, spec: RefineSpec, point_A: Point) -> list[str]:
        """The point in every notation, and the estimate."""
        corner = np.array(point_A) + volume.box // 2 * volume.pixel_size_A
        lines = [
            f"{_format_point(corner / volume.pixel_size_A)} px, {_format_point(corner)} Å from the corner",
            f"{_format_point(np.array(point_A))} Å from the centre of the box",
        ]
        if any(volume.header_origin_A):
            lines.append(f"{_format_point(corner + np.array(volume.header_origin_A))} Å in the map's frame")
        if self._hinge is not None:
            sd = float(np.sqrt(np.linalg.eigvalsh(self._hinge.covariance_A2).max()))
            away = _distance_A(point_A, self._hinge.fulcrum_A)
            lines.append(f"the motion puts it {away:.1f} Å away, SD {sd:.1f} Å where it is least known")
        return lines


def _distance_A(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def _format_point(point: Any) -> str:
    return ", ".join(f"{a:.1f}" for a in point)
