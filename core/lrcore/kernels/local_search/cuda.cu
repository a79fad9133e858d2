// The local search: one block per image (`evaluate_with_derivatives`, `find_posterior_modes`) or per pose
// (`evaluate_likelihood`). Its threads share the samples of an evaluation; thread 0 alone does the algebra of the 5
// unknowns and takes decisions, in double. An evaluation sums in float within a thread and in double between threads,
// always in the same order.

constexpr int THREADS_MAX = 128, WARPS_MAX = THREADS_MAX / WARP;
constexpr int BLOCKS = 4;  // per multiprocessor at once, so that some compute while others wait for memory
constexpr int SUMS = 21;

// Result of an evaluation: value, gradient (5), packed Hessian (15).
struct Evaluation {
    double value, gradient[5], hessian[15];
};

struct Mode {
    double theta[5], total;
    Evaluation result;
};

// State of a polish, of thread 0; `curvature` is that of −log likelihood, as corrected so far.
struct Polish {
    double at[5], slope[5], delta[5], move[5], curvature[15], first, length;
};

// State that the threads of a block share during a descent.
struct Work {
    float turn[6], slopes[6];      // PADDING · R and −(2π / D) R [l]×, the first two rows
    unsigned shift[2];             // of the image, in turns per sample
    double partial[WARPS_MAX][SUMS];
    double trial[5];
    Evaluation result;
    Polish polish;
    bool step, more;               // decisions of thread 0; each is read by every thread before it is written again
    int count, order[MAX_MODES];
};

// An image, and the samples on which it is compared with the volume.
struct Problem {
    const float2 *data, *W;
    Grid grid;
    const float* w;
    const int *kx, *ky;
    const double *centre, *lever;
    int size;
};

// Weights and slopes of the quadratic B-spline at nodes −1, 0, 1, for an offset in [−½, ½].
struct Taps {
    float weight[3], slope[3];

    __device__ explicit Taps(float offset) {
        const float low = 0.5f - offset, high = 0.5f + offset;
        weight[0] = 0.5f * low * low, weight[1] = 0.75f - offset * offset, weight[2] = 0.5f * high * high;
        slope[0] = -low, slope[1] = -2.0f * offset, slope[2] = high;
    }
};

__device__ inline void add(float2& to, float factor, float2 value) {
    to.x += factor * value.x;
    to.y += factor * value.y;
}

// Value S of the slice at a sample and, with SLOPES, ∇S × q.
template <bool SLOPES>
__device__ inline void read_spline(const Problem& p, const Work& work, int kx, int ky, float2& value, float2 slope[3]) {
    const float u = kx, v = ky;
    const float* turn = work.turn;
    float q[3];
    for (int c = 0; c < 3; ++c) q[c] = turn[c] * u + turn[3 + c] * v;
    const float sign = q[0] >= 0.0f ? 1.0f : -1.0f;
    for (int c = 0; c < 3; ++c) q[c] *= sign;
    const float nx = floorf(q[0] + 0.5f), ny = floorf(q[1] + 0.5f), nz = floorf(q[2] + 0.5f);
    const Taps x(q[0] - nx), y(q[1] - ny), z(q[2] - nz);
    // Clamped, so that rounding does not move a sample at the limit out of the volume.
    const int middle = p.grid.planes / 2, last = p.grid.planes - 3;
    const int ix = min(max(static_cast<int>(nx), 0), p.grid.row - 3);
    const int iy = min(max(static_cast<int>(ny) + middle - 1, 0), last);
    const int iz = min(max(static_cast<int>(nz) + middle - 1, 0), last);
    const float2* corner = p.data + p.grid.at(iz, iy, ix);
    const long long plane = static_cast<long long>(p.grid.planes) * p.grid.row;
    float2 s = {0.0f, 0.0f}, gx = s, gy = s, gz = s;
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        float2 sheet = {0.0f, 0.0f}, along_x = sheet, along_y = sheet;
#pragma unroll
        for (int j = 0; j < 3; ++j) {
            const float2* at = corner + k * plane + j * p.grid.row;
            float2 line = {0.0f, 0.0f}, rise = line;
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                const float2 voxel = __ldg(at + i);
                add(line, x.weight[i], voxel);
                if (SLOPES) add(rise, x.slope[i], voxel);
            }
            add(sheet, y.weight[j], line);
            if (!SLOPES) continue;
            add(along_x, y.weight[j], rise);
            add(along_y, y.slope[j], line);
        }
        add(s, z.weight[k], sheet);
        if (!SLOPES) continue;
        add(gx, z.weight[k], along_x);
        add(gy, z.weight[k], along_y);
        add(gz, z.slope[k], sheet);
    }
    value = make_float2(s.x, sign * s.y);
    if (!SLOPES) return;
    slope[0] = make_float2(gy.x * q[2] - gz.x * q[1], sign * (gy.y * q[2] - gz.y * q[1]));
    slope[1] = make_float2(gz.x * q[0] - gx.x * q[2], sign * (gz.y * q[0] - gx.y * q[2]));
    slope[2] = make_float2(gx.x * q[1] - gy.x * q[0], sign * (gx.y * q[1] - gy.y * q[0]));
}

