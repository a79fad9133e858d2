"""What is checked of particles by every reader, and of maps that are to be used together."""

from pathlib import Path

from lrcore.errors import InputError
from lrcore.records import Optics, Volume


def require_one_size(path: Path, optics: tuple[Optics, ...]) -> None:
    """Raise InputError unless all groups share one box and one pixel size."""
    for field, what in (("box", "boxes"), ("pixel_size_A", "pixel sizes")):
        values = sorted({getattr(group, field) for group in optics})
        if len(values) > 1:
            listed = ", ".join(f"{group.name}: {getattr(group, field):g}" for group in optics)
            raise InputError(f"{path}: several {what} in one file ({listed}): refine one of them at a time or rescale")


def check_optics(path: Path, optics: Optics) -> Optics:
    """The same group. Raises InputError naming the group if a value is impossible."""
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


def check_alike(first: Volume, second: Volume) -> None:
    """Raise InputError unless both maps have the same box and voxel size."""
    if first.box != second.box:
        raise InputError(
            f"{second.path}: its box is {second.box}, that of {first.path} {first.box}: re-box one of them"
        )
    if abs(first.pixel_size_A / second.pixel_size_A - 1) > 0.01:
        sizes = f"voxels of {second.pixel_size_A:g} Å, those of {first.path} {first.pixel_size_A:g} Å"
        raise InputError(f"{second.path}: has {sizes}: resample one of them, or give --apix")
