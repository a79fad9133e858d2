"""Shape a mask in the notebook: threshold on the histogram, parts, edges, drawn shapes, models, other masks.

While a slider moves, the mask of a coarse map is shown; once it rests, the full one with its checks. Only the stages
that depend on a change are computed again (`lrcore.masks.recipe`).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as w

from lrcore import io, masks
from lrcore.arrays import Float32
from lrcore.errors import InputError
from lrcore.imaging.resampling import grid_mismatch
from lrcore.io.paths import require_writable_file
from lrcore.records import Volume
from lrwidgets.gui.confirmation import Confirmation, replace_question
from lrwidgets.gui.mask_settings import (
    APPLIED,
    APPLY,
    ATOM_RADIUS_A,
    COARSE,
    PARTS_LABEL,
    REGIONS,
    RESOLUTION_LABEL,
    SLIDER_STEP_A,
    SLIDERS,
    TICKS,
    MaskSettings,
    read_model,
    require_valid_setting,
)
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.mask_report import mask_facts_html, mask_parts_html
from lrwidgets.jupyter.number import STEPS, NumberControl, histogram_counts
from lrwidgets.jupyter.slices import SliceView, overlay_traits, parse_coordinates
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import current_map

QUIET_S = 0.25
"""Time after which a slider that has not moved is at rest."""
WIDE = w.Layout(width="99%")
WRAPPED = w.Layout(flex_flow="row wrap")
STYLE = {"description_width": "84px"}
SLIDER: dict[str, Any] = {"label_width": STYLE["description_width"], "layout": WIDE}
TICK: dict[str, Any] = {"indent": False, "layout": w.Layout(width="auto", margin="0 12px 0 0")}


class MaskWidget(Panel):
    """Shape a mask of a session's map, or of a given map (such as the mean of two half maps).

    Attributes
    ----------
    mask
        The mask of the present settings, at full size.
    recipe
        How it is made.
    """

    def __init__(
        self, source: Volume | Session, *, mask: Volume | None = None, resolution_A: float | None = None
    ) -> None:
        """Show a map and its mask.

        Parameters
        ----------
        source
            Map, or session whose newest map is taken.
        mask
            Shown until a setting is changed; by default the mask of the session. It has the grid of the map.
        resolution_A
            Resolution that the refinement should reach, Å.

        Raises
        ------
        InputError
            If box or voxel size of the mask differ from those of the map.
        """
        if mask is not None:
            require_grid_of(mask, source)
        super().__init__()
        self.session = source if isinstance(source, Session) else None
        self.view = SliceView(tools=("cross", "sphere", "box"))
        self._lock = threading.RLock()
        self._asked = threading.Condition()
        self._changes = 0
        self._silent = ProgrammaticChange()
        self._settings = MaskSettings(resolution_A=resolution_A or 0.0)
        self._first = self._settings
        self._history, self._place = [self._settings], 0
        self._volume: Volume | None = None
        self._coarse: Volume | None = None
        self._coarse_others: dict[masks.CombinedMask, masks.CombinedMask] = {}
        self._counted: Float32 | None = None  # the low-passed map that the histogram is of
        self._small: masks.MaskResult | None = None
        self._whole: masks.MaskResult | None = None
        self._build()
        self._given = mask
        self._confirmed, self._is_centred = Confirmation(), False
        if isinstance(source, Volume):
            self._take(source)
            return
        self._given = source.job.mask if mask is None else mask
        self.subscribe(source.step_done, self._stepped)
        self.subscribe(source.mask_changed, self._mask_changed)
        self.load()

    @property
    def recipe(self) -> masks.MaskRecipe:
        """Recipe of the mask. Raises InputError for a region of shapes without any shape."""
        return self._settings.recipe()

    @property
    def settings(self) -> MaskSettings:
        """Present settings of the controls."""
        return self._settings

    @property
    def mask(self) -> Volume:
        """The mask of these settings at full size. Raises InputError if it is empty, or there is no map yet."""
        if self._is_untouched and self._given is not None:
            return self._given
        made = self._make_full_mask()
        return Volume(made.mask, made.volume.pixel_size_A, made.volume.header_origin_A)

    def set(self, **changes: Any) -> None:
        """Change settings as the controls do. Raises TypeError for an unknown one."""
        self._change(**changes)
        self._show_settings()

    def undo(self) -> None:
        """Go back to the settings before the last change."""
        self._move_in_history(-1)

    def redo(self) -> None:
        """Undo the last `undo`."""
        self._move_in_history(1)

    def load(self) -> None:
        """Show the newest map of the session."""
        self.latest.submit(lambda: self._take(self._newest()), key="map")

    def apply(self) -> None:
        """Use this mask from the next iteration. Raises InputError without a session."""
        session = self.session
        if session is None:
            raise InputError("there is no session to use the mask: save it, or read `mask`")
        self.latest.submit(
            lambda: session.use_mask(self.mask),
            lambda _: self.show_message(APPLIED),
            "apply",
        )

    def save(self, path: str | Path) -> None:
        """Write the mask as MRC. Raises InputError for a path that cannot be written."""
        target = Path(path)
        if not target.name:
            raise InputError("write a path for the mask, such as mask.mrc")
        require_writable_file(target)

        def write() -> None:
            io.write_volume(target, self.mask)

        self.latest.submit(write, lambda _: self.show_message(f"wrote {target}"), "save")

    def add_model(self, path: str | Path, selection: str = "", radius_A: float = ATOM_RADIUS_A) -> None:
        """Add the neighbourhood of a model's atoms to the shapes."""
        self.latest.submit(lambda: read_model(path, selection, radius_A), self._add_atoms, "model")

    def join(self, word: masks.MaskOperation, path: str | Path) -> None:
        """Combine with another mask: and, or, subtract."""

        def read() -> masks.CombinedMask:
            volume, other = self._map(), io.read_volume(str(path).strip())
            require_grid_of(other, volume)
            data = masks.validate_mask(other, volume.box, volume.pixel_size_A).data
            return masks.CombinedMask(word, data, Path(path).name)

        self.latest.submit(read, lambda one: self.set(joined=(*self._settings.joined, one)), "join")

    def close(self) -> None:
        """Disconnect from the session and end the threads."""
        self._notice()
        super().close()
        self.view.close()

    # --- the panel

    def _build(self) -> None:
        self._controls: dict[str, w.Widget] = {}
        self._at_cross = w.Checkbox(description="keep the part at the crosshair", **TICK).add_class("lrw-mask-at")
        self._at_cross.observe(self.catch_errors(self._at_changed), "value")
        self.facts = w.HTML().add_class("lrw-mask-facts")
        columns = [self._build_level(), self._build_edges(), self._build_others()]
        boxes = [w.VBox(column, layout=w.Layout(flex="1 1 240px", min_width="230px")) for column in columns]
        self.view.observe_trait("shapes", self._shapes_drawn)
        self.view.widget.layout.flex, self.facts.layout.flex = "4 1 560px", "1 1 220px"
        picture = w.HBox([self.view.widget, self.facts], layout=WRAPPED)
        self.widget = w.VBox([picture, self.message, w.HBox(boxes, layout=WRAPPED)]).add_class("lrw-mask")
        self._show_settings()

    def _build_level(self) -> list[w.Widget]:
        """Make the controls of threshold and region."""
        region = w.Dropdown(description="region", options=REGIONS, style=STYLE, layout=WIDE)
        return [
            self._control("threshold", NumberControl(description="threshold", **SLIDER)),
            self._tick("found", "auto"),
            self._slider("lowpass_A"),
            self._control("region", region),
        ]

    def _build_edges(self) -> list[w.Widget]:
        """Make the controls of edge and parts."""
        layout = w.Layout(flex="0 0 auto", width="auto")
        resolution = NumberControl(unit="Å", description=RESOLUTION_LABEL, layout=layout)
        parts = NumberControl(whole=True, description=PARTS_LABEL, layout=layout)
        rule_tip = "soft edge of 5 × the target resolution"
        rule = self.button("mask-rule", "set edge to 5 × resolution", rule_tip, self._set_edge_by_rule)
        return [
            self._slider("dilate_A"),
            self._slider("soft_A"),
            w.HBox([self._control("resolution_A", resolution, "resolution"), rule], layout=WRAPPED),
            w.HBox([self._control("components", parts), self._at_cross], layout=WRAPPED),
            w.HBox([self._tick("fill"), self._tick("invert")]),
        ]

    def _build_others(self) -> list[w.Widget]:
        """Make the controls of model and other masks, and the buttons for the mask."""
        text = {"layout": w.Layout(width="auto", min_width="60px", flex="1 1 60px"), "continuous_update": False}
        self._model = w.Text(placeholder="model.pdb or .cif", **text).add_class("lrw-mask-model")
        self._selection = w.Text(placeholder="//A/10-120", **text).add_class("lrw-mask-selection")
        self._other = w.Text(placeholder="another mask.mrc", **text).add_class("lrw-mask-other")
        self._word = w.Dropdown(options=["and", "or", "subtract"], layout=w.Layout(width="84px"))
        self._word.add_class("lrw-mask-word")
        self._path = w.Text("mask.mrc", **text).add_class("lrw-mask-path")
        self._list = w.HTML().add_class("lrw-mask-list")
        button = self.button
        add = button("mask-model-add", "add", "add the neighbourhood of these atoms", self._add_typed_model)
        join = button("mask-join", "join", "combine with this mask", self._join_typed_mask)
        history = [
            button("mask-undo", "undo", "go back to the settings before", self.undo),
            button("mask-redo", "redo", "go forward again", self.redo),
            button("mask-clear", "clear", "remove all shapes, models and other masks", self._clear),
        ]
        output = [self._path, button("mask-save", "save", "write the mask as MRC", self._save_as_typed)]
        if self.session is not None:
            tip = "show the map of the present iteration"
            history.append(button("mask-refresh", "Show latest map", tip, self.load))
            output.append(button("mask-apply", *APPLY, self.apply, "primary"))
        rows = ([self._model, self._selection, add], [self._word, self._other, join], history, output)
        return [self._list, *(w.HBox(row, layout=WRAPPED) for row in rows)]

    def _slider(self, field: str) -> w.Widget:
        label, low, high = SLIDERS[field]
        slider = NumberControl(unit="Å", low=low, description=label, high=high, step=SLIDER_STEP_A, **SLIDER)
        return self._control(field, slider)

    def _tick(self, field: str, name: str = "") -> w.Widget:
        return self._control(field, w.Checkbox(description=TICKS[field], **TICK), name)

    def _control(self, field: str, widget: w.Widget, name: str = "") -> w.Widget:
        """Connect the control of a setting. Moving the threshold turns the automatic one off."""

        def use(value: Any) -> None:
            self._change(**{field: require_valid_setting(field, value)})
            if field == "threshold":
                with self._silent():
                    self._controls["found"].value = False

        if isinstance(widget, NumberControl):
            widget.on_hand(self, use)
        else:
            changed = self.catch_errors(lambda change: None if self._silent.is_active else use(change["new"]))
            widget.observe(changed, "value")
        self._controls[field] = widget
        return widget.add_class(f"lrw-mask-{name or field.removesuffix('_A')}")

    # --- what a person does

    def _change(self, **changes: Any) -> None:
        with self._lock:
            settings = self._settings.change(changes, self._small.threshold if self._small else None)
            if settings == self._settings:
                return
            self._settings = settings
        self._ask()

    def _shapes_drawn(self, drawn: Sequence[dict[str, Any]]) -> None:
        """Take shapes from the slices; the first ones are used at once."""
        if not self._silent.is_active:
            shapes = tuple(self._from_view(shape) for shape in drawn)
            self._set_settings(lambda settings: settings.with_shapes(shapes))

    def _add_atoms(self, atoms: masks.Atoms) -> None:
        self._set_settings(lambda settings: settings.with_atoms(atoms))

    def _add_typed_model(self) -> None:
        self.add_model(self._model.value, self._selection.value)

    def _save_as_typed(self) -> None:
        """Save the mask; in place of another file only if the button is pressed again."""
        target = Path(self._path.value.strip())
        if self._confirmed.may_replace([target] if target.is_file() else [], target):
            self.save(target)
        else:
            self.show_message(replace_question([target], "save"), "bad")

    def _join_typed_mask(self) -> None:
        self.join(self._word.value, self._other.value)

    def _set_settings(self, change: Callable[[MaskSettings], MaskSettings]) -> None:
        self.set(**self._settings.changes_to(change(self._settings)))

    def _at_changed(self, change: Any) -> None:
        if not self._silent.is_active:
            self._change(at_A=self.view.to_A(self.view.slices.position) if change["new"] else None)

    def _set_edge_by_rule(self) -> None:
        if not self._settings.resolution_A:
            raise InputError("type the target resolution in Å first")
        self.set(soft_A=masks.EDGE_PER_RESOLUTION * self._settings.resolution_A)

    def _clear(self) -> None:
        self._set_settings(MaskSettings.without_shapes)

    def _move_in_history(self, by: int) -> None:
        with self._lock:
            self._remember()
            self._place = min(max(self._place + by, 0), len(self._history) - 1)
            self._settings = self._history[self._place]
        self._show_settings()
        self._ask()

    def _remember(self) -> None:
        """Add settings that have come to rest to the history."""
        with self._lock:
            if self._settings != self._history[self._place]:
                del self._history[self._place + 1 :]
                self._history.append(self._settings)
                self._place += 1

    # --- the settings shown

    def _show_settings(self) -> None:
        settings = self._settings
        with self._silent():
            for field, control in self._controls.items():
                if field == "threshold" and settings.found:
                    continue
                value = getattr(settings, field)
                if isinstance(control, NumberControl):
                    control.show(value)
                else:
                    control.value = value
            self._at_cross.value = settings.at_A is not None
            if self.view.volume is not None:
                self.view.slices.shapes = [self._to_view(shape) for shape in settings.drawn]
            self._list.value = mask_parts_html(settings)

    def _to_view(self, shape: masks.Sphere | masks.Cuboid) -> dict[str, Any]:
        apix = self._map().pixel_size_A
        centre = self.view.to_voxel(shape.centre_A)
        if isinstance(shape, masks.Sphere):
            return {"kind": "sphere", "centre": centre, "radius": shape.radius_A / apix}
        return {"kind": "box", "centre": centre, "size": [a / apix for a in shape.size_A]}

    def _from_view(self, drawn: dict[str, Any]) -> masks.Sphere | masks.Cuboid:
        apix, centre = self._map().pixel_size_A, self.view.to_A(drawn.get("centre"))
        if drawn.get("kind") == "sphere":
            return masks.Sphere(centre, parse_coordinates([drawn.get("radius")], 1)[0] * apix)
        x, y, z = (a * apix for a in parse_coordinates(drawn.get("size")))
        return masks.Cuboid(centre, (x, y, z))

    # --- the work, on the thread of `latest`

    def _ask(self) -> None:
        self._notice()
        if self._volume is not None:
            self.latest.submit(self._work)

    def _notice(self) -> None:
        """Wake the thread that waits for the controls to rest."""
        with self._asked:
            self._changes += 1
            self._asked.notify_all()

    def _work(self) -> None:
        """Show the coarse mask at once, and the full one if nothing changes for a while."""
        with self._asked:
            changes = self._changes
        recipe = self._settings.recipe()
        self._small = masks.make_mask(self._coarse or self._map(), self._coarsen_recipe(recipe), self._small)
        self._publish(self._small)
        self._count(self._small)
        if self._coarse is self._volume:
            self._whole = self._small
        with self._asked:
            if self._asked.wait_for(lambda: self._changes != changes, QUIET_S):
                return
        made = self._make_full_mask()
        self._publish(made)
        self._remember()
        given = self._given if self._is_untouched else None
        checks = (
            made.checks() if given is None else masks.check_mask(given.data, given.pixel_size_A, recipe.resolution_A)
        )
        words = mask_facts_html(made, given, checks)
        self.publisher.publish("facts", lambda: setattr(self.facts, "value", words))

    @property
    def _is_untouched(self) -> bool:
        """Return whether no setting has been changed yet: the mask is then the given one."""
        return self._given is not None and self._settings is self._first

    def _make_full_mask(self) -> masks.MaskResult:
        self._whole = masks.make_mask(self._map(), self._settings.recipe(), self._whole, workers=2)
        return self._whole

    def _coarsen_recipe(self, recipe: masks.MaskRecipe) -> masks.MaskRecipe:
        """Return the recipe with other masks on the coarse grid, each of which is made only once."""
        if self._coarse is self._volume:
            return recipe
        for one in recipe.joined:
            if one not in self._coarse_others:
                other = masks.downsample_volume(replace(self._map(), data=one.data), COARSE)
                self._coarse_others[one] = replace(one, data=other.data.clip(0, 1))
        return replace(recipe, joined=tuple(self._coarse_others[one] for one in recipe.joined))

    def _publish(self, made: masks.MaskResult) -> None:
        """Show the mask and its threshold."""
        mask = self._given if self._is_untouched and self._given else Volume(made.mask, made.volume.pixel_size_A)
        shown = overlay_traits(mask, self._map())

        def write() -> None:
            self.view.slices.set_and_redraw(**shown)
            self._show_found(made.threshold)

        self.publisher.publish("mask", write)
        if self.has_message:  # after the mask, which would wait for the next round
            self.show_message("")

    def _count(self, made: masks.MaskResult) -> None:
        """Show the histogram if it has changed."""
        if made.lowpassed is None or made.lowpassed is self._counted:
            return
        self._counted = made.lowpassed
        counts, (low, high) = histogram_counts(made.lowpassed)

        def write() -> None:
            self._show_found(made.threshold, counts=counts, low=low, high=high, step=(high - low) / STEPS)

        self.publisher.publish("histogram", write)

    def _show_found(self, threshold: float | None, **traits: Any) -> None:
        """Show the automatic threshold, or that which is set, and other traits of its control with it."""
        found = threshold is not None and self._settings.found
        self._controls["threshold"].show(threshold if found else self._settings.threshold, **traits)

    def _stepped(self, *_: object) -> None:
        """Show the first map; a session without half maps has none before its first step."""
        if self._volume is None:
            self.load()

    def _mask_changed(self, mask: Volume) -> None:
        """Show another mask of the session if no setting has been changed yet."""
        if self._is_untouched:
            self._given = mask
            self._ask()

    def _newest(self) -> Volume:
        assert self.session is not None
        volume = current_map(self.session)
        if volume is None:
            raise InputError("there is no map yet: run a step, which reconstructs one, or give half maps")
        return volume

    def _take(self, volume: Volume) -> None:
        """Show a map, with the given mask until a setting is changed."""
        self.view.show(volume, names=("map", "map"))
        self._coarse, self._volume = masks.downsample_volume(volume, COARSE, workers=2), volume
        self._coarse_others = {}
        self._counted = None
        self._small = self._whole = None
        if self._given is not None and not self._is_centred:
            self._is_centred = True
            centre = masks.centre_of_mass(self._given.data) * self._given.pixel_size_A
            self.view.slices.position = [round(v) for v in self.view.to_voxel(centre)]
        self._ask()

    def _map(self) -> Volume:
        if self._volume is None:
            raise InputError("there is no map yet")
        return self._volume


def require_grid_of(mask: Volume, source: Volume | Session) -> None:
    """Check that a mask has box and voxel size of a map, or of a session's maps. Raises InputError if not."""
    volume = source if isinstance(source, Volume) else source.job.mask
    if mismatch := grid_mismatch(mask, volume.box, volume.pixel_size_A, "mask", "the map's"):
        raise InputError(mismatch)