// Add one sample to the sums of a thread: value and, with SLOPES, −½ gradient and ½ Hessian.
template <bool SLOPES>
__device__ inline void accumulate(const Problem& p, const Work& work, int s, float* sums) {
    const int kx = p.kx[s], ky = p.ky[s];
    const float step = 6.283185307179586f / p.size, x = kx, y = ky;
    float2 value, jacobian[3];
    read_spline<SLOPES>(p, work, kx, ky, value, jacobian);
    const float2 spin = wave(work.shift[0] * kx + work.shift[1] * ky), W = p.W[s];
    const float weight = p.w[s];
    // The image is shifted back instead of the model forwards.
    const float turned_x = W.x * spin.x - W.y * spin.y, turned_y = W.y * spin.x + W.x * spin.y;
    const float rest_x = turned_x - weight * value.x, rest_y = turned_y - weight * value.y;
    const float power = value.x * value.x + value.y * value.y;
    sums[0] += weight * power - 2.0f * (turned_x * value.x + turned_y * value.y);
    if (!SLOPES) return;
    const float along[2] = {step * x, step * y};
    const float cross = value.y * rest_x - value.x * rest_y;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const float lever = x * work.slopes[i] + y * work.slopes[3 + i];
        jacobian[i].x += lever * value.y;
        jacobian[i].y -= lever * value.x;
        sums[1 + i] += jacobian[i].x * rest_x + jacobian[i].y * rest_y;
    }
    for (int i = 0; i < 2; ++i) sums[4 + i] += along[i] * cross;
    float* hessian = sums + 6;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const float re = weight * jacobian[i].x, im = weight * jacobian[i].y;
#pragma unroll
        for (int j = i; j < 3; ++j) hessian[packed(i, j)] += re * jacobian[j].x + im * jacobian[j].y;
        const float mixed = re * value.y - im * value.x;
        for (int j = 0; j < 2; ++j) hessian[packed(i, 3 + j)] += mixed * along[j];
    }
    hessian[packed(3, 3)] += weight * power * along[0] * along[0];
    hessian[packed(3, 4)] += weight * power * along[0] * along[1];
    hessian[packed(4, 4)] += weight * power * along[1] * along[1];
}

// Thread 0: compute slice orientation and shift of a pose θ.
__device__ inline void place(const Problem& p, const double* theta, Work& work) {
    double turn[9], rotation[9];
    exp_rotation(theta, turn);
    const double step = 6.283185307179586 / p.size;
    for (int r = 0; r < 2; ++r) {
        double shift = theta[3 + r];
        for (int c = 0; c < 3; ++c) {
            double value = 0.0;
            for (int m = 0; m < 3; ++m) value += p.centre[3 * r + m] * turn[3 * m + c];
            rotation[3 * r + c] = value;
            work.turn[3 * r + c] = static_cast<float>(PADDING * value);
            shift += (value - p.centre[3 * r + c]) * p.lever[c];
        }
        work.shift[r] = fraction(shift / p.size);
        for (int c = 0; c < 3; ++c) {
            const int d = (c + 1) % 3, e = (c + 2) % 3;
            const double crossed = rotation[3 * r + d] * p.lever[e] - rotation[3 * r + e] * p.lever[d];
            work.slopes[3 * r + c] = static_cast<float>(-step * crossed);
        }
    }
}

