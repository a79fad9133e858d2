"""A mask looked at: what would harm a refinement, each as a number, its limit and a sentence."""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.errors import InputError
from lrcore.masks.distance import bounds, squared_distance
from lrcore.masks.geometry import SUPPORT_THRESHOLD, centre_of_mass
from lrcore.records import Volume

KDA_PER_A3 = 0.81e-3
"""Density of protein: 0.81 Da/Å³."""
EDGE_PER_RESOLUTION = 5.0
"""The rule of the field: a soft edge of 5 · resolution / pixel size voxels."""
MIN_EDGE_VOXELS = 3.0
"""An edge narrower than so many voxels is too sharp for any resolution."""
EDGE_WIDTH_QUANTILE = 0.1
"""Share of a mask's surface where its edge may be narrower than the width that is told."""
MAX_BOX_FRACTION = 0.5
MAX_CUT_FRACTION = 0.1
EDGE_TOLERANCE = 1e-5
"""Distance from 0 and 1 at which a value belongs to the edge."""


@dataclass(frozen=True)
class MaskCheck:
    """One look at a mask. threshold: the limit of the value, None where there is none to judge by."""

    name: str
    value: float
    threshold: float | None
    passed: bool
    sentence: str


@dataclass(frozen=True)
class MaskSize:
    """The size of a mask. volume_A3: of its voxels above 0.5; mass_kDa: of protein that fills it. fraction: its mean.

    centre_px: centre of mass (x, y, z) in voxels from the corner; NaN for an empty mask.
    """

    volume_A3: float
    mass_kDa: float
    fraction: float
    centre_px: Float64


def measure_mask(mask: Float32, pixel_size_A: float) -> MaskSize:
    """How large a mask (n, n, n) is, and where."""
    volume_A3 = float(np.count_nonzero(mask > 0.5)) * pixel_size_A**3
    fraction = float(mask.mean(dtype=np.float64))
    centre = centre_of_mass(mask) + len(mask) // 2 if fraction > 0 else np.full(3, np.nan)
    return MaskSize(volume_A3, mass_kDa(volume_A3), fraction, centre)


def mass_kDa(volume_A3: float) -> float:
    """Mass of protein that fills a volume in Å³, at 0.81 Da/Å³."""
    return KDA_PER_A3 * volume_A3


def validate_mask(mask: Volume, box: int, pixel_size_A: float) -> Volume:
    """The mask, if it fits particles of `box` pixels of `pixel_size_A`; one with a sharp edge is warned of.

    Raises InputError for another box, another voxel size, values outside [0, 1] or an empty mask.
    """
    require_mask_fits(mask, box, pixel_size_A)
    name = mask.path or "mask"
    data = mask.data
    binary = bool(np.all((data < 1e-3) | (data > 1 - 1e-3)))
    width = 0.0 if binary else edge_width(data)
    if binary or 0 < width < MIN_EDGE_VOXELS:
        what = "the mask is binary" if binary else f"the soft edge is {width:.1f} voxels wide"
        warnings.warn(
            f"{name}: {what}: it will ring; make it 5 x resolution / pixel size voxels wide (lrwidgets mask --soft)",
            stacklevel=2,
        )
    return mask


def require_mask_fits(mask: Volume, box: int, pixel_size_A: float) -> None:
    """Raise InputError unless the mask is one, on the grid of particles of `box` pixels of `pixel_size_A`."""
    name = mask.path or "mask"
    data = mask.data
    if mask.box != box:
        raise InputError(f"{name}: the mask is {mask.box}³ but the particles' box is {box}: re-box the mask")
    if abs(mask.pixel_size_A / pixel_size_A - 1) > 0.01:
        raise InputError(
            f"{name}: voxel size {mask.pixel_size_A:g} Å but the particles' is {pixel_size_A:g} Å: resample the mask"
        )
    if data.min() < -1e-3 or data.max() > 1 + 1e-3:
        raise InputError(f"{name}: values run from {data.min():.3g} to {data.max():.3g}; a mask lies between 0 and 1")
    if data.max() <= SUPPORT_THRESHOLD:
        raise InputError(f"{name}: the mask is empty; make one that covers the region to refine")


