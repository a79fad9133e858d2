"""Convert half maps to the groups /volumes (whole) and /body (in its window) of a tree, and back bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing
from xarray.core.indexing import LazilyIndexedArray

from lrcore.maps.body_maps import MapsAmidStart
from lrcore.records import BodyMaps, Fsc, HalfMaps, Volume
from lrcore.results.datasets import grid_axes, make_dataset, to_array


def volumes_dataset(maps: HalfMaps, iteration: int) -> xr.Dataset:
    """Return the /volumes group of a step, whole half maps; those of `MapsAmidStart` are made when they are read."""
    whole = maps.start if isinstance(maps, MapsAmidStart) else maps
    both = (whole.first, whole.second)
    values: dict[str, Any] = {
        "half": [1, 2],
        "pixel_size": [v.pixel_size_A for v in both],
        "header_origin": [v.header_origin_A for v in both],
        **grid_axes(both[0].box, both[0].pixel_size_A),
    }
    lazy = isinstance(maps, MapsAmidStart)
    paths = json.dumps([None if v.path is None or lazy else str(v.path) for v in both])
    values["half_map"] = _LazyHalfMaps(maps).variable if isinstance(maps, MapsAmidStart) else _stack(maps)
    return make_dataset("volumes", values, iteration=iteration, paths=paths)


def half_maps_of(data: xr.Dataset) -> HalfMaps:
    """Return the half maps in a /volumes group."""
    paths = [None if path is None else Path(path) for path in json.loads(data.attrs["paths"])]
    origins = [(float(x), float(y), float(z)) for x, y, z in data["header_origin"].values]
    sizes = [float(size) for size in data["pixel_size"].values]
    first, second = (Volume(to_array(data["half_map"][i]), sizes[i], origins[i], paths[i]) for i in (0, 1))
    return HalfMaps(first, second)


def body_dataset(body: BodyMaps, iteration: int) -> xr.Dataset:
    """Return the /body group of a step: half maps in the window about the mask, on the grid of the whole box."""
    pixel_size_A = body.half_maps.first.pixel_size_A
    axes = {
        axis: (np.arange(len(body.held)) - len(body.held) // 2 + c) * pixel_size_A
        for axis, c in zip("xyz", body.centre, strict=True)
    }
    values = {
        "half": [1, 2],
        "half_map": _stack(body.half_maps),
        "held": body.held,
        "corrected": body.corrected.value,
        "frequency": body.corrected.frequency,
        **axes,
    }
    return make_dataset(
        "body", values, ("frequency",), iteration=iteration, centre=list(body.centre), pixel_size_angstrom=pixel_size_A
    )


def body_of(data: xr.Dataset) -> BodyMaps:
    """Return the half maps in a /body group."""
    x, y, z = (int(c) for c in data.attrs["centre"])
    size = float(data.attrs["pixel_size_angstrom"])
    first, second = (Volume(to_array(data["half_map"][i]), size) for i in (0, 1))
    corrected = Fsc("corrected", to_array(data["frequency"]), to_array(data["corrected"]))
    return BodyMaps(HalfMaps(first, second), to_array(data["held"]), (x, y, z), corrected)


class _LazyHalfMaps(BackendArray):
    """Half maps of the body amid those of the start, made when xarray reads them."""

    def __init__(self, maps: MapsAmidStart) -> None:
        self._maps = maps
        n = maps.start.first.box
        self.shape, self.dtype = (2, n, n, n), np.dtype(np.float32)

    @property
    def variable(self) -> Any:
        """The array, as a variable takes it."""
        return LazilyIndexedArray(self)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        halves, rest = np.arange(2)[key[0]], key[1:]
        if np.ndim(halves) == 0:
            return self._maps.half(int(halves) + 1).data[rest]
        return np.stack([self._maps.half(int(half) + 1).data[rest] for half in halves])


def _stack(maps: HalfMaps) -> Any:
    """Return both maps as one array."""
    return np.stack([maps.first.data, maps.second.data])
