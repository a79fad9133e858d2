"""Split particles into half sets at random, with all images of the same particle or filament in the same half set."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lrcore.arrays import Int64
from lrcore.errors import InputError
from lrcore.io.derived_particles import text_column, with_half_sets
from lrcore.io.micrograph_coordinates import MicrographCoordinates
from lrcore.particles.duplicates import image_numbers, nearby_pairs
from lrcore.records import Particles

SAME_PLACE_A = 20.0
"""Particles of a micrograph that are closer than this are treated as the same one."""
MIN_SIZE_RATIO = 0.8
"""A warning is given if one half set is smaller than this share of the other."""
FILAMENT_COLUMNS = (
    ("filament/filament_uid",),
    ("rlnMicrographName", "rlnHelicalTubeID"),
    ("lrwCs/filament/filament_uid:u8",),
    ("location/micrograph_path", "star/rlnHelicalTubeID"),
)
"""Columns that name the filament of a segment, in tables of both formats and in converted ones."""


def resplit(particles: Particles, places: MicrographCoordinates | None, seed: int) -> Particles:
    """Split the particles at random into two new half sets of equal size, which every export then writes.

    Rows of one image (copies of an expanded particle, duplicates) go into the same half set, and so do images of
    positions closer than SAME_PLACE_A, and all segments of a helical filament, which overlap.

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
    """Return a group number (n,), from 0: rows of one image, position or filament share a group."""
    image, filament = image_numbers(particles), filament_numbers(particles)
    size = int(image.max()) + 1
    links = np.empty((0, 2), np.int64)
    if places is not None:
        links = image[nearby_pairs(particles, places, SAME_PLACE_A)]
    if filament is not None:
        _, first = np.unique(filament, return_index=True)
        links = np.concatenate([links, np.column_stack([image, image[first][filament]])])
    links = coo_array((np.ones(len(links), np.int8), tuple(links.T)), shape=(size, size))
    return connected_components(links, directed=False)[1][image].astype(np.int64)


def filament_numbers(particles: Particles) -> Int64 | None:
    """Return the number (n,), from 0, of the helical filament of each particle; None if the table names no filaments.

    A filament is a tube of a micrograph (`rlnHelicalTubeID`) or has an identifier of its own (`filament/filament_uid`).

    Parameters
    ----------
    particles : n particles
    """
    for names in FILAMENT_COLUMNS:
        columns = [text_column(particles, name) for name in names]
        if columns[-1] is not None:
            keys = zip(*(column for column in columns if column is not None), strict=True)
            return np.asarray(pd.factorize(pd.Series(["\0".join(key) for key in keys]))[0], np.int64)
    return None


def half_set_warnings(particles: Particles) -> Iterator[str]:
    """Yield a sentence for half sets of different size, and for filaments with segments in both.

    Parameters
    ----------
    particles : n particles
    """
    first, second = (int(np.count_nonzero(particles.half == number)) for number in (1, 2))
    if min(first, second) < MIN_SIZE_RATIO * max(first, second):
        yield (
            f"half sets of {first} and {second} particles: the FSC is that of the smaller one and underestimates the "
            "resolution of the map: balance them, or split them again (--resplit)"
        )
    filament = filament_numbers(particles)
    if filament is not None:
        both = np.intersect1d(filament[particles.half == 1], filament[particles.half == 2])
        if len(both):
            yield (
                f"{len(both)} of {int(filament.max()) + 1} helical filaments have segments in both half sets: "
                "neighbouring segments overlap, so every FSC is too high: split the half sets again by filaments "
                "(--resplit)"
            )


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
    """Check that both half sets have particles.

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
