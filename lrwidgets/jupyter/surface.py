"""A map as a surface in 3D, coloured by local resolution; needs k3d and scikit-image."""

from importlib import import_module
from typing import Any

import ipywidgets as w
import numpy as np

from lrcore.errors import InputError
from lrcore.masks import automatic_threshold
from lrcore.records import Float32

MOST = 128
"""Voxels along a side of what is drawn: a larger map is thinned out."""
HEIGHT = 420


def surface(data: Float32, local_A: Float32, mask: Float32, pixel_size_A: float) -> w.Widget:
    """A widget that shows a map (n, n, n) inside a mask, coloured by its local resolution in Å.

    Raises InputError if the libraries for it are not installed, or the map has no surface.
    """
    try:
        k3d, measure = import_module("k3d"), import_module("skimage.measure")
    except ImportError as error:
        raise InputError("the surface needs k3d and scikit-image: pip install 'lrwidgets[notebook3d]'") from error
    vertices, faces, values = mesh(measure, data, local_A, mask, pixel_size_A)
    low, high = (float(value) for value in np.quantile(values, (0.02, 0.98)))
    plot = k3d.plot(height=HEIGHT, grid_visible=False, axes=["x, Å", "y, Å", "z, Å"], menu_visibility=False)
    colours = k3d.matplotlib_color_maps.Viridis_r
    plot += k3d.mesh(
        vertices,
        faces,
        attribute=values,
        color_map=colours,
        color_range=[low, max(high, low + 0.1)],
        name="local resolution, Å",
    )
    return plot


def mesh(
    measure: Any, data: Float32, local_A: Float32, mask: Float32, pixel_size_A: float
) -> tuple[Float32, Any, Float32]:
    """Vertices (v, 3) xyz in Å from the box centre, faces (f, 3) and the local resolution (v,) of an isosurface."""
    step = -(-data.shape[-1] // MOST)
    thin = slice(None, None, step)
    inside = (data * mask)[thin, thin, thin]
    level = automatic_threshold(inside)
    if not inside.min() < level < inside.max():
        raise InputError("the map has no surface inside the mask: look at its slices")
    found, faces, _, _ = measure.marching_cubes(inside, level)
    at = np.rint(found).astype(int).T
    values = local_A[thin, thin, thin][tuple(at)]
    vertices = (found[:, ::-1] * step - data.shape[-1] // 2) * pixel_size_A
    return vertices.astype(np.float32), faces.astype(np.uint32), values.astype(np.float32)
