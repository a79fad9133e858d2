"""Contract of `evaluate`, `values` and `newton`: the likelihood, with or without derivatives, and its minima.

The unknowns of an image are θ = (ω, t): a rotation vector about the fulcrum (rad, map frame) and a shift (pixels).
With R = centre · exp(ω), S(k) the slice at R, l the lever (mask centre − fulcrum, pixels of the map), D the window,
s = ((R − centre) l)_xy + t and M(k) = S(k) e^{−2πi k·s / D}:

    value(θ) = Σ_k [ −2 Re conj(W) M + w |M|² ]                       (−log p, up to a constant)
    gradient = ∂value/∂(δ, t), where R → R exp(δ)
    hessian  = 2 Re Σ_k w conj(J) J,  J = ∂M/∂(δ, t)                  (Gauss–Newton)

The derivatives are those of the quadratic interpolant itself. With q = PADDING · Rᵀ k, ∂S/∂δ = ∇S × q and
∂s/∂δ = −(R [l]×)_xy.

    evaluate(volume, W: (B, S), w: (B, S), samples, band: int, centres: (B, 3, 3), theta: (B, 5), lever: (3,))
        -> value (B,), gradient (B, 5), hessian (B, 5, 5)

    values(volume, W, w, samples, band, centres, theta: (B, M, 5), lever)
        -> (B, M) float64, the value alone at M poses of each image

    newton(volume, W, w, samples, centres, starts: (B, M, 5), valid: (B, M) bool, lever, limits: Limits)
        -> Modes

`newton` runs Levenberg–Marquardt from every valid start on value + ½ θᵀ P θ, P the precision of the image's prior
(`Limits.precision`), projected onto |ω| ≤ limits.rotation, |t| ≤ limits.shift; band by band, outwards. After each
band, starts that met are merged and those that lost by more than limits.drop are dropped; at most KEPT go on. The best
one is polished: Gauss–Newton moves, shortened by half whenever they do not contract, until one is shorter than
POLISHED posterior SDs, so that the pose does not depend on where it came from. A polish that loses likelihood is
undone.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lrcore.imaging.rotations import projected_motion
from lrcore.kernels.constants import MAX_MODES

STEPS = (8, 6, 12)
"""Levenberg–Marquardt steps at most in the first, the middle and the last band."""


@dataclass(frozen=True)
class SearchLimits:
    """Prior and extents. rotation, rotation_sd: rad. shift, shift_sd: pixels. SDs may be inf. drop: log units.

    motion: (6, 6) covariance of the motion (ω, d) of the body, in the frame of the map, rad and pixels: the prior of
    every image is what it sees of that. None: the SDs are the prior.
    """

    rotation: float
    shift: float
    rotation_sd: float
    shift_sd: float
    drop: float = 20.0
    motion: npt.NDArray[np.float64] | None = field(default=None, compare=False)

    def precision(self, turns: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """P (B, 5, 5) of the prior, 1/rad² and 1/px², 0 without one. turns: (B, 3, 3), what the map is seen by."""
        if self.motion is None:
            sd = np.array([self.rotation_sd] * 3 + [self.shift_sd] * 2, dtype=np.float64)
            return np.tile(np.diag(sd**-2.0), (len(turns), 1, 1))
        B = projected_motion(np.asarray(turns, dtype=np.float64)[:, :2])
        return np.asarray(np.linalg.inv(B @ self.motion @ B.transpose(0, 2, 1)), dtype=np.float64)


@dataclass(frozen=True)
class PosteriorModes:
    """Up to KEPT modes an image, best first. theta: (B, KEPT, 5). value: (B, KEPT), posterior, inf where absent.

    likelihood: (B, KEPT), without the prior. hessian: (B, KEPT, 5, 5) of the likelihood. steps: (B,) evaluations.
    """

    theta: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    likelihood: npt.NDArray[np.float64]
    hessian: npt.NDArray[np.float64]
    steps: npt.NDArray[np.int32]

    @classmethod
    def empty(cls, batch: int) -> "PosteriorModes":
        """Room for the modes of `batch` images, all absent."""
        absent = np.full((2, batch, MAX_MODES), np.inf)
        hessian = np.zeros((batch, MAX_MODES, 5, 5))
        return cls(np.zeros((batch, MAX_MODES, 5)), absent[0], absent[1], hessian, np.zeros(batch, np.int32))
