"""Evaluate the contrast transfer function: underfocus positive, protein white, CTF(0) = +Q."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, FloatArray
from lrcore.imaging.aberrations import even_phase, magnify_frequencies
from lrcore.imaging.grids import index_grid
from lrcore.records import Particles
from lrcore.units import electron_wavelength_A


def evaluate_ctf(
    kx: FloatArray,
    ky: FloatArray,
    defocus_A: FloatArray,
    defocus_angle_rad: FloatArray,
    phase_shift_rad: FloatArray,
    voltage_kV: float,
    cs_mm: float,
    amplitude_contrast: float,
    offset_rad: FloatArray | float = 0.0,
) -> FloatArray:
    """Return the CTF of n particles at given frequencies.

    With Q the amplitude contrast and α the direction of k,

        CTF = √(1 − Q²) sin χ + Q cos χ = sin(χ + asin Q)
        χ = π λ Δf(α) k² − (π / 2) C_s λ³ k⁴ + φ
        Δf(α) = (U + V) / 2 + (U − V) / 2 · cos 2(α − α₀)

    Parameters
    ----------
    kx, ky
        Frequencies in 1/Å, broadcastable to (h, w).
    defocus_A : (n, 2)
        U and V in Å, underfocus positive.
    defocus_angle_rad : (n,)
        α₀ in rad.
    phase_shift_rad : (n,)
        φ of a phase plate in rad.
    voltage_kV
        Acceleration voltage in kV.
    cs_mm
        Spherical aberration C_s in mm.
    amplitude_contrast
        Q.
    offset_rad : (h, w)
        Phase in rad that is subtracted from χ, see `lrcore.imaging.aberrations.even_phase`.

    Returns
    -------
    (n, h, w) in [−1, 1].

    References
    ----------
    Rohou & Grigorieff 2015, eq. 2–5; the sign is RELION's.
    """
    wavelength = electron_wavelength_A(voltage_kV)
    mean = 0.5 * (defocus_A[:, 0] + defocus_A[:, 1])[:, None, None]
    half = 0.5 * (defocus_A[:, 0] - defocus_A[:, 1])[:, None, None]
    angle = 2.0 * defocus_angle_rad[:, None, None]
    squared = kx**2 + ky**2
    stretch = half * (np.cos(angle) * (kx**2 - ky**2) + np.sin(angle) * (2.0 * kx * ky))
    chi = np.pi * wavelength * (mean * squared + stretch)
    chi -= 0.5 * np.pi * (cs_mm * 1e7) * wavelength**3 * squared**2
    chi += phase_shift_rad[:, None, None] + np.arcsin(amplitude_contrast) - offset_rad
    return np.sin(chi)


def particle_ctf(particles: Particles, rows: Sequence[int] | npt.NDArray[np.integer]) -> Float32:
    """Return the CTF of particles on the half-complex grid of their images.

    It includes the `scale` and the B-factor envelope exp(−B k² / 4) of each particle, anisotropic magnification and the
    even Zernike polynomials. Optics groups may differ in all parameters.

    Parameters
    ----------
    particles
        All particles.
    rows : (m,) int
        Rows of the particles in question.

    Returns
    -------
    (m, n, n // 2 + 1) float32.
    """
    rows = np.asarray(rows)
    n = particles.box
    out = np.empty((len(rows), n, n // 2 + 1), np.float32)
    for number in np.unique(particles.group[rows]):
        optics = particles.optics[number]
        in_group = particles.group[rows] == number
        chosen = rows[in_group]
        ky, kx = (k / (n * optics.pixel_size_A) for k in index_grid(n, 2))
        even = even_phase(optics, kx, ky)
        kx, ky = magnify_frequencies(optics, kx, ky)
        values = evaluate_ctf(
            kx,
            ky,
            particles.defocus_A[chosen],
            particles.defocus_angle_rad[chosen],
            particles.phase_shift_rad[chosen],
            optics.voltage_kV,
            optics.cs_mm,
            optics.amplitude_contrast,
            even,
        )
        envelope = particles.scale[chosen][:, None, None] * np.exp(
            -0.25 * particles.bfactor_A2[chosen][:, None, None] * (kx**2 + ky**2)
        )
        out[in_group] = values * envelope
    return out


def ctf_kernel_parameters(particles: Particles, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return the CTF parameters (m, 7) of the given rows in the form that `lrcore.kernels.ctf` takes.

    They describe the same CTFs as `particle_ctf`, apart from what is a table of the optics group: see
    `lrcore.imaging.aberrations.ctf_offset` and `envelope_squares`.
    """
    per_group = [
        (electron_wavelength_A(o.voltage_kV), o.cs_mm * 1e7, np.arcsin(o.amplitude_contrast), o.box * o.pixel_size_A)
        for o in particles.optics
    ]
    wavelength, cs, contrast, width = np.array(per_group).T[:, particles.group[rows]]
    defocus, angle = particles.defocus_A[rows], 2.0 * particles.defocus_angle_rad[rows]
    unit = 0.5 * wavelength / width**2
    mean, half = 0.5 * (defocus[:, 0] + defocus[:, 1]), 0.5 * (defocus[:, 0] - defocus[:, 1])
    form = unit * np.array([mean + half * np.cos(angle), half * np.sin(angle), mean - half * np.cos(angle)])
    # The quadratic form of defocus at k' = M k: Mᵀ F M.
    a, b, c, d = np.array([o.mag_matrix for o in particles.optics]).T[:, particles.group[rows]]
    columns = (
        a * a * form[0] + 2 * a * c * form[1] + c * c * form[2],
        b * b * form[0] + 2 * b * d * form[1] + d * d * form[2],
        2 * (a * b * form[0] + (a * d + b * c) * form[1] + c * d * form[2]),
        -0.25 * cs * wavelength**3 / width**4,
        (particles.phase_shift_rad[rows] + contrast) / (2 * np.pi),
        0.25 * particles.bfactor_A2[rows] / width**2,
        particles.scale[rows],
    )
    return np.stack(columns, axis=1)
