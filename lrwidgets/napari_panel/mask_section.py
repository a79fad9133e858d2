"""A mask shaped beside the density: threshold, edges, shapes and models, and napari's own brush."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QLineEdit, QSpinBox, QWidget
from superqt import QLabeledDoubleSlider

from lrcore import masks
from lrcore.errors import InputError
from lrcore.masks import soft_edge
from lrcore.records import Volume
from lrwidgets.gui.mask_settings import REGIONS, MaskSettings, describe_mask, describe_parts
from lrwidgets.napari_panel.layers import (
    MASK,
    NEW_MASK,
    layer_placement,
    mask_layer,
    origin_A,
    shapes_from_layer,
    voxel_A,
)
from lrwidgets.napari_panel.section import BAD, Section
from lrwidgets.napari_panel.viewer_layers import ViewerLayers
from lrwidgets.session.session import Session

PAINT, SHAPES = "mask paint", "mask shapes"
SLIDERS = {
    "lowpass_A": ("low-pass, Å", 0.0, 60.0),
    "dilate_A": ("dilate, Å", -20.0, 40.0),
    "soft_A": ("soft edge, Å", 0.0, 80.0),
}
TICKS = {"found": "find the threshold", "fill": "fill holes", "invert": "invert"}
COARSE = 128
"""Box of the map that is masked while a slider moves."""


class MaskSection(Section):
    """Shapes a mask on a map layer, shown as the layer `NEW_MASK`; *apply* has the session use it."""

    def __init__(self, session: Session, scene: ViewerLayers) -> None:
        super().__init__()
        self.session, self.scene = session, scene
        self.settings = MaskSettings()
        self._silent = False
        self._volume: Volume | None = None
        self._coarse: Volume | None = None
        self._made: masks.MaskResult | None = None
        self._painted: Volume | None = None
        self.controls: dict[str, QWidget] = {}
        self._build()
        self.connect(session.mask_changed, lambda mask: self.publisher.publish("mask", lambda: self._show_mask(mask)))
        self._show_mask(session.mask)

    # --- the controls

    def _build(self) -> None:
        form = QFormLayout()
        self.rows.addLayout(form)
        self.threshold = self._slider("threshold", 0.0, 1.0)
        form.addRow("threshold", self.threshold)
        for name, (label, low, high) in SLIDERS.items():
            form.addRow(label, self._slider(name, low, high))
        self.region = QComboBox()
        for words, value in REGIONS:
            self.region.addItem(words, value)
        self.region.currentIndexChanged.connect(self.catch_errors(lambda _: self.set(region=self.region.currentData())))
        form.addRow("region", self.region)
        self.parts = QSpinBox()
        self.parts.setRange(0, 999)
        self.parts.setToolTip("the largest parts to keep; 0: all")
        self.parts.valueChanged.connect(self.catch_errors(lambda value: self.set(components=value)))
        form.addRow("parts", self.parts)
        ticks = [self._tick(name, words) for name, words in TICKS.items()]
        self.row(*ticks)
        button = self.button
        self.row(
            button("mask-make", "From the map", "a mask of the selected map layer", self.make),
            button("mask-paint", "Paint", "correct the mask with napari's brush", self.paint),
            button("mask-use-paint", "Soften paint", "what is painted, with the soft edge", self.soften),
        )
        self.row(
            button("mask-draw", "Draw shapes", "ellipses and rectangles in a slice: spheres and boxes", self.draw),
            button("mask-use-shapes", "Use shapes", "within the drawn shapes", self.use_shapes),
            button("mask-clear", "Clear", "drop shapes, models and paint", self.clear),
        )
        self.model, self.selection = QLineEdit(), QLineEdit()
        self.model.setPlaceholderText("model.pdb or .cif")
        self.selection.setPlaceholderText("//A/10-120")
        self.row(
            self.model,
            self.selection,
            button("mask-model", "Near atoms", "what lies near these atoms", self._add_model),
        )
        self.facts = QLabel()
        self.facts.setObjectName("lrw-mask-facts")
        self.facts.setWordWrap(True)
        self.rows.addWidget(self.facts)
        self.row(button("mask-apply", "Apply", "the next iteration uses this mask", self.apply))
        self.rows.addWidget(self.message)
        self.rows.addStretch(1)
        self._show_settings()

    def _slider(self, name: str, low: float, high: float) -> QLabeledDoubleSlider:
        slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        slider.setRange(low, high)
        slider.setObjectName(f"lrw-mask-{name}")
        more = {"found": False} if name == "threshold" else {}
        slider.valueChanged.connect(self.catch_errors(lambda value: self.set(**{name: float(value)}, **more)))
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
        """Change settings, and have the mask made anew. Raises TypeError for one that is not there."""
        if self._silent:
            return
        self.settings, self._painted = replace(self.settings, **changes), None
        self._show_settings()
        self._ask()

    def make(self) -> None:
        """A mask of the selected map. Raises InputError if no layer shows one."""
        self._take(self.scene.current_map())
        self._painted = None
        self._ask()

    def paint(self) -> None:
        """Put the mask into a Labels layer, with the brush in hand."""
        self.latest.submit(self._whole(), self._show_brush, "brush")

    def _show_brush(self, mask: Volume) -> None:
        self._drop(PAINT)
        labels = Labels((mask.data > 0.5).astype(np.uint8), name=PAINT, opacity=0.5, **layer_placement(mask))
        self.scene.viewer.add_layer(labels)
        self.scene.viewer.dims.ndisplay = 2
        labels.n_edit_dimensions, labels.brush_size, labels.mode = 3, 5, "paint"
        self.show_message("paint with 1, erase with 0; then Soften paint", "neutral")

    def soften(self) -> None:
        """Take what is painted as the mask, with the soft edge. Raises InputError if nothing is."""
        layer = self._layer(PAINT, Labels, "press Paint first")
        inside, width = np.asarray(layer.data) > 0, self.settings.soft_A
        pixel, place = voxel_A(PAINT, layer.scale), origin_A(layer.translate)
        if not inside.any():
            raise InputError("nothing is painted: paint with label 1")

        def softened() -> Volume:
            return Volume(soft_edge(inside, pixel, width), pixel, place)

        self.latest.submit(softened, self._show_painted, "paint")

    def draw(self) -> None:
        """A Shapes layer to draw ellipses and rectangles in."""
        if SHAPES not in self.scene.viewer.layers:
            look = {"face_color": "#ffffff30", "edge_color": "#ffb000", "edge_width": 1.0}
            self.scene.viewer.add_layer(Shapes(ndim=3, name=SHAPES, **look))
        self.scene.viewer.dims.ndisplay = 2
        layer = self.scene.viewer.layers[SHAPES]
        self.scene.viewer.layers.selection.active = layer
        layer.mode = "add_ellipse"

    def use_shapes(self) -> None:
        """Take the drawn shapes. Raises InputError if there are none."""
        layer = self._layer(SHAPES, Shapes, "press Draw shapes first")
        found = shapes_from_layer(self.session.mask, layer)
        self.set(drawn=found, region="within" if self.settings.region == "dense" else self.settings.region)

    def clear(self) -> None:
        """Drop shapes, models and paint."""
        self._drop(PAINT)
        self._drop(SHAPES)
        self.set(drawn=(), atoms=(), joined=(), region="dense")

    def apply(self) -> None:
        """Have the session use the mask from the next iteration on."""
        if self._painted is None and self._volume is None:
            raise InputError("there is no new mask yet: press From the map, or paint one")
        make, session = self._whole(), self.session
        self.show_message("making the whole mask …", "neutral")
        self.latest.submit(lambda: session.use_mask(make()), lambda _: self._applied(), "apply")

    def _applied(self) -> None:
        self._drop(PAINT)
        self.scene.drop(NEW_MASK)
        self.show_message("the next iteration uses this mask")

    def _add_model(self) -> None:
        path, selection = self.model.text().strip(), self.selection.text().strip()

        def read() -> masks.Atoms:
            return masks.Atoms(masks.read_atoms(path, selection), 5.0, f"{Path(path).name} {selection}".strip())

        self.latest.submit(read, self._add_atoms, "model")

    def _add_atoms(self, atoms: masks.Atoms) -> None:
        region = "within" if self.settings.region == "dense" else self.settings.region
        self.set(atoms=(*self.settings.atoms, atoms), region=region)

    # --- the mask

    def _take(self, volume: Volume) -> None:
        self._volume, self._coarse, self._made = volume, masks.downsample_volume(volume, COARSE, workers=2), None

    def _ask(self) -> None:
        """Have the mask of these settings made and shown."""
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
            with _ProgrammaticChange(self):
                self.threshold.setRange(low, high)
                self.threshold.setDecimals(4 if high < 10 else 2)
                if self.settings.found and made.threshold is not None:
                    self.threshold.setValue(made.threshold)
        self._show_facts(describe_mask(made))

    def _show_painted(self, mask: Volume) -> None:
        self._painted = mask
        self._show_new(mask)
        checks = masks.check_mask(mask.data, mask.pixel_size_A, None)
        self._show_facts(
            [("✓ " * check.passed + "⚠ " * (not check.passed) + check.sentence, check.passed) for check in checks]
        )

    def _show_facts(self, lines: list[tuple[str, bool]]) -> None:
        words = [line if passed else f'<span style="color: {BAD}">{line}</span>' for line, passed in lines]
        self.facts.setText("<br>".join([*words, *describe_parts(self.settings)]))
        self.show_message("")

    def _whole(self) -> Callable[[], Volume]:
        """What makes the mask at work on, on any thread: the painted one, that of the settings, or the session's."""
        painted, volume, settings, given = self._painted, self._volume, self.settings, self.session.mask

        def make() -> Volume:
            if painted is not None or volume is None:
                return given if painted is None else painted
            made = masks.make_mask(volume, settings.recipe(), workers=2)
            return Volume(made.mask, volume.pixel_size_A, volume.header_origin_A)

        return make

    def _show_new(self, mask: Volume) -> None:
        """The mask at work on, in place of the session's."""
        self.scene.put(mask_layer(mask, NEW_MASK))
        old = self.scene.find(MASK)
        if old is not None:
            old.visible = False

    def _show_mask(self, mask: Volume) -> None:
        self.scene.put(mask_layer(mask, MASK)).visible = True

    # --- what is shown

    def _show_settings(self) -> None:
        with _ProgrammaticChange(self):
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


class _ProgrammaticChange:
    """While this lasts, what changes in the controls is no person's doing."""

    def __init__(self, section: MaskSection) -> None:
        self._section = section

    def __enter__(self) -> None:
        self._before, self._section._silent = self._section._silent, True

    def __exit__(self, *_: object) -> None:
        self._section._silent = self._before
