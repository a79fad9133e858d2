"""Convert CryoSPARC's aberrations, lengths in Å, into RELION's Zernike coefficients and back.

Both describe one wave aberration function W (rad) at the frequency k (cos α, sin α) in 1/Å. With the wavelength λ and
s, t, u, v for ctf/shift_A, tilt_A, trefoil_A and tetra_A, it contains, besides defocus and spherical aberration,

    W_odd  = 2π k·s + 2π λ² k² (k·t) + (2π/3) λ² k³ (u₀ cos 3α + u₁ sin 3α)
    W_even = 2π λ³ k⁴ (v₀ cos 2α + v₁ sin 2α) + (π/2) λ³ k⁴ (v₂ cos 4α + v₃ sin 4α)

A spherical aberration C_s is (π/2) C_s λ³ k⁴ in it, and a beam tilt τ is t = C_s τ. `odd_phase` is −W_odd, `even_phase`
is W_even. Decision 070 gives the argument for the signs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from lrcore.errors import InputError
from lrcore.records import Optics
from lrcore.units import electron_wavelength_A

A_PER_MM = 1e7
"""Å per mm."""
MAX_TILT = 0.1
"""Largest |tilt_A| / C_s that is described as a beam tilt (100 mrad); a larger one is coma, not a tilted beam."""
MAX_COMA_A = 1e8
"""A larger |tilt_A| is an error in the file."""
ROUNDING = 1e-6
"""Relative difference of two numbers that is only the rounding of float32 fields."""
ODD_TERMS = ((1, -1), (1, 1), (3, -3), (3, -1), (3, 1), (3, 3))
EVEN_TERMS = ((0, 0), (2, -2), (2, 0), (2, 2), (4, -4), (4, -2), (4, 0), (4, 2), (4, 4))
"""Degree and order of the first polynomials of rlnOddZernike and rlnEvenZernike."""

Pair = tuple[float, float]


@dataclass(frozen=True)
class Lengths:
    """Aberrations in Å as in the fields of the slot ctf: image shift, axial coma, trefoil, and the terms in k⁴."""

    shift_A: Pair = (0.0, 0.0)
    tilt_A: Pair = (0.0, 0.0)
    trefoil_A: Pair = (0.0, 0.0)
    tetra_A: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


NAMES = tuple(field.name for field in fields(Lengths))
FIELDS = {f"ctf/{name}": len(getattr(Lengths(), name)) for name in NAMES}
"""Field → its numbers per particle."""


@dataclass(frozen=True)
class Microscope:
    """Voltage in kV and spherical aberration in mm, which the conversion depends on."""

    voltage_kV: float
    cs_mm: float

    @classmethod
    def of_optics(cls, optics: Optics) -> "Microscope":
        """Return the microscope of an optics group."""
        return cls(optics.voltage_kV, optics.cs_mm)

    @property
    def cubic(self) -> float:
        """Return (2π/3) λ² in Å²."""
        return 2 * math.pi / 3 * electron_wavelength_A(self.voltage_kV) ** 2

    @property
    def quartic(self) -> float:
        """Return (π/2) λ³ in Å³."""
        return math.pi / 2 * electron_wavelength_A(self.voltage_kV) ** 3


@dataclass(frozen=True)
class ZernikeAberrations:
    """Aberrations as in RELION: beam tilt in mrad, coefficients of the odd and the even Zernike polynomials."""

    beam_tilt_mrad: Pair = (0.0, 0.0)
    odd_zernike: tuple[float, ...] = ()
    even_zernike: tuple[float, ...] = ()

    @classmethod
    def of_optics(cls, optics: Optics) -> "ZernikeAberrations":
        """Return the aberrations of an optics group."""
        return cls(optics.beam_tilt_mrad, optics.odd_zernike, optics.even_zernike)


def lengths_from_fields(
    found: Mapping[str, Sequence[float]], known: ZernikeAberrations, microscope: Microscope
) -> Lengths:
    """Collect the lengths of a row.

    Parameters
    ----------
    found : field → numbers, of those in `FIELDS` that a table has
    known : aberrations of RELION that the table carries besides; fields that it lacks are taken from them
    microscope : voltage and spherical aberration
    """
    expected = lengths_from_zernike(known, microscope)
    values = {name: tuple(found.get(f"ctf/{name}", getattr(expected, name))) for name in NAMES}
    if "ctf/tilt_A" in found and "ctf/trefoil_A" not in found:  # then the coma of the polynomials is not in the tilt
        coma = lengths_from_zernike(ZernikeAberrations(odd_zernike=known.odd_zernike), microscope).tilt_A
        values["tilt_A"] = tuple(a + b for a, b in zip(found["ctf/tilt_A"], coma, strict=True))
    return Lengths(**values)


def zernike_from_lengths(
    lengths: Lengths, microscope: Microscope, known: ZernikeAberrations | None = None
) -> ZernikeAberrations:
    """Convert lengths into a beam tilt and Zernike coefficients.

    Parameters
    ----------
    lengths : aberrations of CryoSPARC
    microscope : voltage and spherical aberration
    known : aberrations that the lengths are expected to describe
        A file converted from RELION carries them. They are returned as they are, including polynomials that the lengths
        cannot describe, plus what the lengths describe beyond them.

    Returns
    -------
    ZernikeAberrations
        Coma that is too large for a beam tilt (with a C_s corrector) is in the odd polynomials.
    """
    known = known or ZernikeAberrations()
    expected = lengths_from_zernike(known, microscope)
    shift, tilt, trefoil, tetra = (
        tuple(_rest(a, b) for a, b in zip(getattr(lengths, name), getattr(expected, name), strict=True))
        for name in NAMES
    )
    cs_A, as_tilt = microscope.cs_mm * A_PER_MM, (0.0, 0.0)
    if cs_A > 0 and max(map(abs, tilt)) <= MAX_TILT * cs_A:
        as_tilt, tilt = (tilt[0] / cs_A * 1e3, tilt[1] / cs_A * 1e3), (0.0, 0.0)
    c, q = microscope.cubic, microscope.quartic
    odd = (
        -2 * (math.pi * shift[1] + c * tilt[1]),
        -2 * (math.pi * shift[0] + c * tilt[0]),
        *(-c * length for length in (trefoil[1], tilt[1], tilt[0], trefoil[0])),
    )
    even = (0, 3 * q * tetra[1], 0, 3 * q * tetra[0], q * tetra[3], q * tetra[1], 0, q * tetra[0], q * tetra[2])
    return ZernikeAberrations(
        (known.beam_tilt_mrad[0] + as_tilt[0], known.beam_tilt_mrad[1] + as_tilt[1]),
        _add(known.odd_zernike, odd),
        _add(known.even_zernike, even),
    )


def lengths_from_zernike(aberrations: ZernikeAberrations, microscope: Microscope) -> Lengths:
    """Convert a beam tilt and Zernike coefficients into lengths, as far as `inexpressible_terms` lists no others."""
    odd = dict(zip(ODD_TERMS, (*aberrations.odd_zernike, *[0.0] * len(ODD_TERMS)), strict=False))
    even = dict(zip(EVEN_TERMS, (*aberrations.even_zernike, *[0.0] * len(EVEN_TERMS)), strict=False))
    c, q = microscope.cubic, microscope.quartic
    tilt = [value * 1e-3 * microscope.cs_mm * A_PER_MM for value in aberrations.beam_tilt_mrad]
    return Lengths(
        shift_A=(
            (2 * odd[3, 1] - odd[1, 1]) / (2 * math.pi),
            (2 * odd[3, -1] - odd[1, -1]) / (2 * math.pi),
        ),
        tilt_A=(tilt[0] - odd[3, 1] / c, tilt[1] - odd[3, -1] / c),
        trefoil_A=(-odd[3, 3] / c, -odd[3, -3] / c),
        tetra_A=(even[4, 2] / q, even[4, -2] / q, even[4, 4] / q, even[4, -4] / q),
    )


def inexpressible_terms(aberrations: ZernikeAberrations) -> list[str]:
    """Return the polynomials Z(n, m) of which `lengths_from_zernike` has no or only a part, for a message."""
    odd, even = aberrations.odd_zernike, aberrations.even_zernike
    values = dict(zip(EVEN_TERMS, (*even, *[0.0] * len(EVEN_TERMS)), strict=False))
    rest = {
        (0, 0): values[0, 0],
        (2, -2): _rest(values[2, -2], 3 * values[4, -2]),
        (2, 0): values[2, 0],
        (2, 2): _rest(values[2, 2], 3 * values[4, 2]),
        (4, 0): values[4, 0],
    }
    names = [f"Z({n},{m})" for (n, m), value in rest.items() if value]
    for coefficients, terms, degree in ((odd, ODD_TERMS, 5), (even, EVEN_TERMS, 6)):
        if any(coefficients[len(terms) :]):
            names.append(f"those of degree {degree} and more")
    return names


def require_possible_tilt(path: Path, lengths: Lengths, microscope: Microscope) -> None:
    """Raise InputError if the coma is larger than any microscope's."""
    largest = max(lengths.tilt_A, key=abs)
    if abs(largest) > MAX_COMA_A:
        raise InputError(f"{path}: ctf/tilt_A of {largest:g} A is impossible at Cs {microscope.cs_mm:g} mm: correct it")


