"""`lrwidgets mask`: make a soft mask from a map, shapes, an atomic model and other masks, and check it."""

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lrcore import io, masks
from lrcore.arrays import Float32
from lrcore.errors import InputError
from lrcore.io.checks import require_same_grid
from lrcore.io.paths import refuse_to_overwrite_inputs
from lrcore.maps.half_map_checks import check_half_maps
from lrcore.records import HalfMaps, Volume
from lrcore.refinement.parameters import FULCRUM_PATTERN, fulcrum_point
from lrwidgets.cli.printer import Printer
from lrwidgets.text.parameters import POINT_FORMS

Point = tuple[float, float, float]

AXES: dict[str, Point] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def mask(arguments: Namespace) -> None:
    """Make a mask, write it and print its size and checks."""
    _check_options(arguments)
    refuse_to_overwrite_inputs(arguments.out, _inputs(arguments))
    volume = _mean_map(arguments.map, arguments.apix)
    result = masks.make_mask(volume, _recipe(arguments, volume))
    checks = result.checks()
    if result.is_empty:
        raise InputError(f"{arguments.out}: is not written, the mask would be empty: check --and and --subtract")
    io.write_volume(arguments.out, Volume(result.mask, volume.pixel_size_A, volume.header_origin_A))
    _print_mask(Printer(arguments.json), arguments, result, checks)


def _check_options(arguments: Namespace) -> None:
    """Raise InputError for options that exclude each other or cannot be used."""
    if arguments.model is None and (arguments.select or arguments.radius is not None):
        raise InputError("--select and --radius need an atomic model: give it by --model FILE")
    if (arguments.components or 0) < 0:
        raise InputError(
            f"--components {arguments.components}: write how many connected components to keep, or 0 for all"
        )
    if len(arguments.map) > 2:
        raise InputError(f"{len(arguments.map)} maps are given: give one, or two half maps")


def _inputs(arguments: Namespace) -> list[Path]:
    """Return all files that are read."""
    model = [] if arguments.model is None else [arguments.model]
    return [*arguments.map, *model, *(path for _, path in arguments.joined)]


def _mean_map(paths: Sequence[Path], apix: float | None) -> Volume:
    """Return the map, or the mean of two half maps."""
    volumes = [io.read_volume(path, apix) for path in paths]
    first = volumes[0]
    for other in volumes[1:]:
        require_same_grid(first, other)
        check_half_maps(HalfMaps(first, other))
    data = first.data if len(volumes) == 1 else 0.5 * (first.data + volumes[1].data)
    return Volume(data, first.pixel_size_A, first.header_origin_A, first.path)


def _mask_data(path: Path, volume: Volume, apix: float | None) -> Float32:
    """Read another mask and check its grid and values."""
    other_mask = io.read_volume(path, apix)
    require_same_grid(volume, other_mask)
    return masks.validate_mask(other_mask, volume.box, volume.pixel_size_A).data


def _recipe(arguments: Namespace, volume: Volume) -> masks.MaskRecipe:
    """Return the recipe of the options."""
    others = [
        masks.CombinedMask(operation, _mask_data(path, volume, arguments.apix), str(path))
        for operation, path in arguments.joined
    ]
    return masks.MaskRecipe(
        lowpass_A=arguments.lowpass,
        threshold=arguments.threshold,
        shapes=_shapes(arguments, volume),
        components=arguments.components,
        at_A=None if arguments.at is None else _point("--at", arguments.at, volume),
        dilate_A=arguments.dilate,
        fill=arguments.fill,
        soft_A=arguments.soft,
        resolution_A=arguments.resolution,
        joined=tuple(others),
        invert=arguments.invert,
    )


