"""Implement the local search in Numba: each thread evaluates all poses of an image, or searches all its modes.

An evaluation processes chunks of samples in passes: four that fill small arrays (see `spline_reads`), then an
arithmetic loop that accumulates 21 sums. The compiler vectorises all but the reads, which are vectorised by hand.
"""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.arrays import FloatArray
from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.constants import (
    CURVATURE_RATIO,
    FIRST_CONTRACTION,
    MAX_MODES,
    POLISH_STEPS,
    POLISH_TOLERANCE,
    TOLERANCE,
)
from lrcore.kernels.local_search import MAX_STEPS, PosteriorModes, SearchLimits
from lrcore.kernels.local_search.small_algebra import (
    add_prior_gradient,
    apply_step,
    exp_rotation,
    is_at_extent,
    prior_penalty,
    solve5,
    squared_length,
    update_curvature,
)
from lrcore.kernels.local_search.spline_reads import (
    allocate_scratch,
    gradient_over_rotation,
    locate_spline_samples,
    read_spline,
    read_spline_values,
    shift_phases,
)
from lrcore.kernels.numba_options import NUMBA_OPTIONS
from lrcore.kernels.project.cpu import CHUNK, C, F, as_real_pairs


@numba.njit(**NUMBA_OPTIONS)
def _accumulate(W, w, kx, ky, begin, end, found, slopes, sums):  # type: ignore[no-untyped-def]
    """Pass 5: add value, −½ gradient and upper ½ Hessian of samples begin … end to sums[0:21]."""
    m00, m01, m02, m10, m11, m12 = slopes[0, 0], slopes[0, 1], slopes[0, 2], slopes[1, 0], slopes[1, 1], slopes[1, 2]
    step = slopes[2, 0]
    v = g0 = g1 = g2 = g3 = g4 = F(0)
    h00 = h01 = h02 = h03 = h04 = h11 = h12 = h13 = h14 = h22 = h23 = h24 = h33 = h34 = h44 = F(0)
    # Indexed from 0, the loop reads contiguous memory; from `begin` the compiler would gather.
    W, w, kx, ky = W[2 * begin : 2 * end], w[begin:end], kx[begin:end], ky[begin:end]
    for at in range(end - begin):
        i = np.uint64(at)
        c, s = found[8 * C + i], found[9 * C + i]
        wr, wi, weight = W[2 * at], W[2 * at + 1], w[at]
        zr, zi = wr * c - wi * s, wi * c + wr * s
        sr, si = found[i], found[C + i]
        fx, fy = F(kx[at]), F(ky[at])
        a0, a1, a2 = fx * m00 + fy * m10, fx * m01 + fy * m11, fx * m02 + fy * m12
        j0r, j0i = found[2 * C + i] + a0 * si, found[3 * C + i] - a0 * sr
        j1r, j1i = found[4 * C + i] + a1 * si, found[5 * C + i] - a1 * sr
        j2r, j2i = found[6 * C + i] + a2 * si, found[7 * C + i] - a2 * sr
        b0, b1 = step * fx, step * fy
        rr, ri = zr - weight * sr, zi - weight * si
        power = sr * sr + si * si
        v += weight * power - F(2) * (zr * sr + zi * si)
        g0 += j0r * rr + j0i * ri
        g1 += j1r * rr + j1i * ri
        g2 += j2r * rr + j2i * ri
        cross = si * rr - sr * ri
        g3 += b0 * cross
        g4 += b1 * cross
        h00 += weight * (j0r * j0r + j0i * j0i)
        h01 += weight * (j0r * j1r + j0i * j1i)
        h02 += weight * (j0r * j2r + j0i * j2i)
        h11 += weight * (j1r * j1r + j1i * j1i)
        h12 += weight * (j1r * j2r + j1i * j2i)
        h22 += weight * (j2r * j2r + j2i * j2i)
        k0, k1, k2 = (
            weight * (j0r * si - j0i * sr),
            weight * (j1r * si - j1i * sr),
            weight * (j2r * si - j2i * sr),
        )
        h03 += k0 * b0
        h04 += k0 * b1
        h13 += k1 * b0
        h14 += k1 * b1
        h23 += k2 * b0
        h24 += k2 * b1
        power *= weight
        h33 += power * b0 * b0
        h34 += power * b0 * b1
        h44 += power * b1 * b1
    total = (v, g0, g1, g2, g3, g4, h00, h01, h02, h03, h04, h11, h12, h13, h14, h22, h23, h24, h33, h34, h44)
    for entry in range(21):
        sums[entry] += np.float64(total[entry])


