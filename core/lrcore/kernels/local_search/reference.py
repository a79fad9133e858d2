"""Define the results of the local search in plain NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import FloatArray
from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.imaging.rotations import rotation_exp, rotation_log
from lrcore.kernels.constants import (
    CURVATURE_RATIO,
    FIRST_CONTRACTION,
    MAX_MODES,
    POLISH_STEPS,
    POLISH_TOLERANCE,
    TOLERANCE,
)
from lrcore.kernels.local_search import MAX_STEPS, PosteriorModes, SearchLimits

Evaluated = tuple[Any, Any, Any]
Mode = tuple[FloatArray, float, float, FloatArray]
Measure = Callable[[FloatArray, int], Evaluated]


def _spline_weights(offset: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return weights and slopes (3, ...) of the quadratic B-spline at nodes −1, 0, 1, for an offset in [−½, ½]."""
    weights = np.stack([0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2])
    return weights, np.stack([offset - 0.5, -2 * offset, offset + 0.5])


def project_slices_quadratic(
    volume: FourierVolume, rotations: FloatArray, samples: FourierSamples
) -> tuple[FloatArray, FloatArray]:
    """Read slices (B, S) by quadratic B-splines, and their gradient over the padded frequency (B, S, 3) xyz."""
    k = np.stack([samples.kx, samples.ky], axis=-1).astype(np.float64)
    q = PADDING * np.einsum("bij,si->bsj", rotations[:, :2, :], k)
    mate = q[..., 0] < 0
    q = np.where(mate[..., None], -q, q)
    node = np.floor(q + 0.5).astype(np.intp)
    weights, slopes = _spline_weights(q - node)
    node += [1, volume.data.shape[0] // 2, volume.data.shape[0] // 2]
    value = np.zeros(mate.shape, np.complex128)
    gradient = np.zeros((*mate.shape, 3), np.complex128)
    for x, y, z in np.ndindex(3, 3, 3):
        voxel = volume.data[node[..., 2] + z - 1, node[..., 1] + y - 1, node[..., 0] + x - 1]
        wx, wy, wz = weights[x, ..., 0], weights[y, ..., 1], weights[z, ..., 2]
        value += wx * wy * wz * voxel
        gradient[..., 0] += slopes[x, ..., 0] * wy * wz * voxel
        gradient[..., 1] += wx * slopes[y, ..., 1] * wz * voxel
        gradient[..., 2] += wx * wy * slopes[z, ..., 2] * voxel
    value = np.where(mate, value.conj(), value)
    return value, np.where(mate[..., None], -gradient.conj(), gradient)


def evaluate_with_derivatives(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: FourierSamples,
    band: int,
    centres: FloatArray,
    theta: FloatArray,
    lever: FloatArray,
) -> Evaluated:
    """Return value, gradient and Hessian at one pose of each image; see `lrcore.kernels.local_search`."""
    count = samples.ends[band]
    band_samples = FourierSamples(samples.kx[:count], samples.ky[:count], (count,), samples.size)
    k = np.stack([band_samples.kx, band_samples.ky], axis=1).astype(np.float64)
    W, w = W[:, :count].astype(np.complex128), w[:, :count].astype(np.float64)
    rotations = centres @ rotation_exp(theta[:, :3])
    value, slope = project_slices_quadratic(volume, rotations, band_samples)
    q = PADDING * np.einsum("bij,si->bsj", rotations[:, :2], k)
    step = 2 * np.pi / samples.size
    shift = ((rotations - centres) @ lever)[:, :2] + theta[:, 3:]
    turn = np.exp(-1j * step * np.einsum("bi,si->bs", shift, k))
    model = value * turn
    cross = np.array([[0, -lever[2], lever[1]], [lever[2], 0, -lever[0]], [-lever[1], lever[0], 0]])
    shift_slope = np.einsum("bij,si->bsj", -rotations[:, :2] @ cross, k)
    jacobian = np.empty((*model.shape, 5), np.complex128)
    jacobian[..., :3] = np.cross(slope, q) * turn[..., None] - 1j * step * shift_slope * model[..., None]
    jacobian[..., 3:] = -1j * step * k * model[..., None]
    score = (-2 * W.conj() * model).real + w * np.abs(model) ** 2
    gradient = -2 * np.einsum("bsi,bs->bi", jacobian.conj(), W - w * model).real
    hessian = 2 * np.einsum("bsi,bs,bsj->bij", jacobian.conj(), w, jacobian).real
    return score.sum(axis=1), gradient, hessian


def evaluate_likelihood(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: FourierSamples,
    band: int,
    centres: FloatArray,
    theta: FloatArray,
    lever: FloatArray,
) -> npt.NDArray[np.float64]:
    """Return the value at several poses of each image; see `lrcore.kernels.local_search`."""
    each = [
        evaluate_with_derivatives(volume, W, w, samples, band, centres, at, lever)[0] for at in theta.transpose(1, 0, 2)
    ]
    return np.stack(each, axis=1)


def find_posterior_modes(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: FourierSamples,
    centres: FloatArray,
    starts: FloatArray,
    valid: npt.NDArray[np.bool_],
    lever: FloatArray,
    limits: SearchLimits,
    settled: npt.NDArray[np.bool_] | None = None,
) -> PosteriorModes:
    """Find the posterior modes of each image from several starts; see `lrcore.kernels.local_search`."""
    batch = len(W)
    out, precision = PosteriorModes.empty(batch), limits.precision(centres)
    for b in range(batch):

        def measure(theta: FloatArray, band: int, b: int = b) -> Evaluated:
            out.steps[b] += 1
            value, gradient, hessian = evaluate_with_derivatives(
                volume, W[b : b + 1], w[b : b + 1], samples, band, centres[b : b + 1], theta[None], lever
            )
            return value[0], gradient[0], hessian[0]

        prior = _Prior(limits, precision[b])
        thetas = [theta.copy() for theta in starts[b][valid[b]]]
        last = len(samples.ends) - 1
        for band in range(last if settled is not None and settled[b] else 0, last + 1):
            if band == last and len(thetas) == 1 and (polished := _polish(measure, thetas[0], last, prior)):
                modes = [polished]
                break
            steps = MAX_STEPS[2] if band == last else MAX_STEPS[0] if band == 0 else MAX_STEPS[1]
            modes = _prune([_descend(measure, theta, band, steps, prior) for theta in thetas], prior)
            thetas = [mode[0] for mode in modes]
        else:
            modes[0] = _polish(measure, modes[0][0], last, prior) or modes[0]
        for m, (theta, value, likelihood, hessian) in enumerate(modes):
            out.theta[b, m], out.value[b, m], out.likelihood[b, m] = theta, value, likelihood
            out.hessian[b, m] = hessian
    return out


@dataclass(frozen=True)
class _Prior:
    """Extents, and the precision (5, 5) of the prior, of one image."""

    limits: SearchLimits
    precision: FloatArray

    def penalty(self, theta: FloatArray) -> float:
        return float(0.5 * theta @ self.precision @ theta)


def _descend(measure: Measure, theta: FloatArray, band: int, steps: int, prior: _Prior) -> Mode:
    """Descend by Levenberg–Marquardt in one band to (theta, posterior value, likelihood, likelihood Hessian)."""
    value, gradient, hessian = measure(theta, band)
    total = value + prior.penalty(theta)
    damping = 1e-3
    for _ in range(steps):
        slope = gradient + prior.precision @ theta
        ratio = 1.0 if _is_at_extent(theta, prior.limits) else CURVATURE_RATIO
        curvature = ratio * hessian + prior.precision
        delta = -np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), slope)
        if -(slope @ delta + 0.5 * delta @ curvature @ delta) < TOLERANCE:
            break
        trial = _apply_step(theta, delta, prior.limits)
        evaluated = measure(trial, band)
        trial_total = evaluated[0] + prior.penalty(trial)
        if trial_total < total:
            gained = total - trial_total
            theta, total, (value, gradient, hessian) = trial, trial_total, evaluated
            damping = max(damping * 0.1, 1e-6)
            if gained < TOLERANCE:
                break
        else:
            damping *= 10 if damping > 1e-2 else 100
            if damping > 1e6:
                break
    return theta, total, value, hessian


