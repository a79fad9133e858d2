// Shared code of the CUDA kernels: positions of samples in image and volume, phases, sums over a block.
// `lrcore.kernels.gpu.kernel_source` puts the constants and this text before each cuda.cu.

// The tests that run the kernels on the host define their own.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

constexpr unsigned FULL = 0xffffffffu;
constexpr int WARP = 32;

// The frequency of a row of a half-complex FT.
__device__ inline int signed_row(int row, int n) { return row <= (n - 1) / 2 ? row : row - n; }

// The shell round(|k|) of a sample of a half-complex FT; the last of `shells` extends to the corner.
__device__ inline int shell(int kx, int ky, int shells) {
    return min(static_cast<int>(rintf(sqrtf(static_cast<float>(kx * kx + ky * ky)))), shells - 1);
}

// A FourierVolume: element (z, y, x) is data[(z * planes + y) * row + x], which can be more than 2^31 in a large box.
struct Grid {
    int planes, row;

    __device__ long long at(int z, int y, int x) const { return (static_cast<long long>(z) * planes + y) * row + x; }
};

// exp(iπ·2u/2^32): `turns` is an angle in turns as a 32-bit fraction, so that k · turns wraps without rounding.
__device__ inline float2 wave(unsigned turns) {
    float2 out;
    sincospif(static_cast<float>(static_cast<int>(turns)) * 4.656612873077393e-10f, &out.y, &out.x);
    return out;
}

// An angle in turns as a 32-bit fraction.
__device__ inline unsigned fraction(double turns) {
    return static_cast<unsigned>(static_cast<long long>(rint((turns - floor(turns)) * 4294967296.0)));
}

// The lower corner of the cell of a sample, the fractions within it, and sign −1 where the mate −q is used.
struct Cell {
    int x, y, z;
    float fx, fy, fz, sign;
};

// The cell of q. Returns whether all 8 corners are inside the volume.
__device__ inline bool enclose(float qx, float qy, float qz, Grid grid, Cell& cell) {
    const float centre = grid.planes / 2;
    cell.sign = qx < 0.0f ? -1.0f : 1.0f;
    qx = qx * cell.sign;
    qy = qy * cell.sign + centre;
    qz = qz * cell.sign + centre;
    const float x = floorf(qx), y = floorf(qy), z = floorf(qz);
    cell.x = static_cast<int>(x) + 1;
    cell.y = static_cast<int>(y);
    cell.z = static_cast<int>(z);
    cell.fx = qx - x;
    cell.fy = qy - y;
    cell.fz = qz - z;
    const unsigned last = grid.planes - 1;
    return static_cast<unsigned>(cell.x) < static_cast<unsigned>(grid.row - 1) &&
           static_cast<unsigned>(cell.y) < last && static_cast<unsigned>(cell.z) < last;
}

// turn: the first two rows of PADDING · A.
__device__ inline bool locate(const float* turn, int kx, int ky, Grid grid, Cell& cell) {
    const float u = kx, v = ky;
    return enclose(turn[0] * u + turn[3] * v, turn[1] * u + turn[4] * v, turn[2] * u + turn[5] * v, grid, cell);
}

// The same on a curved slice: k_z = bend · k². turn: PADDING · A.
__device__ inline bool locate(const float* turn, int kx, int ky, float bend, Grid grid, Cell& cell) {
    const float u = kx, v = ky, w = bend * (u * u + v * v);
    return enclose(turn[0] * u + turn[3] * v + turn[6] * w, turn[1] * u + turn[4] * v + turn[7] * w,
                   turn[2] * u + turn[5] * v + turn[8] * w, grid, cell);
}

// Linear interpolation.
__device__ inline float2 mix(float2 a, float2 b, float f) {
    return make_float2(a.x + f * (b.x - a.x), a.y + f * (b.y - a.y));
}

// The trilinear value at a sample; 0 outside the volume.
__device__ inline float2 trilinear(const float2* __restrict__ data, const float* turn, int kx, int ky, Grid grid) {
    Cell c;
    if (!locate(turn, kx, ky, grid, c)) return make_float2(0.0f, 0.0f);
    const float2* low = data + grid.at(c.z, c.y, c.x);
    const float2* high = low + static_cast<long long>(grid.planes) * grid.row;
    const int row = grid.row;
    const float2 near = mix(mix(low[0], low[1], c.fx), mix(low[row], low[row + 1], c.fx), c.fy);
    const float2 far = mix(mix(high[0], high[1], c.fx), mix(high[row], high[row + 1], c.fx), c.fy);
    const float2 value = mix(near, far, c.fz);
    return make_float2(value.x, c.sign * value.y);
}

// Sum over a warp; correct in its first lane.
template <class T>
__device__ inline T warp_sum(T value) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_down_sync(FULL, value, offset);
    return value;
}
