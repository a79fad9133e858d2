"""Put the half maps of a body, which are known in a window, in the place of the body in the maps of the start."""

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from lrcore.arrays import Float32
from lrcore.masks import cosine_edge
from lrcore.records import BodyMaps, HalfMaps, Step, Volume

EDGE = 4
"""Width in voxels of the soft edge of a window in the maps of the start."""


@dataclass(frozen=True, init=False)
class MapsAmidStart(HalfMaps):
    """Half maps of the start with those of a body in them; each is made when it is read.

    In the window, h' = h + edge · (body − held · h), h the half map of the start.

    Attributes
    ----------
    start : half maps of the start, (n, n, n)
    body : half maps of the body, in a window
    """

    start: HalfMaps
    body: BodyMaps

    def __init__(self, start: HalfMaps, body: BodyMaps) -> None:
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "_made", WeakValueDictionary())

    @property  # type: ignore[misc]
    def first(self) -> Volume:
        """Map of half set 1."""
        return self._map(1)

    @property  # type: ignore[misc]
    def second(self) -> Volume:
        """Map of half set 2."""
        return self._map(2)

    def _map(self, half: int) -> Volume:
        """Return a map, made anew unless somebody still holds it, since maps of many steps would fill the memory."""
        made: WeakValueDictionary[int, Volume] = self.__dict__["_made"]
        volume = made.get(half)
        if volume is None:
            volume = made[half] = self._place(half)
        return volume

    def __reduce__(self) -> Any:
        """The maps that are made are not sent along."""
        return MapsAmidStart, (self.start, self.body)

    def _place(self, half: int) -> Volume:
        whole, body = self.start.half(half), self.body.half_maps.half(half).data
        size = len(body)
        region, inside = overlap_with_window(whole.box, self.body.centre, size)
        data = whole.data.copy()
        change = soft_cube(size) * (body - self.body.held * _padded(data[region], inside, size))
        data[region] += change[inside]
        return replace(whole, data=data, path=None)


def body_in_box(body: BodyMaps, box: int, half: int) -> Volume:
    """Return a half map of the body alone in the whole box, 0 outside its window.

    Parameters
    ----------
    body : half maps of the body
    box : n, voxels
    half : 1 or 2
    """
    volume = body.half_maps.half(half)
    region, inside = overlap_with_window(box, body.centre, volume.box)
    data = np.zeros((box,) * 3, np.float32)
    data[region] = (soft_cube(volume.box) * volume.data)[inside]
    return replace(volume, data=data)


def half_maps_of_body(step: Step) -> HalfMaps:
    """Return the half maps of a step without the density that was subtracted from its images, (n, n, n) each.

    These are its half maps where it worked on whole images; else those of the body, 0 outside its window.

    Parameters
    ----------
    step : step of a refinement
    """
    if step.body is None:
        return step.half_maps
    box = step.half_maps.first.box
    return HalfMaps(body_in_box(step.body, box, 1), body_in_box(step.body, box, 2))


def overlap_with_window(
    box: int, centre: tuple[int, int, int], size: int
) -> tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]:
    """Return where a window and the box overlap, as slices (z, y, x) of the box and of the window.

    Parameters
    ----------
    box : n, voxels
    centre : middle of the window, (x, y, z) in voxels from the centre of the box
    size : D, voxels
    """
    of_box, of_window = [], []
    for c in centre[::-1]:
        start = c + box // 2 - size // 2
        low, high = max(0, start), min(box, start + size)
        of_box.append(slice(low, high))
        of_window.append(slice(low - start, high - start))
    return (of_box[0], of_box[1], of_box[2]), (of_window[0], of_window[1], of_window[2])


def soft_cube(size: int) -> Float32:
    """Return the weight (D, D, D) of a window, 1 with a soft edge of EDGE voxels to 0 at its faces."""
    depth = np.minimum(np.arange(size), size - 1 - np.arange(size)).astype(np.float32)
    axis = 1 - cosine_edge(depth, 0.0, float(EDGE))
    return (axis[:, None, None] * axis[:, None] * axis).astype(np.float32)


def _padded(region: Float32, inside: tuple[slice, slice, slice], size: int) -> Float32:
    """Return a part of a map in a window of zeros."""
    if region.shape == (size,) * 3:
        return region
    out = np.zeros((size,) * 3, np.float32)
    out[inside] = region
    return out
