"""Compute what the optics do to an image besides the CTF: beam tilt, Zernike aberrations, anisotropic magnification.

A frequency k of the image corresponds to the frequency k' = M k of the particle, M the magnification matrix of its
optics group. All effects of the optics, the CTF included, are evaluated at k'. Coefficients, their order and their
signs are those of RELION, and are compared with its programs in `tests/lrcore/io/test_relion_aberrations.py`.
"""

from functools import lru_cache
from math import factorial

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.imaging.grids import index_grid
from lrcore.records import Optics, Particles
from lrcore.units import electron_wavelength_A

IDENTITY = (1.0, 0.0, 0.0, 1.0)
CACHED_GROUPS = 256
"""Number of optics groups whose tables are cached."""


def magnify_frequencies(optics: Optics, kx: Float64, ky: Float64) -> tuple[Float64, Float64]:
    """Return the frequencies k' = M k of the particle for frequencies k of the image.

    Parameters
    ----------
    optics
        Optics group with the magnification matrix M.
    kx, ky
        Frequencies of the image, of any unit and shape.

    Returns
    -------
    k'_x, k'_y in the same unit.
    """
    xx, xy, yx, yy = optics.mag_matrix
    return xx * kx + xy * ky, yx * kx + yy * ky


def magnification_in_3d(particles: Particles, rows: npt.NDArray[np.integer]) -> Float64 | None:
    """Return the matrices L by which anisotropic magnification changes the rotations of particles to L A.

    The FT of an image at k is that of the map at q = Aᵀ (M k, 0), so L is Mᵀ in the plane of the image. A map point x
    appears at (L A x)_xy − o.

    Parameters
    ----------
    particles
        All particles.
    rows : (B,) int
        Rows of the particles in question.

    Returns
    -------
    (B, 3, 3) L, or None if L = I for all optics groups.
    """
    if all(optics.mag_matrix == IDENTITY for optics in particles.optics):
        return None
    tables = np.tile(np.eye(3), (len(particles.optics), 1, 1))
    tables[:, :2, :2] = [np.reshape(optics.mag_matrix, (2, 2)).T for optics in particles.optics]
    matrices: Float64 = tables[particles.group[rows]]
    return matrices


def largest_magnification(particles: Particles) -> float:
    """Return the largest |M k| / |k| of all optics groups, at least 1.

    This factor is how much farther out in the FT of the map the samples of an image can lie.
    """
    matrices = [np.reshape(optics.mag_matrix, (2, 2)) for optics in particles.optics]
    largest = max(float(np.linalg.norm(matrix, 2)) for matrix in matrices)
    return largest if largest > 1 else 1.0


