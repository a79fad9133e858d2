"""Check a mask for what would harm a refinement: each check has a value, a limit and a message."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float32, Float64, IdentityCache
from lrcore.errors import InputError
from lrcore.imaging.resampling import grid_mismatch
from lrcore.masks.distance import bounding_block, squared_distance
from lrcore.masks.geometry import SUPPORT_THRESHOLD, centre_of_mass
from lrcore.records import Volume

KDA_PER_A3 = 0.81e-3
"""Density of protein in kDa/Å³."""
EDGE_PER_RESOLUTION = 5.0
"""Recommended width of the soft edge: 5 · resolution / pixel size voxels."""
MIN_EDGE_VOXELS = 3.0
"""Width in voxels below which an edge is too sharp for any resolution."""
EDGE_WIDTH_QUANTILE = 0.1
"""Fraction of the surface of a mask where its edge may be narrower than the reported width."""
MAX_BOX_FRACTION = 0.5
"""Largest mean of a mask over the box."""
MAX_CUT_FRACTION = 0.1
"""Largest fraction of the covered density that may lie in the edge."""
MIN_MAXIMUM = 0.99
"""Smallest maximum of a mask."""
EDGE_TOLERANCE = 1e-5
"""Distance from 0 and 1 from which a value counts as part of the edge."""


@dataclass(frozen=True)
class MaskCheck:
    """Result of one check of a mask.

    Attributes
    ----------
    name
        What was checked: "values", "inside", "edge", "fraction", "border" or "cut".
    value
        The measured value.
    threshold
        Its limit; None if there is nothing to compare it with.
    passed
        The value is within the limit.
    sentence
        Message for the user.
    """

    name: str
    value: float
    threshold: float | None
    passed: bool
    sentence: str


@dataclass(frozen=True)
class MaskSize:
    """Size and position of a mask.

    Attributes
    ----------
    volume_A3
        Volume in Å³ of the voxels above 0.5.
    mass_kDa
        Mass of protein that fills this volume.
    fraction
        Mean value of the mask over the box.
    centre_px : (3,)
        Centre of mass (x, y, z) in voxels from the first voxel; NaN for an empty mask.
    """

    volume_A3: float
    mass_kDa: float
    fraction: float
    centre_px: Float64


def measure_mask(mask: Float32, pixel_size_A: float) -> MaskSize:
    """Measure the volume, mass, mean and centre of a mask.

    Parameters
    ----------
    mask, pixel_size_A
        The mask, (n, n, n), and its voxel size in Å.
    """
    volume_A3 = float(np.count_nonzero(mask > 0.5)) * pixel_size_A**3
    fraction = float(mask.mean(dtype=np.float64))
    centre = centre_of_mass(mask) + len(mask) // 2 if fraction > 0 else np.full(3, np.nan)
    return MaskSize(volume_A3, mass_kDa(volume_A3), fraction, centre)


def mass_kDa(volume_A3: float) -> float:
    """Return the mass of the protein that fills a volume, at 0.81 Da/Å³.

    Parameters
    ----------
    volume_A3 : volume, Å³

    Returns
    -------
    Mass, kDa.
    """
    return KDA_PER_A3 * volume_A3


def validate_mask(mask: Volume, box: int, pixel_size_A: float) -> Volume:
    """Return the mask if it fits the particles; warn, one line each, of what would harm a refinement.

    Parameters
    ----------
    mask : Volume
        The mask.
    box
        Box of the particles in pixels.
    pixel_size_A
        Pixel size of the particles in Å.

    Returns
    -------
    The same mask.

    Raises
    ------
    InputError
        If the box or the voxel size differ, values lie outside [0, 1], or the mask is empty.
    """
    require_mask_fits(mask, box, pixel_size_A)
    for message in mask_warnings(mask):
        warnings.warn(message, stacklevel=2)
    return mask


_known_warnings = IdentityCache[tuple[str, ...]]()
"""Warnings of each mask in use: a mask is checked when it is read and again when a run starts."""


def mask_warnings(mask: Volume) -> tuple[str, ...]:
    """Return one line for each property of a mask that would harm a refinement, although it can be used.

    Checked are its maximum, the fraction of the box that it fills, its values at the border of the box, and its edge.
    The same mask is checked once.

    Parameters
    ----------
    mask : Volume
        A mask that has passed `require_mask_fits`.
    """
    return _known_warnings.get(mask, lambda: tuple(f"{mask.path or 'mask'}: {text}" for text in _find_faults(mask)))


def _find_faults(mask: Volume) -> Iterator[str]:
    """Yield a sentence for each fault of a mask."""
    data = mask.data
    if not (values := _values(data)).passed:
        yield values.sentence
    fraction, border = _fraction(data), _border(data)
    if not fraction.passed and data[:: len(data) - 1, :: len(data) - 1, :: len(data) - 1].min() > 0.5:
        yield (
            f"{fraction.value:.0%} of the box is inside the mask, to its corners: is it the wrong way round? It must "
            "be 1 in the region to keep, and 0 elsewhere (lrwidgets mask --invert turns a mask round)"
        )
        return
    yield from (check.sentence for check in (fraction, border) if not check.passed)
    binary = bool(np.all((data < 1e-3) | (data > 1 - 1e-3)))
    width = 0.0 if binary else edge_width(data)
    if binary or 0 < width < MIN_EDGE_VOXELS:
        finding = "the mask is binary" if binary else f"the soft edge is {width:.1f} voxels wide"
        yield (
            f"{finding}: it will cause ringing; make it 5 x resolution / pixel size voxels wide (lrwidgets mask --soft)"
        )


def require_mask_fits(mask: Volume, box: int, pixel_size_A: float) -> None:
    """Raise InputError unless the mask has the grid of the particles and valid values.

    Parameters
    ----------
    mask, box, pixel_size_A
        See `validate_mask`, which also says what is raised.
    """
    name = mask.path or "mask"
    data = mask.data
    if mismatch := grid_mismatch(mask, box, pixel_size_A, "mask", "the particles'"):
        raise InputError(mismatch)
    if data.min() < -1e-3 or data.max() > 1 + 1e-3:
        raise InputError(
            f"{name}: values run from {data.min():.3g} to {data.max():.3g}; a mask must lie between 0 and 1: clip it "
            f"(lrwidgets resample {mask.path or 'MASK'} --like {mask.path or 'MASK'} --as mask --out NEW.mrc)"
        )
    if data.max() <= SUPPORT_THRESHOLD:
        raise InputError(f"{name}: the mask is empty; make one that covers the region to refine")


def edge_width(mask: Float32) -> float:
    """Return the width in voxels of the soft edge that nine tenths of the mask's surface reach; 0 for a binary mask.

    This is the distance from the voxels with value 1 to the first voxels with value 0: a tight upper bound for an edge
    that falls with the distance. It is small where the mask has been cut, even if its edge is wide elsewhere.

    Parameters
    ----------
    mask : (n, n, n)
        The mask.
    """
    from scipy.ndimage import binary_dilation

    part = mask[bounding_block(mask > EDGE_TOLERANCE, 1)]
    above_zero, full = part > EDGE_TOLERANCE, part >= min(1 - EDGE_TOLERANCE, float(part.max(initial=0)))
    rim = binary_dilation(above_zero) & ~above_zero
    if not rim.any() or np.array_equal(above_zero, full):
        return 0.0
    reach = 16
    while True:
        squares = squared_distance(full, reach)[rim]
        width = math.sqrt(np.quantile(squares, EDGE_WIDTH_QUANTILE, method="lower"))
        if width <= reach or reach > 2 * len(mask):
            return width
        reach *= 2


def check_mask(
    mask: Float32, pixel_size_A: float, resolution_A: float | None = None, density: Float32 | None = None
) -> tuple[MaskCheck, ...]:
    """Check a mask before it is used.

    Parameters
    ----------
    mask, pixel_size_A
        The mask, (n, n, n), and its voxel size in Å.
    resolution_A
        Expected resolution of the refinement in Å; without it the width of the edge is measured but not judged.
    density : (n, n, n)
        Low-passed map, 0 below its threshold; with it, the fraction of the covered density that lies in the edge of the
        mask is checked, too.

    Returns
    -------
    One MaskCheck each for "values", "inside" and, unless the mask is empty, "edge", "fraction", "border" and "cut".
    """
    checks = [_values(mask), _empty(mask)]
    if checks[-1].passed:
        checks += [_edge(mask, pixel_size_A, resolution_A), _fraction(mask), _border(mask)]
        if density is not None:
            checks.append(_cut(mask, density))
    return tuple(checks)


def _values(mask: Float32) -> MaskCheck:
    """Check that all values lie in [0, 1], and that the highest one is 1."""
    low, high = float(mask.min()), float(mask.max())
    excess = max(0.0, -low, high - 1)
    sentence = f"values lie between {low:.3g} and {high:.3g}"
    if SUPPORT_THRESHOLD < high < MIN_MAXIMUM:
        sentence += (
            f": the maximum should be 1, because everything inside is weighted down: divide the mask by {high:.3g}, or "
            "make it anew (lrwidgets mask)"
        )
        return MaskCheck("values", 1 - high, 1 - MIN_MAXIMUM, False, sentence)
    return MaskCheck("values", excess, SUPPORT_THRESHOLD, excess <= SUPPORT_THRESHOLD, sentence)


def _empty(mask: Float32) -> MaskCheck:
    """Check that voxels are inside the mask."""
    count = int(np.count_nonzero(mask > 0.5))
    sentence = f"{count} voxels are inside" if count else "the mask is empty: lower the threshold or dilate it"
    return MaskCheck("inside", count, 1, count >= 1, sentence)


def _edge(mask: Float32, pixel_size_A: float, resolution_A: float | None) -> MaskCheck:
    """Check the width of the soft edge against 5 · resolution / pixel size."""
    width = edge_width(mask)
    sentence = f"the soft edge is {width:.1f} voxels ({width * pixel_size_A:.1f} A) wide"
    if resolution_A is None:
        return MaskCheck("edge", width, None, True, sentence)
    recommended = EDGE_PER_RESOLUTION * resolution_A / pixel_size_A
    # The ends of a cosine differ from 0 and 1 by less than EDGE_TOLERANCE, so the measured width is a bit smaller.
    passed = width >= 0.99 * recommended
    rule = f"{recommended:.1f} voxels ({recommended * pixel_size_A:.1f} A) for {resolution_A:g} A"
    sentence += f"; recommended: {rule}" if passed else f": make it {rule}, or it will cause ringing"
    return MaskCheck("edge", width, recommended, passed, sentence)


def _fraction(mask: Float32) -> MaskCheck:
    """Check that the mask leaves out half of the box."""
    fraction = float(mask.mean(dtype=np.float64))
    sentence = f"the mask fills {100 * fraction:.2g} % of the box"
    passed = fraction <= MAX_BOX_FRACTION
    return MaskCheck("fraction", fraction, MAX_BOX_FRACTION, passed, sentence + ("" if passed else ": make it smaller"))


def _border(mask: Float32) -> MaskCheck:
    """Check that the mask does not touch the faces of the box."""
    faces = [side for axis in range(3) for side in (mask.take(0, axis), mask.take(-1, axis))]
    highest = max(float(face.max()) for face in faces)
    passed = highest <= SUPPORT_THRESHOLD
    sentence = "the mask does not touch the border of the box"
    if not passed:
        sentence = (
            f"the mask is cut by the border of the box, where its value is up to {highest:.2g}: "
            "make it or its edge smaller"
        )
    return MaskCheck("border", highest, SUPPORT_THRESHOLD, passed, sentence)


def _cut(mask: Float32, density: Float32) -> MaskCheck:
    """Check that little of the covered density lies in the edge."""
    covered = mask > EDGE_TOLERANCE
    total = float(density[covered].sum(dtype=np.float64))
    edge = float(density[covered & (mask < 1 - EDGE_TOLERANCE)].sum(dtype=np.float64))
    share = edge / total if total > 0 else 0.0
    passed = share <= MAX_CUT_FRACTION
    sentence = f"{100 * share:.1f} % of the density under the mask lies in its edge"
    if not passed:
        sentence += ": the mask cuts through the particle, so the edge must be wide"
    return MaskCheck("cut", share, MAX_CUT_FRACTION, passed, sentence)
