"""Convert volumes, points and surfaces to napari's layers and back.

World coordinates are those of the map's file: (z, y, x) in Å from where its MRC header puts the origin, so that a model
fitted to the map lies where the layers are. No napari here: layers are tuples of data, arguments and kind.
"""

from typing import Any, Protocol

import matplotlib
import numpy as np
import numpy.typing as npt

from lrcore import masks
from lrcore.arrays import Float32, Float64
from lrcore.errors import InputError
from lrcore.records import Volume
from lrwidgets.gui.fulcrum_model import ELLIPSE_SDS, Point
from lrwidgets.gui.isosurface import local_resolution_surface
from lrwidgets.gui.motion_surface import MotionSurfaces

LayerData = tuple[Any, dict[str, Any], str]

AXES = ("z", "y", "x")
UNITS = ("angstrom",) * 3
MOTION, REST = "motion", "rest of the particle"
MAP, MASK, NEW_MASK, FULCRUM, ESTIMATE, LOCAL = "map", "mask", "new mask", "fulcrum", "estimate", "local resolution"
"""Names of our layers."""


class ImageLike(Protocol):
    """Attributes of an image layer that are used."""

    data: Any
    scale: Any
    translate: Any
    name: str


def layer_placement(volume: Volume) -> dict[str, Any]:
    """Return the arguments that place a map's voxels in world coordinates."""
    x, y, z = volume.header_origin_A
    return {"scale": (volume.pixel_size_A,) * 3, "translate": (z, y, x), "units": UNITS, "axis_labels": AXES}


def map_layer(volume: Volume, name: str = MAP, **more: Any) -> LayerData:
    """Return a map as grey slices, and as a surface at its threshold in 3D."""
    low, high = (float(q) for q in np.quantile(volume.data, (0.02, 0.9998)))
    shown = {
        "name": name,
        "contrast_limits": (low, high if high > low else low + 1.0),
        "rendering": "iso",
        "iso_threshold": surface_level(volume),
        "metadata": {"lrwidgets": "map"},
    }
    return volume.data, layer_placement(volume) | shown | more, "image"


def mask_layer(volume: Volume, name: str = MASK, **more: Any) -> LayerData:
    """Return a mask as a tint over the map, and as a surface at 0.5 in 3D."""
    shown = {
        "name": name,
        "contrast_limits": (0.0, 1.0),
        "colormap": "bop orange" if name == NEW_MASK else "bop blue",
        "blending": "additive",
        "opacity": 0.45,
        "rendering": "iso",
        "iso_threshold": 0.5,
        "metadata": {"lrwidgets": "mask"},
    }
    return volume.data, layer_placement(volume) | shown | more, "image"


def fulcrum_layer(volume: Volume, point_A: Point) -> LayerData:
    """Return the fulcrum as a layer of one point that can be dragged. point_A: (x, y, z) from the box centre."""
    shown = {
        "name": FULCRUM,
        "size": max(4.0, 0.05 * volume.box * volume.pixel_size_A),
        "face_color": "#ff3b6b",
        "border_color": "white",
        "border_width": 0.08,
        "symbol": "disc",
        "units": UNITS,
        "axis_labels": AXES,
        "blending": "translucent_no_depth",
        "out_of_slice_display": True,
        "metadata": {"lrwidgets": "fulcrum"},
    }
    return np.array([to_world(volume, point_A)]), shown, "points"


