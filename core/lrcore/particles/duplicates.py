"""Duplicates: the same image listed twice, or two images of the same place of a micrograph."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lrcore.arrays import Float64, Int64
from lrcore.errors import InputError
from lrcore.io.derived_particles import text_column
from lrcore.io.micrograph_coordinates import MicrographCoordinates
from lrcore.records import Particles

COPY_COLUMN = "lrwSymmetryCopy"
"""The column that numbers the copies of an expanded particle, from 1."""


@dataclass(frozen=True)
class Duplicates:
    """keep: rows to keep, in order. removed: (m,) the others, in order. twin: (m,) the kept row that each repeats."""

    keep: Int64
    removed: Int64
    twin: Int64


def image_numbers(particles: Particles) -> Int64:
    """(n,) a number for each image: rows that list the same slice of the same stack have the same one, from 0."""
    names = np.array([str(path) for path in particles.images.stacks])
    stack = np.unique(names, return_inverse=True)[1][particles.images.stack]
    pairs = np.stack([stack, particles.images.index], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def require_disjoint_half_sets(particles: Particles) -> None:
    """Raise InputError if an image is listed in both half sets: as a duplicate, or as copies split apart."""
    image = image_numbers(particles)
    both = np.intersect1d(image[particles.half == 1], image[particles.half == 2])
    if len(both) == 0:
        return
    mine = np.nonzero(image == both[0])[0]
    first = int(mine[0])
    other = int(mine[particles.half[mine] != particles.half[first]][0])
    images = particles.images
    name = f"{images.index[first] + 1}@{images.stacks[images.stack[first]].name}"
    raise InputError(
        f"{particles.path}: rows {first + 1} and {other + 1} are the same image {name} in different half sets (as are "
        f"{len(both)} images in all), so the FSC would be too good: give all copies of an image one half set, or "
        "remove duplicates (lrwidgets duplicates), or split the half sets anew (--resplit)"
    )


def find_repeated_images(particles: Particles, score: Float64 | None = None) -> Duplicates:
    """Rows that list an image again; of an expanded particle, those that list the same copy of it again.

    score: (n,) of which the highest is kept; without it, or where it is equal, the first row is.
    """
    image, copy = image_numbers(particles), text_column(particles, COPY_COLUMN)
    if copy is not None:
        pairs = np.stack([image, np.unique(np.array(copy), return_inverse=True)[1]], axis=1)
        image = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    order = _preference_order(len(image), score)
    _, first, inverse = np.unique(image[order], return_index=True, return_inverse=True)
    kept = np.empty(len(image), np.int64)
    kept[order] = order[first][inverse.reshape(-1)]
    return _duplicates_from_kept(kept)


def find_repeated_places(
    particles: Particles, places: MicrographCoordinates, distance_A: float, score: Float64 | None = None
) -> Duplicates:
    """Rows whose image shows the particle within `distance_A` of one that is kept, in the same micrograph.

    Rows of one image count as one (copies of an expanded particle stay together), placed by the first of them.
    From the best downwards (see `same_image`), each image is kept unless it is too near to a kept one.
    """
    image = image_numbers(particles)
    order = _preference_order(len(image), score)
    _, lead = np.unique(image[order], return_index=True)
    leads = order[np.sort(lead)]  # the best row of each image, best image first
    kept = leads.copy()
    taken = np.zeros(len(leads), np.bool_)
    for one, other in _nearby_row_pairs(particles, places, leads, distance_A):
        if not taken[one] and not taken[other]:
            taken[other], kept[other] = True, leads[one]
    by_image = np.empty(int(image.max()) + 1, np.int64)
    by_image[image[leads]] = np.where(taken, kept, -1)
    rows = np.arange(len(image))
    return _duplicates_from_kept(np.where(by_image[image] < 0, rows, by_image[image]))


def nearby_pairs(particles: Particles, places: MicrographCoordinates, distance_A: float) -> Int64:
    """(m, 2) rows of two images that show the particle within `distance_A` of each other in one micrograph."""
    leads = np.sort(np.unique(image_numbers(particles), return_index=True)[1])
    return leads[_nearby_row_pairs(particles, places, leads, distance_A)]


def _nearby_row_pairs(particles: Particles, places: MicrographCoordinates, rows: Int64, distance_A: float) -> Int64:
    """(m, 2) pairs of places in `rows`, the smaller first, in order."""
    point = places.map_centre_A(particles)[rows]
    # Micrographs are laid out in a third dimension, further apart than anything within one is asked to be.
    layer = places.micrograph[rows] * (2.0 * distance_A + 1.0)
    pairs = cKDTree(np.column_stack([point, layer])).query_pairs(distance_A, output_type="ndarray")
    pairs = np.sort(pairs, axis=1).astype(np.int64).reshape(-1, 2)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _preference_order(n: int, score: Float64 | None) -> Int64:
    return np.arange(n) if score is None else np.argsort(-score, kind="stable")


def _duplicates_from_kept(kept: Int64) -> Duplicates:
    rows = np.arange(len(kept))
    stays = kept == rows
    return Duplicates(rows[stays], rows[~stays], kept[~stays])
