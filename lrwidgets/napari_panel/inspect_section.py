"""Looking at a step: curves and histograms, maps before and after as layers, local resolution as a coloured surface."""

from typing import Any

from napari.layers.utils._link_layers import link_layers
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox

from lrcore.analysis.comparison import Comparison
from lrcore.records import Progress, Volume
from lrcore.refinement.density import final_map
from lrwidgets import plots
from lrwidgets.gui.motion_surface import MotionSurfaces, motion_surfaces_of
from lrwidgets.napari_panel.figure_box import FigureBox
from lrwidgets.napari_panel.layers import LayerData, local_resolution_layer, map_layer, motion_surface_layers
from lrwidgets.napari_panel.section import Section
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.plots.catalogue import FIGURES, MOTION, UNCERTAINTY
from lrwidgets.session.session import Session
from lrwidgets.session.state import RunState
from lrwidgets.session.step_analysis import local_resolution_of, maps_before_and_after, motion_plot_data

LINKED = ("contrast_limits", "gamma", "iso_threshold", "rendering")
BEFORE, AFTER = "before", "after"


class InspectSection(Section):
    """Shows the present step of a session."""

    def __init__(self, session: Session, scene: ViewerLayers) -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self._node: str | None = None
        self.what = QComboBox()
        self.what.setObjectName("lrw-inspect-what")
        self.what.addItems([*FIGURES, MOTION])
        self.what.currentTextChanged.connect(self.catch_errors(lambda _: self._draw()))
        self.rows.addWidget(self.what)
        self.row(
            self.button("inspect-maps", "Maps before / after", "as layers with linked contrast", self.load_maps),
            self.button("inspect-local", "Local resolution", "as a coloured surface", self.load_local_resolution),
        )
        self.row(
            self.button("inspect-swing", "Motion in 3D", "the body moved along its motion", self.load_motion_surfaces),
            self.button(
                "inspect-sure", "How sure", "draw from every posterior with the other half's map", self.draw_uncertainty
            ),
        )
        self.figure = FigureBox(self)
        self.rows.addWidget(self.message)
        self.rows.addWidget(self.figure)
        self.rows.addStretch(1)
        self.connect(session.state_changed, self._changed)
        self._changed(session.state)

    def compare(self, found: Comparison) -> None:
        """Show two steps side by side, until a figure is chosen or there is another step."""
        with QSignalBlocker(self.what):
            self.what.setCurrentIndex(-1)
        self.figure.show_figure(lambda: plots.compare(found))
        self.show_message(found.summary_line)

    def load_maps(self) -> None:
        """The map at the start and the present one, as two layers."""
        node = self._present()
        if node:
            self.latest.submit(lambda: maps_before_and_after(self.session, node), self._show_maps, "maps")

    def load_local_resolution(self) -> None:
        """The surface of the present map, coloured by local resolution."""
        node = self._present()
        if node:
            self.show_message("local resolution …", "neutral")
            self.latest.submit(lambda: self._local(node), self._show_local, "local")

    def load_motion_surfaces(self) -> None:
        """The body, moved along its first principal motion, as a surface with a slider."""
        node = self._present()
        if node:
            self.latest.submit(lambda: motion_surfaces_of(self.session, node, 1), self._show_motion_surfaces, "swing")

    def _show_motion_surfaces(self, shown: MotionSurfaces) -> None:
        layers = [self.scene.put(one) for one in motion_surface_layers(self.session.mask, shown) if one is not None]
        for other in self.scene.viewer.layers:
            other.visible = other in layers
        self.scene.viewer.dims.ndisplay = 3
        self.show_message("the slider below moves the body along its first principal motion; its arrow plays it")

    def draw_uncertainty(self) -> None:
        """How far the poses of the present step may be off, by draws; then the figure shows it."""
        node = self._present()
        if node:
            self.show_message("draws from the posteriors …", "neutral")
            self.latest.submit(
                lambda: self.session.uncertainty(node, self._show_draw_progress), self._show_uncertainty, "sure"
            )

    def _show_draw_progress(self, at: Progress) -> None:
        self.show_message(f"draws from the posterior of particle {at.done} of {at.total} …", "neutral")

    def _show_uncertainty(self, _: object) -> None:
        self.what.setCurrentText(UNCERTAINTY)
        self._draw()

    def _present(self) -> str | None:
        node = self.session.state.node
        if node is None:
            self.show_message("nothing to see yet: run a step", "neutral")
        return node

    def _changed(self, state: RunState) -> None:
        if state.node != self._node:
            self._node = state.node
            self.publisher.publish("draw", self._draw)

    def _draw(self) -> None:
        node = self._present()
        if node is None:
            return
        self.show_message("")
        if self.what.currentIndex() < 0:
            self.what.setCurrentIndex(0)  # which draws
            return
        if self.what.currentText() == MOTION:
            self.figure.show_figure(lambda: plots.motion(*motion_plot_data(self.session, node)))
            return
        make, *_ = FIGURES[self.what.currentText()]
        self.figure.show_figure(
            lambda: make(self.session.results(node), narrow=True), lambda: make(self.session.results(node))
        )

    def _show_maps(self, pair: tuple[Volume, Volume]) -> None:
        layers = [self.scene.put(map_layer(volume, name)) for name, volume in zip((BEFORE, AFTER), pair, strict=True)]
        first, last = layers
        first.visible, last.visible = False, True
        last.contrast_limits = first.contrast_limits
        link_layers(layers, LINKED)
        self.show_message("before is hidden: click its eye to see it; the contrast of both is one")

    def _local(self, node: str) -> LayerData:
        found = local_resolution_of(self.session, node, lambda text: self.show_message(text, "neutral"))
        at, step = self.session.load_step(node)
        job = self.session.job_of(at)
        return local_resolution_layer(final_map(job, step), found.map.data, job.mask.data)

    def _show_local(self, layer: LayerData) -> None:
        shown: Any = self.scene.put(layer)
        if hasattr(shown, "colorbar"):
            shown.colorbar.visible = True
        for other in self.scene.viewer.layers:
            if other is not shown and other._type_string == "image":
                other.visible = False
        self.scene.viewer.dims.ndisplay = 3
