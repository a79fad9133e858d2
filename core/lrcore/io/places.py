"""Where in its micrograph each particle is, from the columns of a STAR or .cs file."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lrcore.io.cs_table import CsSource, micrographs, rows_of
from lrcore.io.star_table import StarSource, numbers
from lrcore.records import Float64, Particles

MICROGRAPH = "rlnMicrographName"
COORDINATES = ["rlnCoordinateX", "rlnCoordinateY"]
PIXEL = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")


@dataclass(frozen=True)
class Places:
    """micrograph: (n,) number. pixel: (n, 2), (x, y) of the image's centre. pixel_size_A: (n,) of the micrograph.

    assumed: the file does not say the micrograph's pixel size, and that of the images stands for it.
    """

    micrograph: npt.NDArray[np.int64]
    pixel: Float64
    pixel_size_A: Float64
    assumed: bool

    def seen_A(self, particles: Particles) -> Float64:
        """(n, 2) where the box centre of the map is seen in the micrograph, Å: the image's centre less its origin."""
        return self.pixel * self.pixel_size_A[:, None] - particles.poses.origin_A


def places(particles: Particles) -> Places | None:
    """Places of the particles, or None where the file has no micrographs or coordinates."""
    source = particles.source
    if isinstance(source, StarSource):
        return _of_star(particles, source)
    if isinstance(source, CsSource):
        return _of_cryosparc(particles, source)
    return None


def _of_star(particles: Particles, source: StarSource) -> Places | None:
    if not {MICROGRAPH, *COORDINATES} <= set(source.table.columns):
        return None
    rows = pd.Index(source.uid).get_indexer(pd.Index(particles.uid))
    table = source.table.iloc[rows]
    pixel = np.stack([numbers(source.path, table, name) for name in COORDINATES], axis=1)
    optics = source.blocks[source.optics] if source.optics is not None else pd.DataFrame()
    size = np.full(len(particles), particles.pixel_size_A)
    name = next((one for one in PIXEL if one in optics.columns), None)
    if name is not None:
        by_group = dict(zip(optics["rlnOpticsGroup"], numbers(source.path, optics, name), strict=True))
        size = np.array([by_group[group] for group in table["rlnOpticsGroup"]])
    return Places(pd.factorize(table[MICROGRAPH])[0].astype(np.int64), pixel, size, name is None)


def _of_cryosparc(particles: Particles, source: CsSource) -> Places | None:
    found = micrographs(source, particles.uid)
    if not {MICROGRAPH, *COORDINATES} <= set(found):
        return None
    pixel = np.array([found[name] for name in COORDINATES], float).T
    known = "location/micrograph_psize_A" in source.fields
    size = np.full(len(particles), particles.pixel_size_A)
    if known:
        size = source.table["location/micrograph_psize_A"][rows_of(source.table["uid"], particles.uid)].astype(float)
    return Places(pd.factorize(np.array(found[MICROGRAPH]))[0].astype(np.int64), pixel, size, not known)
