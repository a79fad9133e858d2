"""Contract of `search_lattice`: evaluate the likelihood on a lattice of rotations, each at its best shift on a grid.

    search_lattice(volume: FourierVolume, W: (B, S) complex64, w: (B, S) float32, samples: FourierSamples,
                   centres: (B, 3, 3), lattice: (L, 3, 3), lever: (3,), shifts: (T,), penalty_shift: (T, T))
        -> best: (B, L) float32, where: (B, L) int32

W and w are those of `whiten_windows`. For image b and lattice rotation j, with R = centres[b] · lattice[j], S(k) the
slice at R, D = samples.size and s = ((R − centres[b]) lever)_xy + (shifts[x], shifts[y]), all in pixels:

    best = min over (y, x) of Σ_k [ −2 Re conj(W) S e^{−2πi k·s / D} + w |S|² ] + penalty_shift[y, x]

and where = y · T + x at that minimum. The shifts are ascending and symmetric about 0, so T is odd. Only the samples of
the first band, up to samples.ends[0], are used.
"""
