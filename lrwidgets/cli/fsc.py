"""The commands that need no session: reconstruct, fsc, info. They start quickly, since they import little."""

from argparse import Namespace
from typing import TYPE_CHECKING

from lrcore import io
from lrcore.io.checks import require_same_grid
from lrcore.maps.fsc import fsc_curves
from lrcore.masks import validate_mask
from lrcore.records import Fsc
from lrwidgets.cli.printer import Printer

if TYPE_CHECKING:
    from lrcore.maps.conical_fsc import ConicalFsc


def fsc(arguments: Namespace) -> None:
    """Print every FSC curve of two maps: where it crosses, or with --json all of it."""
    first, second = (io.read_volume(path, arguments.apix) for path in (arguments.first, arguments.second))
    require_same_grid(first, second)
    mask = arguments.mask and validate_mask(
        io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A
    )
    printer = Printer(arguments.json)
    if not printer.as_json:
        printer.print_line("FSC          0.143 at Å   0.5 at Å")
    for curve in fsc_curves(first, second, mask or None, arguments.seed).values():
        _print_curve(printer, curve)
    if arguments.conical:
        from lrcore.maps.conical_fsc import compute_conical_fsc

        _print_conical(printer, compute_conical_fsc(first, second, mask or None))


def _print_curve(printer: Printer, curve: Fsc) -> None:
    at = {threshold: curve.resolution_A(threshold) for threshold in (0.143, 0.5)}
    printer.report(
        f"{curve.kind:12s} {at[0.143]:10.2f} {at[0.5]:10.2f}",
        "fsc",
        kind=curve.kind,
        resolution_0143_A=at[0.143],
        resolution_05_A=at[0.5],
        frequency_per_A=curve.frequency,
        fsc=curve.value,
    )


def _print_conical(printer: Printer, found: "ConicalFsc") -> None:
    finest, coarsest = float(found.resolution_A.min()), float(found.resolution_A.max())
    worst = found.direction[found.area.argmin()]
    printer.report(
        f"by direction, 0.143 at {finest:.2f} to {coarsest:.2f} Å; smallest over largest area {found.ratio:.2f}, worst "
        f"along ({', '.join(f'{x:.2f}' for x in worst)})",
        "conical",
        finest_A=finest,
        coarsest_A=coarsest,
        area_ratio=found.ratio,
        direction=found.direction,
        resolution_0143_A=found.resolution_A,
        area_per_A=found.area,
        frequency_per_A=found.frequency,
        fsc=found.value,
    )
