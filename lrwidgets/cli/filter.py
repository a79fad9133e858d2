"""`lrwidgets filter`: filter or sharpen a map, or two half maps by their FSC."""

from argparse import Namespace
from pathlib import Path

import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.filters import highpass, local_lowpass, lowpass
from lrcore.io.checks import require_same_grid
from lrcore.maps.fsc import fsc_curves
from lrcore.maps.sharpening import fit_guinier, fsc_weight, sharpen
from lrcore.masks import validate_mask
from lrcore.records import Fsc, Volume
from lrwidgets.cli.half_maps import read_matching_half_maps, require_writable, thread_count
from lrwidgets.cli.printer import Printer


def filter(arguments: Namespace) -> None:
    """Filter or sharpen a map, or the mean of two half maps, which is weighted by their FSC by default."""
    if len(arguments.maps) > 2:
        raise InputError(f"{len(arguments.maps)} maps are given: give one map, or two half maps")
    inputs = [*arguments.maps, *(path for path in (arguments.mask, arguments.local) if path)]
    require_writable(arguments.out, inputs)
    volume, curve = _map_and_fsc(arguments)
    printer = Printer(arguments.json)
    workers = thread_count(arguments)
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
        data = sharpen(data, apix, bfactor or 0.0, weight, workers)
    if arguments.local is not None:
        (data,) = local_lowpass((data,), apix, _local_resolution(arguments.local, volume), workers)
        done.append(f"low-passed at its local resolution ({arguments.local})")
    for name, apply in (("lowpass", lowpass), ("highpass", highpass)):
        resolution = getattr(arguments, name)
        if resolution is not None:
            _check_resolution(name, resolution, volume)
            data = apply(data, apix, resolution, workers)
            done.append(f"{name.replace('pass', '-passed')} at {resolution:g} Å")
    io.write_volume(arguments.out, Volume(data, apix, volume.header_origin_A))
    printer.report(
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


def _map_and_fsc(arguments: Namespace) -> tuple[Volume, Fsc | None]:
    """Return the map to filter and, for two half maps, their FSC: corrected for the mask, or tight without a mask."""
    if len(arguments.maps) == 1:
        filters = (arguments.sharpen, arguments.lowpass, arguments.highpass, arguments.local)
        if all(value is None for value in filters):
            raise InputError(
                f"{arguments.maps[0]}: nothing to do: give both half maps, or --lowpass, --highpass, --sharpen, --local"
            )
        if arguments.mask is not None:
            raise InputError("--mask is for the FSC of two half maps: give both half maps, or leave out --mask")
        return io.read_volume(arguments.maps[0], arguments.apix), None
    first, second = read_matching_half_maps(arguments.maps[0], arguments.maps[1], arguments.apix)
    mask = arguments.mask and validate_mask(
        io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A
    )
    curves = fsc_curves(first, second, mask or None, arguments.seed, thread_count(arguments))
    mean = Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A, first.path)
    return mean, curves["corrected" if mask else "tight"]


def _bfactor(arguments: Namespace, volume: Volume, curve: Fsc | None, printer: Printer, workers: int) -> float:
    """Return the B-factor of --sharpen, or fit it to the Guinier plot and print the fit."""
    if arguments.sharpen != "auto":
        return float(arguments.sharpen)
    if curve is None:
        raise InputError(f"{arguments.maps[0]}: --sharpen auto needs the FSC: give both half maps, or a B-factor")
    plot = fit_guinier(volume.data, curve, workers=workers)
    printer.report(
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


def _local_resolution(path: Path, volume: Volume) -> np.ndarray:
    """Read the local resolution in Å on the grid of the map."""
    local = io.read_volume(path, None)
    require_same_grid(volume, local)
    if not local.data.min() > 0:
        raise InputError(
            f"{path}: has voxels of 0 or less: give a map of the local resolution in Å, as lrwidgets locres writes it"
        )
    return local.data


def _check_resolution(name: str, resolution: float, volume: Volume) -> None:
    """Raise InputError unless the resolution lies between the Nyquist limit and the box."""
    nyquist, box = 2 * volume.pixel_size_A, volume.box * volume.pixel_size_A
    if not nyquist <= resolution <= box:
        raise InputError(f"--{name} {resolution:g}: must lie between {nyquist:g} Å (Nyquist) and {box:g} Å (the box)")
