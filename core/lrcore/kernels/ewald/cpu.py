"""Implement `whiten_sidebands` in Numba, with threads over images, a row at a time."""

import numba
import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.kernels.numba_options import EXACT_OPTIONS, NUMBA_OPTIONS
from lrcore.kernels.project.cpu import F, as_real_pairs
from lrcore.kernels.whiten.cpu import extend_to_corner, shell_table


@numba.njit(**EXACT_OPTIONS)
def _row(spectrum, s, c, sigma, kappa, shell, upper, lower, weight):  # type: ignore[no-untyped-def]
    """Compute one row of an image. sigma, kappa: noise and overlap by shell."""
    for k in range(len(shell)):
        x, y = spectrum[k, 0], spectrum[k, 1]
        over, same = F(0.5) / sigma[shell[k]], kappa[shell[k]]
        upper[k, 0], upper[k, 1] = over * (s[k] * x - c[k] * y), over * (s[k] * y + c[k] * x)
        lower[k, 0], lower[k, 1] = over * (s[k] * x + c[k] * y), over * (s[k] * y - c[k] * x)
        weight[k] = F(0.5) * over * ((F(1) + same) * s[k] * s[k] + (F(1) - same) * c[k] * c[k])


@numba.njit(parallel=True, **NUMBA_OPTIONS)
def _whiten_sidebands(spectrum, ctf, quadrature, sigma, kappa, group, shells, upper, lower, weight):  # type: ignore[no-untyped-def]
    n = ctf.shape[1]
    for b in numba.prange(len(ctf)):
        for row in range(n):
            shell = shells[row if row < (n + 1) // 2 else n - row]
            _row(
                spectrum[b, row],
                ctf[b, row],
                quadrature[b, row],
                sigma[group[b]],
                kappa[group[b]],
                shell,
                upper[b, row],
                lower[b, row],
                weight[b, row],
            )


def whiten_sidebands(
    spectrum: Complex64,
    ctf: Float32,
    quadrature: Float32,
    noise: Float64,
    group: npt.NDArray[np.integer],
    overlap: Float64,
) -> tuple[Complex64, Complex64, Float32]:
    """Split images into their two sidebands over the noise; see `lrcore.kernels.ewald`."""
    upper, lower, weight = np.empty_like(spectrum), np.empty_like(spectrum), np.empty_like(ctf)
    shells = shell_table(spectrum.shape[1])
    _whiten_sidebands(
        as_real_pairs(spectrum),
        ctf,
        quadrature,
        extend_to_corner(noise, shells),
        extend_to_corner(overlap, shells),
        group.astype(np.int64),
        shells,
        as_real_pairs(upper),
        as_real_pairs(lower),
        weight,
    )
    return upper, lower, weight
