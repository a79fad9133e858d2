// Small dense algebra for one image, in double, by one thread; the equivalent of small_algebra.py. Long functions are
// not inlined: they run once per evaluation, and must not take registers from the loop over samples.

struct Prior {
    double rotation_limit, shift_limit, drop;
    const double* matrix;  // 5 × 5, of this image

    __device__ double precision(int i, int j) const { return matrix[5 * i + j]; }
};

// Index of element (i, j) in a packed symmetric 5 × 5 matrix.
__device__ constexpr int packed(int i, int j) {
    return (i < j ? i : j) * (9 - (i < j ? i : j)) / 2 + (i < j ? j : i);
}

__device__ inline double norm3(const double* v) { return sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]); }

// Unit quaternion (w, x, y, z) of a rotation vector (rad).
__device__ inline void quaternion(const double* v, double* q) {
    const double angle = norm3(v);
    const double scale = angle < 1e-4 ? 0.5 - angle * angle / 48.0 : sin(0.5 * angle) / angle;
    q[0] = cos(0.5 * angle);
    for (int i = 0; i < 3; ++i) q[1 + i] = scale * v[i];
}

// 3 × 3 matrix of a rotation vector (rad).
__device__ inline void exp_rotation(const double* vector, double* out) {
    double q[4];
    quaternion(vector, q);
    const double w = q[0], x = q[1], y = q[2], z = q[3];
    out[0] = 1 - 2 * (y * y + z * z), out[1] = 2 * (x * y - w * z), out[2] = 2 * (x * z + w * y);
    out[3] = 2 * (x * y + w * z), out[4] = 1 - 2 * (x * x + z * z), out[5] = 2 * (y * z - w * x);
    out[6] = 2 * (x * z - w * y), out[7] = 2 * (y * z + w * x), out[8] = 1 - 2 * (x * x + y * y);
}

// θ after R → R exp(δ), t → t + δt, projected onto the extents.
__device__ __noinline__ void apply_step(const double* theta, const double* delta, const Prior& prior, double* out) {
    double a[4], b[4];
    quaternion(theta, a);
    quaternion(delta, b);
    double turn[3] = {a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
                      a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
                      a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]};
    const double real = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3];
    double length = norm3(turn);
    double scale = length < 1e-12 ? 2.0 : 2.0 * atan2(length, real) / length;
    length *= scale;
    if (length > prior.rotation_limit) scale *= prior.rotation_limit / length;
    for (int i = 0; i < 3; ++i) out[i] = scale * turn[i];
    double shift[2] = {theta[3] + delta[3], theta[4] + delta[4]};
    length = sqrt(shift[0] * shift[0] + shift[1] * shift[1]);
    scale = length > prior.shift_limit ? prior.shift_limit / length : 1.0;
    for (int i = 0; i < 2; ++i) out[3 + i] = scale * shift[i];
}

// vᵀ (hessian + precision) v.
__device__ inline double squared_length(const double* v, const double* hessian, const Prior& prior) {
    double out = 0.0;
    for (int i = 0; i < 5; ++i)
        for (int j = 0; j < 5; ++j) out += v[i] * (hessian[packed(i, j)] + prior.precision(i, j)) * v[j];
    return out;
}

// ½ θᵀ precision θ.
__device__ inline double penalty(const double* theta, const Prior& prior) {
    double out = 0.0;
    for (int i = 0; i < 5; ++i)
        for (int j = 0; j < 5; ++j) out += 0.5 * theta[i] * prior.precision(i, j) * theta[j];
    return out;
}

// gradient + precision θ.
__device__ inline void add_prior_gradient(const double* gradient, const double* theta, const Prior& prior,
                                          double* out) {
    for (int i = 0; i < 5; ++i) {
        out[i] = gradient[i];
        for (int j = 0; j < 5; ++j) out[i] += prior.precision(i, j) * theta[j];
    }
}

// Step −(C + damping · diag C)⁻¹ slope with C = hessian + precision; returns the gain that C predicts for it.
// Cholesky decomposition without pivoting; a pivot that is not positive is replaced by the diagonal.
__device__ __noinline__ double solve5(const double* hessian, const Prior& prior, double damping, const double* slope,
                                double* step) {
    double lower[15];
    const auto at = [](int i, int j) { return i * (i + 1) / 2 + j; };
#pragma unroll
    for (int i = 0; i < 5; ++i) {
#pragma unroll
        for (int j = 0; j <= i; ++j) {
            double value = hessian[packed(i, j)] + prior.precision(i, j);
            if (i == j) value *= 1.0 + damping;
            double total = value;
#pragma unroll
            for (int k = 0; k < j; ++k) total -= lower[at(i, k)] * lower[at(j, k)];
            lower[at(i, j)] = i == j ? sqrt(total > 1e-12 * fabs(value) ? total : fmax(fabs(value), 1e-30))
                                     : total / lower[at(j, j)];
        }
    }
#pragma unroll
    for (int i = 0; i < 5; ++i) {
        double total = -slope[i];
#pragma unroll
        for (int k = 0; k < i; ++k) total -= lower[at(i, k)] * step[k];
        step[i] = total / lower[at(i, i)];
    }
#pragma unroll
    for (int i = 4; i >= 0; --i) {
        double total = step[i];
#pragma unroll
        for (int k = i + 1; k < 5; ++k) total -= lower[at(k, i)] * step[k];
        step[i] = total / lower[at(i, i)];
    }
    double gain = -0.5 * squared_length(step, hessian, prior);
    for (int i = 0; i < 5; ++i) gain -= slope[i] * step[i];
    return gain;
}

// Correct C = curvature + precision by the change of the slope along a step: BFGS, with Powell's damping.
__device__ __noinline__ void update_curvature(double* curvature, const Prior& prior, const double* step,
                                              const double* change) {
    double expected[5] = {}, rise[5], along = 0.0, measured = 0.0;
    for (int i = 0; i < 5; ++i) {
        for (int j = 0; j < 5; ++j) expected[i] += (curvature[packed(i, j)] + prior.precision(i, j)) * step[j];
        along += step[i] * expected[i];
        measured += step[i] * change[i];
    }
    if (!(along > 0.0)) return;
    const double trust = measured >= 0.2 * along ? 1.0 : 0.8 * along / (along - measured);
    const double risen = trust * measured + (1.0 - trust) * along;
    for (int i = 0; i < 5; ++i) rise[i] = trust * change[i] + (1.0 - trust) * expected[i];
    for (int i = 0; i < 5; ++i)
        for (int j = i; j < 5; ++j)
            curvature[packed(i, j)] += rise[i] * rise[j] / risen - expected[i] * expected[j] / along;
}

// Whether a step to θ may have been cut short at an extent.
__device__ inline bool is_at_extent(const double* theta, const Prior& prior) {
    const double shift = sqrt(theta[3] * theta[3] + theta[4] * theta[4]);
    return norm3(theta) >= prior.rotation_limit * (1 - 1e-9) || shift >= prior.shift_limit * (1 - 1e-9);
}