// All threads: compute value and derivatives of the first `count` samples at θ (shared) into work.result.
__device__ __noinline__ void evaluate_at(const Problem& p, int count, const double* theta, Work& work) {
    const int thread = threadIdx.x;
    if (thread == 0) place(p, theta, work);
    __syncthreads();
    float sums[SUMS] = {};
    for (int s = thread; s < count; s += blockDim.x) accumulate<true>(p, work, s, sums);
#pragma unroll
    for (int i = 0; i < SUMS; ++i) {
        const double sum = warp_sum(static_cast<double>(sums[i]));
        if (thread % WARP == 0) work.partial[thread / WARP][i] = sum;
    }
    __syncthreads();
    if (thread < SUMS) {
        double sum = 0.0;
        for (int warp = 0; warp < static_cast<int>(blockDim.x) / WARP; ++warp) sum += work.partial[warp][thread];
        if (thread == 0) work.result.value = sum;
        else if (thread < 6) work.result.gradient[thread - 1] = -2.0 * sum;
        else work.result.hessian[thread - 6] = 2.0 * sum;
    }
    __syncthreads();
}

// Thread 0: take the curvature of −log likelihood from that of an evaluation.
__device__ inline void start_curvature(const Evaluation& result, double ratio, Polish& polish) {
    for (int i = 0; i < 15; ++i) polish.curvature[i] = ratio * result.hessian[i];
}

// All threads: descend by Levenberg–Marquardt in one band. Returns the evaluations.
__device__ int descend(const Problem& p, int count, const Prior& prior, int steps, Mode& mode, Work& work) {
    const bool first = threadIdx.x == 0;
    double damping = 1e-3;
    evaluate_at(p, count, mode.theta, work);
    if (first) {
        mode.result = work.result;
        mode.total = mode.result.value + penalty(mode.theta, prior);
    }
    int used = 1;
    for (int step = 0; step < steps; ++step) {
        if (first) {
            double slope[5], delta[5];
            add_prior_gradient(mode.result.gradient, mode.theta, prior, slope);
            start_curvature(mode.result, is_at_extent(mode.theta, prior) ? 1.0 : CURVATURE_RATIO, work.polish);
            work.step = !(solve5(work.polish.curvature, prior, damping, slope, delta) < TOLERANCE);
            if (work.step) apply_step(mode.theta, delta, prior, work.trial);
        }
        __syncthreads();
        if (!work.step) break;
        evaluate_at(p, count, work.trial, work);
        ++used;
        if (first) {
            const double total = work.result.value + penalty(work.trial, prior);
            if (total < mode.total) {
                work.more = !(mode.total - total < TOLERANCE);
                for (int i = 0; i < 5; ++i) mode.theta[i] = work.trial[i];
                mode.total = total;
                mode.result = work.result;
                damping = fmax(damping * 0.1, 1e-6);
            } else {
                damping *= damping > 1e-2 ? 10 : 100;
                work.more = !(damping > 1e6);
            }
        }
        __syncthreads();
        if (!work.more) break;
    }
    return used;
}

// Thread 0: compute the next step of a polish into work.trial. Returns whether it need not be evaluated.
__device__ __noinline__ bool next_polishing_step(const Prior& prior, Work& work) {
    Polish& polish = work.polish;
    solve5(polish.curvature, prior, 0.0, polish.slope, polish.delta);
    apply_step(polish.at, polish.delta, prior, work.trial);
    for (int i = 0; i < 5; ++i) polish.move[i] = work.trial[i] - polish.at[i];
    const double previous = polish.length;
    polish.length = sqrt(squared_length(polish.move, work.result.hessian, prior));
    return polish.length * (previous > 0.0 ? polish.length / previous : FIRST_CONTRACTION) < POLISH_TOLERANCE;
}

// Thread 0: take the last step into the mode, unless it leads to a lower posterior. Returns whether it was taken.
__device__ __noinline__ bool take_last_step(const Prior& prior, Mode& mode, const Work& work) {
    const Polish& polish = work.polish;
    double total = work.result.value + penalty(polish.at, prior)
                   + 0.5 * squared_length(polish.move, polish.curvature, prior);
    for (int i = 0; i < 5; ++i) total += polish.slope[i] * polish.move[i];
    if (total > polish.first + TOLERANCE) return false;
    for (int i = 0; i < 5; ++i) mode.theta[i] = work.trial[i];
    mode.total = total;
    mode.result = work.result;
    mode.result.value = total - penalty(work.trial, prior);
    return true;
}