def ellipsoid_layer(volume: Volume, point_A: Point, covariance_A2: Float64) -> LayerData:
    """Return an estimate of the fulcrum as the ellipsoid of `ELLIPSE_SDS`. covariance_A2: (3, 3) of (x, y, z)."""
    turns, heights = np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13)
    turn, height = (a.ravel() for a in np.meshgrid(turns, heights))
    unit = np.stack([np.sin(height) * np.cos(turn), np.sin(height) * np.sin(turn), np.cos(height)], axis=1)
    widths, axes = np.linalg.eigh(covariance_A2)
    offsets = unit * (ELLIPSE_SDS * np.sqrt(np.maximum(widths, 0))) @ axes.T
    vertices = np.array(to_world(volume, point_A)) + offsets[:, ::-1]
    columns = len(turns)
    corner = (np.arange(len(heights) - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    faces = np.concatenate([
        np.stack([corner, corner + 1, corner + columns], axis=1),
        np.stack([corner + 1, corner + columns + 1, corner + columns], axis=1),
    ])  # fmt: skip
    shown = {
        "name": ESTIMATE,
        "opacity": 0.4,
        "blending": "translucent_no_depth",
        "colormap": "bop purple",
        "shading": "smooth",
        "units": UNITS,
        "axis_labels": AXES,
        "metadata": {"lrwidgets": "estimate"},
    }
    return (vertices, faces, np.ones(len(vertices))), shown, "surface"


def local_resolution_layer(volume: Volume, local_A: Float32, mask: Float32) -> LayerData:
    """Return the map's surface inside a mask, coloured by local resolution. local_A, mask: (n, n, n)."""
    vertices, faces, values = local_resolution_surface(volume.data, local_A, mask, volume.pixel_size_A)
    low, high = (float(q) for q in np.quantile(values, (0.02, 0.98)))
    middle = np.array(to_world(volume, (0.0, 0.0, 0.0)))
    shown = {
        "name": LOCAL,
        "colormap": {"name": "viridis_r", "colors": matplotlib.colormaps["viridis_r"](np.linspace(0, 1, 64))},
        "contrast_limits": (low, max(high, low + 0.1)),
        "shading": "smooth",
        "units": UNITS,
        "axis_labels": AXES,
        "metadata": {"lrwidgets": "local"},
    }
    return (middle + vertices[:, ::-1], faces, values), shown, "surface"


def motion_surface_layers(volume: Volume, shown: MotionSurfaces) -> tuple[LayerData, LayerData | None]:
    """Return a moving body as a surface with its own slider, and the rest of the particle, if any.

    volume: map that defines the world coordinates.
    """
    middle = np.array(to_world(volume, (0.0, 0.0, 0.0)))
    frames, count = shown.body.shape[:2]
    time = np.repeat(np.arange(frames), count)[:, None]
    vertices = np.concatenate([time, middle + shown.body.reshape(-1, 3)[:, ::-1]], axis=1)
    faces = np.concatenate([shown.faces.astype(np.int64) + count * i for i in range(frames)])
    axes = {"units": ("pixel", *UNITS), "axis_labels": ("position along motion", *AXES)}
    body = {"name": MOTION, "colormap": "bop orange", "shading": "smooth", "metadata": {"lrwidgets": "swing"}} | axes
    moving: LayerData = ((vertices, faces, np.ones(len(vertices))), body, "surface")
    if len(shown.rest) == 0:
        return moving, None
    rest = {"name": REST, "colormap": "gray", "opacity": 0.5, "shading": "smooth", "metadata": {"lrwidgets": "still"}}
    here = (middle + shown.rest[:, ::-1], shown.rest_faces, np.full(len(shown.rest), 0.7))
    return moving, (here, rest | {"units": UNITS, "axis_labels": AXES, "contrast_limits": (0.0, 1.0)}, "surface")


def to_world(volume: Volume, point_A: npt.ArrayLike) -> Point:
    """Convert a point (x, y, z) in Å from the box centre to world coordinates (z, y, x)."""
    corner = np.asarray(point_A, float) + volume.box // 2 * volume.pixel_size_A
    z, y, x = (float(a) for a in (corner + np.array(volume.header_origin_A))[::-1])
    return z, y, x


def from_world(volume: Volume, world: npt.ArrayLike) -> Point:
    """Convert world coordinates (z, y, x) to a point (x, y, z) in Å from the box centre."""
    corner = np.asarray(world, float)[::-1] - np.array(volume.header_origin_A)
    x, y, z = (float(a) for a in corner - volume.box // 2 * volume.pixel_size_A)
    return x, y, z


def fulcrum_text(volume: Volume, world: npt.ArrayLike) -> str:
    """Return world coordinates (z, y, x) as a spec's fulcrum: in Å from the corner of the box."""
    corner = np.asarray(world, float)[::-1] - np.array(volume.header_origin_A)
    return ", ".join(f"{a:.2f}" for a in corner) + " A"


def volume_from_layer(layer: ImageLike) -> Volume:
    """Return the map of an image layer. Raises InputError if it is not cubic with cubic voxels."""
    data, (scale, translate) = np.asarray(layer.data), (np.asarray(a, float) for a in (layer.scale, layer.translate))
    if data.ndim != 3 or len(set(data.shape)) != 1:
        raise InputError(f"layer {layer.name}: {' x '.join(map(str, data.shape))} is not a cubic map: choose another")
    return Volume(data.astype(np.float32, copy=False), voxel_A(layer.name, scale), origin_A(translate))


def voxel_A(name: str, scale: npt.ArrayLike) -> float:
    """Return the voxel size of a layer in Å. Raises InputError if it differs between axes."""
    sizes = np.asarray(scale, float)
    if np.ptp(sizes) > 1e-4 * sizes.mean():
        words = " x ".join(f"{size:g}" for size in sizes)
        raise InputError(f"layer {name}: voxels of {words} Å: a map needs the same size along each axis")
    return float(sizes.mean())


def origin_A(translate: npt.ArrayLike) -> Point:
    """Return the header's origin (x, y, z) from a layer's (z, y, x)."""
    z, y, x = (float(a) for a in np.asarray(translate, float))
    return x, y, z


def shapes_from_layer(volume: Volume, shapes: Any) -> tuple[masks.Sphere | masks.Cuboid, ...]:
    """Return ellipses and rectangles of a Shapes layer, drawn in slices, as spheres and boxes as deep as wide.

    Raises InputError for other shapes.
    """
    found: list[masks.Sphere | masks.Cuboid] = []
    for corners, kind in zip(shapes.data, map(str, shapes.shape_type), strict=True):
        if kind not in ("ellipse", "rectangle"):
            raise InputError(f"layer {shapes.name}: contains a {kind}: draw ellipses (spheres) and rectangles (boxes)")
        world = np.asarray(corners, float) * shapes.scale + shapes.translate
        centre, size = from_world(volume, world.mean(axis=0)), np.ptp(world, axis=0)[::-1]
        deep = float(np.sort(size)[1:].mean())
        if kind == "ellipse":
            found.append(masks.Sphere(centre, 0.5 * deep))
        else:
            x, y, z = (float(side) if side > 0.01 * deep else deep for side in size)
            found.append(masks.Cuboid(centre, (x, y, z)))
    return tuple(found)


def surface_level(volume: Volume) -> float:
    """Return the density of a map's surface: the automatic threshold, or the middle of its values without one."""
    if np.ptp(volume.data) == 0:
        return float(volume.data.flat[0])
    try:
        return float(masks.automatic_threshold(volume.data))
    except InputError:
        return float(0.5 * (volume.data.min() + volume.data.max()))
