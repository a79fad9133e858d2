"""Split particles into half sets at random, with all images of the same particle in the same half set."""

import warnings

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lrcore.arrays import Int64
from lrcore.errors import InputError
from lrcore.io.derived_particles import with_half_sets
from lrcore.io.micrograph_coordinates import MicrographCoordinates
from lrcore.particles.duplicates import image_numbers, nearby_pairs
from lrcore.records import Particles

SAME_PLACE_A = 20.0
"""Particles of a micrograph that are closer than this are treated as the same one."""
MIN_SIZE_RATIO = 0.8
"""A warning is given if one half set is smaller than this share of the other."""


def resplit(particles: Particles, places: MicrographCoordinates | None, seed: int) -> Particles:
    """Split the particles at random into two new half sets of equal size, which every export then writes.

    Rows of one image (copies of an expanded particle, duplicates) go into the same half set, and so do images of
    positions closer than SAME_PLACE_A.

    Parameters
    ----------
    particles : n particles
    places : their positions in the micrographs, or None if not known
    seed : of the random numbers

    Returns
    -------
    Particles
        The same rows in the same order, with new half sets.

    Raises
    ------
    InputError
        If all rows show the same particle.
    """
    together = linked_groups(particles, places)
    count = np.bincount(together)
    if len(count) < 2:
        raise InputError(
            f"{particles.path}: all rows show the same particle, which cannot be split: give more particles"
        )
    return with_half_sets(particles, assign_half_sets(count, seed)[together])


def linked_groups(particles: Particles, places: MicrographCoordinates | None) -> Int64:
    """Return a group number (n,), from 0: rows of one image, or of images of the same position, share a group."""
    image = image_numbers(particles)
    if places is None:
        return image
    first, second = image[nearby_pairs(particles, places, SAME_PLACE_A)].T
    size = int(image.max()) + 1
    links = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(size, size))
    return connected_components(links, directed=False)[1][image].astype(np.int64)


def assign_half_sets(count: npt.NDArray[np.integer], seed: int) -> npt.NDArray[np.int8]:
    """Assign groups of `count` rows (g,) to half sets 1 and 2, (g,): each to the one that has fewer rows so far.

    The largest groups come first, equal ones in random order.
    """
    sizes = [0, 0]
    half = np.empty(len(count), np.int8)
    order = np.random.default_rng(seed).permutation(len(count))
    for group in order[np.argsort(-count[order], kind="stable")]:
        smaller = int(sizes[1] < sizes[0])
        half[group] = smaller + 1
        sizes[smaller] += int(count[group])
    return half


def require_both_half_sets(particles: Particles) -> None:
    """Check that both half sets have particles; warn if their sizes differ much.

    Parameters
    ----------
    particles : n particles

    Raises
    ------
    InputError
        If a half set is empty.
    """
    first, second = (int(np.count_nonzero(particles.half == number)) for number in (1, 2))
    if min(first, second) == 0:
        raise InputError(
            f"{particles.path}: half set {1 if first == 0 else 2} has no particles, but a refinement needs both: give "
            "the particles of both, or split them again (--resplit)"
        )
    if min(first, second) < MIN_SIZE_RATIO * max(first, second):
        warnings.warn(
            f"{particles.path}: half sets of {first} and {second} particles: the FSC is that of the smaller one and "
            "underestimates the resolution of the map: balance them, or split them again (--resplit)",
            stacklevel=3,
        )
