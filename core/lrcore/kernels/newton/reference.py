"""The definition of `evaluate` and `newton` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.fourier import PADDING, FourierVolume
from lrcore.grids import Samples
from lrcore.kernels.newton import KEPT, STEPS, TOLERANCE, Limits, Modes
from lrcore.kernels.slice.reference import corners
from lrcore.rotations import exp, log

Array = npt.NDArray[np.floating]
Evaluated = tuple[Array, Array, Array]


def _slices_with_gradient(volume: FourierVolume, rotations: Array, samples: Samples) -> tuple[Array, Array]:
    """Slices (B, S) and their gradient over the padded frequency (B, S, 3) xyz."""
    low, fraction, mate = corners(rotations, samples)
    centre = volume.data.shape[0] // 2
    value = np.zeros(mate.shape, np.complex128)
    gradient = np.zeros((*mate.shape, 3), np.complex128)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (low[..., a] + corner[a] for a in range(3))
        voxel = volume.data[z + centre, y + centre, x]
        weights = [np.abs(1 - corner[a] - fraction[..., a]) for a in range(3)]
        value += weights[0] * weights[1] * weights[2] * voxel
        for a in range(3):
            slope = 2 * corner[a] - 1
            gradient[..., a] += slope * weights[(a + 1) % 3] * weights[(a + 2) % 3] * voxel
    value = np.where(mate, value.conj(), value)
    return value, np.where(mate[..., None], -gradient.conj(), gradient)


def evaluate(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: Samples,
    band: int,
    centres: Array,
    theta: Array,
    lever: Array,
) -> Evaluated:
    """See the contract."""
    count = samples.ends[band]
    band_samples = Samples(samples.kx[:count], samples.ky[:count], (count,), samples.size)
    k = np.stack([band_samples.kx, band_samples.ky], axis=1).astype(np.float64)
    W, w = W[:, :count].astype(np.complex128), w[:, :count].astype(np.float64)
    rotations = centres @ exp(theta[:, :3])
    value, slope = _slices_with_gradient(volume, rotations, band_samples)
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


def newton(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: Samples,
    centres: Array,
    starts: Array,
    valid: npt.NDArray[np.bool_],
    lever: Array,
    limits: Limits,
) -> Modes:
    """See the contract."""
    batch = len(W)
    out = Modes(
        np.zeros((batch, KEPT, 5)),
        np.full((batch, KEPT), np.inf),
        np.full((batch, KEPT), np.inf),
        np.zeros((batch, KEPT, 5, 5)),
        np.zeros(batch, np.int32),
    )
    for b in range(batch):

        def measure(theta: Array, band: int, b: int = b) -> Evaluated:
            out.steps[b] += 1
            found = evaluate(volume, W[b : b + 1], w[b : b + 1], samples, band, centres[b : b + 1], theta[None], lever)
            return found[0][0], found[1][0], found[2][0]

        modes = [theta.copy() for theta in starts[b][valid[b]]]
        last = len(samples.ends) - 1
        for band in range(last + 1):
            steps = STEPS[2] if band == last else STEPS[0] if band == 0 else STEPS[1]
            found = [_descend(measure, theta, band, steps, limits) for theta in modes]
            found = _prune(found, limits)
            modes = [f[0] for f in found]
        for m, (theta, value, likelihood, hessian) in enumerate(found):
            out.theta[b, m], out.value[b, m], out.likelihood[b, m] = theta, value, likelihood
            out.hessian[b, m] = hessian
    return out


def _descend(measure, theta, band, steps, limits):  # type: ignore[no-untyped-def]
    """Levenberg–Marquardt in one band: (theta, posterior value, likelihood, likelihood Hessian)."""
    precision = np.array([limits.rotation_sd] * 3 + [limits.shift_sd] * 2) ** -2.0
    value, gradient, hessian = measure(theta, band)
    total = value + 0.5 * np.sum(precision * theta**2)
    damping = 1e-3
    for _ in range(steps):
        slope = gradient + precision * theta
        curvature = hessian + np.diag(precision)
        delta = -np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), slope)
        if -(slope @ delta + 0.5 * delta @ curvature @ delta) < TOLERANCE:
            break
        trial = _moved(theta, delta, limits)
        found = measure(trial, band)
        trial_total = found[0] + 0.5 * np.sum(precision * trial**2)
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


def _moved(theta: Array, delta: Array, limits: Limits) -> Array:
    """θ after R → R exp(δ), t → t + δt, pulled back onto the extents."""
    omega = log(exp(theta[None, :3]) @ exp(delta[None, :3]))[0]
    shift = theta[3:] + delta[3:]
    omega = omega * min(1.0, limits.rotation / max(np.linalg.norm(omega), 1e-30))
    shift = shift * min(1.0, limits.shift / max(np.linalg.norm(shift), 1e-30))
    return np.concatenate([omega, shift])


def _prune(found, limits):  # type: ignore[no-untyped-def]
    """Best first, without those that lost by more than `drop` or that met a better one (within 1 SD); KEPT at most."""
    precision = np.array([limits.rotation_sd] * 3 + [limits.shift_sd] * 2) ** -2.0
    kept = []
    for mode in sorted(found, key=lambda f: f[1]):
        if kept and mode[1] > kept[0][1] + limits.drop:
            break
        apart = [
            (d := mode[0] - other[0]) @ (other[3] + np.diag(precision)) @ d > 1.0 for other in kept
        ]
        if all(apart) and len(kept) < KEPT:
            kept.append(mode)
    return kept
