"""The contrast transfer function: pure array functions, underfocus positive, protein white, CTF(0) = +Q."""

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
    """CTF at frequencies kx, ky (1/Å, broadcast to (h, w)) of n particles: (n, h, w) in [−1, 1].

    χ = π λ Δf(α) k² − (π/2) C_s λ³ k⁴ + φ, CTF = √(1−Q²) sin χ + Q cos χ = sin(χ + asin Q), with
    Δf(α) = (U+V)/2 + (U−V)/2 cos 2(α − α₀). defocus_A: (n, 2) U, V; angle α₀ and phase shift φ: (n,) rad.
    offset_rad: (h, w), taken from χ. Rohou & Grigorieff 2015, eq. 2–5; the sign is RELION's.
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
    """CTF of the given particles on the half-complex grid of their images: (len(rows), n, n // 2 + 1) float32.

    Includes each particle's `scale` and B-factor envelope exp(−B k² / 4), anisotropic magnification and the even
    Zernike polynomials; groups may differ in all that optics are.
    """
    rows = np.asarray(rows)
    n = particles.box
    out = np.empty((len(rows), n, n // 2 + 1), np.float32)
    for number in np.unique(particles.group[rows]):
        optics = particles.optics[number]
        mine = particles.group[rows] == number
        chosen = rows[mine]
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
        out[mine] = values * envelope
    return out


def ctf_kernel_parameters(particles: Particles, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """The same CTFs as the `ctf` kernel takes them: (len(rows), 7); see `lrcore.kernels.ctf`.

    But for what a whole optics group adds to them: see `lrcore.imaging.aberrations.ctf_offset` and `envelope_squares`.
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