def _polish(measure: Measure, theta: FloatArray, band: int, prior: _Prior) -> Mode | None:
    """Polish a pose by quasi-Newton steps to (theta, value, likelihood, hessian); None if that leads nowhere."""
    likelihood, gradient, hessian = measure(theta, band)
    first = likelihood + prior.penalty(theta)
    slope, curvature, length = gradient + prior.precision @ theta, CURVATURE_RATIO * hessian, 0.0
    for _ in range(POLISH_STEPS):
        delta = -np.linalg.solve(curvature + prior.precision, slope)
        trial = _apply_step(theta, delta, prior.limits)
        move = trial - theta
        previous, length = length, np.sqrt(move @ (hessian + prior.precision) @ move)
        if length * (length / previous if previous > 0 else FIRST_CONTRACTION) < POLISH_TOLERANCE:
            gain = -(slope @ move + 0.5 * move @ (curvature + prior.precision) @ move)
            value = likelihood + prior.penalty(theta) - gain
            return (trial, value, value - prior.penalty(trial), hessian) if value <= first + TOLERANCE else None
        before, theta = slope, trial
        likelihood, gradient, hessian = measure(theta, band)
        slope = gradient + prior.precision @ theta
        if _is_at_extent(theta, prior.limits):
            curvature = CURVATURE_RATIO * hessian
        else:
            curvature = curvature + _curvature_change(curvature + prior.precision, delta, slope - before)
    return None


