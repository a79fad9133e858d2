"""Read the micrograph and the position in it of each particle, from the columns of a STAR or .cs file."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import Float64
from lrcore.io.cs_table import CsSource, find_rows, micrograph_columns
from lrcore.io.star_optics import GROUP
from lrcore.io.star_table import StarSource, float_column
from lrcore.records import Particles

MICROGRAPH = "rlnMicrographName"
COORDINATES = ["rlnCoordinateX", "rlnCoordinateY"]
PIXEL = "rlnMicrographPixelSize"
MOVIE_PIXEL = "rlnMicrographOriginalPixelSize"
"""Pixel size of the movies: that of the micrographs only if these were not binned."""
SAME_SIZE = 0.01
"""Relative difference up to which two pixel sizes are the same."""


@dataclass(frozen=True)
class MicrographCoordinates:
    """Positions of n particles in their micrographs.

    Attributes
    ----------
    micrograph : (n,) number of the micrograph, from 0
    centre_px : (n, 2), (x, y) of the image centre in micrograph pixels
    pixel_size_A : (n,) Å, of the micrograph
    pixel_size_is_assumed : the file does not state the micrograph pixel size, so that of the images is used
    movie_pixel_size_A : that of the movies where it differs from the assumed one, which may then be wrong; None if not
    """

    micrograph: npt.NDArray[np.int64]
    centre_px: Float64
    pixel_size_A: Float64
    pixel_size_is_assumed: bool
    movie_pixel_size_A: float | None = None

    def map_centre_A(self, particles: Particles) -> Float64:
        """Return the projected centre of the map's box in the micrograph: image centre minus origin.

        Parameters
        ----------
        particles : the n particles, whose poses are used

        Returns
        -------
        (n, 2) float64
            (x, y) in Å.
        """
        return self.centre_px * self.pixel_size_A[:, None] - particles.poses.origin_A


def read_micrograph_coordinates(
    particles: Particles, pixel_size_A: float | None = None
) -> MicrographCoordinates | None:
    """Read the positions of the particles in their micrographs.

    Parameters
    ----------
    particles : n particles
    pixel_size_A : that of the micrographs, Å, which takes precedence over the file's

    Returns
    -------
    MicrographCoordinates, or None
        None if their file lacks micrograph names or coordinates.
    """
    source, places = particles.source, None
    if isinstance(source, StarSource):
        places = _from_star(particles, source)
    if isinstance(source, CsSource):
        places = _from_cryosparc(particles, source)
    if places is None or pixel_size_A is None:
        return places
    return MicrographCoordinates(places.micrograph, places.centre_px, np.full(len(particles), pixel_size_A), False)


def _from_star(particles: Particles, source: StarSource) -> MicrographCoordinates | None:
    if not {MICROGRAPH, *COORDINATES} <= set(source.table.columns):
        return None
    rows = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))
    table = source.table.iloc[rows]
    pixel = np.stack([float_column(source.path, table, name) for name in COORDINATES], axis=1)
    known, movies = (_sizes_of_groups(source, table, name) for name in (PIXEL, MOVIE_PIXEL))
    size = np.full(len(particles), particles.pixel_size_A)
    other = None
    if known is None and movies is not None:
        different = np.abs(movies / size - 1) > SAME_SIZE
        other = float(movies[different][0]) if different.any() else None
    micrograph = pd.factorize(table[MICROGRAPH])[0].astype(np.int64)
    is_assumed = known is None and (movies is None or other is not None)
    return MicrographCoordinates(micrograph, pixel, size if known is None else known, is_assumed, other)


def _sizes_of_groups(source: StarSource, table: pd.DataFrame, name: str) -> Float64 | None:
    """Return a pixel size for each row of a table, from its own column or that of its optics group; None without."""
    if name in table.columns:
        return float_column(source.path, table, name)
    optics = source.blocks[source.optics] if source.optics is not None else pd.DataFrame()
    if name not in optics.columns:
        return None
    sizes = float_column(source.path, optics, name)
    if GROUP not in table.columns:
        return np.repeat(sizes[:1], len(table))
    groups = pd.Series(sizes, float_column(source.path, optics, GROUP))
    return np.asarray(groups.reindex(float_column(source.path, table, GROUP)), np.float64)


def _from_cryosparc(particles: Particles, source: CsSource) -> MicrographCoordinates | None:
    columns = micrograph_columns(source, particles.uid)
    if not {MICROGRAPH, *COORDINATES} <= set(columns):
        return None
    pixel = np.array([columns[name] for name in COORDINATES], float).T
    known = "location/micrograph_psize_A" in source.fields
    size = np.full(len(particles), particles.pixel_size_A)
    if known:
        size = source.table["location/micrograph_psize_A"][find_rows(source.table["uid"], particles.uid)].astype(float)
    return MicrographCoordinates(
        pd.factorize(np.array(columns[MICROGRAPH]))[0].astype(np.int64), pixel, size, not known
    )
