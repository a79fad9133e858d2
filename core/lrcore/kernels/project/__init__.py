"""Contract of `project_slices`: read central slices of a Fourier volume.

    project_slices(volume: FourierVolume, rotations: (B, 3, 3), samples: FourierSamples) -> (B, S) complex64

For rotation A and sample k = (kx, ky), with q = PADDING · Aᵀ (kx, ky, 0),

    S(k) = Σ over the 8 voxels about q of (trilinear weight) · F(voxel),

where F(−q) = conj F(q) serves q_x < 0. By the slice theorem this is the FT of the projection of the map rotated by A
(the algorithm is that of RELION's trilinear projector). Samples must lie within `volume.limit`. The exact adjoint is
`backproject_images`.
"""
