"""Measure how evenly the views cover the map, and whether the half sets are independent."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from lrcore.arrays import Float64
from lrcore.imaging.symmetry import symmetry_operators
from lrcore.io.micrograph_coordinates import MicrographCoordinates
from lrcore.particles.duplicates import image_numbers, nearby_pairs
from lrcore.records import Particles, Poses

DIRECTION_CELLS = 500
"""Cells of equal area on the sphere of directions, 9° across."""
SIN_BAND_HALF_WIDTH = np.sin(np.radians(5.0))
"""Sine of 5°: a view measures the Fourier directions within 5° of its plane."""


@dataclass(frozen=True)
class ViewDistribution:
    """Distribution of the directions of view; opposite directions count as one, as they show the same (mirrored).

    Attributes
    ----------
    covered : share of the cells of the sphere with a view
    covered_if_even : share that the same number of uniformly random views would cover
    most_deg : (rot, tilt) in degrees of the cell with most views
    most_times : number of views in it over the mean
    least_deg : (rot, tilt) in degrees of the Fourier direction that the fewest images measure
    least_times : their number over that of uniform views; 0 is a missing wedge
    """

    covered: float
    covered_if_even: float
    most_deg: tuple[float, float]
    most_times: float
    least_deg: tuple[float, float]
    least_times: float


@dataclass(frozen=True)
class HalfSetOverlap:
    """Sizes of the half sets, and what they share; shared images or positions bias the FSC.

    Attributes
    ----------
    count : rows of half sets 1 and 2
    images_in_both : images listed in both half sets
    places_in_both : pairs of images of one position in a micrograph, in different half sets; None if not known
    """

    count: tuple[int, int]
    images_in_both: int
    places_in_both: int | None


def view_distribution(poses: Poses, symmetry: str = "C1") -> ViewDistribution:
    """Measure how evenly poses cover the directions of view of a map.

    Parameters
    ----------
    poses : n poses
    symmetry : point group of the map

    Returns
    -------
    ViewDistribution
        Directions are in the frame of the map.
    """
    turns = symmetry_operators(symmetry)
    direction = (poses.rotation[:, 2] @ turns).reshape(-1, 3)
    cells = fibonacci_sphere(DIRECTION_CELLS)
    both = np.concatenate([direction, -direction])
    count = np.bincount(cKDTree(cells).query(both)[1], minlength=DIRECTION_CELLS)
    known = np.array([np.count_nonzero(np.abs(direction @ cell) <= SIN_BAND_HALF_WIDTH) for cell in cells])
    most, least = int(count.argmax()), int(known.argmin())
    return ViewDistribution(
        covered=float(np.mean(count > 0)),
        covered_if_even=float(1 - np.exp(-len(both) / DIRECTION_CELLS)),
        most_deg=_rot_tilt(cells[most]),
        most_times=float(count[most] / count.mean()),
        least_deg=_rot_tilt(cells[least]),
        least_times=float(known[least] / (SIN_BAND_HALF_WIDTH * len(direction))),
    )


def half_set_overlap(particles: Particles, places: MicrographCoordinates | None, distance_A: float) -> HalfSetOverlap:
    """Count the particles of each half set, and the images and positions that are in both.

    Parameters
    ----------
    particles : n particles
    places : their positions in the micrographs, or None if not known
    distance_A : Å; positions closer than this are the same

    Returns
    -------
    HalfSetOverlap
    """
    first, second = (int(np.count_nonzero(particles.half == number)) for number in (1, 2))
    image = image_numbers(particles)
    shared = np.intersect1d(image[particles.half == 1], image[particles.half == 2])
    same = None
    if places is not None:
        pairs = particles.half[nearby_pairs(particles, places, distance_A)]
        same = int(np.count_nonzero(pairs[:, 0] != pairs[:, 1]))
    return HalfSetOverlap((first, second), len(shared), same)


def fibonacci_sphere(count: int) -> Float64:
    """Return (count, 3) points spread evenly over the unit sphere: a Fibonacci lattice (González 2010)."""
    number = np.arange(count) + 0.5
    z = 1 - 2 * number / count
    angle = np.pi * (3 - np.sqrt(5)) * number
    radius = np.sqrt(1 - z**2)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), z])


def _rot_tilt(direction: npt.NDArray[np.float64]) -> tuple[float, float]:
    x, y, z = direction if direction[2] >= 0 else -direction
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arccos(min(1.0, z))))
