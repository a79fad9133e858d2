"""Contract of `subtract` and `compare`: a model of images, given by its slices, taken from them or held against them.

    subtract(spectra: (B, n, n // 2 + 1) complex64, ctf: (B, n, n // 2 + 1) float32, planes: (B, S) complex64,
             shifts: (B, 2), samples: Samples) -> None

    compare(spectra, ctf, planes, shifts, samples) -> (B, 3, n // 2 + 1) float32

The model of an image is M(k) = C(k) S(k) e^{+2πi k·shift / n} at the samples of an n × n image, S a row of `planes`,
shifts in pixels (x, y). `subtract` takes it from the spectra in place, from both of a conjugate pair where both are
there (kx = 0). `compare` sums Re X* M, |M|² and |X|² over the samples of each shell round(|k|), each pair once.
"""
