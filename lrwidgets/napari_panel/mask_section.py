"""Shape a mask in the viewer: threshold, edges, shapes and models, and napari's own brush."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QSpinBox, QWidget
from superqt import QLabeledDoubleSlider

from lrcore import masks
from lrcore.errors import InputError
from lrcore.masks import soft_edge
from lrcore.records import Volume
from lrwidgets.gui.mask_settings import (
    APPLIED,
    APPLY,
    COARSE,
    MAX_PARTS,
    PARTS_LABEL,
    REGIONS,
    SLIDERS,
    TICKS,
    MaskSettings,
    check_lines,
    describe_mask,
    describe_parts,
    read_model,
)
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.napari_panel.layers import (
    AXES,
    MASK,
    NEW_MASK,
    UNITS,
    layer_placement,
    mask_layer,
    origin_A,
    shapes_from_layer,
    voxel_A,
)
from lrwidgets.napari_panel.section import Section
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.session.session import Session

PAINT, SHAPES = "mask paint", "mask shapes"
PAINT_UNUSED = "the painted mask is not shown any more: Use painted mask shows it again"
FULL = 0.999
"""Mask value from which a voxel is painted: the soft edge around these voxels is that of the mask."""


class MaskSection(Section):
    """Shape a mask on a map layer, shown as the layer `NEW_MASK`, and apply it to the session."""

    def __init__(self, session: Session, scene: ViewerLayers) -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.settings = MaskSettings()
        self._silent = ProgrammaticChange()
        self._volume: Volume | None = None
        self._coarse: Volume | None = None
        self._made: masks.MaskResult | None = None
        self._painted: Volume | None = None
        self._brushed: tuple[Volume, npt.NDArray[np.uint8]] | None = None
        self._note = ""
        self.controls: dict[str, QWidget] = {}
        self._build()
        self.subscribe(session.mask_changed, lambda mask: self.publisher.publish("mask", lambda: self._show_mask(mask)))
        self._show_mask(session.mask)

    # --- the controls

    def _build(self) -> None:
        self._build_form()
        self.row(*(self._tick(name, label) for name, label in TICKS.items()))
        button = self.button
        self.row(
            button("mask-make", "From the map", "make a mask of the selected map layer", self.make),
            button("mask-paint", "Paint", "correct the mask with napari's brush", self.paint),
            button("mask-use-paint", "Use painted mask", "the painted voxels with the soft edge", self.soften),
        )
        draw_tip = "draw ellipses and rectangles in a slice, which become spheres and boxes"
        self.row(
            button("mask-draw", "Draw shapes", draw_tip, self.draw),
            button("mask-use-shapes", "Use drawn shapes", "keep the density inside the drawn shapes", self.use_shapes),
            button("mask-clear", "Clear", "remove shapes, models and paint", self.clear),
        )
        self.model, self.selection = QLineEdit(), QLineEdit()
        self.model.setPlaceholderText("model.pdb or .cif")
        self.selection.setPlaceholderText("//A/10-120")
        near = button("mask-model", "Near atoms", "keep the neighbourhood of these atoms", self._add_model)
        self.row(self.model, self.selection, near)
        self.facts = self.label("mask-facts")
        self.row(button("mask-apply", *APPLY, self.apply))
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)
        self._show_settings()

    def _build_form(self) -> None:
        form = QFormLayout()
        self.rows.addLayout(form)
        self.threshold = self._slider("threshold", 0.0, 1.0)
        form.addRow("threshold", self.threshold)
        for name, (label, low, high) in SLIDERS.items():
            form.addRow(label, self._slider(name, low, high))
        self.region = QComboBox()
        for label, value in REGIONS:
            self.region.addItem(label, value)
        self.region.currentIndexChanged.connect(self.catch_errors(lambda _: self.set(region=self.region.currentData())))
        form.addRow("region", self.region)
        self.parts = QSpinBox()
        self.parts.setRange(0, MAX_PARTS)
        self.parts.setToolTip(PARTS_LABEL)
        self.parts.valueChanged.connect(self.catch_errors(lambda value: self.set(components=value)))
        form.addRow("largest parts", self.parts)

    def _slider(self, name: str, low: float, high: float) -> QLabeledDoubleSlider:
        slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        slider.setRange(low, high)
        slider.setObjectName(f"lrw-mask-{name}")
        slider.valueChanged.connect(self.catch_errors(lambda value: self.set(**{name: float(value)})))
        self.controls[name] = slider
        return slider

    def _tick(self, name: str, words: str) -> QCheckBox:
        box = QCheckBox(words)
        box.setObjectName(f"lrw-mask-{name}")
        box.toggled.connect(self.catch_errors(lambda on: self.set(**{name: on})))
        self.controls[name] = box
        return box

    # --- what a person does

    def set(self, **changes: Any) -> None:
        """Change settings and make the mask again. Raises TypeError for an unknown one."""
        if self._silent.is_active:
            return
        shown = self._made.threshold if self._made is not None else None
        self.settings = self.settings.change(changes, shown)
        self._show_settings()
        if self._painted is not None and set(changes) == {"soft_A"} and PAINT in self.scene.viewer.layers:
            self.soften()  # a painted mask has an edge too
            return
        self._note = PAINT_UNUSED if self._painted is not None else ""
        self._painted = None
        self._ask()

    def make(self) -> None:
        """Make a mask of the selected map. Raises InputError if no layer shows one."""
        self._take(self.scene.current_map())
        self._painted = None
        self._ask()

    def paint(self) -> None:
        """Put the mask into a Labels layer and select the brush."""
        self.latest.submit(self._whole(), self._show_brush, "brush")

    def _show_brush(self, mask: Volume) -> None:
        self._drop(PAINT)
        self._brushed = mask, paint_of(mask)
        labels = Labels(self._brushed[1].copy(), name=PAINT, opacity=0.5, **layer_placement(mask))
        self.scene.viewer.add_layer(labels)
        self.scene.viewer.dims.ndisplay = 2
        labels.n_edit_dimensions, labels.brush_size, labels.mode = 3, 5, "paint"
        self.show_message("paint with label 1, erase with 0; then press Use painted mask", "neutral")

    def soften(self) -> None:
        """Use the painted voxels with the soft edge as mask. Raises InputError if nothing is painted."""
        layer = self._layer(PAINT, Labels, "press Paint first")
        inside, width = np.asarray(layer.data) > 0, self.settings.soft_A
        pixel, place = voxel_A(PAINT, layer.scale), origin_A(layer.translate)
        if not inside.any():
            raise InputError("nothing is painted: paint with label 1")
        if self._brushed is not None and np.array_equal(inside, self._brushed[1] > 0):
            self._show_painted(self._brushed[0])
            self.show_message("nothing was painted or erased: the mask is as it was", "neutral")
            return

        def softened() -> Volume:
            return Volume(soft_edge(inside, pixel, width), pixel, place)

        self.latest.submit(softened, self._show_painted, "paint")

    def draw(self) -> None:
        """Add a Shapes layer to draw ellipses and rectangles in."""
        if SHAPES not in self.scene.viewer.layers:
            look: dict[str, Any] = {
                "units": UNITS,
                "axis_labels": AXES,
                "face_color": "#ffffff30",
                "edge_color": "#ffb000",
                "edge_width": 1.0,
            }
            self.scene.viewer.add_layer(Shapes(ndim=3, name=SHAPES, **look))
        self.scene.viewer.dims.ndisplay = 2
        layer = self.scene.viewer.layers[SHAPES]
        self.scene.viewer.layers.selection.active = layer
        layer.mode = "add_ellipse"

    def use_shapes(self) -> None:
        """Use the drawn shapes. Raises InputError if there are none."""
        layer = self._layer(SHAPES, Shapes, "press Draw shapes first")
        settings = replace(self.settings, drawn=())  # so that they count as the first ones
        self._set_settings(settings.with_shapes(shapes_from_layer(self.session.mask, layer)))

    def clear(self) -> None:
        """Remove shapes, models and paint."""
        self._drop(PAINT)
        self._drop(SHAPES)
        self._set_settings(self.settings.without_shapes())

    def apply(self) -> None:
        """Use the mask from the next iteration. Raises InputError if there is no new one."""
        if self._painted is None and self._volume is None:
            raise InputError("there is no new mask yet: press From the map, or paint one")
        make, session = self._whole(), self.session
        self.show_message("making the full mask …", "neutral")
        self.latest.submit(lambda: session.use_mask(make()), lambda _: self._applied(), "apply")

    def _applied(self) -> None:
        self._drop(PAINT)
        self.scene.drop(NEW_MASK)
        self._painted = self._brushed = None
        self.show_message(APPLIED)

    def _add_model(self) -> None:
        path, selection = self.model.text(), self.selection.text()
        self.latest.submit(lambda: read_model(path, selection), self._add_atoms, "model")

    def _add_atoms(self, atoms: masks.Atoms) -> None:
        self._set_settings(self.settings.with_atoms(atoms))

    def _set_settings(self, settings: MaskSettings) -> None:
        self.set(**self.settings.changes_to(settings))

    # --- the mask

    def _take(self, volume: Volume) -> None:
        self._volume, self._coarse, self._made = volume, masks.downsample_volume(volume, COARSE, workers=2), None

    def _ask(self) -> None:
        """Make and show the mask of these settings."""
        if self._volume is None:
            self._take(self.scene.current_map())
        coarse, settings = self._coarse, self.settings
        assert coarse is not None

        def made() -> masks.MaskResult:
            return masks.make_mask(coarse, settings.recipe(), self._made, workers=2)

        self.latest.submit(made, self._show_made, "mask")

    def _show_made(self, made: masks.MaskResult) -> None:
        self._made = made
        self._show_new(replace(made.volume, data=made.mask))
        if made.lowpassed is not None:
            low, high = float(np.median(made.lowpassed)), float(made.lowpassed.max())
            with self._silent():
                self.threshold.setRange(low, high)
                self.threshold.setDecimals(4 if high < 10 else 2)
                if self.settings.found and made.threshold is not None:
                    self.threshold.setValue(made.threshold)
        self._show_facts(describe_mask(made))

    def _show_painted(self, mask: Volume) -> None:
        self._painted = mask
        self._show_new(mask)
        checks = masks.check_mask(mask.data, mask.pixel_size_A, None)
        self._show_facts(check_lines(checks))

    def _show_facts(self, lines: list[tuple[str, bool]]) -> None:
        bad = self.colours["bad"]
        words = [line if passed else f'<span style="color: {bad}">{line}</span>' for line, passed in lines]
        notes = [self._note] if self._note else []
        self.facts.setText("<br>".join([*notes, *words, *describe_parts(self.settings)]))
        self.show_message("")

    def _whole(self) -> Callable[[], Volume]:
        """Return a function for any thread that makes the painted mask, that of the settings, or the session's."""
        painted, volume, settings, given = self._painted, self._volume, self.settings, self.session.mask

        def make() -> Volume:
            if painted is not None or volume is None:
                return given if painted is None else painted
            made = masks.make_mask(volume, settings.recipe(), workers=2)
            return Volume(made.mask, volume.pixel_size_A, volume.header_origin_A)

        return make

    def _show_new(self, mask: Volume) -> None:
        """Show the new mask in place of the session's."""
        self.scene.put(mask_layer(mask, NEW_MASK))
        old = self.scene.find(MASK)
        if old is not None:
            old.visible = False

    def _show_mask(self, mask: Volume) -> None:
        self.scene.put(mask_layer(mask, MASK)).visible = True

    # --- what is shown

    def _show_settings(self) -> None:
        with self._silent():
            for name, control in self.controls.items():
                value = getattr(self.settings, name)
                if isinstance(control, QCheckBox):
                    control.setChecked(value)
                elif name != "threshold":
                    control.setValue(value)
            self.parts.setValue(self.settings.components)
            self.region.setCurrentIndex([value for _, value in REGIONS].index(self.settings.region))

    def _layer(self, name: str, kind: type, remedy: str) -> Any:
        layers = self.scene.viewer.layers
        found = layers[layers.index(name)] if name in layers else None
        if not isinstance(found, kind):
            raise InputError(f"there is no layer {name}: {remedy}")
        return found

    def _drop(self, name: str) -> None:
        if name in self.scene.viewer.layers:
            self.scene.viewer.layers.remove(name)


def paint_of(mask: Volume) -> npt.NDArray[np.uint8]:
    """Return the voxels of a mask that are painted at first: those without its soft edge, or its half if none are."""
    level = FULL if mask.data.max() >= FULL else 0.5 * float(mask.data.max())
    return (mask.data >= level).astype(np.uint8)
