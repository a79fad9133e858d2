"""Check particles after reading, and maps that are to be used together."""

import shlex
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from lrcore.errors import InputError
from lrcore.imaging.resampling import grid_mismatch
from lrcore.io.derived_particles import rows_in_table
from lrcore.records import Optics, Particles, Volume

USUAL_RANGES = {
    "voltage": ("voltage_kV", 60.0, 400.0, "kV"),
    "spherical aberration": ("cs_mm", 0.0, 10.0, "mm"),
    "amplitude contrast": ("amplitude_contrast", 0.0, 0.5, ""),
    "pixel size": ("pixel_size_A", 0.2, 20.0, "A"),
}
"""Quantity → field of `Optics`, plausible range (lowest, highest) and unit."""
PIXEL_TOLERANCE_A, PIXEL_TOLERANCE = 0.01, 0.01
"""Differences of pixel sizes, in Å and relative, up to which images of several groups make one map: 0.01 Å as in
RELION, but not beyond the 1 % by which a map may differ (`require_same_grid`)."""
SAME_PIXEL = 1e-3
"""Relative difference of pixel sizes that moves the edge of a particle of 300 Å by 0.15 Å: less than is resolved."""
MAX_DEFOCUS_A = 1e5
MAX_GAIN_BY_BFACTOR = 10.0
"""Largest factor by which B-factors below 0 may multiply the CTF at the Nyquist limit."""
MIN_MEDIAN_DEFOCUS_A = 100.0
"""A smaller median |defocus| means that the unit is wrong (µm) or the images are in focus."""


def require_single_box_and_pixel_size(path: Path, optics: tuple[Optics, ...]) -> tuple[Optics, ...]:
    """Return the groups; raise InputError unless they share one box and, within the tolerance, one pixel size.

    A pixel size that differs by more than its last digits is expressed as a magnification at that of the first group:
    an image of pixel size q at the frequency k of the pixel size p is the map at (p / q) k. A warning says so.
    """
    if len({group.box for group in optics}) > 1:
        raise _several(path, optics, "boxes", "box", "--box")
    low, high = (limit(group.pixel_size_A for group in optics) for limit in (min, max))
    if high - low > min(PIXEL_TOLERANCE_A, PIXEL_TOLERANCE * low) * (1 + 1e-6):
        raise _several(path, optics, "pixel sizes", "pixel_size_A", "--pixel-size")
    if high / low - 1 <= SAME_PIXEL:
        return optics
    warnings.warn(
        f"{path}: pixel sizes differ by {high / low - 1:.1%} ({_listed(optics, 'pixel_size_A')}): the map has that of "
        "the first group, and the difference is treated as a magnification of the others",
        stacklevel=3,
    )
    return tuple(_at_pixel_size(group, optics[0].pixel_size_A) for group in optics)


def _several(path: Path, optics: tuple[Optics, ...], what: str, field: str, option: str) -> InputError:
    """Return an error with the command that takes out the particles that go together."""
    values = [getattr(group, field) for group in optics]
    chosen = f"{option} {values[0]:.9g}"
    if len(set(values)) == len(values):
        chosen = f"--optics-group {shlex.quote(optics[0].name)}"
    command = f"lrwidgets select {shlex.quote(str(path))} {chosen} --out FILE"
    return InputError(
        f"{path}: several {what} in one file ({_listed(optics, field)}): refine one at a time ({command}), or rescale "
        "the images"
    )


def _at_pixel_size(group: Optics, pixel_size_A: float) -> Optics:
    xx, xy, yx, yy = (pixel_size_A / group.pixel_size_A * value for value in group.mag_matrix)
    return replace(group, pixel_size_A=pixel_size_A, mag_matrix=(xx, xy, yx, yy))


def _listed(optics: tuple[Optics, ...], field: str) -> str:
    """Return the distinct values of a field, with the digits in which they differ, by the first group of each."""
    groups: dict[str, list[str]] = {}
    for group in optics:
        groups.setdefault(f"{getattr(group, field):.9g}", []).append(group.name)
    more = {value: f" and {len(names) - 1} more" if len(names) > 1 else "" for value, names in groups.items()}
    return ", ".join(f"{names[0]}{more[value]}: {value}" for value, names in groups.items())


def check_optics(path: Path, optics: Optics) -> Optics:
    """Return the group itself; raise InputError that names it if a value is impossible."""
    bounds = {
        "voltage": (optics.voltage_kV > 0, f"{optics.voltage_kV:g} kV", "above 0"),
        "spherical aberration": (optics.cs_mm >= 0, f"{optics.cs_mm:g} mm", "0 or more"),
        "amplitude contrast": (
            0 <= optics.amplitude_contrast < 1,
            f"{optics.amplitude_contrast:g}",
            "from 0 to below 1",
        ),
        "pixel size": (optics.pixel_size_A > 0, f"{optics.pixel_size_A:g} A", "above 0"),
        "box": (optics.box > 1, f"{optics.box} px", "at least 2"),
    }
    for what, (good, value, bound) in bounds.items():
        if not good:
            raise InputError(f"{path}: optics group {optics.name}: {what} is {value}, must be {bound}: correct it")
    return optics


