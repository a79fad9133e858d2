"""Draw surfaces in 3D: a map coloured by local resolution, a moving body; needs k3d and scikit-image."""

from importlib import import_module
from typing import Any

import ipywidgets as w
import numpy as np

from lrcore.arrays import Float32
from lrcore.errors import InputError
from lrwidgets.gui.isosurface import local_resolution_surface
from lrwidgets.gui.motion_surface import MotionSurfaces

HEIGHT = 420
FRAME_MS = 90
NEAR, FROM_DEG = 0.7, (25.0, 15.0)
"""Distance factor of the camera, and its yaw and pitch."""
BODY, REST = 0xE69F00, 0x9AA5B1


def surface_view(data: Float32, local_A: Float32, mask: Float32, pixel_size_A: float) -> w.Widget:
    """Return a widget that shows a map (n, n, n) inside a mask, coloured by its local resolution in Å.

    Raises InputError if the libraries for it are not installed, or the map has no surface.
    """
    k3d = _k3d()
    vertices, faces, values = local_resolution_surface(data, local_A, mask, pixel_size_A)
    low, high = (float(value) for value in np.quantile(values, (0.02, 0.98)))
    plot = _plot(k3d)
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


def motion_player(shown: MotionSurfaces) -> w.Widget:
    """Return a widget that plays the motion of a body back and forth, without the kernel.

    Raises InputError if the libraries for it are not installed.
    """
    k3d = _k3d()
    plot = _plot(k3d)
    frames = {str(i): vertices for i, vertices in enumerate([*shown.body, *shown.body[-2:0:-1]])}
    plot += k3d.mesh(frames, shown.faces, color=BODY, name="the body")
    if len(shown.rest):
        plot += k3d.mesh(shown.rest, shown.rest_faces, color=REST, opacity=0.5, name="the rest")
    plot.camera_auto_fit, plot.camera = False, plot.get_auto_camera(NEAR, *FROM_DEG)
    play = w.Play(value=0, min=0, max=len(frames) - 1, interval=FRAME_MS, repeat=True)
    at = w.IntSlider(
        value=0,
        min=0,
        max=len(frames) - 1,
        readout=False,
        description="position along motion",
        style={"description_width": "auto"},
    )
    w.jslink((play, "value"), (at, "value"))
    w.jslink((play, "value"), (plot, "time"))
    return w.VBox([plot, w.HBox([play, at])])


def _k3d() -> Any:
    try:
        return import_module("k3d")
    except ImportError as error:
        raise InputError("the surface needs k3d and scikit-image: pip install 'lrwidgets[notebook3d]'") from error


def _plot(k3d: Any) -> Any:
    return k3d.plot(height=HEIGHT, grid_visible=False, axes=["x, Å", "y, Å", "z, Å"], menu_visibility=False)
