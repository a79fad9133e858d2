"""A map as a surface of triangles, each corner with its local resolution; needs scikit-image."""

from importlib import import_module

import numpy as np
import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.masks import automatic_threshold
from lrcore.records import Float32

MOST = 128
"""Voxels along a side of what is drawn: a larger map is thinned out."""


def mesh(
    data: Float32, local_A: Float32, mask: Float32, pixel_size_A: float
) -> tuple[Float32, npt.NDArray[np.uint32], Float32]:
    """Vertices (v, 3) xyz in Å from the box centre, faces (f, 3) and the local resolution (v,) of an isosurface.

    data, local_A, mask: (n, n, n). Raises InputError if scikit-image is not installed, or the map has no surface.
    """
    try:
        measure = import_module("skimage.measure")
    except ImportError as error:
        raise InputError("the surface needs scikit-image: pip install scikit-image") from error
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
