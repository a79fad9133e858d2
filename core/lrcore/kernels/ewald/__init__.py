"""Contract of `sidebands`: an image as its two sidebands over the noise, as they go onto the two Ewald spheres.

    sidebands(spectrum: (B, n, n // 2 + 1) complex64, ctf: (B, n, n // 2 + 1) float32,
              quadrature: (B, n, n // 2 + 1) float32, noise: (G, N), group: (B,), overlap: (G, M))
        -> upper, lower: (B, n, n // 2 + 1) complex64, weight (B, n, n // 2 + 1) float32

With X the spectrum, s = E sin γ the CTF, c = E cos γ the quadrature, σ² and κ the noise and the overlap of the image's
group at shell round(|k|) (the last one held beyond), and c± = ∓(i/2) E e^{±iγ} as in `lrcore.imaging.ewald`:

    upper = c₊* X / σ² = ½ (s + i c) X / σ², lower = c₋* X / σ² = ½ (s − i c) X / σ²
    weight = ¼ E² (1 − κ cos 2γ) / σ² = ¼ ((1 + κ) s² + (1 − κ) c²) / σ²

Where κ = 1, both together are what `weigh` gives.
"""
