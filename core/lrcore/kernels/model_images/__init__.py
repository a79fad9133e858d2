"""Contract of `subtract_model` and `correlate_with_model`: subtract model images, or correlate images with them.

    subtract_model(spectra: (B, n, n // 2 + 1) complex64, ctf: (B, n, n // 2 + 1) float32, planes: (B, S) complex64,
                   shifts: (B, 2), samples: FourierSamples) -> None

    correlate_with_model(spectra, ctf, planes, shifts, samples) -> (B, 3, n // 2 + 1) float32

The model of an image is M(k) = C(k) S(k) e^{+2πi k·shift / n} at the samples of an n × n image: C is the CTF, S a row
of `planes` (its slice of the reference), shifts are in pixels (x, y).

`subtract_model` subtracts M from the spectra in place; at kx = 0, where the spectrum holds both samples of a conjugate
pair, from both. `correlate_with_model` returns the sums of Re X* M, |M|² and |X|² over the samples of each shell
round(|k|), each conjugate pair once; X is the spectrum.
"""
