"""A mask shaped by hand: threshold on the histogram, parts, edges, shapes drawn in the slices, models, other masks.

While a slider moves, the mask of a coarse map is shown; as soon as it rests, the whole one, with what is to be known of
it. What is made anew is only what follows the change (lrcore.masks.recipe).
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as w

from lrcore import io, masks
from lrcore.arrays import Float32
from lrcore.errors import InputError
from lrcore.io.checks import require_same_grid
from lrcore.io.paths import require_parent_folder
from lrcore.records import Volume
from lrwidgets.gui.mask_settings import REGIONS, MaskSettings
from lrwidgets.gui.panel_base import ProgrammaticChange, Tone
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.histogram import STEPS, Histogram, histogram_counts, set_slider_range
from lrwidgets.jupyter.mask_report import mask_facts_html, mask_parts_html
from lrwidgets.jupyter.slices import SliceView, overlay_traits, parse_coordinates
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import current_map

COARSE = 128
"""Box of the map that is masked while a slider moves: an eighth of the work in a box of 256."""
QUIET_S = 0.25
"""A slider that has not moved for so long is at rest."""
WIDE = w.Layout(width="99%")
STYLE = {"description_width": "84px"}


class MaskWidget(Panel):
    """Shape a mask; `mask` is it as a Volume, `recipe` how it was made. With a session, *apply* has it used.

    Without a session, give the map (or the mean of two half maps).
    """

    def __init__(
        self, source: Volume | Session, *, mask: Volume | None = None, resolution_A: float | None = None
    ) -> None:
        """mask: shown until something is set; of a session, its own. resolution_A: what the refinement is to reach."""
        super().__init__()
        self._told = False
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
        if isinstance(source, Volume):
            self._take(source)
            return
        self._given = source.job.mask if mask is None else mask
        self.connect(source.step_done, self._stepped)
        self.connect(source.mask_changed, self._mask_changed)
        self.load()

    @property
    def recipe(self) -> masks.MaskRecipe:
        """How the mask is made. Raises InputError if the settings ask for shapes that are not there."""
        return self._settings.recipe()

    @property
    def settings(self) -> MaskSettings:
        """What the controls say."""
        return self._settings

    @property
    def mask(self) -> Volume:
        """The mask of these settings, whole. Raises InputError if they leave nothing, or there is no map yet."""
        if self._is_untouched and self._given is not None:
            return self._given
        made = self._make_full_mask()
        return Volume(made.mask, made.volume.pixel_size_A, made.volume.header_origin_A)

    def set(self, **changes: Any) -> None:
        """Change settings as the controls do. Raises TypeError for one that is not there."""
        self._change(**changes)
        self._show_settings()

    def show_message(self, text: str, tone: Tone = "good") -> None:
        """Show a line in place of the last one, and know whether there is one."""
        self._told = bool(text)
        super().show_message(text, tone)

    def undo(self) -> None:
        """Go back to the settings before the last change."""
        self._move_in_history(-1)

    def redo(self) -> None:
        """Take the last `undo` back."""
        self._move_in_history(1)

    def load(self) -> None:
        """Take the newest map of the session."""
        self.latest.submit(lambda: self._take(self._newest()), key="map")

    def apply(self) -> None:
        """Have the session use this mask from the next iteration on."""
        session = self.session
        if session is None:
            raise InputError("there is no session that could use the mask: save it, or take `mask`")
        self.latest.submit(
            lambda: session.use_mask(self.mask),
            lambda _: self.show_message("the next iteration uses this mask"),
            "apply",
        )

    def save(self, path: str | Path) -> None:
        """Write the mask as MRC."""
        target = Path(path)
        if not target.name:
            raise InputError("write a path for the mask, such as mask.mrc")
        require_parent_folder(target)

        def write() -> None:
            io.write_volume(target, self.mask)

        self.latest.submit(write, lambda _: self.show_message(f"wrote {target}"), "save")

    def add_model(self, path: str | Path, selection: str = "", radius_A: float = 5.0) -> None:
        """Add what lies near the atoms of a model to the shapes."""
        name = f"{Path(path).name} {selection}".strip()

        def read() -> masks.Atoms:
            return masks.Atoms(masks.read_atoms(str(path).strip(), selection.strip()), radius_A, name)

        self.latest.submit(read, self._add_atoms, "model")

    def join(self, word: masks.MaskOperation, path: str | Path) -> None:
        """Join another mask: and, or, subtract."""

        def read() -> masks.CombinedMask:
            volume, other = self._map(), io.read_volume(str(path).strip())
            require_same_grid(volume, other)
            data = masks.validate_mask(other, volume.box, volume.pixel_size_A).data
            return masks.CombinedMask(word, data, Path(path).name)

        self.latest.submit(read, lambda one: self.set(joined=(*self._settings.joined, one)), "join")

    def close(self) -> None:
        """Let go of the session and end the threads."""
        self._notice()
        super().close()
        self.view.close()

    # --- the panel

    def _build(self) -> None:
        self._controls: dict[str, w.Widget] = {}
        self.histogram = Histogram().add_class("lrw-mask-histogram")
        tick = {"indent": False, "layout": w.Layout(width="auto", margin="0 12px 0 0")}
        self._at_cross = w.Checkbox(description="the one at the crosshair", **tick).add_class("lrw-mask-at")
        self._at_cross.observe(self.catch_errors(self._at_changed), "value")
        slider = {"continuous_update": True, "style": STYLE, "layout": WIDE}
        threshold = self._control("threshold", w.FloatSlider(description="threshold", readout_format=".3g", **slider))
        w.jslink((threshold, "value"), (self.histogram, "value"))
        level = [
            self.histogram,
            threshold,
            self._control("found", w.Checkbox(description="find the threshold", **tick), "auto"),
            self._control("lowpass_A", w.FloatSlider(description="low-pass, Å", min=0, max=60, step=0.5, **slider)),
            self._control("region", w.Dropdown(description="region", options=REGIONS, style=STYLE, layout=WIDE)),
        ]
        number = {"min": 0, "style": STYLE, "layout": w.Layout(flex="1 1 120px", width="auto")}
        reach = w.BoundedFloatText(description="to reach, Å", max=200, step=0.5, **number)
        parts = w.BoundedIntText(description="parts, 0: all", max=999, **number)
        rule = self._button("edge by the rule", "rule", self._rule, "Soft edge of 5 × the resolution to reach")
        edges = [
            self._control("dilate_A", w.FloatSlider(description="dilate, Å", min=-20, max=40, step=0.5, **slider)),
            self._control("soft_A", w.FloatSlider(description="soft edge, Å", min=0, max=80, step=0.5, **slider)),
            w.HBox([self._control("resolution_A", reach, "resolution"), rule]),
            w.HBox([self._control("components", parts), self._at_cross], layout=w.Layout(flex_flow="row wrap")),
            w.HBox([
                self._control("fill", w.Checkbox(description="fill holes", **tick)),
                self._control("invert", w.Checkbox(description="invert", **tick)),
            ]),
        ]  # fmt: skip
        self.facts = w.HTML().add_class("lrw-mask-facts")
        columns = [level, edges, self._others()]
        boxes = [w.VBox(column, layout=w.Layout(flex="1 1 240px", min_width="230px")) for column in columns]
        self.view.observe_trait("shapes", self._shapes_drawn)
        self.view.widget.layout.flex, self.facts.layout.flex = "4 1 560px", "1 1 220px"
        wrapped = w.Layout(flex_flow="row wrap")
        picture = w.HBox([self.view.widget, self.facts], layout=wrapped)
        self.widget = w.VBox([picture, self.message, w.HBox(boxes, layout=wrapped)]).add_class("lrw-mask")
        self._show_settings()

    def _others(self) -> list[w.Widget]:
        """Model, other masks, and what is done with the mask."""
        text = {"layout": w.Layout(width="auto", min_width="60px", flex="1 1 60px"), "continuous_update": False}
        self._model = w.Text(placeholder="model.pdb or .cif", **text).add_class("lrw-mask-model")
        self._selection = w.Text(placeholder="//A/10-120", **text).add_class("lrw-mask-selection")
        self._other = w.Text(placeholder="another mask.mrc", **text).add_class("lrw-mask-other")
        self._word = w.Dropdown(options=["and", "or", "subtract"], layout=w.Layout(width="84px")).add_class(
            "lrw-mask-word"
        )
        self._path = w.Text("mask.mrc", **text).add_class("lrw-mask-path")
        self._list = w.HTML().add_class("lrw-mask-list")
        add_model = self._button(
            "add", "model-add", lambda: self.add_model(self._model.value, self._selection.value), "Near these atoms"
        )
        join = self._button("join", "join", lambda: self.join(self._word.value, self._other.value), "Join this mask")
        last = [
            self._button("undo", "undo", self.undo, "Back to the settings before"),
            self._button("redo", "redo", self.redo, "Forward again"),
            self._button("clear", "clear", self._clear, "Drop all shapes, models and joined masks"),
        ]
        done = [self._path, self._button("save", "save", lambda: self.save(self._path.value), "Write the mask as MRC")]
        if self.session is not None:
            last.append(self._button("newest map", "refresh", self.load, "Take the map of the present iteration"))
            done.append(self._button("apply", "apply", self.apply, "The next iteration uses this mask", "primary"))
        row = w.Layout(flex_flow="row wrap")
        rows = ([self._model, self._selection, add_model], [self._word, self._other, join], last, done)
        return [self._list, *(w.HBox(parts, layout=row) for parts in rows)]

    def _control(self, field: str, widget: w.Widget, name: str = "") -> w.Widget:
        """A control of one setting; a threshold that is moved is no longer a found one."""

        def changed(change: Any) -> None:
            if self._silent.is_active or (field == "threshold" and self._is_echo(change["new"])):
                return
            more = {"found": False} if field == "threshold" else {}
            self._change(**{field: change["new"]}, **more)
            if more:
                with self._silent():
                    self._controls["found"].value = False

        widget.add_class(f"lrw-mask-{name or field.removesuffix('_A')}")
        widget.observe(self.catch_errors(changed), "value")
        self._controls[field] = widget
        return widget

    def _is_echo(self, threshold: float) -> bool:
        """Whether the browser only rounds the threshold that was found to a step of its slider."""
        known = self._small.threshold if self._small is not None else None
        step: float = self._controls["threshold"].step
        return self._settings.found and known is not None and abs(threshold - known) < 0.75 * step

    def _button(self, text: str, name: str, act: Any, tooltip: str, style: str = "") -> w.Button:
        button = w.Button(description=text, tooltip=tooltip, button_style=style, layout=w.Layout(width="auto"))
        button.on_click(self.catch_errors(lambda _: act()))
        return button.add_class(f"lrw-mask-{name}")

    # --- what a person does

    def _change(self, **changes: Any) -> None:
        with self._lock:
            settings = replace(self._settings, **changes)
            if settings == self._settings:
                return
            self._settings = settings
        self._ask()

    def _shapes_drawn(self, drawn: Sequence[dict[str, Any]]) -> None:
        """Shapes came from the slices; the first ones are what the person wants to see used."""
        if self._silent.is_active:
            return
        shapes = tuple(self._from_view(shape) for shape in drawn)
        first = shapes and not self._settings.drawn and self._settings.region == "dense"
        self.set(drawn=shapes, **({"region": "within"} if first else {}))

    def _add_atoms(self, atoms: masks.Atoms) -> None:
        """A model has been read: it counts at once."""
        now = self._settings
        self.set(atoms=(*now.atoms, atoms), region="within" if now.region == "dense" else now.region)

    def _at_changed(self, change: Any) -> None:
        if not self._silent.is_active:
            self._change(at_A=self.view.to_A(self.view.slices.position) if change["new"] else None)

    def _rule(self) -> None:
        if not self._settings.resolution_A:
            raise InputError("write the resolution that the refinement is to reach, in Å, first")
        self.set(soft_A=masks.EDGE_PER_RESOLUTION * self._settings.resolution_A)

    def _clear(self) -> None:
        self.set(drawn=(), atoms=(), joined=(), region="dense")

    def _move_in_history(self, by: int) -> None:
        with self._lock:
            self._remember()
            self._place = min(max(self._place + by, 0), len(self._history) - 1)
            self._settings = self._history[self._place]
        self._show_settings()
        self._ask()

    def _remember(self) -> None:
        """Settings that have come to rest can be undone."""
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
                if isinstance(control, w.FloatSlider):
                    set_slider_range(control, min(value, control.min), max(value, control.max))
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
        """Wake up who waits for the controls to rest."""
        with self._asked:
            self._changes += 1
            self._asked.notify_all()

    def _work(self) -> None:
        """The coarse mask at once, and the whole one if nothing changes for a while."""
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
        """Whether nothing has been set yet, so that the mask is the given one."""
        return self._given is not None and self._settings is self._first

    def _make_full_mask(self) -> masks.MaskResult:
        self._whole = masks.make_mask(self._map(), self._settings.recipe(), self._whole, workers=2)
        return self._whole

    def _coarsen_recipe(self, recipe: masks.MaskRecipe) -> masks.MaskRecipe:
        """The recipe with other masks on the coarse grid, each of which is made only once."""
        if self._coarse is self._volume:
            return recipe
        for one in recipe.joined:
            if one not in self._coarse_others:
                other = masks.downsample_volume(replace(self._map(), data=one.data), COARSE)
                self._coarse_others[one] = replace(one, data=other.data.clip(0, 1))
        return replace(recipe, joined=tuple(self._coarse_others[one] for one in recipe.joined))

    def _publish(self, made: masks.MaskResult) -> None:
        """Have the mask and its threshold shown."""
        mask = self._given if self._is_untouched and self._given else Volume(made.mask, made.volume.pixel_size_A)
        shown = overlay_traits(mask, self._map())

        def write() -> None:
            self.view.slices.set_and_redraw(**shown)
            with self._silent():
                self._show_found(made.threshold)

        self.publisher.publish("mask", write)
        if self._told:  # after the mask, which would wait for the next round
            self.show_message("")

    def _count(self, made: masks.MaskResult) -> None:
        """Have the histogram shown, if it is another one than before."""
        if made.lowpassed is None or made.lowpassed is self._counted:
            return
        self._counted = made.lowpassed
        counts, (low, high) = histogram_counts(made.lowpassed)

        def write() -> None:
            self.histogram.counts, self.histogram.range = counts, [low, high]
            slider = self._controls["threshold"]
            # Ends, step and value in one message: the browser answers each of them with what fits into the others.
            with self._silent(), slider.hold_sync():
                set_slider_range(slider, low, high)
                slider.step = (high - low) / STEPS
                self._show_found(made.threshold)

        self.publisher.publish("histogram", write)

    def _show_found(self, threshold: float | None) -> None:
        if self._settings.found and threshold is not None:
            self._controls["threshold"].value = threshold

    def _stepped(self, *_: object) -> None:
        """A session without half maps has a map from its first step on."""
        if self._volume is None:
            self.load()

    def _mask_changed(self, mask: Volume) -> None:
        """The session has another mask: shown if nothing has been set yet; else undo leads back to the one before."""
        if self._is_untouched:
            self._given = mask
            self._ask()

    def _newest(self) -> Volume:
        assert self.session is not None
        volume = current_map(self.session)
        if volume is None:
            raise InputError("there is no map yet: the first step makes one of the input poses, or give half maps")
        return volume

    def _take(self, volume: Volume) -> None:
        """A map has come: show it, with the mask that was given until something is set."""
        self.view.show(volume, names=("map", "map"))
        self._coarse, self._volume = masks.downsample_volume(volume, COARSE, workers=2), volume
        self._coarse_others = {}
        self._counted = None
        self._small = self._whole = None
        self._ask()

    def _map(self) -> Volume:
        if self._volume is None:
            raise InputError("there is no map yet")
        return self._volume
