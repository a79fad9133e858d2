"""Test whether a body moves the same along all axes, and shrink differences between axes that may be chance.

Of the 21 numbers of Ψ about the fulcrum, two are mean widths, three are zero by the choice of the fulcrum, and sixteen
say how the motion differs by axis: q, with the covariance V of their errors. If q = 0 in truth,

    χ² = qᵀ V⁻¹ q

has 16 degrees of freedom. The share 1 − 14 / χ² of the differences is kept (James & Stein 1961), on the way from the
isotropic motion to the one that was found. On that way widths change by ratios, so that an axis that is significantly
narrow stays narrow.

References
----------
James & Stein (1961), Proc. Fourth Berkeley Symp. Math. Stat. Prob. 1:361.
"""

import numpy as np

from lrcore.arrays import Float64
from lrcore.motion.fit import TRIANGLE, symmetric_basis

ANISOTROPY_DOF = 16
"""Number of components that say how a motion differs by axis."""
ROTATION_ANISOTROPY_DOF = 5
"""Number of those that say how its rotations differ."""


def isotropic_covariance(covariance: Float64) -> Float64:
    """Return the covariance (6, 6) with the same mean widths along all axes."""
    return np.diag(np.repeat(mean_widths(covariance) ** 2, 3))


def mean_widths(covariance: Float64) -> Float64:
    """Return the root mean squares over the axes of rotations and of shifts.

    Parameters
    ----------
    covariance : (6, 6), rad and Å

    Returns
    -------
    ndarray
        (2,), rad and Å.
    """
    return np.asarray(np.sqrt(np.diag(covariance).reshape(2, 3).mean(axis=1)), dtype=np.float64)


def anisotropy_chi2(covariance: Float64, error: Float64, count: int = ANISOTROPY_DOF) -> float:
    """Return χ² of an isotropic motion, given a covariance (6, 6) about the fulcrum and its error (21, 21).

    count: number of components, ANISOTROPY_DOF, or ROTATION_ANISOTROPY_DOF for the rotations alone, which are the same
    about any point.
    """
    derivatives = _anisotropy_components(symmetric_basis())[:, :count]
    components = _anisotropy_components(covariance[None])[0, :count]
    return float(components @ np.linalg.solve(derivatives.T @ error @ derivatives, components))


def shrink_anisotropy(covariance: Float64, error: Float64) -> Float64:
    """Return the covariance with its differences between axes shrunk by what may be chance.

    Parameters
    ----------
    covariance : (6, 6) about the fulcrum
    error : (21, 21) covariance of the error of its upper triangle

    Returns
    -------
    ndarray
        (6, 6).
    """
    share = max(0.0, 1.0 - (ANISOTROPY_DOF - 2) / max(anisotropy_chi2(covariance, error), 1e-12))
    return interpolate_covariance(isotropic_covariance(covariance), covariance, share)


def interpolate_covariance(first: Float64, second: Float64, share: float) -> Float64:
    """Return a covariance on the geodesic from one covariance A to another, B.

        L (L⁻¹ B L⁻ᵀ)^share Lᵀ,  A = L Lᵀ

    It does not depend on the coordinates in which both are given.

    Parameters
    ----------
    first : A (n, n)
    second : B (n, n)
    share : 0 gives the first, 1 the second, ½ their geometric mean

    Returns
    -------
    ndarray
        (n, n).
    """
    L = np.linalg.cholesky(first)
    inverse = np.linalg.inv(L)
    values, vectors = np.linalg.eigh(inverse @ second @ inverse.T)
    root = L @ vectors
    return np.asarray((root * np.maximum(values, 0.0) ** share) @ root.T, dtype=np.float64)


def transform_error(error: Float64, transform: Float64) -> Float64:
    """Return the error of T Ψ Tᵀ, given that of Ψ.

    Parameters
    ----------
    error : (21, 21) covariance of the error of the upper triangle of Ψ
    transform : T (6, 6)

    Returns
    -------
    ndarray
        (21, 21).
    """
    transformed = transform @ symmetric_basis() @ transform.T
    derivatives = transformed[:, TRIANGLE[0], TRIANGLE[1]]
    return np.asarray(derivatives.T @ error @ derivatives, dtype=np.float64)


def _anisotropy_components(moments: Float64) -> Float64:
    """Return the components (n, 16) of motions (n, 6, 6): five of rotations, five of shifts, six of both together."""
    components = []
    for block in (moments[:, :3, :3], moments[:, 3:, 3:]):
        x, y, z = (block[:, i, i] for i in range(3))
        components += [block[:, 0, 1], block[:, 0, 2], block[:, 1, 2], x - y, x + y - 2 * z]
    cross = moments[:, :3, 3:]
    symmetric = cross + cross.transpose(0, 2, 1)
    components += [symmetric[:, i, j] for i, j in zip(*np.triu_indices(3), strict=True)]
    return np.stack(components, axis=1)