@numba.njit(**NUMBA_OPTIONS)
def _shift(centre, rotation, theta, lever):  # type: ignore[no-untyped-def]
    """Return the shift s of the image, (2,) pixels."""
    shift = np.empty(2)
    for r in range(2):
        shift[r] = theta[3 + r]
        for c in range(3):
            shift[r] += (rotation[r, c] - centre[r, c]) * lever[c]
    return shift


@numba.njit(**NUMBA_OPTIONS)
def _sum(W, w, begin, end, found):  # type: ignore[no-untyped-def]
    """Return the value of samples begin … end."""
    v = F(0)
    W, w = W[2 * begin : 2 * end], w[begin:end]
    for at in range(end - begin):
        i = np.uint64(at)
        c, s = found[8 * C + i], found[9 * C + i]
        wr, wi, sr, si = W[2 * at], W[2 * at + 1], found[i], found[C + i]
        v += w[at] * (sr * sr + si * si) - F(2) * ((wr * c - wi * s) * sr + (wi * c + wr * s) * si)
    return np.float64(v)


@numba.njit(**NUMBA_OPTIONS)
def _value(data, W, w, kx, ky, count, centre, theta, lever, size, work):  # type: ignore[no-untyped-def]
    """Return the value alone, as `_evaluate` does."""
    rotation = centre @ exp_rotation(theta)
    shift, turn = _shift(centre, rotation, theta, lever), (PADDING * rotation).astype(np.float32)
    flat, crosses = data.reshape(-1), W.reshape(-1)
    corner, where, found = work
    total = 0.0
    for begin in range(0, count, CHUNK):
        end = min(begin + CHUNK, count)
        locate_spline_samples(data.shape, turn, kx, ky, begin, end, corner, where)
        read_spline_values(flat, data.shape, end - begin, corner, where, found)
        shift_phases(shift, size, kx, ky, begin, end, found)
        total += _sum(crosses, w, begin, end, found)
    return total


@numba.njit(**NUMBA_OPTIONS)
def _evaluate(data, W, w, kx, ky, count, centre, theta, lever, size, work, gradient, hessian):  # type: ignore[no-untyped-def]
    """Return the value; fills gradient (5,) and hessian (5, 5). `data` is (Z, Z, X, 2) float32."""
    rotation = centre @ exp_rotation(theta)
    shift = _shift(centre, rotation, theta, lever)
    step = 2 * np.pi / size
    slopes = np.zeros((3, 3), np.float32)
    for r in range(2):
        # −R [l]× row by row: −(R_r × l)
        slopes[r, 0] = -step * (rotation[r, 1] * lever[2] - rotation[r, 2] * lever[1])
        slopes[r, 1] = -step * (rotation[r, 2] * lever[0] - rotation[r, 0] * lever[2])
        slopes[r, 2] = -step * (rotation[r, 0] * lever[1] - rotation[r, 1] * lever[0])
    slopes[2, 0] = step
    turn = (PADDING * rotation).astype(np.float32)
    flat, crosses = data.reshape(-1), W.reshape(-1)
    corner, where, found = work
    sums = np.zeros(21)
    for begin in range(0, count, CHUNK):
        end = min(begin + CHUNK, count)
        locate_spline_samples(data.shape, turn, kx, ky, begin, end, corner, where)
        read_spline(flat, data.shape, end - begin, corner, where, found)
        gradient_over_rotation(end - begin, where, found)
        shift_phases(shift, size, kx, ky, begin, end, found)
        _accumulate(crosses, w, kx, ky, begin, end, found, slopes, sums)
    entry = 6
    for i in range(5):
        gradient[i] = -2 * sums[1 + i]
        for j in range(i, 5):
            hessian[i, j] = hessian[j, i] = 2 * sums[entry]
            entry += 1
    return sums[0]


