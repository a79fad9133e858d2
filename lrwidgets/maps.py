"""`lrwidgets locres` and `lrwidgets filter`: how good a map is from place to place, and what may be seen of it."""

import os
from argparse import Namespace
from pathlib import Path

import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.filters import fsc_weight, guinier, highpass, local_lowpass, lowpass, sharpened
from lrcore.fsc import family
from lrcore.io.checks import check_alike
from lrcore.io.files import keep_inputs, require_folder, written_whole
from lrcore.locres import LocalResolution, local_resolution
from lrcore.masks import checked
from lrcore.records import Fsc, Progress, Volume
from lrcore.solvent import TIGHT_A, falling, outline_distance_A
from lrwidgets.table import Printer

COLOURS = ("#08306B", "#0072B2", "#56B4E9", "#E69F00", "#D55E00")
"""Of the local resolution in ChimeraX, from fine to coarse."""


def locres(arguments: Namespace) -> None:
    """Measure the local resolution of two half maps and write it as a map in Å."""
    inputs = [arguments.first, arguments.second, *([arguments.mask] if arguments.mask else [])]
    outputs = [path for path in (arguments.out, arguments.cxc, arguments.plot) if path]
    for path in outputs:
        _writable(path, inputs)
    first, second = _halves(arguments.first, arguments.second, arguments.apix)
    mask = _mask(arguments, first, second)
    printer = Printer(arguments.json)
    window, sampling, workers = arguments.window, arguments.sampling, _cores(arguments)
    try:
        for event in local_resolution(first, second, mask, window, sampling, arguments.threshold, workers):
            if isinstance(event, Progress):
                printer.progress(event)
            else:
                found = event
    finally:
        printer.close()
    io.write_volume(arguments.out, found.map)
    if arguments.cxc:
        _write_text(arguments.cxc, chimerax(found, (arguments.first, arguments.second), arguments.out))
    if arguments.plot:
        _plot(arguments.plot, found, mask)
    finer, _, coarser = found.quartiles_A
    printer.tell(
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


def filter(arguments: Namespace) -> None:
    """Filter or sharpen a map, or the mean of two half maps, which then is filtered by their FSC unless told how."""
    if len(arguments.maps) > 2:
        raise InputError(f"{len(arguments.maps)} maps are given: give one map, or two half maps")
    given = [*arguments.maps, *(path for path in (arguments.mask, arguments.local) if path)]
    _writable(arguments.out, given)
    volume, curve = _map_and_fsc(arguments)
    printer = Printer(arguments.json)
    workers = _cores(arguments)
    data, apix, done = volume.data, volume.pixel_size_A, []
    bfactor = None
    if arguments.sharpen is not None:
        bfactor = _bfactor(arguments, volume, curve, printer, workers)
        done.append(f"sharpened by {bfactor:.4g} Å²")
    weight = None
    if curve is not None and arguments.local is None and arguments.lowpass is None:
        weight = fsc_weight(curve)
        done.append(f"weighted by its FSC ({curve.kind}), low-passed at {curve.resolution_A():.2f} Å")
    if bfactor is not None or weight is not None:
        data = sharpened(data, apix, bfactor or 0.0, weight, workers)
    if arguments.local is not None:
        (data,) = local_lowpass((data,), apix, _local(arguments.local, volume), workers)
        done.append(f"low-passed at its local resolution ({arguments.local})")
    for name, run in (("lowpass", lowpass), ("highpass", highpass)):
        resolution = getattr(arguments, name)
        if resolution is not None:
            _possible(name, resolution, volume)
            data = run(data, apix, resolution, workers)
            done.append(f"{name.replace('pass', '-passed')} at {resolution:g} Å")
    io.write_volume(arguments.out, Volume(data, apix, volume.header_origin_A))
    printer.tell(
        "; ".join(done) + f"; wrote {arguments.out}",
        "filter",
        path=arguments.out,
        bfactor_A2=bfactor,
        fsc=None if weight is None else curve and curve.kind,
        resolution_A=None if weight is None else curve and curve.resolution_A(),
        local=arguments.local,
        lowpass_A=arguments.lowpass,
        highpass_A=arguments.highpass,
    )


def chimerax(found: LocalResolution, halves: tuple[Path, Path], out: Path) -> str:
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


def _cores(arguments: Namespace) -> int:
    return arguments.threads or len(os.sched_getaffinity(0))


def _halves(first: Path, second: Path, apix: float | None) -> tuple[Volume, Volume]:
    a, b = (io.read_volume(path, apix) for path in (first, second))
    check_alike(a, b)
    return a, b


def _mask(arguments: Namespace, first: Volume, second: Volume) -> Volume:
    """The mask, or the tight automatic one."""
    if arguments.mask is not None:
        return checked(io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A)
    distance = outline_distance_A(first.data, second.data, first.pixel_size_A, _cores(arguments))
    return Volume(falling(distance, TIGHT_A), first.pixel_size_A)


def _map_and_fsc(arguments: Namespace) -> tuple[Volume, Fsc | None]:
    """The map to filter, and the FSC that goes with it if there are two: corrected for the mask, or tight without."""
    if len(arguments.maps) == 1:
        asked = (arguments.sharpen, arguments.lowpass, arguments.highpass, arguments.local)
        if all(value is None for value in asked):
            raise InputError(
                f"{arguments.maps[0]}: nothing to do: give both half maps, or --lowpass, --highpass, --sharpen, --local"
            )
        if arguments.mask is not None:
            raise InputError("--mask is for the FSC of two half maps, and one map is given: give both, or leave it out")
        return io.read_volume(arguments.maps[0], arguments.apix), None
    first, second = _halves(arguments.maps[0], arguments.maps[1], arguments.apix)
    mask = arguments.mask and checked(io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A)
    curves = family(first, second, mask or None, arguments.seed, _cores(arguments))
    mean = Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A, first.path)
    return mean, curves["corrected" if mask else "tight"]


