"""Contract of `backproject_images`: add images to a Fourier volume; the exact adjoint of `project_slices`.

    backproject_images(
        numerator: (Z, Z, X) complex64, denominator: (Z, Z, X) float32, rotations: (N, 3, 3), shifts: (N, 2),
        data: (B, n, n // 2 + 1) complex64, weight: (B, n, n // 2 + 1) float32, limit: int,
        image: (N,) int | None = None, share: (N,) | None = None, curvature: (N,) | None = None,
    ) -> None

numerator and denominator are changed in place. For every pose, with rotation A, and for every sample k of the half
plane with 0 < |k| ≤ limit (each conjugate pair once; also k = 0, at half weight),

    share · data(k) · exp(−2πi k·shift / n)  is added to the numerator, and
    share · weight(k)                        to the denominator,

with trilinear weights, at the 8 voxels about q = PADDING · Aᵀ (kx, ky, curvature · k²); where q_x < 0, the conjugates
are added about −q. data and weight are those of the image of the pose.

* shifts: pixels (x, y).
* image: index into data for each pose; None: pose i takes image i.
* share: factor of each pose; None: 1.
* curvature: of the slice of each pose; None: flat slices. Samples that the largest |curvature| of a call takes further
  out than limit + CURVATURE_MARGIN are left out.
* A need not be a rotation, as long as the volume contains every q.

After the last batch, `lrcore.imaging.fourier_volume.make_hermitian` completes the plane x = 0. The order of summation
does not depend on the number of threads, and no thread has its own copy of the volume.
"""
