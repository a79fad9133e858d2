// `whiten_sidebands`: one thread per sample.

// noise: (groups, shells). overlap: (groups, common). upper, lower, weight: shaped as the images.
// samples: number of samples in an image.
extern "C" __global__ void whiten_sidebands(const float2* __restrict__ spectrum, const float* __restrict__ ctf,
                                            const float* __restrict__ quadrature, const float* __restrict__ noise,
                                            int shells, const float* __restrict__ overlap, int common,
                                            const int* __restrict__ group, int n, int samples, int tiles,
                                            float2* __restrict__ upper, float2* __restrict__ lower,
                                            float* __restrict__ weight) {
    const long long image = blockIdx.x / tiles;
    const int s = (blockIdx.x % tiles) * blockDim.x + threadIdx.x;
    if (s >= samples) return;
    const int width = n / 2 + 1, kx = s % width, ky = signed_row(s / width, n);
    const long long at = image * samples + s, of = group[image];
    const float sine = ctf[at], cosine = quadrature[at];
    const float over = 0.5f / noise[of * shells + shell(kx, ky, shells)];
    const float same = overlap[of * common + shell(kx, ky, common)];
    const float2 x = spectrum[at];
    upper[at] = make_float2(over * (sine * x.x - cosine * x.y), over * (sine * x.y + cosine * x.x));
    lower[at] = make_float2(over * (sine * x.x + cosine * x.y), over * (sine * x.y - cosine * x.x));
    weight[at] = 0.5f * over * ((1.0f + same) * sine * sine + (1.0f - same) * cosine * cosine);
}
