"""Simulate the evidence of a motion at the level of poses, without images."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Bool, Float64
from lrcore.motion.model import MotionEvidence


def noisy_evidence(
    turn: Float64,
    shift_A: Float64,
    rotation: Float64,
    error: tuple[float, float],
    wrong: tuple[float, float],
    extent: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[MotionEvidence, Bool]:
    """Return the evidence of n poses with Gaussian errors, and which of them are wrong.

    Parameters
    ----------
    turn, shift_A : (n, 3)
        Motion of the body in the frame of the map: rotation in rad, and shift of the reference point.
    rotation : (n, 3, 3)
        Poses before the motion.
    error
        Typical SD of a pose, in rad and Å; the SDs of the poses vary from 0.7 to 1.4 times it.
    wrong
        Fraction of the poses that are drawn from the extent, and the part of the extent to draw from.
    extent
        Extent of the search in rad and Å.
    rng
        Random numbers.
    """
    n = len(turn)
    theta = np.concatenate([turn, np.einsum("nij,nj->ni", rotation, shift_A)[:, :2]], axis=1)
    sd: npt.NDArray[np.float64] = np.repeat(error, (3, 2)) * rng.uniform(0.7, 1.4, (n, 1))
    theta = theta + sd * rng.normal(size=(n, 5))
    lost = rng.random(n) < wrong[0]
    theta[lost] = rng.uniform(-1, 1, (lost.sum(), 5)) * np.repeat(extent, (3, 2)) * wrong[1]
    precision = np.zeros((n, 5, 5))
    precision[:, np.arange(5), np.arange(5)] = sd**-2
    information = np.einsum("nij,nj->ni", precision, theta)
    return MotionEvidence(np.zeros(3), precision, information, rotation[:, :2], extent), lost