@numba.njit(**NUMBA_OPTIONS)
def _descend(data, W, w, kx, ky, count, centre, lever, size, limits, precision, steps, theta, hessian, work, result):  # type: ignore[no-untyped-def]
    """Descend by Levenberg–Marquardt in one band. Updates theta, hessian and result (posterior, likelihood)."""
    gradient, trial_gradient, trial_hessian = np.empty(5), np.empty(5), np.empty((5, 5))
    likelihood = _evaluate(data, W, w, kx, ky, count, centre, theta, lever, size, work, gradient, hessian)
    total = likelihood + prior_penalty(theta, precision)
    damping, used = 1e-3, 1
    for _ in range(steps):
        slope = add_prior_gradient(gradient, precision, theta)
        ratio = 1.0 if is_at_extent(theta, limits[0], limits[1]) else CURVATURE_RATIO
        delta, predicted = solve5(ratio * hessian, precision, damping, slope)
        if predicted < TOLERANCE:
            break
        trial = apply_step(theta, delta, limits[0], limits[1])
        value = _evaluate(data, W, w, kx, ky, count, centre, trial, lever, size, work, trial_gradient, trial_hessian)
        used += 1
        trial_total = value + prior_penalty(trial, precision)
        if trial_total < total:
            gained = total - trial_total
            theta[:] = trial
            total, likelihood = trial_total, value
            gradient[:], hessian[:] = trial_gradient, trial_hessian
            damping = max(damping * 0.1, 1e-6)
            if gained < TOLERANCE:
                break
        else:
            damping *= 10 if damping > 1e-2 else 100
            if damping > 1e6:
                break
    result[0], result[1] = total, likelihood
    return used


@numba.njit(**NUMBA_OPTIONS)
def _polish(data, W, w, kx, ky, count, centre, lever, size, limits, precision, theta, hessian, work, result):  # type: ignore[no-untyped-def]
    """Polish a pose by quasi-Newton steps. Returns whether that ends, and then updates theta, hessian and result."""
    gradient, at, model = np.empty(5), theta.copy(), np.empty((5, 5))
    likelihood = _evaluate(data, W, w, kx, ky, count, centre, at, lever, size, work, gradient, model)
    first = likelihood + prior_penalty(at, precision)
    slope, curvature = add_prior_gradient(gradient, precision, at), CURVATURE_RATIO * model
    length, used = 0.0, 1
    for _ in range(POLISH_STEPS):
        delta, _gain = solve5(curvature, precision, 0.0, slope)
        trial = apply_step(at, delta, limits[0], limits[1])
        move = trial - at
        previous, length = length, np.sqrt(squared_length(move, model, precision))
        if length * (length / previous if previous > 0 else FIRST_CONTRACTION) < POLISH_TOLERANCE:
            value = likelihood + prior_penalty(at, precision) + 0.5 * squared_length(move, curvature, precision)
            for i in range(5):
                value += slope[i] * move[i]
            if value > first + TOLERANCE:
                return False, used
            theta[:], hessian[:] = trial, model
            result[0], result[1] = value, value - prior_penalty(trial, precision)
            return True, used
        at[:] = trial
        likelihood = _evaluate(data, W, w, kx, ky, count, centre, at, lever, size, work, gradient, model)
        used += 1
        before, slope = slope, add_prior_gradient(gradient, precision, at)
        if is_at_extent(at, limits[0], limits[1]):
            curvature = CURVATURE_RATIO * model
        else:
            update_curvature(curvature, precision, delta, slope - before)
    return False, used


@numba.njit(**NUMBA_OPTIONS)
def _prune(theta, hessian, results, count, drop, precision):  # type: ignore[no-untyped-def]
    """Sort `count` modes best first and drop bad and duplicate ones, in place; returns how many remain."""
    order = np.arange(count)
    for m in range(1, count):  # insertion sort: NumPy's sort would double the compile time
        at = m
        while at > 0 and results[order[at], 0] < results[order[at - 1], 0]:
            order[at], order[at - 1] = order[at - 1], order[at]
            at -= 1
    old_theta, old_hessian, old_results = theta[:count].copy(), hessian[:count].copy(), results[:count].copy()
    kept = 0
    for m in order:
        if kept == MAX_MODES or (kept > 0 and old_results[m, 0] > results[0, 0] + drop):
            break
        apart = True
        for other in range(kept):
            apart = apart and squared_length(old_theta[m] - theta[other], hessian[other], precision) > 1.0
        if apart:
            theta[kept], hessian[kept], results[kept] = old_theta[m], old_hessian[m], old_results[m]
            kept += 1
    return kept


