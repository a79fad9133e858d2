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
"""Colours of the local resolution in ChimeraX, from high to low resolution."""


def locres(arguments: Namespace) -> None:
    """Estimate the local resolution of two half maps and write it as a map in Å."""
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
                result = event
    finally:
        printer.close()
    io.write_volume(arguments.out, result.map)
    if arguments.cxc:
        _write_text(arguments.cxc, chimerax_commands(result, (arguments.first, arguments.second), arguments.out))
    if arguments.plot:
        _plot(arguments.plot, result, mask)
    finer, _, coarser = result.quartiles_A
    printer.report(
        f"local resolution inside the mask: median {result.median_A:.2f} Å, quartiles {finer:.2f} and {coarser:.2f} Å\n"
        f"{len(result.points)} windows of {result.window_A:.3g} Å, every {result.sampling_A:.3g} Å; "
        f"wrote {arguments.out}",
        "locres",
        median_A=result.median_A,
        quartiles_A=(finer, coarser),
        window_A=result.window_A,
        sampling_A=result.sampling_A,
        windows=len(result.points),
        path=arguments.out,
    )


def chimerax_commands(result: LocalResolution, halves: tuple[Path, Path], out: Path) -> str:
    """Return a ChimeraX script: the sum of the half maps, coloured by local resolution between its 5 % and 95 %."""
    low, high = np.quantile(result.resolution_A, (0.05, 0.95))
    steps = np.linspace(low, max(high, low + 0.1), len(COLOURS))
    palette = ":".join(f"{value:.3g},{colour}" for value, colour in zip(steps, COLOURS, strict=True))
    open_files = [f'open "{path.resolve()}"' for path in (*halves, out)]
    lines = [
        *open_files,
        "volume add #1,2 modelId #4",
        "hide #1-3 models",
        f"color sample #4 map #3 palette {palette}",
        "key " + " ".join(f"{colour}:{value:.1f}" for value, colour in zip(steps, COLOURS, strict=True)),
    ]
    return "\n".join(lines) + "\n"


def _mask(arguments: Namespace, first: Volume, second: Volume) -> Volume:
    """Return the mask of --mask, or a tight automatic one."""
    if arguments.mask is not None:
        return validate_mask(io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A)
    distance = outline_distance_A(first.data, second.data, first.pixel_size_A, thread_count(arguments))
    return Volume(cosine_falloff(distance, TIGHT_A), first.pixel_size_A)


def _write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def _plot(path: Path, result: LocalResolution, mask: Volume) -> None:
    """Plot the local resolution inside the mask."""
    import xarray as xr

    from lrwidgets import plots

    grid = (np.arange(mask.box) - mask.box // 2) * mask.pixel_size_A
    axes = dict.fromkeys("zyx", grid)
    plots.save(plots.local_resolution(*(xr.DataArray(v.data, axes, tuple("zyx")) for v in (result.map, mask))), path)
