"""Add our layers to a viewer and update them by name. On Qt's thread only."""

from typing import Any

import numpy as np
from napari.layers import Image, Layer

from lrcore.errors import InputError
from lrcore.records import Volume
from lrwidgets.napari_panel.layers import LayerData, volume_from_layer

OURS = "lrwidgets"
"""Key in a layer's metadata."""


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
        if old is None or old._type_string != kind or (kind == "image" and old.data.ndim != np.ndim(data)):
            if old is not None:
                self.viewer.layers.remove(old)
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
        return old

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


def _is_map(layer: Layer) -> bool:
    return isinstance(layer, Image) and layer.data.ndim == 3 and layer.metadata.get(OURS, "map") == "map"