@numba.njit(**NUMBA_OPTIONS)
def _image(  # type: ignore[no-untyped-def]
    data, W, w, kx, ky, ends, centre, starts, valid, settled, lever, size, limits, precision, plan, found
):
    """Search all modes of one image into theta, hessian and results. Returns (modes, evaluations)."""
    theta, hessian, results = found
    work, last = allocate_scratch(), len(ends) - 1
    count = used = 0
    for m in range(len(valid)):
        if valid[m]:
            theta[count] = starts[m]
            count += 1
    for band in range(last if settled else 0, last + 1):
        if band == last and count == 1:
            done, used_here = _polish(
                data, W, w, kx, ky, ends[last], centre, lever, size, limits, precision, theta[0], hessian[0], work,
                results[0],
            )  # fmt: skip
            used += used_here
            if done:
                return 1, used
        for m in range(count):
            used += _descend(
                data, W, w, kx, ky, ends[band], centre, lever, size, limits, precision, plan[band],
                theta[m], hessian[m], work, results[m],
            )  # fmt: skip
        count = _prune(theta, hessian, results, count, limits[2], precision)
    _done, used_here = _polish(
        data, W, w, kx, ky, ends[last], centre, lever, size, limits, precision, theta[0], hessian[0], work,
        results[0],
    )  # fmt: skip
    return count, used + used_here


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _find_posterior_modes(  # type: ignore[no-untyped-def]
    data, W, w, kx, ky, ends, centres, starts, valid, settled, lever, size, limits, precisions, plan, out
):
    out_theta, out_value, out_likelihood, out_hessian, out_steps = out
    for b in numba.prange(W.shape[0]):
        theta = np.empty((starts.shape[1], 5))
        hessian = np.empty((starts.shape[1], 5, 5))
        results = np.empty((starts.shape[1], 2))
        count, used = _image(
            data, W[b], w[b], kx, ky, ends, centres[b], starts[b], valid[b], settled[b], lever, size, limits,
            precisions[b], plan, (theta, hessian, results),
        )  # fmt: skip
        out_steps[b] = used
        for m in range(count):
            out_theta[b, m], out_hessian[b, m] = theta[m], hessian[m]
            out_value[b, m], out_likelihood[b, m] = results[m, 0], results[m, 1]


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _evaluate_with_derivatives(data, W, w, kx, ky, count, centres, theta, lever, size, values, gradients, hessians):  # type: ignore[no-untyped-def]
    for b in numba.prange(W.shape[0]):
        work = allocate_scratch()
        values[b] = _evaluate(
            data, W[b], w[b], kx, ky, count, centres[b], theta[b], lever, size, work, gradients[b], hessians[b]
        )


def evaluate_with_derivatives(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: FourierSamples,
    band: int,
    centres: FloatArray,
    theta: FloatArray,
    lever: FloatArray,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return value, gradient and Hessian at one pose of each image; see `lrcore.kernels.local_search`."""
    batch = len(W)
    values, gradients, hessians = np.empty(batch), np.empty((batch, 5)), np.empty((batch, 5, 5))
    _evaluate_with_derivatives(
        as_real_pairs(volume.data), as_real_pairs(W), w, samples.kx, samples.ky, samples.ends[band],
        _f64(centres), _f64(theta), _f64(lever), float(samples.size), values, gradients, hessians,
    )  # fmt: skip
    return values, gradients, hessians


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _evaluate_likelihood(data, W, w, kx, ky, count, centres, theta, lever, size, out):  # type: ignore[no-untyped-def]
    for b in numba.prange(W.shape[0]):
        work = allocate_scratch()
        for m in range(theta.shape[1]):
            out[b, m] = _value(data, W[b], w[b], kx, ky, count, centres[b], theta[b, m], lever, size, work)


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
    out = np.empty(theta.shape[:2])
    _evaluate_likelihood(
        as_real_pairs(volume.data), as_real_pairs(W), w, samples.kx, samples.ky, samples.ends[band],
        _f64(centres), _f64(theta), _f64(lever), float(samples.size), out,
    )  # fmt: skip
    return out


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
    batch, bands = len(W), len(samples.ends)
    out = PosteriorModes.empty(batch)
    numbers = np.array([limits.rotation, limits.shift, limits.drop])
    plan = np.array(
        [MAX_STEPS[2] if i == bands - 1 else MAX_STEPS[0] if i == 0 else MAX_STEPS[1] for i in range(bands)]
    )
    _find_posterior_modes(
        as_real_pairs(volume.data), as_real_pairs(W), w, samples.kx, samples.ky, np.array(samples.ends), _f64(centres),
        _f64(starts), valid, np.zeros(batch, np.bool_) if settled is None else settled, _f64(lever),
        float(samples.size), numbers,
        _f64(limits.precision(centres)), plan,
        (out.theta, out.value, out.likelihood, out.hessian, out.steps),
    )  # fmt: skip
    return out


def _f64(array: FloatArray) -> npt.NDArray[np.float64]:
    """Return the array as contiguous float64."""
    return np.ascontiguousarray(array, dtype=np.float64)
