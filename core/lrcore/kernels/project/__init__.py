"""Contract of `slices`: read central slices out of a Fourier volume.

    slices(volume: FourierVolume, rotations: (B, 3, 3), samples: Samples) -> (B, S) complex64

S(k) = Σ over 8 voxels of w · F(voxel), trilinear, at q = PADDING · Aᵀ (kx, ky, 0); F(−q) = conj F(q) serves x < 0.
It is the slice theorem: the FT of the projection of the map turned by A (algorithm: RELION's trilinear projector).
Samples must lie within `volume.limit`. `insert` is its exact adjoint.
"""
