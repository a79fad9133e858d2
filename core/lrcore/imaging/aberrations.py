"""What optics do to an image besides its CTF: beam tilt, Zernike polynomials, anisotropic magnification.

A frequency k of the image is the frequency k' = M k of the particle, M the magnification matrix of its optics group,
and all that the optics do, the CTF too, happens at k'. Coefficients, their order and signs are RELION's; its programs
are the witness (`tests/lrcore/io/test_relion_aberrations.py`).
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
"""Optics groups whose tables are remembered."""


def magnify_frequencies(optics: Optics, kx: Float64, ky: Float64) -> tuple[Float64, Float64]:
    """Frequencies k' = M k of the particle for frequencies kx, ky of the image, in the same unit."""
    xx, xy, yx, yy = optics.mag_matrix
    return xx * kx + xy * ky, yx * kx + yy * ky


def magnification_in_3d(particles: Particles, rows: npt.NDArray[np.integer]) -> Float64 | None:
    """(B, 3, 3) L, with which the particles of the given rows are seen as if turned by L A; None where L = I for all.

    The FT of an image at k is the map's at q = Aᵀ (M k, 0), so L is Mᵀ in the plane of the image; and a point x of the
    map is seen at (L A x)_xy − o.
    """
    if all(optics.mag_matrix == IDENTITY for optics in particles.optics):
        return None
    tables = np.tile(np.eye(3), (len(particles.optics), 1, 1))
    tables[:, :2, :2] = [np.reshape(optics.mag_matrix, (2, 2)).T for optics in particles.optics]
    found: Float64 = tables[particles.group[rows]]
    return found


def largest_magnification(particles: Particles) -> float:
    """The largest |M k| / |k| of all groups, 1 at least: how much farther out images are read in the map's FT."""
    matrices = [np.reshape(optics.mag_matrix, (2, 2)) for optics in particles.optics]
    largest = max(float(np.linalg.norm(matrix, 2)) for matrix in matrices)
    return largest if largest > 1 else 1.0


def zernike(n: int, m: int, x: Float64, y: Float64) -> Float64:
    """Z_n^m at (x, y): R_n^|m|(ρ) cos mφ, or sin |m|φ for m < 0; ρ is not scaled to any disc.

    Born & Wolf, Principles of Optics, 9.2.1.
    """
    order, squared = abs(m), x**2 + y**2
    radial = np.zeros_like(squared)
    for k in range((n - order) // 2 + 1):
        below = factorial(k) * factorial((n + order) // 2 - k) * factorial((n - order) // 2 - k)
        radial = radial + (-1) ** k * factorial(n - k) / below * squared ** ((n - order) // 2 - k)
    turn = (x + 1j * y) ** order
    return np.asarray(radial * (turn.imag if m < 0 else turn.real), dtype=np.float64)


def _sum(coefficients: tuple[float, ...], n: int, x: Float64, y: Float64) -> Float64:
    """Σ of Zernike polynomials of degree n, n + 2, … in the order of m = −n, −n + 2, … n."""
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
    """Phase in rad by which the FT of an image is ahead, antisymmetric in k (1/Å, of the image).

    Beam tilt τ (mrad): −2π C_s λ² |k'|² (k'·τ) 10⁻³; and the odd Zernike polynomials, trefoil among them. Zivanov et
    al. 2020, IUCrJ 7:253.
    """
    x, y = magnify_frequencies(optics, kx, ky)
    tilt_x, tilt_y = optics.beam_tilt_mrad
    strength = 2 * np.pi * 1e-3 * optics.cs_mm * 1e7 * electron_wavelength_A(optics.voltage_kV) ** 2
    return _sum(optics.odd_zernike, 1, x, y) - strength * (x**2 + y**2) * (x * tilt_x + y * tilt_y)


def even_phase(optics: Optics, kx: Float64, ky: Float64) -> Float64:
    """Phase in rad that the even Zernike polynomials, tetrafoil among them, take from the χ of the CTF; k in 1/Å."""
    return _sum(optics.even_zernike, 0, *magnify_frequencies(optics, kx, ky))


def _frequencies(optics: Optics) -> tuple[Float64, Float64]:
    ky, kx = (k / (optics.box * optics.pixel_size_A) for k in index_grid(optics.box, 2))
    return kx, ky


@lru_cache(maxsize=CACHED_GROUPS)
def odd_phase_correction(optics: Optics) -> Complex64 | None:
    """What the FT (n, n // 2 + 1) of an image of the group is multiplied by to undo `odd_phase`; None for nothing."""
    if not (any(optics.beam_tilt_mrad) or any(optics.odd_zernike)):
        return None
    table: Complex64 = np.exp(-1j * odd_phase(optics, *_frequencies(optics))).astype(np.complex64)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=CACHED_GROUPS)
def ctf_offset(optics: Optics) -> Float32 | None:
    """(n, n // 2 + 1) turns that the group adds to what `ctf_kernel_parameters` says of its CTFs; None for nothing.

    −`even_phase`, and what C_s does at |k'|⁴ instead of |k|⁴.
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
    """(n, n // 2 + 1) |k'|² − |k|² in 1/Å², what a B-factor's envelope wants besides |k|²; None where it is 0."""
    if optics.mag_matrix == IDENTITY:
        return None
    kx, ky = _frequencies(optics)
    x, y = magnify_frequencies(optics, kx, ky)
    return (x**2 + y**2 - kx**2 - ky**2).astype(np.float32)
