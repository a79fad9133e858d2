"""`lrwidgets fsc`: calculate the Fourier shell correlation of two maps."""

import warnings
from argparse import Namespace
from typing import TYPE_CHECKING

from lrcore import io
from lrcore.io.checks import require_same_grid
from lrcore.maps.fsc import fsc_curves
from lrcore.maps.half_map_checks import find_half_map_faults
from lrcore.masks import validate_mask
from lrcore.records import Fsc, HalfMaps
from lrwidgets.cli.printer import Printer

if TYPE_CHECKING:
    from lrcore.maps.conical_fsc import ConicalFsc


def fsc(arguments: Namespace) -> None:
    """Print the resolution at 0.143 and 0.5 of every FSC curve of two maps, or with --json the curves."""
    first, second = (io.read_volume(path, arguments.apix) for path in (arguments.first, arguments.second))
    require_same_grid(first, second)
    _warn_of_faults(HalfMaps(first, second))
    mask = arguments.mask and validate_mask(
        io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A
    )
    printer = Printer(arguments.json)
    if not printer.as_json:
        printer.print_line("FSC          0.143 at Å   0.5 at Å")
    for curve in fsc_curves(first, second, mask or None, arguments.seed).values():
        _print_curve(printer, curve)
    if arguments.conical:
        from lrcore.maps.conical_fsc import compute_conical_fsc  # imported here, so that fsc starts quickly

        _print_conical(printer, compute_conical_fsc(first, second, mask or None))


def _warn_of_faults(maps: HalfMaps) -> None:
    """Warn of what makes the FSC of two maps meaningless, also where it could not be refined with."""
    faults = find_half_map_faults(maps)
    for fault in (faults.unusable, *faults.harmful):
        if fault is not None:
            warnings.warn(fault, stacklevel=2)


def _print_curve(printer: Printer, curve: Fsc) -> None:
    """Print the resolutions of one curve."""
    resolution = {threshold: curve.resolution_A(threshold) for threshold in (0.143, 0.5)}
    printer.report(
        f"{curve.kind:12s} {resolution[0.143]:10.2f} {resolution[0.5]:10.2f}",
        "fsc",
        kind=curve.kind,
        resolution_0143_A=resolution[0.143],
        resolution_05_A=resolution[0.5],
        frequency_per_A=curve.frequency,
        fsc=curve.value,
    )


def _print_conical(printer: Printer, result: "ConicalFsc") -> None:
    """Print the range of resolutions over the directions."""
    finest, coarsest = float(result.resolution_A.min()), float(result.resolution_A.max())
    worst = result.direction[result.area.argmin()]
    printer.report(
        f"by direction: 0.143 at {finest:.2f} to {coarsest:.2f} Å; ratio of the smallest to the largest area under the "
        f"FSC {result.ratio:.2f}, smallest along ({', '.join(f'{x:.2f}' for x in worst)})",
        "conical",
        finest_A=finest,
        coarsest_A=coarsest,
        area_ratio=result.ratio,
        direction=result.direction,
        resolution_0143_A=result.resolution_A,
        area_per_A=result.area,
        frequency_per_A=result.frequency,
        fsc=result.value,
    )
