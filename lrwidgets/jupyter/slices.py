"""Three linked slices through a map in the browser: mask, second map, shapes and a point over it.

The kernel sends each map once, as bytes; all else is drawn and dragged there, and only coordinates come back.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as w
import numpy as np
import numpy.typing as npt
import traitlets as t

from lrcore.arrays import Float32, Float64
from lrcore.errors import InputError
from lrcore.masks.distance import bounding_block
from lrcore.records import Volume
from lrwidgets.jupyter.base import Panel

HERE = Path(__file__).parent
Point = tuple[float, float, float]
Range = tuple[float, float]

LEVELS = 254
"""Bytes 1 … 255 are values of a map; 0 is where there is none."""
SHARES = (5e-4, 0.9999)
"""Of a map's voxels, what lies below the values that are told apart, and below the end of them."""
COLOUR_SHARES = (0.05, 0.95)
"""The same of a map that colours another."""
FARTHEST_PX = 1e6
"""Coordinates beyond this are none."""
SAMPLES = 500_000
"""Voxels that tell these values."""


class ProgrammaticChange:
    """Tells what a program sets from what a person does: callbacks run on the thread that sets a trait."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """While this lasts, what changes on this thread is no person's doing."""
        with self._lock:
            before, self._thread = self._thread, threading.get_ident()
            try:
                yield
            finally:
                self._thread = before

    @property
    def is_active(self) -> bool:
        """Whether it lasts on this thread."""
        return self._thread == threading.get_ident()


class Slices(anywidget.AnyWidget):
    """What slices.js draws. Coordinates are voxels (x, y, z), voxel i from i − ½ to i + ½.

    volume, second: (box, box, box) zyx bytes, by `ranges`. overlay: the part of a mask that holds it, zyx bytes of
    `shape` (x, y, z) voxels, the first at `start` (x, y, z), each `step` voxels of the map wide. window, second_window:
    values drawn darkest and brightest; empty: all. shapes: {"kind": "sphere", "centre", "radius"} or {"kind": "box",
    "centre", "size"}. point: empty, or the point that can be dragged. arc: {"angle_deg", "towards"} of a turn about
    it. marks: {"centre", "covariance", "sds"} of estimates of it. seq: counts what was sent; the browser draws anew
    when it changes.
    """

    _esm = HERE / "slices.js"
    _css = HERE / "slices.css"
    box = t.Int(0).tag(sync=True)
    apix = t.Float(1.0).tag(sync=True)
    origin_A = t.List(t.Float(), [0.0, 0.0, 0.0]).tag(sync=True)
    volume = t.Bytes(b"").tag(sync=True)
    second = t.Bytes(b"").tag(sync=True)
    ranges = t.List([[0.0, 1.0], [0.0, 1.0]]).tag(sync=True)
    names = t.List(t.Unicode(), ["map", "second map"]).tag(sync=True)
    overlay = t.Bytes(b"").tag(sync=True)
    overlay_grid = t.Dict({"shape": [0, 0, 0], "start": [0, 0, 0], "step": 1}).tag(sync=True)
    palette = t.Bytes(b"").tag(sync=True)
    window = t.List(t.Float()).tag(sync=True)
    second_window = t.List(t.Float()).tag(sync=True)
    mode = t.Enum(["single", "blend", "flicker", "colour"], "single").tag(sync=True)
    mix = t.Float(0.5).tag(sync=True)
    flicker_hz = t.Float(2.0).tag(sync=True)
    opacity = t.Float(0.35).tag(sync=True)
    position = t.List([0, 0, 0]).tag(sync=True)
    tools = t.List(t.Unicode(), ["cross"]).tag(sync=True)
    tool = t.Enum(["cross", "point", "sphere", "box"], "cross").tag(sync=True)
    shapes = t.List(t.Dict()).tag(sync=True)
    point = t.List(t.Float()).tag(sync=True)
    point_fixed = t.Bool(True).tag(sync=True)
    arc = t.Dict().tag(sync=True)
    marks = t.List(t.Dict()).tag(sync=True)
    seq = t.Int(0).tag(sync=True)

    def set_and_redraw(self, **traits: Any) -> None:
        """Set traits in one message, and have all drawn anew."""
        with self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)
            self.seq += 1


