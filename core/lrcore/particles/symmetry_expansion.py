"""Symmetry expansion: every particle at each operator of a point group, so that parts may move by themselves."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lrcore.arrays import UInt64
from lrcore.errors import InputError
from lrcore.imaging.symmetry import canonical_group_name, symmetry_operators
from lrcore.io.derived_particles import derive_particles, text_column
from lrcore.particles.duplicates import COPY_COLUMN, image_numbers
from lrcore.records import Particles, Poses

GROUP_COLUMN, PARENT_COLUMN = "lrwSymmetryGroup", "lrwSymmetryParent"


def expand_symmetry(particles: Particles, symmetry: str) -> Particles:
    """Of n particles n m: copy k = 1 … m of particle i in row i m + k − 1, at A S_k with the origin unchanged.

    The group acts about the box centre. All copies share the particle's half set. uid: that of the particle for its
    first copy (S₁ is the identity), derived from it for the others. Columns lrwSymmetryGroup, lrwSymmetryCopy (k) and
    lrwSymmetryParent (the particle's uid) go with them into every file. Raises InputError for a group that is not
    known or has one operator, and for particles that are expanded already or list an image twice.
    """
    group = canonical_group_name(symmetry)
    turns = symmetry_operators(group)
    count = len(turns)
    if count == 1:
        raise InputError(f"symmetry {group}: has one operator, so there is nothing to expand")
    require_unexpanded(particles)
    rows, copy = np.repeat(np.arange(len(particles)), count), np.tile(np.arange(count), len(particles))
    parent = particles.uid[rows]
    columns = {GROUP_COLUMN: np.full(len(rows), group), COPY_COLUMN: copy + 1, PARENT_COLUMN: parent}
    out = derive_particles(particles, rows, derived_uid(parent, copy), columns)
    if len(np.unique(out.uid)) < len(out):
        raise InputError(f"{particles.path}: two uid derived for copies are the same: give the particles other uid")
    return replace(out, poses=Poses(out.poses.rotation @ turns[copy], out.poses.origin_A))


def require_unexpanded(particles: Particles) -> None:
    """Raise InputError if the particles are marked as copies, or if an image is listed more than once."""
    marks = text_column(particles, GROUP_COLUMN)
    if marks is not None:
        raise InputError(f"{particles.path}: is expanded already, by {marks[0]}: give the particles from before")
    repeated = len(particles) - len(np.unique(image_numbers(particles)))
    if repeated:
        raise InputError(
            f"{particles.path}: {repeated} rows list an image again: if it is expanded already, give the particles "
            "from before; otherwise remove duplicates first (lrwidgets duplicates)"
        )


def derived_uid(parent: UInt64, copy: npt.NDArray[np.integer]) -> UInt64:
    """The uid of copy k (from 0) of each parent: (n,). k = 0 keeps the parent's; others are mixed as by SplitMix64."""
    value = parent + copy.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    mixed: UInt64 = value ^ (value >> np.uint64(31))
    return np.where(copy == 0, parent, mixed)
