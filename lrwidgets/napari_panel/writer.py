"""Write a layer as an MRC file with its position in the header."""

from pathlib import Path
from typing import Any

import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.records import Volume
from lrwidgets.napari_panel.layers import origin_A, voxel_A


def write(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image or labels layer as a map; return the paths written.

    Labels become 1, the background 0. Raises InputError for a layer that is not a cubic map.
    """
    target = Path(path)
    array = np.asarray(data)
    name = str(attributes.get("name") or target.name)
    if array.ndim != 3 or len(set(array.shape)) != 1:
        raise InputError(f"layer {name}: {' x '.join(map(str, array.shape))} is not a cubic map")
    if np.issubdtype(array.dtype, np.integer) or array.dtype == bool:
        array = array > 0
    pixel, place = voxel_A(name, attributes.get("scale", (1.0,) * 3)), attributes.get("translate", (0.0,) * 3)
    io.write_volume(target, Volume(array.astype(np.float32), pixel, origin_A(place)))
    return [str(target)]