class SliceView(Panel):
    """Slices through maps and a mask. `slices` has all that they show as traits, which can be set and observed.

    All volumes of one view have the same box; a mask may have its own grid about the same centre.
    """

    def __init__(
        self,
        volume: Volume | None = None,
        second: Volume | None = None,
        mask: Volume | None = None,
        *,
        names: tuple[str, str] = ("map", "second map"),
        tools: Sequence[str] = ("cross",),
    ) -> None:
        """second: to blend with, to flicker with, or to colour by. Raises InputError as `show` does."""
        super().__init__()
        self.slices = Slices(tools=list(tools), palette=palette())
        self.slices.add_class("lrw-slice-view")
        self.widget = w.VBox([self.slices, self.message])
        self._lock = threading.Lock()
        self.volume: Volume | None = None
        if volume is not None:
            self.show(volume, second, names=names)
        if mask is not None:
            self.show_mask(mask)

    def show(
        self,
        volume: Volume,
        second: Volume | None = None,
        *,
        names: tuple[str, str] = ("map", "second map"),
        mode: str | None = None,
        second_range: Range | None = None,
    ) -> None:
        """Show a map, and another with it. On any thread.

        mode: single, blend, flicker or colour; None: as it is. second_range: values of the second map's first and last
        colour; None: found. Where the second is NaN it says nothing. Raises InputError if the boxes differ.
        """
        if second is not None and second.box != volume.box:
            raise InputError(f"the maps have boxes of {volume.box} and {second.box} voxels: give two of the same box")
        ranges = [density_quantiles(volume.data, SHARES)]
        ranges.append(ranges[0] if second is None else density_quantiles(second.data, SHARES))
        colours = second_range or (ranges[1] if second is None else density_quantiles(second.data, COLOUR_SHARES))
        traits: dict[str, Any] = {
            "box": volume.box,
            "apix": volume.pixel_size_A,
            "origin_A": [float(a) for a in volume.header_origin_A],
            "ranges": [list(r) for r in ranges],
            "names": list(names),
            "volume": to_bytes(volume.data, ranges[0]),
            "second": b"" if second is None else to_bytes(second.data, ranges[1]),
            "window": [],
            "second_window": list(colours),
        }
        if mode is not None:
            traits["mode"] = mode
        with self._lock:
            if self.volume is None or self.volume.box != volume.box:
                traits["position"] = [volume.box // 2] * 3
            self.volume = volume
            self.slices.set_and_redraw(**traits)

    def show_mask(self, mask: Volume | None) -> None:
        """Show a mask over the map, or none. Its grid may be another one about the same centre. On any thread."""
        with self._lock:
            if mask is None or self.volume is None:
                self.slices.set_and_redraw(overlay=b"")
            else:
                self.slices.set_and_redraw(**overlay_traits(mask, self.volume))

    def to_voxel(self, point_A: npt.ArrayLike) -> list[float]:
        """(x, y, z) in Å from the box centre → voxels of the map."""
        volume = self._shown()
        return [float(v) for v in np.asarray(point_A, float) / volume.pixel_size_A + volume.box // 2]

    def to_A(self, voxel: Any) -> Point:
        """Voxels of the map → (x, y, z) in Å from the box centre."""
        volume = self._shown()
        x, y, z = ((a - volume.box // 2) * volume.pixel_size_A for a in parse_coordinates(voxel))
        return (x, y, z)

    def observe_trait(self, name: str, callback: Callable[[Any], None]) -> None:
        """Have `callback(value)` called when the trait `name` changes; its errors are told in the panel."""
        self.slices.observe(self.catch_errors(lambda change: callback(change["new"])), name)

    def _shown(self) -> Volume:
        if self.volume is None:
            raise InputError("no map is shown yet: show one first")
        return self.volume


def parse_coordinates(given: Any, count: int = 3) -> list[float]:
    """So many coordinates as a browser gives them. Raises InputError for anything else: it can send what it likes."""
    try:
        found = [float(a) for a in given]
    except (TypeError, ValueError) as error:
        raise InputError("the browser sent no coordinates: draw it again, or reload the page") from error
    if len(found) != count or not np.all(np.abs(found) < FARTHEST_PX):
        raise InputError("the browser sent coordinates that make no sense: draw it again, or reload the page")
    return found


def density_quantiles(data: Float32, shares: Range) -> Range:
    """The values of a map (n, n, n) below which these shares of its voxels lie, by every so-manieth voxel."""
    few = data.reshape(-1)[:: max(1, data.size // SAMPLES)]
    few = few[np.isfinite(few)]
    if not few.size:
        return (0.0, 1.0)
    low, high = (float(value) for value in np.quantile(few, shares))
    # A map of nearly one value still has a range, of what it has at most.
    return (low, high) if high > low else (float(few.min()), float(few.max()) or 1.0)


def to_bytes(data: Float32, between: Range) -> bytes:
    """A map (n, n, n) in bytes: 1 and below at the low end, 255 and above at the high end, 0 for NaN."""
    low, high = between
    scale = np.float32(LEVELS / (high - low)) if high > low else np.float32(0)
    out = np.empty(data.shape, np.uint8)
    for source, target in zip(data, out, strict=True):
        plane = source * scale
        plane += np.float32(1.5 - low * scale)
        np.clip(plane, 1, LEVELS + 1, out=plane)
        if np.isnan(plane.max()):
            plane[np.isnan(plane)] = 0
        np.copyto(target, plane, casting="unsafe")
    return out.tobytes()


def overlay_traits(mask: Volume, on: Volume) -> dict[str, Any]:
    """The traits of a mask over a map: the block of it that is not 0, and where that lies."""
    block = bounding_block(mask.data > 0.5 / 255, 1)
    part = np.rint(mask.data[block] * np.float32(255)).clip(0, 255).astype(np.uint8)
    step = mask.pixel_size_A / on.pixel_size_A
    start = [on.box // 2 + (axis.start - mask.box // 2) * step for axis in reversed(block)]
    return {"overlay": part.tobytes(), "overlay_grid": {"shape": list(part.shape[::-1]), "start": start, "step": step}}


def palette() -> bytes:
    """256 colours in RGB: viridis, its bright end first, for a small number of Å is a good one."""
    from matplotlib import colormaps

    colours: Float64 = colormaps["viridis_r"](np.linspace(0, 1, 256))
    return bytes(np.rint(colours[:, :3] * 255).astype(np.uint8).tobytes())
