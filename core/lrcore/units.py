"""Define physical units and constants: lengths in Å, angles in rad inside and in degrees at every user interface."""

import math

DEGREE = math.pi / 180.0
"""rad per degree."""

PLANCK = 6.62607015e-34
ELECTRON_MASS = 9.1093837015e-31
ELECTRON_CHARGE = 1.602176634e-19
LIGHT_SPEED = 299792458.0


def electron_wavelength_A(voltage_kV: float) -> float:
    """Return the relativistic de Broglie wavelength in Å of an electron accelerated by `voltage_kV`.

    λ = h / √(2 m e V (1 + e V / (2 m c²)))

    Parameters
    ----------
    voltage_kV
        Acceleration voltage in kV.

    References
    ----------
    Reimer & Kohl, Transmission Electron Microscopy, eq. 2.12.
    """
    energy = ELECTRON_CHARGE * voltage_kV * 1e3
    relativistic = 1.0 + energy / (2.0 * ELECTRON_MASS * LIGHT_SPEED**2)
    return PLANCK / math.sqrt(2.0 * ELECTRON_MASS * energy * relativistic) * 1e10
