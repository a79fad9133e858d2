"""Define the results of `whiten_sidebands` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.kernels.whiten.reference import expand_shells


def whiten_sidebands(
    spectrum: Complex64,
    ctf: Float32,
    quadrature: Float32,
    noise: Float64,
    group: npt.NDArray[np.integer],
    overlap: Float64,
) -> tuple[Complex64, Complex64, Float32]:
    """Split images into their two sidebands over the noise; see `lrcore.kernels.ewald`."""
    n = spectrum.shape[1]
    sigma, kappa = expand_shells(noise, n)[group], expand_shells(overlap, n)[group]
    upper, lower = (0.5 * (ctf + sign * quadrature) * spectrum / sigma for sign in (1j, -1j))
    weight = 0.25 * ((1 + kappa) * ctf**2 + (1 - kappa) * quadrature**2) / sigma
    return upper.astype(np.complex64), lower.astype(np.complex64), weight.astype(np.float32)
