"""Contract of `compute_ctf`: compute the contrast transfer functions of images, with scale and B-factor.

    compute_ctf(waves: (B, 7) float64, n: int, offsets: (G, n, n // 2 + 1) float32 | None = None,
                which: (B,) int | None = None) -> (B, n, n // 2 + 1) float32

Columns of `waves`: xx, yy, xy, quartic, offset, decay, scale. At the integer frequency indices (kx, ky) of an n × n
image, with k² = kx² + ky²:

    scale · exp(−decay · k²) · sin 2π (xx · kx² + yy · ky² + xy · kx · ky + quartic · k⁴ + offset + table)

Angles are in turns. table = offsets[which] is a further angle at each sample; it is 0 without offsets, and for images
with which < 0. `lrcore.imaging.ctf.ctf_kernel_parameters` computes `waves` from defocus and optics.

At the edge of a strongly defocused image the angle is hundreds of turns: it is float64 until whole turns are removed;
the rest is float32, with an error of 2e-6.
"""