// Thread 0: go on from the evaluation at work.trial.
__device__ __noinline__ void continue_polish(const Prior& prior, Work& work) {
    Polish& polish = work.polish;
    double change[5];
    for (int i = 0; i < 5; ++i) {
        polish.at[i] = work.trial[i];
        change[i] = -polish.slope[i];
    }
    add_prior_gradient(work.result.gradient, polish.at, prior, polish.slope);
    for (int i = 0; i < 5; ++i) change[i] += polish.slope[i];
    if (is_at_extent(polish.at, prior)) start_curvature(work.result, CURVATURE_RATIO, work.polish);
    else update_curvature(polish.curvature, prior, polish.delta, change);
}

// All threads: polish a pose by quasi-Newton steps; if that ends, the mode is updated and `done` set. Returns the
// evaluations.
__device__ __noinline__ int polish_mode(const Problem& p, int count, const Prior& prior, Mode& mode, Work& work, bool& done) {
    const bool first = threadIdx.x == 0;
    Polish& polish = work.polish;
    evaluate_at(p, count, mode.theta, work);
    if (first) {
        for (int i = 0; i < 5; ++i) polish.at[i] = mode.theta[i];
        polish.first = work.result.value + penalty(polish.at, prior);
        polish.length = 0.0;
        add_prior_gradient(work.result.gradient, polish.at, prior, polish.slope);
        start_curvature(work.result, CURVATURE_RATIO, work.polish);
    }
    int used = 1;
    bool more = true;
    for (int step = 0; step < POLISH_STEPS && more; ++step) {
        if (first) {
            work.step = next_polishing_step(prior, work);
            if (work.step) work.more = take_last_step(prior, mode, work);
        }
        __syncthreads();
        more = !work.step;
        if (!more) break;
        evaluate_at(p, count, work.trial, work);
        ++used;
        if (first) continue_polish(prior, work);
    }
    done = !more && work.more;
    __syncthreads();
    return used;
}

// Thread 0: write the modes to keep into work.order, best first, without bad and duplicate ones.
__device__ inline void choose_modes(const Mode* modes, int count, const Prior& prior, int* rank, Work& work) {
    for (int m = 0; m < count; ++m) {
        int slot = m;
        for (; slot > 0 && modes[m].total < modes[rank[slot - 1]].total; --slot) rank[slot] = rank[slot - 1];
        rank[slot] = m;
    }
    int kept = 0;
    for (int m = 0; m < count && kept < MAX_MODES; ++m) {
        const Mode& mode = modes[rank[m]];
        if (kept > 0 && mode.total > modes[work.order[0]].total + prior.drop) break;
        bool apart = true;
        for (int k = 0; k < kept; ++k) {
            const Mode& other = modes[work.order[k]];
            double way[5];
            for (int i = 0; i < 5; ++i) way[i] = mode.theta[i] - other.theta[i];
            apart = apart && squared_length(way, other.result.hessian, prior) > 1.0;
        }
        if (apart) work.order[kept++] = rank[m];
    }
    work.count = kept;
}

// All threads: sort the modes best first and drop bad and duplicate ones. Returns how many remain.
__device__ __noinline__ int prune(Mode* modes, int count, const Prior& prior, Mode* spare, int* rank, Work& work) {
    constexpr int doubles = sizeof(Mode) / sizeof(double);
    if (threadIdx.x == 0) choose_modes(modes, count, prior, rank, work);
    __syncthreads();
    const int kept = work.count;
    for (int i = threadIdx.x; i < kept * doubles; i += blockDim.x)
        reinterpret_cast<double*>(spare)[i] =
            reinterpret_cast<const double*>(modes + work.order[i / doubles])[i % doubles];
    __syncthreads();
    for (int i = threadIdx.x; i < kept * doubles; i += blockDim.x)
        reinterpret_cast<double*>(modes)[i] = reinterpret_cast<const double*>(spare)[i];
    __syncthreads();
    return kept;
}

// All threads: expand a packed symmetric matrix to 5 × 5.
__device__ inline void unpack(const double* packed_matrix, double* out) {
    for (int i = threadIdx.x; i < 25; i += blockDim.x) out[i] = packed_matrix[packed(i / 5, i % 5)];
}

