"""Model the Ewald sphere: an image samples the map on two curved slices, each with one half of the CTF.

Density at height z above the middle of the particle has another defocus. With γ the phase of the CTF E sin γ, E the
envelope and λ the wavelength, an atom at z in the frame of the image (A x)_z contributes E sin(γ ∓ π λ k² z), so

    X(k) = c₊ F(q₊) + c₋ F(q₋),  c± = ∓(i/2) E e^{±iγ},  q₊ = Aᵀ (k, ±λ k² / 2),  q₋ = Aᵀ (k, ∓λ k² / 2)

with the upper signs for `positive`, where a higher atom is less underfocused, and the lower signs for `negative`. The
sign depends on the handedness of the images and cannot be found from them alone. DeRosier 2000, Ultramicroscopy 81:83;
Wolf, DeRosier & Grigorieff 2006, Ultramicroscopy 106:376.

An image is inserted at both places by the adjoint, c±* X / σ². The normal equations couple F(q₊) and F(q₋) by
c₊* c₋ = −¼ E² e^{−2iγ}. This phase differs between images, so the coupling averages to zero, unless the two places are
so close that F is the same at both. For uniform density in a ball of diameter D the correlation of F at both places is

    κ = 3 j₁(x) / x,  x = π D λ k²

so the denominator of each place is ¼ E² (1 − κ cos 2γ) / σ². At low frequencies the two sum up to that of a flat slice.
Anisotropic magnification is left out of the k² of the curvature: a per cent or two of a small number.
Differs from RELION in: the whole image is inserted at both places, not half planes of it after masking in real space.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import spherical_jn

from lrcore.arrays import Float64
from lrcore.records import Particles
from lrcore.units import electron_wavelength_A

EWALD_SIGNS = {"positive": 1.0, "negative": -1.0}
DIAMETER_SHARE = 2 / 3
"""Ratio of the diameter D of the particle to the width of its box."""


@dataclass(frozen=True)
class EwaldSpheres:
    """Curvature and overlap of the Ewald spheres of G optics groups.

    Attributes
    ----------
    particles
        The particles of the images.
    curvature : (G,)
        Curvature of the slice of the upper sideband, as `lrcore.kernels.backproject` takes it: ±λ / 2 over the width of
        the box. The other sideband has the opposite curvature.
    overlap : (G, shells)
        Correlation κ of the two slices.
    """

    particles: Particles
    curvature: Float64
    overlap: Float64


def ewald_spheres(particles: Particles, ewald: str) -> EwaldSpheres | None:
    """Return the Ewald spheres for the option `ewald` ("none", "positive" or "negative"); None for "none"."""
    if ewald == "none":
        return None
    wavelength = np.array([electron_wavelength_A(optics.voltage_kV) for optics in particles.optics])
    width = particles.box * particles.pixel_size_A
    shell = np.arange(particles.box) / width  # more shells than there are up to the corner
    overlap = curvature_overlap(wavelength[:, None] * shell**2, DIAMETER_SHARE * width)
    return EwaldSpheres(particles, EWALD_SIGNS[ewald] * wavelength / (2 * width), overlap)


def curvature_overlap(distance: Float64, diameter_A: float) -> Float64:
    """Return the correlation κ of two points of the FT of a ball with uniform density.

    Parameters
    ----------
    distance
        Distance of the two points in 1/Å; any shape.
    diameter_A
        Diameter of the ball in Å.
    """
    x = np.pi * diameter_A * np.maximum(distance, 1e-12)
    return np.asarray(3 * spherical_jn(1, x) / x, np.float64)
