"""Small dense algebra for one image, inside Numba: rotations, a 5 × 5 Cholesky solve, the projected step."""

import numba
import numpy as np

from lrcore.kernels.numba_options import NUMBA_OPTIONS


@numba.njit(**NUMBA_OPTIONS)
def norm3(vector):  # type: ignore[no-untyped-def]
    """Return the length of the first three components."""
    return np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)


@numba.njit(**NUMBA_OPTIONS)
def quaternion(vector):  # type: ignore[no-untyped-def]
    """Return the unit quaternion (w, x, y, z) of a rotation vector (rad)."""
    angle = norm3(vector)
    scale = 0.5 - angle**2 / 48.0 if angle < 1e-4 else np.sin(0.5 * angle) / angle
    return np.array([np.cos(0.5 * angle), scale * vector[0], scale * vector[1], scale * vector[2]])


@numba.njit(**NUMBA_OPTIONS)
def exp_rotation(vector):  # type: ignore[no-untyped-def]
    """Return the (3, 3) matrix of a rotation vector (rad)."""
    w, x, y, z = quaternion(vector)
    out = np.empty((3, 3))
    out[0, 0], out[0, 1], out[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[1, 0], out[1, 1], out[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    out[2, 0], out[2, 1], out[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return out


@numba.njit(**NUMBA_OPTIONS)
def compose_rotations(first, second):  # type: ignore[no-untyped-def]
    """Return the rotation vector of exp(first) · exp(second), each (3,) rad."""
    a0, a1, a2, a3 = quaternion(first)
    b0, b1, b2, b3 = quaternion(second)
    out = np.array([
        a0 * b1 + a1 * b0 + a2 * b3 - a3 * b2,
        a0 * b2 - a1 * b3 + a2 * b0 + a3 * b1,
        a0 * b3 + a1 * b2 - a2 * b1 + a3 * b0,
    ])  # fmt: skip
    real = a0 * b0 - a1 * b1 - a2 * b2 - a3 * b3
    length = norm3(out)
    if length < 1e-12:
        return 2.0 * out
    return out * (2.0 * np.arctan2(length, real) / length)


@numba.njit(**NUMBA_OPTIONS)
def apply_step(theta, delta, rotation_limit, shift_limit):  # type: ignore[no-untyped-def]
    """Return θ after R → R exp(δ), t → t + δt, projected onto the extents."""
    out = theta + delta
    out[:3] = compose_rotations(theta[:3], delta[:3])
    length = norm3(out)
    if length > rotation_limit:
        out[:3] *= rotation_limit / length
    length = np.hypot(out[3], out[4])
    if length > shift_limit:
        out[3:] *= shift_limit / length
    return out


@numba.njit(**NUMBA_OPTIONS)
def squared_length(vector, hessian, precision):  # type: ignore[no-untyped-def]
    """Return vᵀ (hessian + precision) v."""
    out = 0.0
    for i in range(5):
        for j in range(5):
            out += vector[i] * (hessian[i, j] + precision[i, j]) * vector[j]
    return out


@numba.njit(**NUMBA_OPTIONS)
def prior_penalty(theta, precision):  # type: ignore[no-untyped-def]
    """Return ½ θᵀ precision θ."""
    out = 0.0
    for i in range(5):
        for j in range(5):
            out += 0.5 * theta[i] * precision[i, j] * theta[j]
    return out


@numba.njit(**NUMBA_OPTIONS)
def add_prior_gradient(gradient, precision, theta):  # type: ignore[no-untyped-def]
    """Return gradient + precision θ, (5,)."""
    out = gradient.copy()
    for i in range(5):
        for j in range(5):
            out[i] += precision[i, j] * theta[j]
    return out


@numba.njit(**NUMBA_OPTIONS)
def solve5(hessian, precision, damping, slope):  # type: ignore[no-untyped-def]
    """Return the step −(C + damping · diag C)⁻¹ slope, with C = hessian + precision, and the gain that C predicts.

    Solved by Cholesky decomposition without pivoting. A pivot that is not positive, because of rounding or of negative
    weights, is replaced by the diagonal.
    """
    lower = np.zeros((5, 5))
    step = np.empty(5)
    for i in range(5):
        for j in range(i + 1):
            value = hessian[i, j] + precision[i, j]
            if i == j:
                value *= 1.0 + damping
            total = value
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i == j:
                lower[i, i] = np.sqrt(total if total > 1e-12 * abs(value) else max(abs(value), 1e-30))
            else:
                lower[i, j] = total / lower[j, j]
    for i in range(5):
        total = -slope[i]
        for k in range(i):
            total -= lower[i, k] * step[k]
        step[i] = total / lower[i, i]
    for i in range(4, -1, -1):
        total = step[i]
        for k in range(i + 1, 5):
            total -= lower[k, i] * step[k]
        step[i] = total / lower[i, i]
    gain = -0.5 * squared_length(step, hessian, precision)
    for i in range(5):
        gain -= slope[i] * step[i]
    return step, gain


@numba.njit(**NUMBA_OPTIONS)
def update_curvature(curvature, precision, step, change):  # type: ignore[no-untyped-def]
    """Correct C = curvature + precision by the change of the slope along a step: BFGS, with Powell's damping."""
    expected = np.zeros(5)
    for i in range(5):
        for j in range(5):
            expected[i] += (curvature[i, j] + precision[i, j]) * step[j]
    along = measured = 0.0
    for i in range(5):
        along += step[i] * expected[i]
        measured += step[i] * change[i]
    if not along > 0:
        return
    trust = 1.0 if measured >= 0.2 * along else 0.8 * along / (along - measured)
    risen = trust * measured + (1 - trust) * along
    rise = trust * change + (1 - trust) * expected
    for i in range(5):
        for j in range(5):
            curvature[i, j] += rise[i] * rise[j] / risen - expected[i] * expected[j] / along


@numba.njit(**NUMBA_OPTIONS)
def is_at_extent(theta, rotation_limit, shift_limit):  # type: ignore[no-untyped-def]
    """Return whether a step to θ may have been cut short at an extent."""
    return norm3(theta) >= rotation_limit * (1 - 1e-9) or np.hypot(theta[3], theta[4]) >= shift_limit * (1 - 1e-9)
