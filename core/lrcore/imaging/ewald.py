"""The Ewald sphere: an image shows the map on two curved slices, each through one half of the CTF.

What lies at height z above the middle of the particle is seen at another defocus. With γ the phase of the CTF E sin γ,
E the envelope and λ the wavelength, an atom at z in the frame of the image (A x)_z contributes E sin(γ ∓ π λ k² z), so

    X(k) = c₊ F(q₊) + c₋ F(q₋),  c± = ∓(i/2) E e^{±iγ},  q₊ = Aᵀ (k, ±λ k² / 2),  q₋ = Aᵀ (k, ∓λ k² / 2)

with the upper signs for `positive`, where what is higher is less underfocused, and the lower ones for `negative`. The
images do not tell which it is: it depends on their handedness. DeRosier 2000, Ultramicroscopy 81:83; Wolf, DeRosier &
Grigorieff 2006, Ultramicroscopy 106:376.

An image is inserted at both places by the adjoint, c±* X / σ². The normal equations couple F(q₊) and F(q₋) by
c₊* c₋ = −¼ E² e^{−2iγ}, a phase that is another one in every image, and so adds up to nothing; unless the two places
are so near that F is the same at both. For density all over a ball of diameter D their correlation is

    κ = 3 j₁(x) / x,  x = π D λ k²

so that the denominator of each is ¼ E² (1 − κ cos 2γ) / σ²: of both, at low frequencies, that of the flat slice.
Anisotropic magnification is left out of the k² of the curvature: a per cent or two of a small number.
Differs from RELION in: the whole image goes to both places, not half planes of it after a mask in real space.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import spherical_jn

from lrcore.arrays import Float64
from lrcore.records import Particles
from lrcore.units import electron_wavelength_A

SIGNS = {"positive": 1.0, "negative": -1.0}
DIAMETER_SHARE = 2 / 3
"""Diameter D of the particle over the width of its box."""


@dataclass(frozen=True)
class EwaldSpheres:
    """The Ewald spheres that images of the particles lie on, for each of G optics groups.

    curvature: (G,) of the slice that the upper sideband goes to, as `insert` takes it: ±λ / 2 over the width of the
    box; the other sideband has the opposite one. overlap: (G, shells) κ.
    """

    particles: Particles
    curvature: Float64
    overlap: Float64


def ewald_spheres(particles: Particles, ewald: str) -> EwaldSpheres | None:
    """The spheres that a spec's `ewald` asks for; None where it is "none"."""
    if ewald == "none":
        return None
    wavelength = np.array([electron_wavelength_A(optics.voltage_kV) for optics in particles.optics])
    width = particles.box * particles.pixel_size_A
    shell = np.arange(particles.box) / width  # more than there are up to the corner
    near = curvature_overlap(wavelength[:, None] * shell**2, DIAMETER_SHARE * width)
    return EwaldSpheres(particles, SIGNS[ewald] * wavelength / (2 * width), near)


def curvature_overlap(distance: Float64, diameter_A: float) -> Float64:
    """κ of two points of the FT at a distance, 1/Å, for density all over a ball of that diameter."""
    x = np.pi * diameter_A * np.maximum(distance, 1e-12)
    return np.asarray(3 * spherical_jn(1, x) / x, np.float64)