def _bfactor(arguments: Namespace, volume: Volume, curve: Fsc | None, printer: Printer, workers: int) -> float:
    """The B-factor asked for, or the one that the Guinier plot says, which is told."""
    if arguments.sharpen != "auto":
        return float(arguments.sharpen)
    if curve is None:
        raise InputError(f"{arguments.maps[0]}: --sharpen auto needs the FSC: give both half maps, or a B-factor")
    plot = guinier(volume.data, curve, workers=workers)
    printer.tell(
        f"B-factor {plot.bfactor_A2:.1f} Å², fitted from {plot.range_A[0]:.3g} to {plot.range_A[1]:.3g} Å "
        f"(correlation {plot.correlation:.3f})",
        "guinier",
        bfactor_A2=plot.bfactor_A2,
        intercept=plot.intercept,
        correlation=plot.correlation,
        range_A=plot.range_A,
        frequency_per_A=plot.frequency,
        log_amplitude=plot.log_amplitude,
        log_weighted=plot.log_weighted,
    )
    return plot.bfactor_A2


def _local(path: Path, volume: Volume) -> np.ndarray:
    local = io.read_volume(path, None)
    check_alike(volume, local)
    if not local.data.min() > 0:
        raise InputError(f"{path}: has voxels of 0 or less: give a map of local resolution in Å, as locres writes it")
    return local.data


def _possible(name: str, resolution: float, volume: Volume) -> None:
    nyquist, box = 2 * volume.pixel_size_A, volume.box * volume.pixel_size_A
    if not nyquist <= resolution <= box:
        raise InputError(f"--{name} {resolution:g}: must lie between {nyquist:g} Å (Nyquist) and {box:g} Å (the box)")


def _writable(path: Path, inputs: list[Path]) -> None:
    keep_inputs(path, inputs)
    require_folder(path)


def _write_text(path: Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text)


def _plot(path: Path, found: LocalResolution, mask: Volume) -> None:
    import xarray as xr

    from lrwidgets import plots

    grid = (np.arange(mask.box) - mask.box // 2) * mask.pixel_size_A
    axes = dict.fromkeys("zyx", grid)
    plots.save(plots.local_resolution(*(xr.DataArray(v.data, axes, tuple("zyx")) for v in (found.map, mask))), path)
