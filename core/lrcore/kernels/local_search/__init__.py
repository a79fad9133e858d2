"""Contract of the local search: evaluate the likelihood of poses, with and without derivatives, and find its maxima.

The unknowns of an image are θ = (ω, t): a rotation vector about the fulcrum (rad, in the frame of the map) and a shift
(pixels). With R = centre · exp(ω), S(k) the slice at R, l the lever (mask centre − fulcrum, pixels of the map), D the
size of the window, s = ((R − centre) l)_xy + t and M(k) = S(k) e^{−2πi k·s / D}:

    value(θ) = Σ_k [ −2 Re conj(W) M + w |M|² ]                       (−log p, up to a constant)
    gradient = ∂value/∂(δ, t), where R → R exp(δ)
    hessian  = 2 Re Σ_k w conj(J) J,  J = ∂M/∂(δ, t)                  (Gauss–Newton)

W and w are those of `whiten_windows`. Slices are read by quadratic B-splines; the derivatives are those of this
interpolant itself. With q = PADDING · Rᵀ k, ∂S/∂δ = ∇S × q and ∂s/∂δ = −(R [l]×)_xy.

    evaluate_with_derivatives(
        volume: FourierVolume, W: (B, S) complex64, w: (B, S) float32, samples: FourierSamples, band: int,
        centres: (B, 3, 3), theta: (B, 5), lever: (3,),
    ) -> value: (B,), gradient: (B, 5), hessian: (B, 5, 5), float64

    evaluate_likelihood(volume, W, w, samples, band, centres, theta: (B, M, 5), lever)
        -> (B, M) float64, the value alone at M poses of each image

    find_posterior_modes(volume, W, w, samples, centres, starts: (B, M, 5), valid: (B, M) bool, lever,
                         limits: SearchLimits, settled: (B,) bool or None)
        -> PosteriorModes

Both evaluations use the samples up to samples.ends[band].

`find_posterior_modes` minimises value + ½ θᵀ P θ, with P the precision of the image's prior (`SearchLimits.precision`),
by Levenberg–Marquardt from every valid start, with CURVATURE_RATIO times the curvature of Gauss–Newton inside the
extents. Steps are projected onto |ω| ≤ limits.rotation, |t| ≤ limits.shift. The search runs band by band, from low to
high resolution. After each band, starts that converged to the same mode are merged, and those that are worse than the
best by more than limits.drop are dropped; at most MAX_MODES continue.

The best mode is polished by quasi-Newton steps: the same curvature is corrected by the change of the gradient (BFGS,
with Powell's damping). A step is the last one if it is expected to leave an error below POLISH_TOLERANCE posterior SDs,
its length times the factor by which steps shorten. Where the last step leads is not evaluated: the value there is that
of the quadratic model, the Hessian that of the pose before. A polish that lowers the posterior, or does not end, is
undone.

In the finest band a single mode is polished at once; if that is undone, Levenberg–Marquardt comes first. Images that
are `settled` have one valid start, close to their mode, and are searched in the finest band alone.

Reference: Nocedal & Wright (2006), Numerical optimization, ch. 18.3 (damped BFGS).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lrcore.imaging.rotations import projected_motion
from lrcore.kernels.constants import MAX_MODES

MAX_STEPS = (8, 6, 12)
"""Maximum number of Levenberg–Marquardt steps in the first, the middle and the last band."""


@dataclass(frozen=True)
class SearchLimits:
    """Extents and prior of the local search.

    Attributes
    ----------
    rotation, shift : extents, rad and pixels
    rotation_sd, shift_sd : SDs of the prior, rad and pixels; inf for no prior
    drop : modes that are worse than the best one by more are dropped, units of the log-posterior
    motion : (6, 6) covariance of the motion (ω, d) of the body, in the frame of the map, rad and pixels; the prior of
        an image is its projection along the view. None: the SDs are the prior.
    """

    rotation: float
    shift: float
    rotation_sd: float
    shift_sd: float
    drop: float = 20.0
    motion: npt.NDArray[np.float64] | None = field(default=None, compare=False)

    def precision(self, rotations: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the precision P of the prior of each image.

        Parameters
        ----------
        rotations : (B, 3, 3), rotation of each image about which it is searched

        Returns
        -------
        (B, 5, 5) over θ = (ω, t), 1/rad² and 1/px²; 0 without a prior.
        """
        if self.motion is None:
            sd = np.array([self.rotation_sd] * 3 + [self.shift_sd] * 2, dtype=np.float64)
            return np.tile(np.diag(sd**-2.0), (len(rotations), 1, 1))
        B = projected_motion(np.asarray(rotations, dtype=np.float64)[:, :2])
        return np.asarray(np.linalg.inv(B @ self.motion @ B.transpose(0, 2, 1)), dtype=np.float64)


@dataclass(frozen=True)
class PosteriorModes:
    """Up to M = MAX_MODES posterior modes of each image, best first.

    Attributes
    ----------
    theta : (B, M, 5), rotation vector (rad) and shift (pixels)
    value : (B, M), −log posterior up to a constant, inf for absent modes
    likelihood : (B, M), the same without the prior
    hessian : (B, M, 5, 5), of the likelihood
    steps : (B,), number of evaluations
    """

    theta: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    likelihood: npt.NDArray[np.float64]
    hessian: npt.NDArray[np.float64]
    steps: npt.NDArray[np.int32]

    @classmethod
    def empty(cls, batch: int) -> "PosteriorModes":
        """Return modes of `batch` images that are all absent."""
        absent = np.full((2, batch, MAX_MODES), np.inf)
        hessian = np.zeros((batch, MAX_MODES, 5, 5))
        return cls(np.zeros((batch, MAX_MODES, 5)), absent[0], absent[1], hessian, np.zeros(batch, np.int32))
