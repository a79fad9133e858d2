"""Contract of `weigh` and `window`: images over their noise, whole for an insertion or cut for a search.

    weigh(spectrum: (B, n, n // 2 + 1) complex64, ctf: (B, n, n // 2 + 1) float32, noise: (G, N), group: (B,))
        -> data (B, n, n // 2 + 1) complex64, weight (B, n, n // 2 + 1) float32

    window(spectrum, ctf, noise, group, variance: (N,), points: (B, 2), samples: Samples)
        -> W (B, S) complex64, w (B, S) float32

With X the spectrum, C the CTF, σ² the noise of the image's group at shell round(|k|) (the last one held beyond), and
v the variance of the reference's error in the same way:

    data = C X / σ², weight = C² / σ²
    W = (n/D)² FT_D(cut(FT⁻¹(C X / (σ² + C² v) · e^{+2πi k·point / n})))
    w = (n/D)² Re FT_D(cut(FT⁻¹(C² / (σ² + C² v))))

cut: the middle D × D pixels, D = samples.size ≤ n; for even D < n its edge −D/2 is half of that pixel plus half of the
one at +D/2, so that the cut is symmetric. No masked reference reaches there. points: (x, y) pixels from n // 2.
"""