def _shapes(arguments: Namespace, volume: Volume) -> tuple[masks.Shape, ...]:
    """Return all shapes, and the atoms of the model."""
    shapes: list[masks.Shape] = []
    for point, radius in arguments.sphere:
        shapes.append(masks.Sphere(_point("--sphere", point, volume), _number("--sphere", radius)))
    for point, size in arguments.box:
        shapes.append(masks.Cuboid(_point("--box", point, volume), _size("--box", size)))
    for point, axis, radius, length in arguments.cylinder:
        name = "--cylinder"
        direction = AXES.get(axis) or _three_numbers(name, axis)
        sizes = _number(name, radius), _number(name, length)
        shapes.append(masks.Cylinder(_point(name, point, volume), direction, *sizes))
    if arguments.model is not None:
        radius = {} if arguments.radius is None else {"radius_A": arguments.radius}
        shapes.append(masks.Atoms(masks.read_atoms(arguments.model, arguments.select or ""), **radius))
    return tuple(shapes)


def _point(name: str, text: str, volume: Volume) -> Point:
    """Return (x, y, z) in Å from the box centre of a point, which is written like a fulcrum."""
    try:
        if text.strip() == "box" or FULCRUM_PATTERN.match(text):
            return fulcrum_point(text.strip(), volume.box, volume.pixel_size_A, (0.0, 0.0, 0.0), volume.header_origin_A)
    except ValueError:
        pass
    raise InputError(f"{name} {text!r}: write a point as {POINT_FORMS}")


def _number(name: str, text: str) -> float:
    """Return a length in Å above 0."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} {text!r}: is not a length in A above 0")
    return value


def _size(name: str, text: str) -> Point:
    """Return the size (x, y, z) in Å of a box."""
    return _three_numbers(name, text) if "," in text else (_number(name, text),) * 3


def _three_numbers(name: str, text: str) -> Point:
    """Return three numbers."""
    parts = re.split(r"\s*,\s*", text.strip())
    try:
        x, y, z = map(float, parts)
    except ValueError:
        x = y = z = np.nan
    if not np.isfinite([x, y, z]).all():
        raise InputError(f"{name} {text!r}: write three numbers, x,y,z")
    return x, y, z


def _print_mask(
    printer: Printer, arguments: Namespace, result: masks.MaskResult, checks: Sequence[masks.MaskCheck]
) -> None:
    """Print how the mask was made, its size and its checks."""
    recipe, apix = result.recipe, result.volume.pixel_size_A
    dilate_A, soft_A = recipe.edges_A
    facts = asdict(masks.measure_mask(result.mask, apix))
    kept_A3 = float(result.region.sum()) * apix**3
    if printer.as_json:
        density: dict[str, Any] = {}
        if recipe.uses_density:
            density = {"threshold": result.threshold, "parts": result.component_count, "density_A3": kept_A3}
        edges = {"dilate_A": dilate_A, "soft_A": soft_A, "path": arguments.out}
        grid = {"box": result.volume.box, "pixel_size_A": apix}
        printer.report("", "mask", **density, **grid, **facts, **edges, checks=[asdict(check) for check in checks])
        return
    if recipe.uses_density:
        how = "" if arguments.threshold not in (None, "auto") else ", automatic"
        lowpassed = f", map low-passed at {arguments.lowpass:g} A" if arguments.lowpass else ""
        printer.print_line(f"threshold {result.threshold:.4g}{how}{lowpassed}")
        kept = f"{kept_A3:.0f} A3 ({masks.mass_kDa(kept_A3):.0f} kDa at 0.81 Da/A3)"
        parts = f"{result.component_count} connected component{'s' * (result.component_count > 1)}"
        printer.print_line(f"density   {kept}, kept from {parts}")
    filled = ", holes filled" if arguments.fill else ""
    printer.print_line(f"edge      dilated by {dilate_A:g} A, {soft_A:g} A wide{filled}")
    centre = ", ".join(f"{x:.1f}" for x in facts["centre_px"])
    size = f"{facts['volume_A3']:.0f} A3 (room for {facts['mass_kDa']:.0f} kDa at 0.81 Da/A3)"
    printer.print_line(f"mask      {size}, {100 * facts['fraction']:.2g} % of the box, centre {centre} px")
    for check in checks:
        printer.print_line(f"{'ok' if check.passed else 'WARNING':9s} {check.sentence}")
    printer.print_line(f"wrote {arguments.out}")