def tilt_in_zernike(groups: list[ZernikeAberrations], microscopes: list[Microscope]) -> list[ZernikeAberrations]:
    """Return the groups without beam tilts, as odd polynomials, if a list and columns of a tilt would not be added up.

    RELION 3.1 replaces the polynomials of degree 1 and Z(3,±1) of the list by those of the columns, RELION 5 adds them.
    """
    listed = any(any(group.odd_zernike[:2]) or any(group.odd_zernike[3:5]) for group in groups)
    if not (listed and any(any(group.beam_tilt_mrad) for group in groups)):
        return groups
    return [
        ZernikeAberrations(
            odd_zernike=_add(group.odd_zernike, _coma(group, microscope)), even_zernike=group.even_zernike
        )
        for group, microscope in zip(groups, microscopes, strict=True)
    ]


def _coma(group: ZernikeAberrations, microscope: Microscope) -> tuple[float, ...]:
    tilted = lengths_from_zernike(ZernikeAberrations(group.beam_tilt_mrad), microscope)
    return zernike_from_lengths(tilted, Microscope(microscope.voltage_kV, 0.0)).odd_zernike


def _rest(value: float, expected: float) -> float:
    """Return value − expected, or 0 if they are equal but for rounding."""
    return 0.0 if abs(value - expected) <= ROUNDING * max(abs(value), abs(expected)) else value - expected


def _add(known: tuple[float, ...], more: tuple[float, ...]) -> tuple[float, ...]:
    """Return the sum of two lists of coefficients; the first one itself if the second one is zero."""
    if not any(more):
        return known
    size = max(len(known), len(more))
    return tuple(a + b for a, b in zip(_padded(known, size), _padded(more, size), strict=True))


def _padded(values: tuple[float, ...], size: int) -> tuple[float, ...]:
    return (*values, *[0.0] * (size - len(values)))
