"""Show three linked slices through a map in the browser, with mask, second map, shapes and a point.

The kernel sends each map once, as bytes. Drawing and dragging happen in the browser, which sends back coordinates only.
"""

import threading
from collections.abc import Callable, Sequence
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
"""Number of grey levels: bytes 1 … 255 are values of a map, 0 means no value."""
SHARES = (5e-4, 0.9999)
"""Quantiles of a map that become the darkest and the brightest byte."""
COLOUR_SHARES = (0.05, 0.95)
"""The same quantiles for a map that colours another."""
FARTHEST_PX = 1e6
"""Largest valid coordinate, px."""
SAMPLES = 500_000
"""Number of voxels from which quantiles are estimated."""


class Slices(anywidget.AnyWidget):
    """Traits of slices.js. Coordinates are voxels (x, y, z); voxel i reaches from i − ½ to i + ½.

    Attributes
    ----------
    volume, second
        (box, box, box) zyx bytes, scaled by `ranges`.
    overlay, overlay_grid
        Block of a mask that contains all of it, zyx bytes; `shape` (x, y, z) voxels, the first at `start` (x, y, z),
        each `step` voxels of the map wide.
    window, second_window
        Values drawn darkest and brightest; empty: the full range.
    shapes
        {"kind": "sphere", "centre", "radius"} or {"kind": "box", "centre", "size"}.
    point
        Point that can be dragged; empty: none.
    arc
        {"angle_deg", "towards"} of a rotation about the point.
    marks
        {"centre", "covariance", "sds"} of estimates of the point.
    seq
        Number of updates; the browser redraws when it changes.
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
        """Set traits in one message and redraw."""
        with self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)
            self.seq += 1


class SliceView(Panel):
    """Slices through maps and a mask. The traits of `slices` can be set and observed.

    All maps of a view have the same box; a mask may have its own grid about the same centre.
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
        """Show maps and a mask.

        Parameters
        ----------
        volume, second, names
            As in `show`.
        mask
            Mask over the map.
        tools
            Mouse tools: cross, point, sphere, box.

        Raises
        ------
        InputError
            As `show` does.
        """
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

        Parameters
        ----------
        volume
            Map.
        second
            Map to blend or flicker with, or to colour by; NaN means no value.
        names
            Names of both maps.
        mode
            single, blend, flicker or colour; None: unchanged.
        second_range
            Values of the second map's first and last colour; None: automatic.

        Raises
        ------
        InputError
            If the boxes of the maps differ.
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
        """Convert (x, y, z) in Å from the box centre to voxels of the map."""
        volume = self._shown()
        return [float(v) for v in np.asarray(point_A, float) / volume.pixel_size_A + volume.box // 2]

    def to_A(self, voxel: Any) -> Point:
        """Convert voxels of the map to (x, y, z) in Å from the box centre."""
        volume = self._shown()
        x, y, z = ((a - volume.box // 2) * volume.pixel_size_A for a in parse_coordinates(voxel))
        return (x, y, z)

    def observe_trait(self, name: str, callback: Callable[[Any], None]) -> None:
        """Call `callback(value)` when the trait `name` changes; its errors are shown in the panel."""
        self.slices.observe(self.catch_errors(lambda change: callback(change["new"])), name)

    def _shown(self) -> Volume:
        if self.volume is None:
            raise InputError("no map is shown yet: show one first")
        return self.volume


def parse_coordinates(given: Any, count: int = 3) -> list[float]:
    """Return coordinates sent by a browser. Raises InputError if they are not `count` numbers."""
    try:
        found = [float(a) for a in given]
    except (TypeError, ValueError) as error:
        raise InputError("the browser sent no coordinates: draw it again, or reload the page") from error
    if len(found) != count or not np.all(np.abs(found) < FARTHEST_PX):
        raise InputError("the browser sent invalid coordinates: draw it again, or reload the page")
    return found


def density_quantiles(data: Float32, shares: Range) -> Range:
    """Return quantiles of a map (n, n, n), estimated from every k-th voxel."""
    few = data.reshape(-1)[:: max(1, data.size // SAMPLES)]
    few = few[np.isfinite(few)]
    if not few.size:
        return (0.0, 1.0)
    low, high = (float(value) for value in np.quantile(few, shares))
    # A map of nearly one value still has a range, of what it has at most.
    return (low, high) if high > low else (float(few.min()), float(few.max()) or 1.0)


def to_bytes(data: Float32, between: Range) -> bytes:
    """Return a map (n, n, n) as bytes: 1 for the low end and below, 255 for the high end and above, 0 for NaN."""
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
    """Return the traits of a mask over a map: the block that contains its voxels, and where it lies."""
    block = bounding_block(mask.data > 0.5 / 255, 1)
    part = np.rint(mask.data[block] * np.float32(255)).clip(0, 255).astype(np.uint8)
    step = mask.pixel_size_A / on.pixel_size_A
    start = [on.box // 2 + (axis.start - mask.box // 2) * step for axis in reversed(block)]
    return {"overlay": part.tobytes(), "overlay_grid": {"shape": list(part.shape[::-1]), "start": start, "step": step}}


def palette() -> bytes:
    """Return 256 RGB colours: viridis with its bright end first, since few Å are a good resolution."""
    from matplotlib import colormaps

    colours: Float64 = colormaps["viridis_r"](np.linspace(0, 1, 256))
    return bytes(np.rint(colours[:, :3] * 255).astype(np.uint8).tobytes())
