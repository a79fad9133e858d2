"""Add our layers to a viewer and update them by name. On Qt's thread only."""

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer, Points, Surface

from lrcore.errors import InputError
from lrcore.records import Volume
from lrwidgets.napari_panel.layers import LayerData, volume_from_layer

OURS = "lrwidgets"
"""Key in a layer's metadata."""
LOOK = "lrwidgets_look"
"""Key of the contrast limits and the surface level that a map was given, unless a person has changed them."""
KINDS: dict[str, type[Layer]] = {"image": Image, "labels": Labels, "points": Points, "surface": Surface}
"""Kind in layer data → class of the layer."""


class ViewerLayers:
    """Our layers in a viewer, a napari `ViewerModel`."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer

    def find(self, name: str) -> Layer | None:
        """Return our layer of that name, or None."""
        layers = self.viewer.layers
        found = layers[layers.index(name)] if name in layers else None
        return found if found is not None and OURS in found.metadata else None

    def put(self, layer: LayerData) -> Layer:
        """Show a layer in place of ours of the same name, with that one's appearance and position in the list."""
        data, arguments, kind = layer
        old = self.find(arguments["name"])
        if old is None or not isinstance(old, KINDS[kind]) or (kind == "image" and old.data.ndim != np.ndim(data)):
            if old is not None:
                self.viewer.layers.remove(old)
            _keep_look(arguments)
            made, chosen = Layer.create(data, dict(arguments), kind), self.viewer.layers.selection.active
            self.viewer.add_layer(made)
            if chosen is not None and chosen in self.viewer.layers:
                self.viewer.layers.selection.active = chosen  # the selection stays as it was
            return made
        old.data = data
        for name in ("scale", "translate"):
            if name in arguments:
                setattr(old, name, arguments[name])
        if kind == "surface" and "contrast_limits" in arguments:
            old.contrast_limits = arguments["contrast_limits"]
        if arguments["metadata"].get(OURS) == "map":
            _renew_look(old, arguments)
        return old

    def go_to(self, place: npt.ArrayLike) -> None:
        """Show the slices through a point, (z, y, x) in world coordinates."""
        dims = self.viewer.dims
        dims.set_point(range(dims.ndim - 3, dims.ndim), tuple(float(a) for a in np.asarray(place)))

    def show_axes(self) -> None:
        """Draw the axes with their names, and the scale bar."""
        canvas = getattr(self.viewer, "canvas", self.viewer)  # napari 0.9 has them there, those before in the viewer
        overlays = getattr(canvas, "overlays", self.viewer)
        overlays.scale_bar.visible = overlays.axes.visible = overlays.axes.labels = True

    def drop(self, name: str) -> None:
        """Remove our layer of that name, if there is one."""
        layer = self.find(name)
        if layer is not None:
            self.viewer.layers.remove(layer)

    def current_map(self) -> Volume:
        """Return the selected map layer, or the last visible one.

        Raises InputError if there is none.
        """
        chosen = [layer for layer in self.viewer.layers.selection if _is_map(layer)]
        every = [layer for layer in self.viewer.layers if _is_map(layer)]
        if not (chosen or every):
            raise InputError("there is no map among the layers: open one, or run a step")
        shown = [layer for layer in every if layer.visible]
        return volume_from_layer((chosen or shown or every)[-1])


def _keep_look(arguments: dict[str, Any]) -> None:
    """Keep the look that a map is given in its metadata."""
    if arguments["metadata"].get(OURS) == "map":
        arguments["metadata"] = arguments["metadata"] | {LOOK: _look(arguments)}


def _renew_look(layer: Image, arguments: dict[str, Any]) -> None:
    """Set contrast limits and surface level to those of new data, unless a person has changed them."""
    now = {"contrast_limits": tuple(layer.contrast_limits), "iso_threshold": layer.iso_threshold}
    given, new = layer.metadata.get(LOOK, {}), _look(arguments)
    for name, value in new.items():
        if name in given and np.allclose(now[name], given[name], rtol=1e-5):
            setattr(layer, name, value)
    layer.metadata[LOOK] = new


def _look(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in ("contrast_limits", "iso_threshold") if name in arguments}


def _is_map(layer: Layer) -> bool:
    return isinstance(layer, Image) and layer.data.ndim == 3 and layer.metadata.get(OURS, "map") == "map"
