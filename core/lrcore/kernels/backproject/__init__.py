"""Contract of `insert`: add images into a Fourier volume; the exact adjoint of `slices`.

    insert(numerator: (Z, Z, X) complex64, denominator: (Z, Z, X) float32, rotations: (N, 3, 3), shifts: (N, 2),
           data: (B, n, n // 2 + 1) complex64, weight: (B, n, n // 2 + 1) float32, limit: int,
           image: (N,) int | None = None, share: (N,) | None = None, curvature: (N,) | None = None) -> None

In place, for every pose: for every sample k of the half plane with 0 < |k| ≤ limit (each conjugate pair once, and
k = 0 once, at half weight), share · data(k) · exp(−2πi k·shift / n) and share · weight(k) of the pose's image are
added, with trilinear weights, to the 8 voxels about q = PADDING · Aᵀ (kx, ky, curvature · k²), or their conjugates
about −q where q_x < 0. A need not be a rotation, as long as the volume holds every q. shifts: pixels (x, y). image:
the row of data that goes to each pose; row i to pose i if None. share: 1 if None. curvature: 0 if None, a flat slice;
samples that the steepest one of a call takes further out than `limit` + MARGIN are left out. After the last batch
`fourier.make_hermitian` completes the plane x = 0. The sums are taken in a fixed order, whatever the number of
threads, and no thread owns a copy of the volume.
"""
