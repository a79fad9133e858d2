// `project_slices`: one thread per sample.

extern "C" __global__ void project_slices(const float2* __restrict__ data, int planes, int row,
                                          const float* __restrict__ turns, const int* __restrict__ kx,
                                          const int* __restrict__ ky, int count, int tiles,
                                          float2* __restrict__ out) {
    const long long image = blockIdx.x / tiles;
    const int s = (blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    if (s < count) out[image * count + s] = trilinear(data, turns + 9 * image, kx[s], ky[s], Grid{planes, row});
}