def warn_implausible_optics(particles: Particles) -> None:
    """Warn, one line each, about optics and CTF values that are possible but implausible (often a wrong unit)."""
    implausible = (_implausible_optics, _implausible_defocus, _implausible_bfactors)
    for message in (text for find in implausible for text in find(particles)):
        warnings.warn(f"{particles.path}: {message}", stacklevel=2)


def _implausible_optics(particles: Particles) -> Iterator[str]:
    for what, (field, low, high, unit) in USUAL_RANGES.items():
        odd = [group for group in particles.optics if not low <= getattr(group, field) <= high]
        if odd:
            more = f" (and {len(odd) - 1} more groups)" if len(odd) > 1 else ""
            yield (
                f"optics group {odd[0].name}{more}: {what} is {getattr(odd[0], field):g} {unit}".rstrip()
                + f", expected {low:g} to {high:g}: check the value and its unit"
            )


def _implausible_defocus(particles: Particles) -> Iterator[str]:
    mean = particles.defocus_A.mean(axis=1)
    if not len(mean):
        return
    for odd, what in ((np.abs(mean) > MAX_DEFOCUS_A, "is implausible"), (mean < 0, "is overfocus")):
        if odd.any():
            row = int(np.argmax(odd))
            yield (
                f"row {rows_in_table(particles)[row] + 1}: defocus {mean[row]:g} A {what} ({int(odd.sum())} of "
                f"{len(mean)} particles): it must be in A, underfocus positive: correct it, or remove these particles"
            )
    if np.median(np.abs(mean)) < MIN_MEDIAN_DEFOCUS_A and not particles.phase_shift_rad.any():
        yield f"median defocus is {np.median(np.abs(mean)):g} A, almost in focus: defocus must be in A, not in µm"


def _implausible_bfactors(particles: Particles) -> Iterator[str]:
    negative = particles.bfactor_A2 < 0
    if negative.any():
        row = int(np.argmax(negative))
        yield (
            f"row {rows_in_table(particles)[row] + 1}: B-factor {particles.bfactor_A2[row]:g} A2 is below 0 "
            f"({int(negative.sum())} of {len(negative)} particles), so that the CTF, multiplied by exp(-B k2 / 4), "
            "rises with the resolution: change its sign if it was meant to dampen (M exports it so)"
        )


def require_usable_bfactors(particles: Particles) -> None:
    """Check that no B-factor below 0 multiplies the CTF by more than MAX_GAIN_BY_BFACTOR at the Nyquist limit.

    Parameters
    ----------
    particles : n particles

    Raises
    ------
    InputError
        If one does; names the row with the lowest B-factor.
    """
    steepest = -16.0 * particles.pixel_size_A**2 * np.log(MAX_GAIN_BY_BFACTOR)
    beyond = particles.bfactor_A2 < steepest
    if beyond.any():
        row = int(np.argmin(particles.bfactor_A2))
        raise InputError(
            f"{particles.path}: row {rows_in_table(particles)[row] + 1}: B-factor {particles.bfactor_A2[row]:g} A2 "
            f"multiplies the CTF by more than {MAX_GAIN_BY_BFACTOR:g} at the Nyquist limit ({int(beyond.sum())} of "
            f"{len(beyond)} particles are below {steepest:.0f} A2): change the sign of the B-factors (rlnCtfBfactor, "
            "ctf/bfactor), or set them to 0"
        )


def require_usable_scales(particles: Particles) -> None:
    """Check that the amplitudes of the images are not all 0.

    Parameters
    ----------
    particles : n particles

    Raises
    ------
    InputError
        If they are; names the columns.
    """
    if not np.any(particles.scale > 0):
        raise InputError(
            f"{particles.path}: no image has a scale above 0 (rlnCtfScalefactor, ctf/scale): remove this column, or "
            "set it to 1"
        )


def require_same_grid(first: Volume, second: Volume) -> None:
    """Check that two maps have the same box and voxel size.

    Parameters
    ----------
    first, second : the maps; voxel sizes may differ by 1 %

    Raises
    ------
    InputError
        If box or voxel size differ; names both files.
    """
    if mismatch := grid_mismatch(second, first.box, first.pixel_size_A, "map", f"{first.path or 'the other map'}'s"):
        raise InputError(mismatch)
