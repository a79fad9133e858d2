"""Whether a body moves alike along all axes, and a covariance drawn towards that as far as the data do not tell.

Of the 21 numbers of Ψ about the fulcrum, two are mean widths, three are zero by the choice of the fulcrum, and sixteen
say how the motion differs by axis: q, with the covariance of their errors V. Where q is 0 in truth, χ² = qᵀ V⁻¹ q is
one of 16 degrees of freedom. A share of 1 − 14 / χ² of what is found is kept (James and Stein 1961), on the way from
the motion that is alike along all axes to the one that was found. That way is measured in ratios, so that an axis that
is narrow beyond doubt stays so.
"""

import numpy as np

from lrcore.arrays import Float64
from lrcore.motion.fit import TRIANGLE, symmetric_basis

ANISOTROPY_DOF, ROTATION_ANISOTROPY_DOF = 16, 5
"""Numbers that say how a motion differs by axis; of them, how its turns do."""


def isotropic_covariance(covariance: Float64) -> Float64:
    """The motion of the same mean widths that is the same along all axes, (6, 6)."""
    return np.diag(np.repeat(mean_widths(covariance) ** 2, 3))


def mean_widths(covariance: Float64) -> Float64:
    """Root mean squares over the axes (2,), of turns and of shifts, of a motion (6, 6)."""
    return np.asarray(np.sqrt(np.diag(covariance).reshape(2, 3).mean(axis=1)), dtype=np.float64)


def anisotropy_chi2(covariance: Float64, error: Float64, count: int = ANISOTROPY_DOF) -> float:
    """χ² of the motion's being alike. covariance: (6, 6) about the fulcrum; error: (21, 21) of its upper triangle.

    count: ALL, or TURNS alone, which are the same about any point.
    """
    slopes = _anisotropy_components(symmetric_basis())[:, :count]
    off = _anisotropy_components(covariance[None])[0, :count]
    return float(off @ np.linalg.solve(slopes.T @ error @ slopes, off))


def shrink_anisotropy(covariance: Float64, error: Float64) -> Float64:
    """The covariance (6, 6) without what of its differences by axis may be chance."""
    share = max(0.0, 1.0 - (ANISOTROPY_DOF - 2) / max(anisotropy_chi2(covariance, error), 1e-12))
    return interpolate_covariance(isotropic_covariance(covariance), covariance, share)


def interpolate_covariance(first: Float64, second: Float64, share: float) -> Float64:
    """From one covariance (n, n) towards another, the same wherever both are seen from: L (L⁻¹ B L⁻ᵀ)ˢ Lᵀ, A = L Lᵀ.

    share: 0 is the first, 1 the second, ½ their geometric mean.
    """
    L = np.linalg.cholesky(first)
    inverse = np.linalg.inv(L)
    values, vectors = np.linalg.eigh(inverse @ second @ inverse.T)
    root = L @ vectors
    return np.asarray((root * np.maximum(values, 0.0) ** share) @ root.T, dtype=np.float64)


def transform_error(error: Float64, to: Float64) -> Float64:
    """Of an error (21, 21) of the triangle of Ψ, that of `to` Ψ `to`ᵀ."""
    moved = to @ symmetric_basis() @ to.T
    slopes = moved[:, TRIANGLE[0], TRIANGLE[1]]
    return np.asarray(slopes.T @ error @ slopes, dtype=np.float64)


def _anisotropy_components(moments: Float64) -> Float64:
    """The sixteen (n, 16) of motions (n, 6, 6): of turns and of shifts five each, and six of both together."""
    found = []
    for part in (moments[:, :3, :3], moments[:, 3:, 3:]):
        x, y, z = (part[:, i, i] for i in range(3))
        found += [part[:, 0, 1], part[:, 0, 2], part[:, 1, 2], x - y, x + y - 2 * z]
    mixed = moments[:, :3, 3:]
    both = mixed + mixed.transpose(0, 2, 1)
    found += [both[:, i, j] for i, j in zip(*np.triu_indices(3), strict=True)]
    return np.stack(found, axis=1)
