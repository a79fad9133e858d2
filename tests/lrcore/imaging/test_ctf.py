"""The CTF: signs at zero, a defocus series by hand, astigmatism."""

import numpy as np
import pytest

from lrcore.imaging.ctf import evaluate_ctf
from lrcore.units import electron_wavelength_A


def one(kx, ky, u=15000.0, v=15000.0, angle=0.0, phase=0.0):
    return evaluate_ctf(
        np.atleast_2d(kx), np.atleast_2d(ky), np.array([[u, v]]), np.array([angle]), np.array([phase]), 300, 2.7, 0.1
    )[0]  # fmt: skip


def test_wavelength():
    """Values of any table of electron wavelengths."""
    for voltage, expected in ((100, 0.037014), (200, 0.025079), (300, 0.019687)):
        assert electron_wavelength_A(voltage) == pytest.approx(expected, rel=1e-4)


def test_zero_frequency_is_the_amplitude_contrast_and_underfocus_raises_it():
    assert one(0.0, 0.0)[0, 0] == pytest.approx(0.1)
    assert one(0.01, 0.0)[0, 0] > 0.1


def test_by_hand():
    k, wavelength = 0.12, electron_wavelength_A(300)
    chi = np.pi * wavelength * 15000 * k**2 - 0.5 * np.pi * 2.7e7 * wavelength**3 * k**4
    assert one(k, 0.0)[0, 0] == pytest.approx(np.sqrt(1 - 0.01) * np.sin(chi) + 0.1 * np.cos(chi))


def test_astigmatism_has_u_along_the_angle():
    angle, k = 0.4, 0.1
    along = one(k * np.cos(angle), k * np.sin(angle), 20000, 12000, angle)
    across = one(-k * np.sin(angle), k * np.cos(angle), 20000, 12000, angle)
    assert along == pytest.approx(one(k, 0.0, 20000, 20000))
    assert across == pytest.approx(one(k, 0.0, 12000, 12000))


def test_a_phase_plate_of_90_degrees_turns_sine_into_cosine():
    assert one(0.0, 0.0, phase=np.pi / 2)[0, 0] == pytest.approx(np.sqrt(0.99))
