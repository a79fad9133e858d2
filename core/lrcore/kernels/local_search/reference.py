"""The definition of `evaluate`, `values` and `newton` in plain NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore.arrays import FloatArray
from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.imaging.rotations import rotation_exp, rotation_log
from lrcore.kernels.constants import MAX_MODES, POLISH_STEPS, POLISH_TOLERANCE, TOLERANCE
from lrcore.kernels.local_search import STEPS, PosteriorModes, SearchLimits

Evaluated = tuple[Any, Any, Any]
Mode = tuple[FloatArray, float, float, FloatArray]
Measure = Callable[[FloatArray, int], Evaluated]


def _spline_weights(offset: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights and slopes (3, ...) of the quadratic B-spline at −1, 0, 1 for an offset in [−½, ½] from the node."""
    weights = np.stack([0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2])
    return weights, np.stack([offset - 0.5, -2 * offset, offset + 0.5])


def project_slices_quadratic(
    volume: FourierVolume, rotations: FloatArray, samples: FourierSamples
) -> tuple[FloatArray, FloatArray]:
    """Slices (B, S) by quadratic B-splines and their gradient over the padded frequency (B, S, 3) xyz."""
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
    """See the contract."""
    count = samples.ends[band]
    band_samples = FourierSamples(samples.kx[:count], samples.ky[:count], (count,), samples.size)
    k = np.stack([band_samples.kx, band_samples.ky], axis=1).astype(np.float64)
    W, w = W[:, :count].astype(np.complex128), w[:, :count].astype(np.float64)
    rotations = centres @ rotation_exp(theta[:, :3])
    value, slope = project_slices_quadratic(volume, rotations, band_samples)
    q = PADDING * np.einsum("bij,si->bsj", rotations[:, :2], k)
    step = 2 * np.pi / samples.size
    sway = ((rotations - centres) @ lever)[:, :2] + theta[:, 3:]
    turn = np.exp(-1j * step * np.einsum("bi,si->bs", sway, k))
    model = value * turn
    cross = np.array([[0, -lever[2], lever[1]], [lever[2], 0, -lever[0]], [-lever[1], lever[0], 0]])
    sway_slope = np.einsum("bij,si->bsj", -rotations[:, :2] @ cross, k)
    jacobian = np.empty((*model.shape, 5), np.complex128)
    jacobian[..., :3] = np.cross(slope, q) * turn[..., None] - 1j * step * sway_slope * model[..., None]
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
    """See the contract."""
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
) -> PosteriorModes:
    """See the contract."""
    batch = len(W)
    out, precision = PosteriorModes.empty(batch), limits.precision(centres)
    for b in range(batch):

        def measure(theta: FloatArray, band: int, b: int = b) -> Evaluated:
            out.steps[b] += 1
            found = evaluate_with_derivatives(
                volume, W[b : b + 1], w[b : b + 1], samples, band, centres[b : b + 1], theta[None], lever
            )
            return found[0][0], found[1][0], found[2][0]

        prior = _Prior(limits, precision[b])
        modes = [theta.copy() for theta in starts[b][valid[b]]]
        last = len(samples.ends) - 1
        for band in range(last + 1):
            steps = STEPS[2] if band == last else STEPS[0] if band == 0 else STEPS[1]
            found = [_descend(measure, theta, band, steps, prior) for theta in modes]
            found = _prune(found, prior)
            modes = [f[0] for f in found]
        found[0] = _polish(measure, found[0], last, prior)
        for m, (theta, value, likelihood, hessian) in enumerate(found):
            out.theta[b, m], out.value[b, m], out.likelihood[b, m] = theta, value, likelihood
            out.hessian[b, m] = hessian
    return out


@dataclass(frozen=True)
class _Prior:
    """Of one image: extents, and the precision (5, 5)."""

    limits: SearchLimits
    precision: FloatArray

    def penalty(self, theta: FloatArray) -> float:
        return float(0.5 * theta @ self.precision @ theta)


def _descend(measure: Measure, theta: FloatArray, band: int, steps: int, prior: _Prior) -> Mode:
    """Levenberg–Marquardt in one band: (theta, posterior value, likelihood, likelihood Hessian)."""
    value, gradient, hessian = measure(theta, band)
    total = value + prior.penalty(theta)
    damping = 1e-3
    for _ in range(steps):
        slope = gradient + prior.precision @ theta
        curvature = hessian + prior.precision
        delta = -np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), slope)
        if -(slope @ delta + 0.5 * delta @ curvature @ delta) < TOLERANCE:
            break
        trial = _apply_step(theta, delta, prior.limits)
        found = measure(trial, band)
        trial_total = found[0] + prior.penalty(trial)
        if trial_total < total:
            gained = total - trial_total
            theta, total, (value, gradient, hessian) = trial, trial_total, found
            damping = max(damping * 0.1, 1e-6)
            if gained < TOLERANCE:
                break
        else:
            damping *= 10 if damping > 1e-2 else 100
            if damping > 1e6:
                break
    return theta, total, value, hessian


def _polish(measure: Measure, mode: Mode, band: int, prior: _Prior) -> Mode:
    """Gauss–Newton moves from a mode (theta, value, likelihood, hessian), shortened when they do not contract."""
    theta, (likelihood, gradient, hessian), length, share = mode[0], measure(mode[0], band), np.inf, 1.0
    for _ in range(POLISH_STEPS):
        curvature = hessian + prior.precision
        delta = -np.linalg.solve(curvature, gradient + prior.precision @ theta)
        if (now := np.sqrt(delta @ curvature @ delta)) > 0.8 * length:
            share = max(0.5 * share, 0.125)
        trial, length = _apply_step(theta, share * delta, prior.limits), now
        move = np.sqrt((trial - theta) @ curvature @ (trial - theta))
        theta, (likelihood, gradient, hessian) = trial, measure(trial, band)
        if move < POLISH_TOLERANCE * share:
            break
    value = likelihood + prior.penalty(theta)
    return mode if value > mode[1] + TOLERANCE else (theta, value, likelihood, hessian)


def _apply_step(theta: FloatArray, delta: FloatArray, limits: SearchLimits) -> FloatArray:
    """θ after R → R exp(δ), t → t + δt, pulled back onto the extents."""
    omega = rotation_log(rotation_exp(theta[None, :3]) @ rotation_exp(delta[None, :3]))[0]
    shift = theta[3:] + delta[3:]
    omega = omega * min(1.0, limits.rotation / max(float(np.linalg.norm(omega)), 1e-30))
    shift = shift * min(1.0, limits.shift / max(float(np.linalg.norm(shift)), 1e-30))
    return np.concatenate([omega, shift])


def _prune(found: list[Mode], prior: _Prior) -> list[Mode]:
    """Best first, without those that lost by more than `drop` or that met a better one (within 1 SD); KEPT at most."""
    kept: list[Mode] = []
    for mode in sorted(found, key=lambda f: f[1]):
        if kept and mode[1] > kept[0][1] + prior.limits.drop:
            break
        apart = [(d := mode[0] - other[0]) @ (other[3] + prior.precision) @ d > 1.0 for other in kept]
        if all(apart) and len(kept) < MAX_MODES:
            kept.append(mode)
    return kept
