"""Half sets: split anew at random, so that nothing that shows the same particle twice stands in both."""

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
"""Particles of a micrograph that are nearer than this are taken for the same one."""
MIN_SIZE_RATIO = 0.8
"""A half set that holds less than this share of the other is warned of."""


def resplit(particles: Particles, places: MicrographCoordinates | None, seed: int) -> Particles:
    """The particles in two new half sets of equal size, drawn by the seed; every export writes these.

    Rows of one image (copies of an expanded particle, rows listed twice) go into the same half set, and so do images of
    places nearer than SAME_PLACE_A. Raises InputError if that leaves nothing to split.
    """
    together = linked_groups(particles, places)
    count = np.bincount(together)
    if len(count) < 2:
        raise InputError(f"{particles.path}: all rows show the same particle: there are no two half sets to make")
    return with_half_sets(particles, assign_half_sets(count, seed)[together])


def linked_groups(particles: Particles, places: MicrographCoordinates | None) -> Int64:
    """(n,) number of what must stay together: rows of one image, and of images of the same place; from 0."""
    family = image_numbers(particles)
    if places is None:
        return family
    one, other = family[nearby_pairs(particles, places, SAME_PLACE_A)].T
    size = int(family.max()) + 1
    links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(size, size))
    return connected_components(links, directed=False)[1][family].astype(np.int64)


def assign_half_sets(count: npt.NDArray[np.integer], seed: int) -> npt.NDArray[np.int8]:
    """Half set, 1 or 2, of families with `count` rows (f,): each to the half that has fewer so far.

    The largest families come first, and equal ones in random order.
    """
    held = [0, 0]
    half = np.empty(len(count), np.int8)
    order = np.random.default_rng(seed).permutation(len(count))
    for family in order[np.argsort(-count[order], kind="stable")]:
        mine = int(held[1] < held[0])
        half[family] = mine + 1
        held[mine] += int(count[family])
    return half


def require_both_half_sets(particles: Particles) -> None:
    """Raise InputError if a half set is empty; warn if they differ much in size."""
    first, second = (int(np.count_nonzero(particles.half == number)) for number in (1, 2))
    if min(first, second) == 0:
        raise InputError(
            f"{particles.path}: half set {1 if first == 0 else 2} holds no particles; a refinement needs both: give "
            "the particles of both, or split them anew (--resplit)"
        )
    if min(first, second) < MIN_SIZE_RATIO * max(first, second):
        warnings.warn(
            f"{particles.path}: half sets of {first} and {second} particles: the FSC tells of the smaller one, so the "
            "map will be better than it says; balance them, or split them anew (--resplit)",
            stacklevel=3,
        )
