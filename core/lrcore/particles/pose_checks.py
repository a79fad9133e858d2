"""Find particles that share one pose: rows of zeros and other rows that have never been aligned."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.io.derived_particles import rows_in_table
from lrcore.records import Particles, Poses

MIN_ROWS = 10
"""Fewest particles of one rotation that count as unaligned."""
MIN_SHARE = 0.01
"""Least share of the particles with one rotation; fewer can meet on the grid of a pose search."""
MIN_UNSHIFTED_ROWS = 3
"""The same as `MIN_ROWS` for particles with shift 0 among others that have shifts."""
MIN_DIRECTIONS = 2
"""Fewest different directions of view that a map can be made from."""


@dataclass(frozen=True)
class SharedPose:
    """The rotation that most particles share.

    Attributes
    ----------
    rows : (m,) the particles that have it
    is_zero : all of its angles and shifts are 0
    """

    rows: npt.NDArray[np.int64]
    is_zero: bool


def find_shared_pose(poses: Poses) -> SharedPose | None:
    """Find the particles that share one and the same rotation, which marks them as unaligned; None if there are none.

    Parameters
    ----------
    poses : n poses
    """
    unshifted = np.nonzero((poses.origin_A == 0).all(axis=1))[0]
    few_unshifted = len(unshifted) < len(poses) / 2
    rows = _largest_group(poses, unshifted, MIN_UNSHIFTED_ROWS) if few_unshifted else None
    if rows is None:
        rows = _largest_group(poses, np.arange(len(poses)), max(MIN_ROWS, MIN_SHARE * len(poses)))
    if rows is None:
        return None
    return SharedPose(rows, bool((poses.rotation[rows[0]] == np.eye(3)).all() and not poses.origin_A[rows].any()))


def shared_pose_warning(particles: Particles) -> str | None:
    """Return, in one sentence, how many particles share one pose; None if there are none.

    Parameters
    ----------
    particles : n particles
    """
    shared = find_shared_pose(particles.poses)
    if shared is None:
        return None
    what = "all angles and shifts 0" if shared.is_zero else "one and the same rotation"
    return (
        f"{len(shared.rows)} of {len(particles)} particles have {what} (the first in row "
        f"{rows_in_table(particles)[shared.rows[0]] + 1}), so they are not aligned: remove them, or align them first"
    )


def require_different_views(particles: Particles) -> None:
    """Check that the particles are not all seen from one direction.

    Parameters
    ----------
    particles : n particles

    Raises
    ------
    InputError
        If they are, as where the columns of the poses have been filled with zeros, or come from a 2D classification.
    """
    _, count = _equal_rows(particles.poses.rotation[:, 2])
    if len(particles) >= MIN_ROWS and len(count) < MIN_DIRECTIONS:
        raise InputError(
            f"{particles.path}: all {len(particles)} particles have the same direction of view, so they have no 3D "
            "poses (are the angles all 0?): run a 3D refinement first, or give its output"
        )


def _largest_group(poses: Poses, rows: npt.NDArray[np.int64], fewest: float) -> npt.NDArray[np.int64] | None:
    """Return those of the rows that share the most frequent rotation; None if they are fewer than `fewest`."""
    if len(rows) < fewest:
        return None
    number, count = _equal_rows(poses.rotation[rows].reshape(len(rows), 9))
    most = int(count.argmax())
    return rows[number == most] if count[most] >= fewest else None


def _equal_rows(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return a number (n,) for each row of (n, c) values, equal for equal rows, and how many rows have each."""
    weight = np.random.default_rng(0).normal(size=values.shape[1])
    _, number, count = np.unique(np.round(values @ weight, 10), return_inverse=True, return_counts=True)
    return number.reshape(-1), count
