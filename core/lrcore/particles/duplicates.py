"""Find duplicates: images listed twice, and images of the same position in a micrograph."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lrcore.arrays import Float64, Int64
from lrcore.errors import InputError
from lrcore.io.derived_particles import text_column
from lrcore.io.micrograph_coordinates import MicrographCoordinates
from lrcore.records import Particles

COPY_COLUMN = "lrwSymmetryCopy"
"""Column with the number of the copy of a symmetry-expanded particle, from 1."""


@dataclass(frozen=True)
class Duplicates:
    """Rows of a particle table to keep and to remove.

    Attributes
    ----------
    keep : (k,) rows to keep, in order
    removed : (m,) rows to remove, in order
    twin : (m,) kept row of which each removed row is a duplicate
    """

    keep: Int64
    removed: Int64
    twin: Int64


def image_numbers(particles: Particles) -> Int64:
    """Return a number (n,), from 0, for the image of each row: equal for the same slice of the same stack."""
    names = np.array([str(path) for path in particles.images.stacks])
    stack = np.unique(names, return_inverse=True)[1][particles.images.stack]
    pairs = np.stack([stack, particles.images.index], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def require_disjoint_half_sets(particles: Particles) -> None:
    """Check that no image is listed in both half sets, as a duplicate or as copies of an expanded particle.

    Parameters
    ----------
    particles : n particles, in both half sets

    Raises
    ------
    InputError
        If an image is in both; names two of its rows.
    """
    image = image_numbers(particles)
    both = np.intersect1d(image[particles.half == 1], image[particles.half == 2])
    if len(both) == 0:
        return
    rows = np.nonzero(image == both[0])[0]
    first = int(rows[0])
    other = int(rows[particles.half[rows] != particles.half[first]][0])
    images = particles.images
    name = f"{images.index[first] + 1}@{images.stacks[images.stack[first]].name}"
    raise InputError(
        f"{particles.path}: rows {first + 1} and {other + 1} list the same image {name} in different half sets "
        f"({len(both)} such images in all), which biases the FSC: put all copies of an image into one half set, "
        "remove duplicates (lrwidgets duplicates), or split the half sets again (--resplit)"
    )


def find_repeated_images(particles: Particles, score: Float64 | None = None) -> Duplicates:
    """Find rows that repeat an image or, for symmetry-expanded particles, the same copy of an image.

    Parameters
    ----------
    particles : n particles
    score : (n,) the row with the highest score is kept; the first one if None or equal

    Returns
    -------
    Duplicates
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
    """Find rows whose particle is closer than a distance to a kept one in the same micrograph.

    Rows of one image count as one (copies of an expanded particle stay together), at the position of the best of them.
    From the best score downwards, each image is kept unless it is too close to a kept one.

    Parameters
    ----------
    particles : n particles
    places : their positions in the micrographs
    distance_A : Å
    score : (n,) higher is better; in the order of the rows if None

    Returns
    -------
    Duplicates
    """
    image = image_numbers(particles)
    order = _preference_order(len(image), score)
    _, lead = np.unique(image[order], return_index=True)
    leads = order[np.sort(lead)]  # the best row of each image, best image first
    kept = leads.copy()
    removed = np.zeros(len(leads), np.bool_)
    for better, worse in _nearby_row_pairs(particles, places, leads, distance_A):
        if not removed[better] and not removed[worse]:
            removed[worse], kept[worse] = True, leads[better]
    by_image = np.empty(int(image.max()) + 1, np.int64)
    by_image[image[leads]] = np.where(removed, kept, -1)
    rows = np.arange(len(image))
    return _duplicates_from_kept(np.where(by_image[image] < 0, rows, by_image[image]))


def nearby_pairs(particles: Particles, places: MicrographCoordinates, distance_A: float) -> Int64:
    """Find the pairs of rows (m, 2) of images whose particles are within `distance_A` in one micrograph."""
    leads = np.sort(np.unique(image_numbers(particles), return_index=True)[1])
    return leads[_nearby_row_pairs(particles, places, leads, distance_A)]


def _nearby_row_pairs(particles: Particles, places: MicrographCoordinates, rows: Int64, distance_A: float) -> Int64:
    """Find the pairs (m, 2) of indices into `rows`, sorted, the smaller first."""
    point = places.map_centre_A(particles)[rows]
    # Micrographs are separated along a third dimension by more than the distance, so that one tree serves all.
    layer = places.micrograph[rows] * (2.0 * distance_A + 1.0)
    pairs = cKDTree(np.column_stack([point, layer])).query_pairs(distance_A, output_type="ndarray")
    pairs = np.sort(pairs, axis=1).astype(np.int64).reshape(-1, 2)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _preference_order(n: int, score: Float64 | None) -> Int64:
    return np.arange(n) if score is None else np.argsort(-score, kind="stable")


def _duplicates_from_kept(kept: Int64) -> Duplicates:
    rows = np.arange(len(kept))
    is_kept = kept == rows
    return Duplicates(rows[is_kept], rows[~is_kept], kept[~is_kept])
