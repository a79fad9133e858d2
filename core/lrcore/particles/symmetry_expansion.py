"""Expand particles by symmetry: one copy per operator of a point group, so that subunits may move independently."""

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
    """Make m copies of each particle, one per symmetry operator: copy k = 1 … m has rotation A S_k.

    The operators act about the box centre, so origins stay. All copies of a particle are in its half set. The first
    copy (S₁ is the identity) keeps the uid, those of the others are derived from it. Columns lrwSymmetryGroup,
    lrwSymmetryCopy (k) and lrwSymmetryParent (uid of the particle) are written to every file.

    Parameters
    ----------
    particles : n particles
    symmetry : point group, e.g. C3, D2, O

    Returns
    -------
    Particles
        n m particles; copy k of particle i (from 0) is in row i m + k − 1.

    Raises
    ------
    InputError
        If the group is unknown or has one operator, or the particles are expanded already or list an image twice.
    """
    group = canonical_group_name(symmetry)
    turns = symmetry_operators(group)
    count = len(turns)
    if count == 1:
        raise InputError(f"symmetry {group}: has only one operator, so there is nothing to expand: give another group")
    require_unexpanded(particles)
    rows, copy = np.repeat(np.arange(len(particles)), count), np.tile(np.arange(count), len(particles))
    parent = particles.uid[rows]
    columns = {GROUP_COLUMN: np.full(len(rows), group), COPY_COLUMN: copy + 1, PARENT_COLUMN: parent}
    out = derive_particles(particles, rows, derived_uid(parent, copy), columns)
    if len(np.unique(out.uid)) < len(out):
        raise InputError(f"{particles.path}: copies would have the same uid: give the particles other uid")
    return replace(out, poses=Poses(out.poses.rotation @ turns[copy], out.poses.origin_A))


def require_unexpanded(particles: Particles) -> None:
    """Raise InputError if the particles are marked as copies, or if an image is listed more than once."""
    groups = text_column(particles, GROUP_COLUMN)
    if groups is not None:
        raise InputError(f"{particles.path}: is expanded already, by {groups[0]}: give the unexpanded particles")
    repeated = len(particles) - len(np.unique(image_numbers(particles)))
    if repeated:
        raise InputError(
            f"{particles.path}: {repeated} rows repeat an image: if the particles are expanded already, give the "
            "unexpanded ones; otherwise remove duplicates first (lrwidgets duplicates)"
        )


def derived_uid(parent: UInt64, copy: npt.NDArray[np.integer]) -> UInt64:
    """Derive the uid (n,) of copy k (from 0) of each parent: that of the parent for k = 0, else mixed by SplitMix64."""
    value = parent + copy.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    mixed: UInt64 = value ^ (value >> np.uint64(31))
    return np.where(copy == 0, parent, mixed)
