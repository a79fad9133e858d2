"""The fulcrum placed by hand: dragged in the slices, typed in px or Å, snapped; and what a rotation about it does."""

import html
import re
from typing import Any

import ipywidgets as w
import numpy as np
import numpy.typing as npt

from lrcore import masks
from lrcore.arrays import Float64
from lrcore.errors import InputError
from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Volume
from lrcore.refinement.parameter_checks import parameter_warnings
from lrcore.refinement.parameters import FULCRUM_PATTERN, NAMED_POINTS, RefineSpec, fulcrum_point
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.jupyter.base import Panel
from lrwidgets.jupyter.slices import Point, SliceView
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import current_fulcrum_estimate, current_map

UNITS = (
    ("px from the corner", "px"),
    ("Å from the corner", "A"),
    ("Å from the centre", "centre"),
    ("Å in the map's frame", "map"),
)
CENTRE_PATTERN = re.compile(r"^\s*([-+\d.eE]+)\s*,\s*([-+\d.eE]+)\s*,\s*([-+\d.eE]+)\s*centre\s*$")
ELLIPSE_SDS = 2.0
"""An estimate is drawn to so many standard deviations."""


class FulcrumWidget(Panel):
    """Place the fulcrum; *apply* has the session use it from the next iteration on.

    `text` is what is applied: mask, box or a point as the spec reads it; `point_A` is the same in Å from the box
    centre.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.view = SliceView(tools=("cross", "point"))
        self._silent = ProgrammaticChange()
        self._text = session.spec.fulcrum
        self._estimate: Point | None = None
        self._use_mask(session.job.mask)
        self._build()
        self.connect(session.spec_changed, self._spec_changed)
        self.connect(session.mask_changed, self._mask_changed)
        self.connect(session.step_done, self._stepped)
        self._has_map = False
        self._show()
        self.load()
        self._request_estimate()

    @property
    def text(self) -> str:
        """What is applied."""
        return self._text

    @property
    def point_A(self) -> Point:
        """(x, y, z) in Å from the box centre."""
        mask = self._mask
        return fulcrum_point(self._text, mask.box, mask.pixel_size_A, self._middle_A, mask.header_origin_A)

    def set(self, where: str | npt.ArrayLike) -> None:
        """Place it: mask, box, 'x, y, z' followed by px, A, map or centre, or (x, y, z) in Å from the box centre.

        Raises InputError for another text.
        """
        if not isinstance(where, str):
            x, y, z = (float(a) for a in np.asarray(where, float))
            where = self.format_point((x, y, z))
        self._text = self._read(where)
        self.show_message("")
        self._show()

    def format_point(self, point_A: Point) -> str:
        """A point (Å from the box centre) in the unit that is chosen."""
        mask, unit = self._mask, self._unit.value
        apix = mask.pixel_size_A
        if unit == "centre":
            return _format_point(point_A, "centre")
        corner = np.array(point_A) + mask.box // 2 * apix
        if unit == "px":
            return _format_point(corner / apix, "px")
        return (
            _format_point(corner + np.array(mask.header_origin_A), "map")
            if unit == "map"
            else _format_point(corner, "A")
        )

    def suggest(self, point_A: npt.ArrayLike, covariance_A2: npt.ArrayLike) -> None:
        """Show an estimate, with its ellipse, and a button that goes there. covariance_A2: (3, 3), Å²."""
        x, y, z = (float(a) for a in np.asarray(point_A, float))
        self._estimate = (x, y, z)
        self._covariance: Float64 = np.asarray(covariance_A2, float)
        self._to_estimate.layout.display = None
        self._show(moved=False)

    def apply(self) -> None:
        """Have the session use it, and say what is unwise. Raises InputError as `Session.edit` does."""
        spec = self.session.edit(fulcrum=self._text)
        self._show()
        unwise = "; ".join(parameter_warnings(self._mask, spec))
        self.show_message(unwise or f"the next iteration rotates about {self._text}", "bad" if unwise else "good")

    def load(self) -> None:
        """Take the newest map of the session."""
        self.latest.submit(self._take, lambda _: self._show(), "map")

    def close(self) -> None:
        """Let go of the session and end the threads."""
        super().close()
        self.view.close()

    # --- the panel

    def _build(self) -> None:
        wide = w.Layout(width="99%")
        style = {"description_width": "84px"}
        self._field = w.Text(description="fulcrum", continuous_update=False, style=style, layout=wide)
        self._field.add_class("lrw-fulcrum-text").observe(self.catch_errors(self._typed), "value")
        units = UNITS if any(self._mask.header_origin_A) else UNITS[:3]
        self._unit = w.Dropdown(description="written in", options=units, style=style, layout=wide)
        self._unit.add_class("lrw-fulcrum-unit").observe(self.catch_errors(self._unit_chosen), "value")
        angle = min(max(self.session.spec.rotation_prior_sd_deg, 1.0), 45.0)
        self._angle = w.FloatSlider(
            angle, description="a turn of, °", min=0, max=45, step=0.5, style=style, layout=wide
        )
        self._angle.add_class("lrw-fulcrum-angle").observe(self.catch_errors(lambda _: self._show()), "value")
        self._readout = w.HTML().add_class("lrw-fulcrum-readout")
        self._meaning = w.HTML().add_class("lrw-fulcrum-meaning")
        self._to_estimate = self._button(
            "estimate", lambda: self.set(self._estimate or self.point_A), "Where the data put it"
        )
        self._to_estimate.layout.display = "none"
        buttons = [
            self._button("mask", lambda: self.set("mask"), "The mask's centre of mass", "mask centre"),
            self._button("box", lambda: self.set("box"), "The centre of the box", "box centre"),
            self._to_estimate,
            self._button("refresh", self.load, "Take the map of the present iteration", "newest map"),
            self._button("apply", self.apply, "The next iteration rotates about this point", style="primary"),
        ]
        self.view.slices.point_fixed = False
        self.view.slices.tool = "point"
        self.view.observe_trait("point", self._dragged)
        left = [self._field, self._unit, w.HBox(buttons, layout=w.Layout(flex_flow="row wrap"))]
        right = [self._readout, self._angle, self._meaning]
        columns = [w.VBox(part, layout=w.Layout(flex="1 1 320px", min_width="300px")) for part in (left, right)]
        row = w.HBox(columns, layout=w.Layout(flex_flow="row wrap"))
        self.view.widget.layout.flex = "0 0 auto"  # or the line below the slices is cut off
        self.widget = w.VBox([self.view.widget, self.message, row]).add_class("lrw-fulcrum")

    def _button(self, name: str, act: Any, tooltip: str, text: str = "", style: str = "") -> w.Button:
        button = w.Button(description=text or name, tooltip=tooltip, button_style=style, layout=w.Layout(width="auto"))
        button.on_click(self.catch_errors(lambda _: act()))
        return button.add_class(f"lrw-fulcrum-{name}")

    # --- what a person does

    def _dragged(self, point: list[float]) -> None:
        if self._silent.is_active or len(point) != 3:
            return
        self._text = self._read(self.format_point(self.view.to_A(point)))
        self.show_message("")
        self._show(moved=False)

    def _typed(self, change: Any) -> None:
        if not self._silent.is_active:
            self.set(change["new"])

    def _unit_chosen(self, _: Any) -> None:
        """The same point in other words."""
        if self._text not in NAMED_POINTS:
            self.set(self.point_A)

    def _read(self, text: str) -> str:
        """The text as the spec writes it."""
        text = text.strip()
        try:
            if found := CENTRE_PATTERN.match(text):
                corner = np.array([float(a) for a in found.groups()]) + self._mask.box // 2 * self._mask.pixel_size_A
                return _format_point(corner, "A")
            if text in NAMED_POINTS:
                return text
            if FULCRUM_PATTERN.match(text):
                fulcrum_point(text, 1, 1.0, (0.0, 0.0, 0.0))
                return text
        except ValueError:
            pass
        raise InputError(
            f"fulcrum {text!r}: write mask, box, estimate, or 'x, y, z' and px or A (from the corner of the box), "
            "centre (Å from its centre) or map (Å in the map's frame)"
        )

    # --- what the session does, on its thread

    def _spec_changed(self, spec: RefineSpec) -> None:
        if spec.fulcrum != self._text:
            self._text = spec.fulcrum
        self._show()

    def _mask_changed(self, mask: Volume) -> None:
        self._use_mask(mask)
        self.latest.submit(lambda: self.view.show_mask(mask), lambda _: self._show(), "mask")

    def _stepped(self, *_: object) -> None:
        """A session without half maps has a map from its first step on, and every step tells of the hinge."""
        if not self._has_map:
            self.load()
        self._request_estimate()

    def _request_estimate(self) -> None:
        self.slow.submit(lambda: current_fulcrum_estimate(self.session), self._show_estimate)

    def _show_estimate(self, hinge: FulcrumEstimate | None) -> None:
        if hinge is not None:
            self.suggest(hinge.fulcrum_A, hinge.covariance_A2)

    # --- shown

    def _use_mask(self, mask: Volume) -> None:
        x, y, z = (float(a) for a in masks.centre_of_mass(mask.data) * mask.pixel_size_A)
        self._mask, self._middle_A = mask, (x, y, z)
        self._ends_A = masks.row_ends(mask.data) * mask.pixel_size_A

    def _take(self) -> None:
        """The newest map; without one, the mask stands for it."""
        volume = current_map(self.session)
        self._has_map = volume is not None
        self.view.show(volume or self._mask, names=("map" if volume else "mask", ""))
        self.view.show_mask(self._mask)

    def _show(self, moved: bool = True) -> None:
        """Have everything follow the point; not the point itself where it is being dragged."""
        self.publisher.publish("fulcrum", lambda: self._write(moved))

    def _write(self, moved: bool) -> None:
        point_A = self.point_A
        with self._silent():
            centred = self._unit.value == "centre" and self._text not in NAMED_POINTS
            self._field.value = self.format_point(point_A) if centred else self._text
            self._readout.value = self._describe_point(point_A)
            self._meaning.value, arc = self._describe_turn(point_A)
            if self.view.volume is None:
                return
            slices, point = self.view.slices, self.view.to_voxel(point_A)
            with slices.hold_sync():
                slices.arc = arc
                slices.marks = self._marks()
                if moved:
                    slices.point = point
                    slices.position = [int(np.clip(round(v), 0, self._mask.box - 1)) for v in point]

    def _describe_point(self, point_A: Point) -> str:
        """The point in every frame, and whether the session knows it."""
        mask = self._mask
        apix = mask.pixel_size_A
        corner = np.array(point_A) + mask.box // 2 * apix
        lines = [
            _format_point(corner / apix, "px from the corner"),
            _format_point(corner, "Å from the corner"),
            _format_point(point_A, "Å from the centre"),
        ]
        if any(mask.header_origin_A):
            lines.append(_format_point(corner + np.array(mask.header_origin_A), "Å in the map's frame"))
        if self._estimate is not None:
            place = np.array(self._estimate) / apix + mask.box // 2
            widest = float(np.sqrt(np.linalg.eigvalsh(self._covariance).max()))
            lines.append(
                f"the motion puts it at {_format_point(place, 'px')}, SD {widest:.1f} Å where it is least known"
            )
        used = self.session.spec.fulcrum
        lines.append("is the session's" if used == self._text else f"the session has {used}: apply to use this one")
        return "".join(f'<div style="line-height: 1.4">{html.escape(line)}</div>' for line in lines)

    def _describe_turn(self, point_A: Point) -> tuple[str, dict[str, Any]]:
        """What the turn moves, in words and for the slices."""
        angle = float(self._angle.value)
        away = self._ends_A - np.array(point_A)
        squares = (away**2).sum(axis=1)
        far = int(squares.argmax())
        chord = 2 * np.sin(np.radians(angle) / 2)
        end, middle = chord * np.sqrt(squares[far]), chord * float(np.linalg.norm(np.array(self._middle_A) - point_A))
        words = f"{angle:g}° moves the mask's far end by up to {end:.1f} Å, its centre by {middle:.1f} Å"
        if self.view.volume is None:
            return words, {}
        return words, {"angle_deg": angle, "towards": self.view.to_voxel(self._ends_A[far])}

    def _marks(self) -> list[dict[str, Any]]:
        if self._estimate is None:
            return []
        covariance = (self._covariance / self._mask.pixel_size_A**2).tolist()
        return [{"centre": self.view.to_voxel(self._estimate), "covariance": covariance, "sds": ELLIPSE_SDS}]


def _format_point(point: npt.ArrayLike, unit: str) -> str:
    return ", ".join(f"{a:.1f}" for a in np.asarray(point, float)) + f" {unit}"
