"""A map as a surface in 3D, coloured by local resolution; needs k3d and scikit-image."""

from importlib import import_module

import ipywidgets as w
import numpy as np

from lrcore.errors import InputError
from lrcore.records import Float32
from lrwidgets.mesh import mesh

HEIGHT = 420


def surface(data: Float32, local_A: Float32, mask: Float32, pixel_size_A: float) -> w.Widget:
    """A widget that shows a map (n, n, n) inside a mask, coloured by its local resolution in Å.

    Raises InputError if the libraries for it are not installed, or the map has no surface.
    """
    try:
        k3d = import_module("k3d")
    except ImportError as error:
        raise InputError("the surface needs k3d and scikit-image: pip install 'lrwidgets[notebook3d]'") from error
    vertices, faces, values = mesh(data, local_A, mask, pixel_size_A)
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
