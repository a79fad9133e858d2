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
PIXEL = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")


@dataclass(frozen=True)
class MicrographCoordinates:
    """Positions of n particles in their micrographs.

    Attributes
    ----------
    micrograph : (n,) number of the micrograph, from 0
    centre_px : (n, 2), (x, y) of the image centre in micrograph pixels
    pixel_size_A : (n,) Å, of the micrograph
    pixel_size_is_assumed : the file does not state the micrograph pixel size, so that of the images is used
    """

    micrograph: npt.NDArray[np.int64]
    centre_px: Float64
    pixel_size_A: Float64
    pixel_size_is_assumed: bool

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


def read_micrograph_coordinates(particles: Particles) -> MicrographCoordinates | None:
    """Read the positions of the particles in their micrographs.

    Parameters
    ----------
    particles : n particles

    Returns
    -------
    MicrographCoordinates, or None
        None if their file lacks micrograph names or coordinates.
    """
    source = particles.source
    if isinstance(source, StarSource):
        return _from_star(particles, source)
    if isinstance(source, CsSource):
        return _from_cryosparc(particles, source)
    return None


def _from_star(particles: Particles, source: StarSource) -> MicrographCoordinates | None:
    if not {MICROGRAPH, *COORDINATES} <= set(source.table.columns):
        return None
    rows = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))
    table = source.table.iloc[rows]
    pixel = np.stack([float_column(source.path, table, name) for name in COORDINATES], axis=1)
    optics = source.blocks[source.optics] if source.optics is not None else pd.DataFrame()
    size = np.full(len(particles), particles.pixel_size_A)
    name = next((column for column in PIXEL if column in optics.columns), None)
    if name is not None:
        number = float_column(source.path, optics, GROUP)  # "1" and "1.000000" are one group
        by_group = dict(zip(number, float_column(source.path, optics, name), strict=True))
        size = np.array([by_group[group] for group in float_column(source.path, table, GROUP)])
    return MicrographCoordinates(pd.factorize(table[MICROGRAPH])[0].astype(np.int64), pixel, size, name is None)


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