def zernike(n: int, m: int, x: Float64, y: Float64) -> Float64:
    """Return the Zernike polynomial Z_n^m at (x, y): R_n^|m|(ρ) cos mφ, or R_n^|m|(ρ) sin |m|φ for m < 0.

    ρ is not scaled to a unit disc.

    Parameters
    ----------
    n, m
        Degree and order, n − |m| even.
    x, y
        Coordinates of one shape.

    References
    ----------
    Born & Wolf, Principles of Optics, 9.2.1.
    """
    order, squared = abs(m), x**2 + y**2
    radial = np.zeros_like(squared)
    for k in range((n - order) // 2 + 1):
        below = factorial(k) * factorial((n + order) // 2 - k) * factorial((n - order) // 2 - k)
        radial = radial + (-1) ** k * factorial(n - k) / below * squared ** ((n - order) // 2 - k)
    turn = (x + 1j * y) ** order
    return np.asarray(radial * (turn.imag if m < 0 else turn.real), dtype=np.float64)


def _zernike_sum(coefficients: tuple[float, ...], n: int, x: Float64, y: Float64) -> Float64:
    """Return Σ of Zernike polynomials of degree n, n + 2, … in the order of m = −n, −n + 2, … n."""
    total, m = np.zeros(np.broadcast_shapes(x.shape, y.shape)), -n
    for coefficient in coefficients:
        if coefficient:
            total = total + coefficient * zernike(n, m, x, y)
        m += 2
        if m > n:
            n += 2
            m = -n
    return total


def odd_phase(optics: Optics, kx: Float64, ky: Float64) -> Float64:
    """Return the phase in rad that the odd (antisymmetric) aberrations add to the FT of an image.

    Beam tilt τ (mrad) adds −2π C_s λ² |k'|² (k'·τ) 10⁻³; the odd Zernike polynomials (trefoil among them) are added to
    it.

    Parameters
    ----------
    optics
        Optics group.
    kx, ky
        Frequencies of the image in 1/Å.

    References
    ----------
    Zivanov et al. 2020, IUCrJ 7:253.
    """
    x, y = magnify_frequencies(optics, kx, ky)
    tilt_x, tilt_y = optics.beam_tilt_mrad
    strength = 2 * np.pi * 1e-3 * optics.cs_mm * 1e7 * electron_wavelength_A(optics.voltage_kV) ** 2
    return _zernike_sum(optics.odd_zernike, 1, x, y) - strength * (x**2 + y**2) * (x * tilt_x + y * tilt_y)


def even_phase(optics: Optics, kx: Float64, ky: Float64) -> Float64:
    """Return the phase in rad that the even Zernike polynomials (tetrafoil among them) subtract from the χ of the CTF.

    Parameters
    ----------
    optics, kx, ky
        See `odd_phase`.
    """
    return _zernike_sum(optics.even_zernike, 0, *magnify_frequencies(optics, kx, ky))


def _frequencies(optics: Optics) -> tuple[Float64, Float64]:
    """Return kx and ky in 1/Å of the half-complex FT of an image of the group, broadcastable to (n, n // 2 + 1)."""
    ky, kx = (k / (optics.box * optics.pixel_size_A) for k in index_grid(optics.box, 2))
    return kx, ky


@lru_cache(maxsize=CACHED_GROUPS)
def odd_phase_correction(optics: Optics) -> Complex64 | None:
    """Return factors (n, n // 2 + 1) that undo `odd_phase` in the FT of an image, read-only; None if there is none."""
    if not (any(optics.beam_tilt_mrad) or any(optics.odd_zernike)):
        return None
    table: Complex64 = np.exp(-1j * odd_phase(optics, *_frequencies(optics))).astype(np.complex64)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=CACHED_GROUPS)
def ctf_offset(optics: Optics) -> Float32 | None:
    """Return the phase in turns (n, n // 2 + 1) that an optics group adds to the CTF, read-only; None if there is none.

    It is −`even_phase` and the difference of the C_s term at |k'|⁴ and at |k|⁴, which
    `lrcore.imaging.ctf.ctf_kernel_parameters` cannot express.
    """
    if not any(optics.even_zernike) and optics.mag_matrix == IDENTITY:
        return None
    kx, ky = _frequencies(optics)
    x, y = magnify_frequencies(optics, kx, ky)
    quartic = 0.25 * optics.cs_mm * 1e7 * electron_wavelength_A(optics.voltage_kV) ** 3
    turns = -even_phase(optics, kx, ky) / (2 * np.pi) - quartic * ((x**2 + y**2) ** 2 - (kx**2 + ky**2) ** 2)
    table: Float32 = turns.astype(np.float32)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=CACHED_GROUPS)
def envelope_squares(optics: Optics) -> Float32 | None:
    """Return |k'|² − |k|² in 1/Å² (n, n // 2 + 1) for the envelope of a B-factor; None if there is no magnification."""
    if optics.mag_matrix == IDENTITY:
        return None
    kx, ky = _frequencies(optics)
    x, y = magnify_frequencies(optics, kx, ky)
    return (x**2 + y**2 - kx**2 - ky**2).astype(np.float32)