def edge_width(mask: Float32) -> float:
    """Width in voxels of the soft edge of a mask (n, n, n), which nine tenths of its surface reach; 0 if it is binary.

    The distance from where the mask is whole to the first voxels where it is 0: a tight bound from above for an edge
    that falls with the distance, and small where something has been cut off, however wide the edge is elsewhere.
    """
    from scipy.ndimage import binary_dilation

    part = mask[bounds(mask > EDGE_TOLERANCE, 1)]
    held, whole = part > EDGE_TOLERANCE, part >= min(1 - EDGE_TOLERANCE, float(part.max(initial=0)))
    rim = binary_dilation(held) & ~held
    if not rim.any() or np.array_equal(held, whole):
        return 0.0
    reach = 16
    while True:
        squares = squared_distance(whole, reach)[rim]
        width = math.sqrt(np.quantile(squares, EDGE_WIDTH_QUANTILE, method="lower"))
        if width <= reach or reach > 2 * len(mask):
            return width
        reach *= 2


def check_mask(
    mask: Float32, pixel_size_A: float, resolution_A: float | None = None, density: Float32 | None = None
) -> tuple[MaskCheck, ...]:
    """What to know of a mask (n, n, n) before it is used.

    resolution_A: what the refinement is to reach; without it the edge is measured but not judged. density: (n, n, n),
    the low-passed map, 0 below its threshold; with it, how much of what the mask touches is cut by its edge.
    """
    checks = [_values(mask), _empty(mask)]
    if checks[-1].passed:
        checks += [_edge(mask, pixel_size_A, resolution_A), _fraction(mask), _border(mask)]
        if density is not None:
            checks.append(_cut(mask, density))
    return tuple(checks)


def _values(mask: Float32) -> MaskCheck:
    low, high = float(mask.min()), float(mask.max())
    off = max(0.0, -low, high - 1)
    return MaskCheck(
        "values", off, SUPPORT_THRESHOLD, off <= SUPPORT_THRESHOLD, f"values lie between {low:.3g} and {high:.3g}"
    )


def _empty(mask: Float32) -> MaskCheck:
    count = int(np.count_nonzero(mask > 0.5))
    sentence = f"{count} voxels are inside" if count else "the mask is empty: lower the threshold or dilate it"
    return MaskCheck("inside", count, 1, count >= 1, sentence)


def _edge(mask: Float32, pixel_size_A: float, resolution_A: float | None) -> MaskCheck:
    width = edge_width(mask)
    sentence = f"the soft edge is {width:.1f} voxels ({width * pixel_size_A:.1f} A) wide"
    if resolution_A is None:
        return MaskCheck("edge", width, None, True, sentence)
    wanted = EDGE_PER_RESOLUTION * resolution_A / pixel_size_A
    passed = width >= 0.99 * wanted  # the very ends of a cosine differ from 0 and 1 by less than BARE
    rule = f"{wanted:.1f} voxels ({wanted * pixel_size_A:.1f} A) for {resolution_A:g} A"
    sentence += f"; the rule asks for {rule}" if passed else f": make it {rule}, or it will ring"
    return MaskCheck("edge", width, wanted, passed, sentence)


def _fraction(mask: Float32) -> MaskCheck:
    fraction = float(mask.mean(dtype=np.float64))
    sentence = f"the mask fills {100 * fraction:.2g} % of the box"
    passed = fraction <= MAX_BOX_FRACTION
    return MaskCheck("fraction", fraction, MAX_BOX_FRACTION, passed, sentence + ("" if passed else ": it hardly masks"))


def _border(mask: Float32) -> MaskCheck:
    faces = [side for axis in range(3) for side in (mask.take(0, axis), mask.take(-1, axis))]
    highest = max(float(face.max()) for face in faces)
    passed = highest <= SUPPORT_THRESHOLD
    sentence = "the mask keeps clear of the border of the box"
    if not passed:
        sentence = (
            f"the mask is cut by the border of the box, where it reaches {highest:.2g}: make it or its edge smaller"
        )
    return MaskCheck("border", highest, SUPPORT_THRESHOLD, passed, sentence)


def _cut(mask: Float32, density: Float32) -> MaskCheck:
    touched = mask > EDGE_TOLERANCE
    total = float(density[touched].sum(dtype=np.float64))
    edge = float(density[touched & (mask < 1 - EDGE_TOLERANCE)].sum(dtype=np.float64))
    share = edge / total if total > 0 else 0.0
    passed = share <= MAX_CUT_FRACTION
    sentence = f"{100 * share:.1f} % of the density that the mask touches lies in its edge"
    if not passed:
        sentence += ": it cuts through the particle, so the edge must be wide"
    return MaskCheck("cut", share, MAX_CUT_FRACTION, passed, sentence)
