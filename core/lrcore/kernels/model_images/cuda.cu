// `subtract_model`: one thread per sample. `correlate_with_model`: one block per image, whose warps take one shell
// after the other; the samples of a shell are summed in a fixed order.

// C S e^{2πi k·phase} at sample s of an image. at: index of the sample in the FTs of the images.
__device__ inline float2 model_at(const float* ctf, const float2* planes, const unsigned* phases, long long image,
                                  int n, int kx, int ky, int s, int count, long long& at) {
    at = (image * n + (ky < 0 ? n + ky : ky)) * (n / 2 + 1) + kx;
    const float2 turn = wave(phases[2 * image] * kx + phases[2 * image + 1] * ky), value = planes[image * count + s];
    const float c = ctf[at];
    return make_float2(c * (value.x * turn.x - value.y * turn.y), c * (value.x * turn.y + value.y * turn.x));
}

extern "C" __global__ void subtract_model(float2* spectra, const float* __restrict__ ctf,
                                          const float2* __restrict__ planes, const unsigned* __restrict__ phases,
                                          const int* __restrict__ kx, const int* __restrict__ ky, int count, int n,
                                          int tiles) {
    const long long image = blockIdx.x / tiles;
    const int s = (blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    if (s >= count) return;
    long long at;
    const float2 model = model_at(ctf, planes, phases, image, n, kx[s], ky[s], s, count, at);
    const float2 left = make_float2(spectra[at].x - model.x, spectra[at].y - model.y);
    spectra[at] = left;
    if (kx[s] == 0) spectra[(image * n + n - ky[s]) * (n / 2 + 1)] = make_float2(left.x, -left.y);
}

// order: (count), samples sorted by shell. begins: (shells + 1), where each shell begins.
// out: (images, 3, shells).
extern "C" __global__ void correlate_with_model(const float2* __restrict__ spectra, const float* __restrict__ ctf,
                                                const float2* __restrict__ planes, const unsigned* __restrict__ phases,
                                                const int* __restrict__ kx, const int* __restrict__ ky, int count,
                                                int n, const int* __restrict__ order, const int* __restrict__ begins,
                                                int shells, float* __restrict__ out) {
    const long long image = blockIdx.x;
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    for (int shell = threadIdx.x / WARP; shell < shells; shell += warps) {
        float dot = 0.0f, power = 0.0f, image_power = 0.0f;
        for (int i = begins[shell] + lane; i < begins[shell + 1]; i += WARP) {
            const int s = order[i];
            long long at;
            const float2 model = model_at(ctf, planes, phases, image, n, kx[s], ky[s], s, count, at);
            const float2 value = spectra[at];
            dot += value.x * model.x + value.y * model.y;
            power += model.x * model.x + model.y * model.y;
            image_power += value.x * value.x + value.y * value.y;
        }
        dot = warp_sum(dot), power = warp_sum(power), image_power = warp_sum(image_power);
        if (lane == 0) {
            float* to = out + image * 3 * shells + shell;
            to[0] = dot, to[shells] = power, to[2 * shells] = image_power;
        }
    }
}
