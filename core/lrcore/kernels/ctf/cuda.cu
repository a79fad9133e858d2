// `compute_ctf`: one thread per sample. Whole turns are removed in double; the rest is float.

// waves: (images, 7), offsets: (tables, n, n / 2 + 1), which: (images); see the contract. out: (images, n, n / 2 + 1).
// samples: number of samples in an image.
extern "C" __global__ void compute_ctf(const double* __restrict__ waves, const float* __restrict__ offsets,
                                       const int* __restrict__ which, int n, int samples, int tiles,
                                       float* __restrict__ out) {
    const long long image = blockIdx.x / tiles;
    const int s = (blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    if (s >= samples) return;
    const double* wave_of = waves + 7 * image;
    const int row = s / (n / 2 + 1), kx = s % (n / 2 + 1), ky = row <= (n - 1) / 2 ? row : row - n;
    const double x = kx, y = ky, squared = x * x + y * y;
    double turns =
        wave_of[0] * x * x + wave_of[1] * y * y + wave_of[2] * x * y + wave_of[3] * squared * squared + wave_of[4];
    if (which[image] >= 0) turns += offsets[(long long)which[image] * samples + s];
    const float envelope = static_cast<float>(wave_of[6]) * expf(-static_cast<float>(wave_of[5] * squared));
    out[image * samples + s] = envelope * wave(fraction(turns)).y;
}
