"""Contract of `whiten_sidebands`: split images into two sidebands over the noise, one for each Ewald sphere.

    whiten_sidebands(
        spectrum: (B, n, n // 2 + 1) complex64, ctf: (B, n, n // 2 + 1) float32,
        quadrature: (B, n, n // 2 + 1) float32, noise: (G, N), group: (B,), overlap: (G, M),
    ) -> upper, lower: (B, n, n // 2 + 1) complex64, weight: (B, n, n // 2 + 1) float32

X is the spectrum, s = E sin γ the CTF and c = E cos γ its quadrature; σ² and κ are the noise and the overlap of the
image's group at shell round(|k|), where the last shell extends to the corner. With c± = ∓(i/2) E e^{±iγ} as in
`lrcore.imaging.ewald`:

    upper  = c₊* X / σ² = ½ (s + i c) X / σ²
    lower  = c₋* X / σ² = ½ (s − i c) X / σ²
    weight = ¼ E² (1 − κ cos 2γ) / σ² = ¼ ((1 + κ) s² + (1 − κ) c²) / σ²

Where κ = 1, the sums of both sidebands and of their weights are data and weight of `whiten_images`.
"""
