// `backproject_images`: one thread per sample, which is added to 8 voxels by atomic operations.
// Differs from the contract in: the order of summation, and with it the last digits, changes from run to run.

__device__ inline void add(float2* target, float re, float im) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    atomicAdd(target, make_float2(re, im));
#else
    atomicAdd(&target->x, re);
    atomicAdd(&target->y, im);
#endif
}

// turns: (poses, 3, 3), PADDING · A. bends: (poses), the curvature. phases: (poses, 2), shift / n in turns. rows, shares: (poses),
// the image of each pose and its factor. data, weight: (images, n, n / 2 + 1). kx, ky: (count).
extern "C" __global__ void backproject_images(float2* numerator, float* denominator, int planes, int row,
                                              const float* __restrict__ turns, const float* __restrict__ bends,
                                              const unsigned* __restrict__ phases, const int* __restrict__ rows,
                                              const float* __restrict__ shares, const float2* __restrict__ data,
                                              const float* __restrict__ weight, int n, const int* __restrict__ kx,
                                              const int* __restrict__ ky, int count, int tiles) {
    const long long pose = blockIdx.x / tiles;
    const int s = (blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    if (s >= count) return;
    const int x = kx[s], y = ky[s];
    const Grid grid{planes, row};
    Cell c;
    if (!locate(turns + 9 * pose, x, y, bends[pose], grid, c)) return;
    const long long from = ((long long)rows[pose] * n + (y < 0 ? n + y : y)) * (n / 2 + 1) + x;
    const float share = shares[pose] * (x == 0 && y == 0 ? 0.5f : 1.0f);
    const float2 turn = wave(phases[2 * pose] * x + phases[2 * pose + 1] * y);
    const float2 value = data[from];
    const float re = share * (value.x * turn.x + value.y * turn.y);
    const float im = share * c.sign * (value.y * turn.x - value.x * turn.y);
    const float w = share * weight[from];
    for (int corner = 0; corner < 8; ++corner) {
        const int dz = corner >> 2, dy = corner >> 1 & 1, dx = corner & 1;
        const float part = (dz ? c.fz : 1.0f - c.fz) * (dy ? c.fy : 1.0f - c.fy) * (dx ? c.fx : 1.0f - c.fx);
        const long long to = grid.at(c.z + dz, c.y + dy, c.x + dx);
        add(numerator + to, part * re, part * im);
        atomicAdd(denominator + to, part * w);
    }
}