def _curvature_change(curvature: FloatArray, step: FloatArray, change: FloatArray) -> FloatArray:
    """Return the BFGS correction (5, 5) of a curvature by the change of the slope along a step; Powell's damping."""
    expected = curvature @ step
    along, measured = step @ expected, step @ change
    if not along > 0:
        return np.zeros((5, 5))
    trust = 1.0 if measured >= 0.2 * along else 0.8 * along / (along - measured)
    rise = trust * change + (1 - trust) * expected
    return np.asarray(np.outer(rise, rise) / (step @ rise) - np.outer(expected, expected) / along, dtype=np.float64)


def _is_at_extent(theta: FloatArray, limits: SearchLimits) -> bool:
    """Return whether a step may have been cut short at an extent."""
    rotation, shift = np.linalg.norm(theta[:3]), np.linalg.norm(theta[3:])
    return bool(rotation >= limits.rotation * (1 - 1e-9) or shift >= limits.shift * (1 - 1e-9))


def _apply_step(theta: FloatArray, delta: FloatArray, limits: SearchLimits) -> FloatArray:
    """Return θ after R → R exp(δ), t → t + δt, projected onto the extents."""
    omega = rotation_log(rotation_exp(theta[None, :3]) @ rotation_exp(delta[None, :3]))[0]
    shift = theta[3:] + delta[3:]
    omega = omega * min(1.0, limits.rotation / max(float(np.linalg.norm(omega)), 1e-30))
    shift = shift * min(1.0, limits.shift / max(float(np.linalg.norm(shift)), 1e-30))
    return np.concatenate([omega, shift])


def _prune(modes: list[Mode], prior: _Prior) -> list[Mode]:
    """Sort modes best first; drop those worse by `drop` or within 1 SD of a better one; keep at most MAX_MODES."""
    kept: list[Mode] = []
    for mode in sorted(modes, key=lambda m: m[1]):
        if kept and mode[1] > kept[0][1] + prior.limits.drop:
            break
        apart = [(d := mode[0] - other[0]) @ (other[3] + prior.precision) @ d > 1.0 for other in kept]
        if all(apart) and len(kept) < MAX_MODES:
            kept.append(mode)
    return kept
