"""Place the fulcrum in the notebook: drag it in the slices, type it, snap it, and see what a rotation about it does."""

import html
from typing import Any

import ipywidgets as w
import numpy as np
import numpy.typing as npt

from lrcore import masks
from lrcore.arrays import Float64
from lrcore.errors import InputError
from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Volume
from lrcore.refinement.parameters import NAMED_POINTS, RefineSpec, fulcrum_point
from lrwidgets.gui.fulcrum_model import (
    ELLIPSE_SDS,
    TIPS,
    FulcrumModel,
    Point,
    available_units,
    estimate_line,
    format_point,
    fulcrum_name,
    parse_fulcrum,
    readout_lines,
    rotation_effect,
)
from lrwidgets.gui.panel_base import ProgrammaticChange
from lrwidgets.jupyter.base import ROW, Panel
from lrwidgets.jupyter.number import NumberControl
from lrwidgets.jupyter.slices import SliceView
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import current_map

STYLE = {"description_width": "124px"}
WIDE = w.Layout(width="99%")
LARGEST_EXAMPLE_DEG = 180.0


class FulcrumWidget(Panel):
    """Place the fulcrum, and apply it to the session.

    Attributes
    ----------
    text
        What `apply` applies: mask, box or a point as the spec reads it.
    point_A
        The same point, (x, y, z) in Å from the box centre.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.model = FulcrumModel(session, self, self._show_estimate)
        self.view = SliceView(tools=("cross", "point"))
        self._silent = ProgrammaticChange()
        self._text = session.spec.fulcrum
        self._estimate: Point | None = None
        self._use_mask(session.job.mask)
        self._build()
        self.subscribe(session.spec_changed, self._spec_changed)
        self.subscribe(session.mask_changed, self._mask_changed)
        self.subscribe(session.step_done, self._stepped)
        self._has_map = False
        self._show()
        self.load()
        self.model.request_estimate()

    @property
    def text(self) -> str:
        """The fulcrum as the spec writes it."""
        return self._text

    @property
    def point_A(self) -> Point:
        """(x, y, z) in Å from the box centre."""
        mask = self._mask
        return fulcrum_point(self._text, mask.box, mask.pixel_size_A, self._middle_A, mask.header_origin_A)

    def set(self, where: str | npt.ArrayLike) -> None:
        """Place the fulcrum.

        Parameters
        ----------
        where
            mask, box, 'x, y, z' followed by px, A, map or centre, or (x, y, z) in Å from the box centre.

        Raises
        ------
        InputError
            If the text cannot be read.
        """
        if not isinstance(where, str):
            x, y, z = (float(a) for a in np.asarray(where, float))
            where = self.format_point((x, y, z))
        self._text = parse_fulcrum(self._mask, where)
        self.show_message("")
        self._show()

    def format_point(self, point_A: Point) -> str:
        """Return a point in the chosen frame, as it is typed."""
        return format_point(self._mask, point_A, self._unit.value)

    def suggest(self, point_A: npt.ArrayLike, covariance_A2: npt.ArrayLike) -> None:
        """Show an estimate with its ellipse, and a button that goes there. covariance_A2: (3, 3), Å²."""
        x, y, z = (float(a) for a in np.asarray(point_A, float))
        self._estimate = (x, y, z)
        self._covariance: Float64 = np.asarray(covariance_A2, float)
        self._to_estimate.layout.display = None
        self._show(moved=False)

    def apply(self) -> None:
        """Use the fulcrum from the next iteration, and show warnings. Raises InputError as `Session.edit` does."""
        self.model.apply(self._text)
        self._show()

    def load(self) -> None:
        """Show the newest map of the session."""
        self.latest.submit(self._take, lambda _: self._show(), "map")

    def close(self) -> None:
        """Disconnect from the session and end the threads."""
        super().close()
        self.view.close()

    # --- the panel

    def _build(self) -> None:
        self.view.slices.point_fixed = False
        self.view.slices.tool = "point"
        self.view.observe_trait("point", self._dragged)
        self._build_fields()
        self._readout = w.HTML().add_class("lrw-fulcrum-readout")
        self._meaning = w.HTML().add_class("lrw-fulcrum-meaning")
        left = [self._field, self._unit, w.HBox(self._buttons(), layout=ROW)]
        right = [self._readout, self._angle, self._meaning]
        columns = [w.VBox(part, layout=w.Layout(flex="1 1 320px", min_width="300px")) for part in (left, right)]
        row = w.HBox(columns, layout=w.Layout(flex_flow="row wrap"))
        self.view.widget.layout.flex = "0 0 auto"  # or the line below the slices is cut off
        self.widget = w.VBox([self.view.widget, self.message, row]).add_class("lrw-fulcrum")

    def _build_fields(self) -> None:
        self._field = w.Text(description="fulcrum", continuous_update=False, style=STYLE, layout=WIDE)
        self._field.add_class("lrw-fulcrum-text").observe(self.catch_errors(self._typed), "value")
        units = available_units(self._mask)
        self._unit = w.Dropdown(description="coordinates", options=units, style=STYLE, layout=WIDE)
        self._unit.add_class("lrw-fulcrum-unit").observe(self.catch_errors(self._unit_chosen), "value")
        angle = min(max(self.session.spec.rotation_prior_sd_deg, 1.0), 45.0)
        self._angle = NumberControl(
            angle, unit="°", description="example rotation, °", label_width=STYLE["description_width"], layout=WIDE,
            low=0.0, high=45.0, step=0.5,
        )  # fmt: skip
        self._angle.add_class("lrw-fulcrum-angle").on_hand(self, self._turn_example)

    def _buttons(self) -> list[w.Button]:
        button = self.button
        self._to_estimate = button(
            "fulcrum-estimate", "estimate", TIPS["estimate"], lambda: self.set(self._estimate or self.point_A)
        )
        self._to_estimate.layout.display = "none"
        use = "use this point from the next iteration"
        return [
            button("fulcrum-mask", "mask centre", TIPS["mask"], lambda: self.set("mask")),
            button("fulcrum-box", "box centre", TIPS["box"], lambda: self.set("box")),
            self._to_estimate,
            button("fulcrum-refresh", "Show latest map", "show the map of the present iteration", self.load),
            button("fulcrum-apply", "Use from next iteration", use, self.apply, "primary"),
        ]

    # --- what a person does

    def _dragged(self, point: list[float]) -> None:
        if self._silent.is_active or len(point) != 3:
            return
        self._text = parse_fulcrum(self._mask, self.format_point(self.view.to_A(point)))
        self.show_message("")
        self._show(moved=False)

    def _typed(self, change: Any) -> None:
        if not self._silent.is_active:
            self.set(change["new"])

    def _turn_example(self, angle_deg: float) -> None:
        """Show what a rotation by this angle moves. Raises InputError for an angle out of range."""
        if not 0 <= angle_deg <= LARGEST_EXAMPLE_DEG:
            raise InputError(f"example rotation {angle_deg:g}°: type 0 to {LARGEST_EXAMPLE_DEG:g}°")
        self._angle.show(angle_deg)
        self._show()

    def _unit_chosen(self, _: Any) -> None:
        """Write the same point in the chosen frame."""
        if self._text not in NAMED_POINTS:
            self.set(self.point_A)

    # --- what the session does, on its thread

    def _spec_changed(self, spec: RefineSpec) -> None:
        if spec.fulcrum != self._text:
            self._text = spec.fulcrum
        self._show()

    def _mask_changed(self, mask: Volume) -> None:
        self._use_mask(mask)
        self.latest.submit(lambda: self.view.show_mask(mask), lambda _: self._show(), "mask")

    def _stepped(self, *_: object) -> None:
        """Update the estimate; a session without half maps has a map only from its first step."""
        if not self._has_map:
            self.load()
        self.model.request_estimate()

    def _show_estimate(self, estimate: FulcrumEstimate | None) -> None:
        if estimate is not None:
            self.suggest(estimate.fulcrum_A, estimate.covariance_A2)

    # --- shown

    def _use_mask(self, mask: Volume) -> None:
        x, y, z = (float(a) for a in masks.centre_of_mass(mask.data) * mask.pixel_size_A)
        self._mask, self._middle_A = mask, (x, y, z)
        self._ends_A = masks.row_ends(mask.data) * mask.pixel_size_A

    def _take(self) -> None:
        """Show the newest map, or the mask before there is one."""
        volume = current_map(self.session)
        self._has_map = volume is not None
        self.view.show(volume or self._mask, names=("map" if volume else "mask", ""))
        self.view.show_mask(self._mask)

    def _show(self, moved: bool = True) -> None:
        """Update what depends on the point. moved: the point in the slices too, which is not so while it is dragged."""
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
        """Return the point in every frame, the estimate, and whether the session uses the point, as HTML."""
        lines = readout_lines(self._mask, point_A)
        if self._estimate is not None:
            lines.append(estimate_line(self._mask, point_A, self._estimate, self._covariance))
        used = self.session.spec.fulcrum
        lines.append(f"in use: {fulcrum_name(used)}" + ("" if used == self._text else ". Not applied yet"))
        return "".join(f'<div style="line-height: 1.4">{html.escape(line)}</div>' for line in lines)

    def _describe_turn(self, point_A: Point) -> tuple[str, dict[str, Any]]:
        """Return what the example rotation moves, in words and as the arc in the slices."""
        angle = float(self._angle.value)
        words, end = rotation_effect(self._ends_A, self._middle_A, point_A, angle)
        if self.view.volume is None:
            return words, {}
        return words, {"angle_deg": angle, "towards": self.view.to_voxel(end)}

    def _marks(self) -> list[dict[str, Any]]:
        if self._estimate is None:
            return []
        covariance = (self._covariance / self._mask.pixel_size_A**2).tolist()
        return [{"centre": self.view.to_voxel(self._estimate), "covariance": covariance, "sds": ELLIPSE_SDS}]
