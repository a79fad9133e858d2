"""What in a mask does not move with its body, by where the half maps agreed better before the body was refined.

A consensus refinement has its poses from the largest body, and blurs what moves against that; a local refinement of
what moves sharpens it, and blurs a piece of the rest that its mask holds. So where the half maps of the step agree less
than those of the start, the density stays behind. As part of the reference it holds back every pose.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.fourier import filter_map
from lrcore.grids import Float32, shell_frequency
from lrcore.masks import cosine_edge
from lrcore.records import HalfMaps, Volume

WINDOW_A = 8.0
"""SD of the Gaussian within which two maps are correlated."""
COARSEST_A, FINEST_A = 40.0, 8.0
"""Of the density that is compared, or as fine as both agree."""
FAINT = 0.05
"""Density that is weaker than this share of the strongest says nothing."""


@dataclass(frozen=True)
class Still:
    """share: of the density in the mask that agreed better at the start. gained: by how much all of it agrees better.

    where: (n, n, n) voxels of the mask that hold the former.
    """

    share: float
    gained: float
    where: npt.NDArray[np.bool_]


def still(before: HalfMaps, after: HalfMaps, mask: Volume, resolution_A: float, workers: int = 1) -> Still:
    """Compare the half maps of the start of a run with those of a step. resolution_A: to which the latter agree."""
    frequency = shell_frequency(mask.box, mask.pixel_size_A)
    band = (frequency > 1 / COARSEST_A) & (frequency * max(resolution_A, FINEST_A) < 1)
    inside = mask.data > 0.5
    sd = WINDOW_A / mask.pixel_size_A
    part = _about(inside, int(np.ceil(4 * sd)))
    (then, strong), (now, strong_now) = (
        _agreement(maps, band.astype(np.float64), part, sd, workers) for maps in (before, after)
    )
    power = np.where(inside[part], np.maximum(np.maximum(strong, strong_now), 0.0), 0.0)
    worse = now < then
    share = float(power[worse].sum() / max(power.sum(), 1e-30))
    gained = float(np.average(now - then, weights=power)) if power.any() else 0.0
    where = np.zeros(inside.shape, np.bool_)
    where[part] = worse & (power > FAINT * power.max(initial=0.0))
    return Still(share, gained, where)


def spared(mask: Volume, where: npt.NDArray[np.bool_], edge_A: float) -> Volume:
    """The mask without these voxels, with an edge of this width towards them."""
    from scipy.ndimage import distance_transform_edt

    away_A = distance_transform_edt(~where) * mask.pixel_size_A
    kept = 1.0 - cosine_edge(away_A.astype(np.float32), 0.0, edge_A)
    return Volume((mask.data * kept).astype(np.float32), mask.pixel_size_A, mask.header_origin_A)


def _agreement(
    maps: HalfMaps, band: npt.NDArray[np.float64], part: tuple[slice, ...], sd: float, workers: int
) -> tuple[Float32, Float32]:
    """Correlation of two half maps about each voxel of a part, and the power that both share there."""
    from scipy.ndimage import gaussian_filter

    a, b = (filter_map(one.data, band, workers)[part] for one in (maps.first, maps.second))
    shared, first, second = (gaussian_filter(product, sd) for product in (a * b, a * a, b * b))
    return shared / np.sqrt(np.maximum(first * second, 1e-30)), shared


def _about(inside: npt.NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """The box about some voxels, with a margin."""
    slices = []
    for axis in range(3):
        held = np.nonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))[0]
        slices.append(slice(max(int(held[0]) - margin, 0), int(held[-1]) + margin + 1) if len(held) else slice(0, 0))
    return tuple(slices)
