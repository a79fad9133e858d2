// `search_lattice`: a block evaluates `group` lattice rotations of one image, one after the other. All shifts of a
// rotation are evaluated by a separable DFT: along the rows of samples into `line`, then over the rows. TILE samples
// are in shared memory at a time; in a wide search, shifts along x are evaluated `columns` at a time, to fit into it.

constexpr int MAX_WARPS = 32;

struct Candidate {
    float value, power;
    int where;
};

__device__ inline bool better(float value, int where, const Candidate& than) {
    return value < than.value || (value == than.value && where < than.where);
}

// The lowest value over the block (the first of equal ones) and the sum of the powers; correct in thread 0.
__device__ inline Candidate block_best(Candidate mine, Candidate* warps) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        const float value = __shfl_down_sync(FULL, mine.value, offset);
        const int where = __shfl_down_sync(FULL, mine.where, offset);
        if (better(value, where, mine)) mine.value = value, mine.where = where;
    }
    mine.power = warp_sum(mine.power);
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int other = 1; other < static_cast<int>(blockDim.x) / WARP; ++other) {
            if (better(warps[other].value, warps[other].where, mine)) {
                mine.value = warps[other].value;
                mine.where = warps[other].where;
            }
            mine.power += warps[other].power;
        }
    }
    return mine;
}

// Row r of PADDING · centre · lattice, and the shift of the lever along that axis, in turns per sample.
__device__ inline void place(int r, const double* centre, const double* lattice, const double* lever, int size,
                             float* turn, unsigned* shift) {
    double moved = 0.0;
    for (int c = 0; c < 3; ++c) {
        double value = 0.0;
        for (int m = 0; m < 3; ++m) value += centre[3 * r + m] * lattice[3 * m + c];
        turn[3 * r + c] = static_cast<float>(PADDING * value);
        moved += (value - centre[3 * r + c]) * lever[c];
    }
    shift[r] = fraction(moved / size);
}

// W, w: (images, stride). rows: where each row of samples begins, and the last one ends. table_x: (kx, grid) e^{iθ} of
// the shifts, table_y: (rows, grid). centres, lattice: (·, 3, 3).
// Dynamic shared memory: TILE + line_count · columns float2.
extern "C" __global__ void search_lattice(const float2* __restrict__ data, int planes, int row,
                                          const float2* __restrict__ W, const float* __restrict__ w, int stride,
                                          int count, const int* __restrict__ kx, const int* __restrict__ ky,
                                          const int* __restrict__ rows, int line_count,
                                          const double* __restrict__ centres, const double* __restrict__ lattice,
                                          int lattice_count, int group, const double* __restrict__ lever, int size,
                                          const float2* __restrict__ table_x, const float2* __restrict__ table_y,
                                          const float* __restrict__ penalty, int grid_count, int columns, float* best,
                                          int* where) {
    DYNAMIC_SHARED(float2, memory);
    float2* cross = memory;
    float2* line = memory + TILE;
    __shared__ float turn[6];
    __shared__ unsigned shift[2];
    __shared__ Candidate warps[MAX_WARPS];
    const int groups = (lattice_count + group - 1) / group, thread = threadIdx.x, threads = blockDim.x;
    const long long image = blockIdx.x / groups;
    const int first = (blockIdx.x % groups) * group, last = min(first + group, lattice_count);
    W += image * stride;
    w += image * stride;
    for (int j = first; j < last; ++j) {
        if (thread < 2) place(thread, centres + 9 * image, lattice + 9LL * j, lever, size, turn, shift);
        Candidate mine = {__int_as_float(0x7f800000), 0.0f, 0};
        for (int column = 0; column < grid_count; column += columns) {
            const int width = min(columns, grid_count - column);
            mine.power = 0.0f;
            for (int begin = 0; begin < count; begin += TILE) {
                const int end = min(begin + TILE, count);
                __syncthreads();  // waits for `place` and for the last tile
                for (int s = begin + thread; s < end; s += threads) {
                    const float2 value = trilinear(data, turn, kx[s], ky[s], Grid{planes, row});
                    const float2 image_here = W[s], spin = wave(shift[0] * kx[s] + shift[1] * ky[s]);
                    mine.power += w[s] * (value.x * value.x + value.y * value.y);
                    const float re = image_here.x * value.x + image_here.y * value.y;
                    const float im = image_here.x * value.y - image_here.y * value.x;
                    cross[s - begin] = make_float2(re * spin.x + im * spin.y, im * spin.x - re * spin.y);
                }
                __syncthreads();
                for (int i = thread; i < line_count * width; i += threads) {
                    const int r = i / width, t = column + i % width;
                    float2 sum = begin > 0 ? line[i] : make_float2(0.0f, 0.0f);
                    for (int s = max(rows[r], begin); s < min(rows[r + 1], end); ++s) {
                        const float2 value = cross[s - begin], table = table_x[kx[s] * grid_count + t];
                        sum.x += value.x * table.x + value.y * table.y;
                        sum.y += value.y * table.x - value.x * table.y;
                    }
                    line[i] = sum;
                }
            }
            __syncthreads();
            for (int i = thread; i < grid_count * width; i += threads) {
                const int y = i / width, x = i % width, at = y * grid_count + column + x;
                float sum = 0.0f;
                for (int r = 0; r < line_count; ++r) {
                    const float2 value = line[r * width + x], table = table_y[r * grid_count + y];
                    sum += value.x * table.x + value.y * table.y;
                }
                const float value = penalty[at] - 2.0f * sum;
                if (better(value, at, mine)) mine.value = value, mine.where = at;
            }
        }
        const Candidate result = block_best(mine, warps);
        if (thread == 0) {
            best[image * lattice_count + j] = result.value + result.power;
            where[image * lattice_count + j] = result.where;
        }
    }
}
