"""Move a body along a principal motion as a surface; the rest of the particle stays in place."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from lrcore.arrays import Float32, Float64, UInt32
from lrcore.errors import InputError
from lrcore.imaging.rotations import rotation_exp
from lrcore.masks import automatic_threshold
from lrcore.records import Volume
from lrcore.units import DEGREE
from lrwidgets.export.chimerax import MOTION_RANGE_SD
from lrwidgets.gui.isosurface import extract_isosurface
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import motion_plot_data


@dataclass(frozen=True)
class MotionSurfaces:
    """Surfaces at one density level. All vertices are xyz in Å from the box centre.

    Attributes
    ----------
    positions_sd
        (F,) positions along the motion, in SD.
    body
        (F, v, 3) vertices of the body at each position.
    faces
        (f, 3) faces of the body, the same at each position.
    rest, rest_faces
        (u, 3) vertices and faces of the rest of the particle; empty if there is none.
    """

    positions_sd: Float64
    body: Float32
    faces: UInt32
    rest: Float32
    rest_faces: UInt32


FRAMES = 13
"""Number of positions from one end of the motion to the other."""


def motion_surfaces(motions: xr.Dataset, number: int, whole: Volume, mask: Float32) -> MotionSurfaces:
    """Return the surface of a map with the body moved rigidly along a principal motion, from −2 SD to 2 SD.

    Parameters
    ----------
    motions
        From `principal_motions`.
    number
        Number of the motion, from 1.
    whole
        Map with the surroundings of the body.
    mask
        (n, n, n) mask of the body.

    Raises
    ------
    InputError
        If there is no such motion, scikit-image is not installed, or the map has no surface.
    """
    if number not in motions["motion"].values:
        raise InputError(f"motion {number}: there are motions 1 to {motions.sizes['motion']}")
    one, fulcrum = motions.sel(motion=number), motions["fulcrum"].values
    level = automatic_threshold(whole.data * mask)
    still, faces = extract_isosurface(whole.data * mask, whole.pixel_size_A, level)
    places = np.linspace(-MOTION_RANGE_SD, MOTION_RANGE_SD, FRAMES)
    turns = rotation_exp(places[:, None] * one["turn"].values * DEGREE)
    body = np.einsum("fij,vj->fvi", turns, still - fulcrum) + fulcrum + places[:, None, None] * one["shift"].values
    outside = whole.data * (1 - mask)
    if outside.max() > level > outside.min():
        rest, rest_faces = extract_isosurface(outside, whole.pixel_size_A, level)
    else:
        rest, rest_faces = still[:0], faces[:0]
    return MotionSurfaces(places, body.astype(np.float32), faces, rest, rest_faces)


def motion_surfaces_of(session: Session, node: str, number: int) -> MotionSurfaces:
    """Return the body of a step moved along a principal motion. Raises InputError as `motion_surfaces`."""
    motions, whole, mask = motion_plot_data(session, node)
    return motion_surfaces(motions, number, Volume(whole.values, session.job.particles.pixel_size_A), mask.values)
