"""Find the point of a map under a click: on the surface in 3D, in the slice in 2D."""

from typing import Any

import numpy as np
from napari.layers import Image

from lrwidgets.gui.fulcrum_model import Point

STEPS_PER_VOXEL = 2


def pick_surface_point(viewer: Any, event: Any) -> Point | None:
    """Return the point (z, y, x) under the mouse in world coordinates; None if there is none.

    In 3D it is the first point along the line of sight that is above the surface threshold of a visible map.
    """
    if viewer.dims.ndisplay == 2:
        z, y, x = (float(a) for a in event.position[-3:])
        return z, y, x
    hits = []
    for layer in viewer.layers:
        if isinstance(layer, Image) and layer.visible and layer.ndim == 3 and layer.metadata.get("lrwidgets") == "map":
            near, far = layer.get_ray_intersections(
                event.position, event.view_direction, list(event.dims_displayed), world=True
            )
            if near is not None:
                place = first_point_above(np.asarray(layer.data), float(layer.iso_threshold), near, far)
                if place is not None:
                    hits.append(np.asarray(layer.data_to_world(place)))
    if not hits:
        return None
    depth = [float(np.dot(hit, np.asarray(event.view_direction))) for hit in hits]
    z, y, x = (float(a) for a in hits[int(np.argmin(depth))])
    return z, y, x


def first_point_above(data: np.ndarray, level: float, near: np.ndarray, far: np.ndarray) -> np.ndarray | None:
    """Return the first point (3,) from `near` to `far`, in voxels, where a map reaches a level; None if nowhere."""
    near, far = np.asarray(near, float), np.asarray(far, float)
    count = int(np.ceil(np.linalg.norm(far - near) * STEPS_PER_VOXEL)) + 1
    points = near + np.linspace(0, 1, count)[:, None] * (far - near)
    at = np.rint(points).astype(int)
    inside = ((at >= 0) & (at < data.shape)).all(axis=1)
    values = np.full(count, -np.inf)
    values[inside] = data[tuple(at[inside].T)]
    found = np.nonzero(values >= level)[0]
    return points[found[0]] if len(found) else None
