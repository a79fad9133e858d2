"""Where in its micrograph each particle is, from the columns of a STAR or .cs file."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.arrays import Float64
from lrcore.io.cs_table import CsSource, find_rows, micrograph_columns
from lrcore.io.star_table import StarSource, float_column
from lrcore.records import Particles

MICROGRAPH = "rlnMicrographName"
COORDINATES = ["rlnCoordinateX", "rlnCoordinateY"]
PIXEL = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")


@dataclass(frozen=True)
class MicrographCoordinates:
    """micrograph: (n,) number. pixel: (n, 2), (x, y) of the image's centre. pixel_size_A: (n,) of the micrograph.

    assumed: the file does not say the micrograph's pixel size, and that of the images stands for it.
    """

    micrograph: npt.NDArray[np.int64]
    centre_px: Float64
    pixel_size_A: Float64
    pixel_size_is_assumed: bool

    def map_centre_A(self, particles: Particles) -> Float64:
        """(n, 2) where the box centre of the map is seen in the micrograph, Å: the image's centre less its origin."""
        return self.centre_px * self.pixel_size_A[:, None] - particles.poses.origin_A


def read_micrograph_coordinates(particles: Particles) -> MicrographCoordinates | None:
    """Places of the particles, or None where the file has no micrographs or coordinates."""
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
    name = next((one for one in PIXEL if one in optics.columns), None)
    if name is not None:
        by_group = dict(zip(optics["rlnOpticsGroup"], float_column(source.path, optics, name), strict=True))
        size = np.array([by_group[group] for group in table["rlnOpticsGroup"]])
    return MicrographCoordinates(pd.factorize(table[MICROGRAPH])[0].astype(np.int64), pixel, size, name is None)


def _from_cryosparc(particles: Particles, source: CsSource) -> MicrographCoordinates | None:
    found = micrograph_columns(source, particles.uid)
    if not {MICROGRAPH, *COORDINATES} <= set(found):
        return None
    pixel = np.array([found[name] for name in COORDINATES], float).T
    known = "location/micrograph_psize_A" in source.fields
    size = np.full(len(particles), particles.pixel_size_A)
    if known:
        size = source.table["location/micrograph_psize_A"][find_rows(source.table["uid"], particles.uid)].astype(float)
    return MicrographCoordinates(pd.factorize(np.array(found[MICROGRAPH]))[0].astype(np.int64), pixel, size, not known)
