"""`lrwidgets locres`: estimate the local resolution of two half maps."""

from argparse import Namespace
from pathlib import Path

import numpy as np

from lrcore import io
from lrcore.io.paths import atomic_write
from lrcore.maps.local_resolution import LocalResolution, estimate_local_resolution
from lrcore.maps.solvent_mask import TIGHT_A, cosine_falloff, outline_distance_A
from lrcore.masks import validate_mask
from lrcore.records import Progress, Volume
from lrwidgets.cli.half_maps import read_matching_half_maps, require_writable, thread_count
from lrwidgets.cli.printer import Printer

COLOURS = ("#08306B", "#0072B2", "#56B4E9", "#E69F00", "#D55E00")
"""Of the local resolution in ChimeraX, from fine to coarse."""


def locres(arguments: Namespace) -> None:
    """Measure the local resolution of two half maps and write it as a map in Å."""
    inputs = [arguments.first, arguments.second, *([arguments.mask] if arguments.mask else [])]
    outputs = [path for path in (arguments.out, arguments.cxc, arguments.plot) if path]
    for path in outputs:
        require_writable(path, inputs)
    first, second = read_matching_half_maps(arguments.first, arguments.second, arguments.apix)
    mask = _mask(arguments, first, second)
    printer = Printer(arguments.json)
    window, sampling, workers = arguments.window, arguments.sampling, thread_count(arguments)
    try:
        for event in estimate_local_resolution(first, second, mask, window, sampling, arguments.threshold, workers):
            if isinstance(event, Progress):
                printer.show_progress(event)
            else:
                found = event
    finally:
        printer.close()
    io.write_volume(arguments.out, found.map)
    if arguments.cxc:
        _write_text(arguments.cxc, chimerax_commands(found, (arguments.first, arguments.second), arguments.out))
    if arguments.plot:
        _plot(arguments.plot, found, mask)
    finer, _, coarser = found.quartiles_A
    printer.report(
        f"local resolution inside the mask: median {found.median_A:.2f} Å, quartiles {finer:.2f} and {coarser:.2f} Å\n"
        f"{len(found.points)} windows of {found.window_A:.3g} Å, every {found.sampling_A:.3g} Å; wrote {arguments.out}",
        "locres",
        median_A=found.median_A,
        quartiles_A=(finer, coarser),
        window_A=found.window_A,
        sampling_A=found.sampling_A,
        windows=len(found.points),
        path=arguments.out,
    )


def chimerax_commands(found: LocalResolution, halves: tuple[Path, Path], out: Path) -> str:
    """Commands for ChimeraX: the sum of the half maps, coloured by local resolution between its 5 % and 95 %."""
    low, high = np.quantile(found.resolution_A, (0.05, 0.95))
    steps = np.linspace(low, max(high, low + 0.1), len(COLOURS))
    palette = ":".join(f"{value:.3g},{colour}" for value, colour in zip(steps, COLOURS, strict=True))
    opened = [f'open "{path.resolve()}"' for path in (*halves, out)]
    lines = [
        *opened,
        "volume add #1,2 modelId #4",
        "hide #1-3 models",
        f"color sample #4 map #3 palette {palette}",
        "key " + " ".join(f"{colour}:{value:.1f}" for value, colour in zip(steps, COLOURS, strict=True)),
    ]
    return "\n".join(lines) + "\n"


def _mask(arguments: Namespace, first: Volume, second: Volume) -> Volume:
    """The mask, or the tight automatic one."""
    if arguments.mask is not None:
        return validate_mask(io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A)
    distance = outline_distance_A(first.data, second.data, first.pixel_size_A, thread_count(arguments))
    return Volume(cosine_falloff(distance, TIGHT_A), first.pixel_size_A)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def _plot(path: Path, found: LocalResolution, mask: Volume) -> None:
    import xarray as xr

    from lrwidgets import plots

    grid = (np.arange(mask.box) - mask.box // 2) * mask.pixel_size_A
    axes = dict.fromkeys("zyx", grid)
    plots.save(plots.local_resolution(*(xr.DataArray(v.data, axes, tuple("zyx")) for v in (found.map, mask))), path)
