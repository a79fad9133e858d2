"""Inspect a step in the viewer: curves, maps before and after, local resolution as a coloured surface."""

from typing import Any

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox

from lrcore.analysis.comparison import Comparison
from lrcore.records import Volume
from lrwidgets import plots
from lrwidgets.gui.inspect_model import UNCERTAINTY_TIP, InspectModel, LocalResolutionMap
from lrwidgets.gui.motion_surface import MotionSurfaces
from lrwidgets.gui.run_model import name_steps
from lrwidgets.napari_panel.figure_box import FigureBox
from lrwidgets.napari_panel.layers import LayerData, local_resolution_layer, map_layer, motion_surface_layers
from lrwidgets.napari_panel.section import Section
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.plots.catalogue import FIGURES, MOTION, UNCERTAINTY
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState

LINKED = ("contrast_limits", "gamma", "iso_threshold", "rendering")
BEFORE, AFTER = "before", "after"


class InspectSection(Section):
    """Show the present step of a session."""

    def __init__(self, session: Session, scene: ViewerLayers) -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.model = InspectModel(session, self)
        self._node: str | None = None
        self.figure_choice = QComboBox()
        self.figure_choice.setObjectName("lrw-inspect-what")
        self.figure_choice.addItems([*FIGURES, MOTION])
        self.figure_choice.currentTextChanged.connect(self.catch_errors(lambda _: self._draw()))
        self.rows.addWidget(self.figure_choice)
        button = self.button
        self.row(
            button("inspect-maps", "Maps before / after", "as layers with linked contrast limits", self.load_maps),
            button("inspect-local", "Local resolution", "as a coloured surface", self.load_local_resolution),
        )
        self.row(
            button("inspect-swing", "Motion in 3D", "the body moved along its motion", self.load_motion_surfaces),
            button("inspect-sure", "Estimate pose uncertainty", UNCERTAINTY_TIP, self.draw_uncertainty),
        )
        self.figure = FigureBox(self)
        self.rows.addWidget(self.message)
        self.rows.addWidget(self.figure)
        self.rows.addStretch(1)
        self.subscribe(session.state_changed, self._changed)
        self._changed(session.state)

    # --- actions

    def compare(self, found: Comparison) -> None:
        """Show two steps side by side, until a figure is chosen or there is another step."""
        with QSignalBlocker(self.figure_choice):
            self.figure_choice.setCurrentIndex(-1)
        named = name_steps(found, self.session)
        self.figure.show_figure(lambda: plots.compare(named))
        self.show_message(named.summary_line)

    def load_maps(self) -> None:
        """Show the map at the start and the present one as two layers."""
        if node := self.model.present_node():
            self.model.request_maps(node, self._show_maps)

    def load_local_resolution(self) -> None:
        """Show the surface of the present map, coloured by local resolution."""
        if node := self.model.present_node():
            self.model.request_local_resolution(node, self._show_local, as_layer)

    def load_motion_surfaces(self) -> None:
        """Show the body, moved along its first principal motion, as a surface with a slider."""
        if node := self.model.present_node():
            self.model.request_motion_surfaces(node, 1, self._show_motion_surfaces)

    def draw_uncertainty(self) -> None:
        """Estimate how far the poses of the present step may be off, and show the figure."""
        if node := self.model.present_node():
            self.model.request_uncertainty(node, self._show_uncertainty)

    # --- what is shown

    def _changed(self, state: RunState) -> None:
        if state.node != self._node:
            self._node = state.node
            self.publisher.publish("draw", self._draw)

    def _draw(self) -> None:
        node, model = self.model.present_node(), self.model
        if node is None:
            return
        self.show_message("")
        name = self.figure_choice.currentText()
        if self.figure_choice.currentIndex() < 0:
            self.figure_choice.setCurrentIndex(0)  # which draws
        elif name == MOTION:
            self.figure.show_figure(lambda: model.motion_figure(node))
        else:
            self.figure.show_figure(
                lambda: model.results_figure(name, node, narrow=True), lambda: model.results_figure(name, node)
            )

    def _show_uncertainty(self) -> None:
        self.figure_choice.setCurrentText(UNCERTAINTY)
        self._draw()

    def _show_maps(self, pair: tuple[Volume, Volume]) -> None:
        layers = [self.scene.put(map_layer(volume, name)) for name, volume in zip((BEFORE, AFTER), pair, strict=True)]
        first, last = layers
        first.visible, last.visible = False, True
        last.contrast_limits = first.contrast_limits
        self.scene.viewer.layers.link_layers(layers, LINKED)
        self.show_message("'before' is hidden: click its eye to show it; contrast limits are linked")

    def _show_motion_surfaces(self, shown: MotionSurfaces) -> None:
        layers = [self.scene.put(one) for one in motion_surface_layers(self.session.mask, shown) if one is not None]
        for other in self.scene.viewer.layers:
            other.visible = other in layers
        self.scene.viewer.dims.ndisplay = 3
        self.show_message("the slider below moves the body along its first principal motion; its arrow plays it")

    def _show_local(self, surface: LayerData) -> None:
        layer: Any = self.scene.put(surface)
        if hasattr(layer, "colorbar"):
            layer.colorbar.visible = True
        for other in self.scene.viewer.layers:
            if other is not layer and isinstance(other, Image):
                other.visible = False
        self.scene.viewer.dims.ndisplay = 3


def as_layer(found: LocalResolutionMap) -> LayerData:
    """Return a local resolution as a coloured surface."""
    return local_resolution_layer(found.volume, found.local.map.data, found.mask.data)
