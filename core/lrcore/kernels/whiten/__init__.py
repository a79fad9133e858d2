"""Contract of `whiten_images` and `whiten_windows`: divide images by their noise, whole or cropped to a window.

Whole images are back-projected; windows are compared with slices in the search.

    whiten_images(spectrum: (B, n, n // 2 + 1) complex64, ctf: (B, n, n // 2 + 1) float32, noise: (G, N), group: (B,))
        -> data: (B, n, n // 2 + 1) complex64, weight: (B, n, n // 2 + 1) float32

    whiten_windows(spectrum, ctf, noise, group, variance: (N,), points: (B, 2), samples: FourierSamples)
        -> W: (B, S) complex64, w: (B, S) float32

X is the spectrum and C the CTF; σ² is the noise of the image's group at shell round(|k|), where the last shell extends
to the corner, and v the variance of the reference's error in the same way:

    data = C X / σ²,  weight = C² / σ²
    W = (n/D)² FT_D(crop(FT⁻¹(C X / (σ² + C² v) · e^{+2πi k·point / n})))
    w = (n/D)² Re FT_D(crop(FT⁻¹(C² / (σ² + C² v))))

crop keeps the middle D × D pixels, D = samples.size ≤ n. For even D < n, each pixel at its edge −D/2 is the mean of the
pixels at −D/2 and +D/2, so that the crop is symmetric; no masked reference reaches that edge. points: centre of the
window, pixels (x, y) from n // 2.
"""
