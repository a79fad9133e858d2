// `whiten_images`, and the first step of `whiten_windows`: one thread per sample.

// noise: (groups, shells). data, weight: shaped as the images. samples: number of samples in an image.
extern "C" __global__ void whiten_images(const float2* __restrict__ spectrum, const float* __restrict__ ctf,
                                         const float* __restrict__ noise, int shells, const int* __restrict__ group,
                                         int n, int samples, int tiles, float2* __restrict__ data,
                                         float* __restrict__ weight) {
    const long long image = blockIdx.x / tiles;
    const int s = (blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    if (s >= samples) return;
    const int width = n / 2 + 1, at = shell(s % width, signed_row(s / width, n), shells);
    const float c = ctf[image * samples + s];
    const float share = c / noise[static_cast<long long>(group[image]) * shells + at];
    const float2 value = spectrum[image * samples + s];
    data[image * samples + s] = make_float2(share * value.x, share * value.y);
    weight[image * samples + s] = share * c;
}

// cross = C X / (σ² + C² v) · e^{2πi k·phase}, norm = C² / (σ² + C² v) · e^{2πi k·corner}.
// phases: (images, 2), corner: both in turns per sample. variance: (beyond), whose last shell extends to the corner.
extern "C" __global__ void whiten_for_window(const float2* __restrict__ spectrum, const float* __restrict__ ctf,
                                             const float* __restrict__ noise, int shells,
                                             const int* __restrict__ group, const float* __restrict__ variance,
                                             int beyond, const unsigned* __restrict__ phases, unsigned corner, int n,
                                             int samples, int tiles, float2* __restrict__ cross,
                                             float2* __restrict__ norm) {
    const long long image = blockIdx.x / tiles;
    const int s = (blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    if (s >= samples) return;
    const int width = n / 2 + 1, kx = s % width, ky = signed_row(s / width, n);
    const float c = ctf[image * samples + s];
    const float sigma = noise[static_cast<long long>(group[image]) * shells + shell(kx, ky, shells)];
    const float share = c / (sigma + c * c * variance[shell(kx, ky, beyond)]);
    const float2 value = spectrum[image * samples + s];
    const float2 turn = wave(phases[2 * image] * kx + phases[2 * image + 1] * ky);
    const float2 start = wave(corner * (kx + ky));
    cross[image * samples + s] =
        make_float2(share * (value.x * turn.x - value.y * turn.y), share * (value.x * turn.y + value.y * turn.x));
    norm[image * samples + s] = make_float2(share * c * start.x, share * c * start.y);
}