extern "C" __global__ void __launch_bounds__(THREADS_MAX, BLOCKS)
evaluate_with_derivatives(const float2* data, int planes, int row, const float2* W, const float* w, int stride,
                          const int* kx, const int* ky, int count, const double* centres, const double* theta,
                          const double* lever, int size, double* values, double* gradients, double* hessians) {
    __shared__ Work work;
    const long long image = blockIdx.x;
    const Problem p{data, W + image * stride, Grid{planes, row}, w + image * stride, kx, ky, centres + 9 * image,
                    lever, size};
    evaluate_at(p, count, theta + 5 * image, work);
    if (threadIdx.x == 0) values[image] = work.result.value;
    if (threadIdx.x < 5) gradients[5 * image + threadIdx.x] = work.result.gradient[threadIdx.x];
    unpack(work.result.hessian, hessians + 25 * image);
}

// theta: (images, poses, 5).
extern "C" __global__ void __launch_bounds__(THREADS_MAX, BLOCKS)
evaluate_likelihood(const float2* data, int planes, int row, const float2* W, const float* w, int stride, const int* kx,
                    const int* ky, int count, const double* centres, const double* theta, int poses,
                    const double* lever, int size, double* values) {
    __shared__ Work work;
    const long long pose = blockIdx.x, image = pose / poses;
    const int thread = threadIdx.x;
    const Problem p{data, W + image * stride, Grid{planes, row}, w + image * stride, kx, ky, centres + 9 * image,
                    lever, size};
    if (thread == 0) place(p, theta + 5 * pose, work);
    __syncthreads();
    float sum = 0.0f;
    for (int s = thread; s < count; s += blockDim.x) accumulate<false>(p, work, s, &sum);
    const double whole = warp_sum(static_cast<double>(sum));
    if (thread % WARP == 0) work.partial[thread / WARP][0] = whole;
    __syncthreads();
    if (thread > 0) return;
    double total = 0.0;
    for (int warp = 0; warp < static_cast<int>(blockDim.x) / WARP; ++warp) total += work.partial[warp][0];
    values[pose] = total;
}

// ends, plan: (bands), samples and steps of each. starts: (images, start_count, 5), valid: (images, start_count),
// settled: (images).
// Outputs as in `PosteriorModes`, filled beforehand for absent modes. Dynamic shared memory: start_count Modes, ints.
extern "C" __global__ void __launch_bounds__(THREADS_MAX, BLOCKS)
find_posterior_modes(const float2* data, int planes, int row, const float2* W, const float* w, int stride,
                     const int* kx, const int* ky, const int* ends, const int* plan, int bands, const double* centres,
                     const double* starts, const bool* valid, int start_count, const bool* settled,
                     const double* lever, int size,
                     const double* limits, const double* precision, double* theta, double* value, double* likelihood,
                     double* hessian, int* steps) {
    DYNAMIC_SHARED(Mode, modes);
    int* rank = reinterpret_cast<int*>(modes + start_count);
    __shared__ Work work;
    __shared__ Mode spare[MAX_MODES];
    const long long image = blockIdx.x;
    const Problem p{data, W + image * stride, Grid{planes, row}, w + image * stride, kx, ky, centres + 9 * image,
                    lever, size};
    const Prior prior{limits[0], limits[1], limits[2], precision + 25 * image};
    int count = 0, used = 0;
    for (int m = 0; m < start_count; ++m) {
        if (!valid[image * start_count + m]) continue;
        if (threadIdx.x < 5) modes[count].theta[threadIdx.x] = starts[(image * start_count + m) * 5 + threadIdx.x];
        ++count;
    }
    __syncthreads();
    const int last = bands - 1;
    bool done = false;
    for (int band = settled[image] ? last : 0; band < bands; ++band) {
        if (band == last && count == 1) used += polish_mode(p, ends[last], prior, modes[0], work, done);
        if (done) break;
        for (int m = 0; m < count; ++m) used += descend(p, ends[band], prior, plan[band], modes[m], work);
        count = prune(modes, count, prior, spare, rank, work);
    }
    if (count > 0 && !done) used += polish_mode(p, ends[last], prior, modes[0], work, done);
    for (int m = 0; m < count; ++m) {
        const long long to = image * MAX_MODES + m;
        if (threadIdx.x < 5) theta[5 * to + threadIdx.x] = modes[m].theta[threadIdx.x];
        if (threadIdx.x == 0) value[to] = modes[m].total, likelihood[to] = modes[m].result.value;
        unpack(modes[m].result.hessian, hessian + 25 * to);
    }
    if (threadIdx.x == 0) steps[image] = used;
}
