"""Extract the isosurface of a map as triangles, with the local resolution at each vertex; needs scikit-image."""

from importlib import import_module

import numpy as np

from lrcore.arrays import Float32, UInt32
from lrcore.errors import InputError
from lrcore.masks import automatic_threshold

MAX_SAMPLES_PER_AXIS = 128
"""Largest number of samples along a side; a larger map is subsampled."""


def local_resolution_surface(
    data: Float32, local_A: Float32, mask: Float32, pixel_size_A: float
) -> tuple[Float32, UInt32, Float32]:
    """Return vertices (v, 3) xyz in Å from the box centre, faces (f, 3) and local resolution (v,) of an isosurface.

    data, local_A, mask: (n, n, n). Raises InputError if scikit-image is not installed, or the map has no surface.
    """
    vertices, faces = extract_isosurface(data * mask, pixel_size_A)
    at = np.rint(vertices[:, ::-1] / pixel_size_A + data.shape[-1] // 2).astype(int).T
    return vertices, faces, local_A[tuple(at)].astype(np.float32)


def extract_isosurface(data: Float32, pixel_size_A: float, level: float | None = None) -> tuple[Float32, UInt32]:
    """Return vertices (v, 3) xyz in Å from the box centre and faces (f, 3) of a map (n, n, n).

    level: density of the surface; by default the automatic threshold.

    Raises InputError if scikit-image is not installed, or the map has no surface.
    """
    try:
        measure = import_module("skimage.measure")
    except ImportError as error:
        raise InputError("the surface needs scikit-image: pip install scikit-image") from error
    step = -(-data.shape[-1] // MAX_SAMPLES_PER_AXIS)
    thinned = data[::step, ::step, ::step]
    level = automatic_threshold(thinned) if level is None else level
    if not thinned.min() < level < thinned.max():
        raise InputError("the map has no surface inside the mask: inspect its slices")
    found, faces, _, _ = measure.marching_cubes(thinned, level)
    vertices = (found[:, ::-1] * step - data.shape[-1] // 2) * pixel_size_A
    return vertices.astype(np.float32), faces.astype(np.uint32)
