"""Contract of `pack_windows`, `unpack_windows` and `search_samples`: keep weighted windows in 16 bits, and use them.

    pack_windows(W: (B, S) complex64, w: (B, S) float32) -> codes: (B, S, 3) int16, steps: (B, 2) float32

    unpack_windows(codes, steps, factors: (G, 2, S), group: (B,), samples: FourierSamples)
        -> data: (B, D, D // 2 + 1) complex64, weight: (B, D, D // 2 + 1) float32

    search_samples(data, weight, variance: (N,), shifts: (B, 2), samples: FourierSamples)
        -> W: (B, S') complex64, w: (B, S') float32

W and w are an image's window and its weights as `whiten_windows` returns them, whitened. `pack_windows` rounds the real
part and the imaginary part of W, and w, to integers, in steps of 1/32767 of the largest magnitude of either in the
image. `unpack_windows` multiplies them by `factors` of the image's group (for W and for w) and places them on the half
plane of the D × D image, both samples of a conjugate pair at kx = 0; all other samples are 0.

`search_samples` reads the samples of a search, counts the variance v of the reference's error at shell round(|k|) as
noise, and moves the origin by `shifts`, pixels (x, y):

    W = data e^{+2πi k·shift / D} / (1 + weight v),  w = weight / (1 + weight v)

Integers of 16 bits have two or three more significant bits than half-precision numbers where it matters, in samples of
about one SD of the noise, and Numba has no half precision on a CPU.
"""
