"""Contract of `ctf`: the contrast transfer functions of images, with scale and B-factor.

    ctf(waves: (B, 7) float64, n: int, offsets: (G, n, n // 2 + 1) float32 = None, which: (B,) int = None)
        -> (B, n, n // 2 + 1) float32

Columns of `waves`: xx, yy, xy, quartic, offset, decay, scale. At the integer frequency indices (kx, ky) of an n × n
image, k² = kx² + ky²:

    scale · exp(−decay · k²) · sin 2π (xx · kx² + yy · ky² + xy · kx · ky + quartic · k⁴ + offset + table)

with table = offsets[which], turns at every sample; 0 without offsets, and for an image whose `which` is below 0.
`lrcore.imaging.ctf.ctf_kernel_parameters` makes them from defocus and optics. The turns are hundreds at the rim
of a strongly defocused image,
so they are float64 until the whole ones are taken off; the rest is good to 2e-6.
"""
