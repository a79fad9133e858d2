"""`lrwidgets mask`: a map, shapes or a model in, a soft mask out, and a word on what was made."""

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lrcore import io, masks
from lrcore.errors import InputError
from lrcore.io.checks import check_alike
from lrcore.io.files import keep_inputs, require_folder
from lrcore.records import Volume
from lrcore.spec import FULCRUM_PATTERN, fulcrum_point
from lrwidgets.table import Printer

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Point = tuple[float, float, float]

DILATE_A = 3.0
"""Of a thresholded map: its threshold lies within the density, not around it."""
SOFT_A = 15.0
"""Where no resolution is given: what the rule asks for at 3 Å."""
AXES: dict[str, Point] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
JOIN = {"and": masks.both, "or": masks.either, "subtract": masks.without}


@dataclass(frozen=True)
class Density:
    """What of a map is above a threshold.

    data: the low-passed map, 0 elsewhere. parts: how many there were to choose from, 0 where the mask is not made of
    it. kept_A3: volume of those chosen.
    """

    data: Float32
    inside: Bool
    threshold: float
    parts: int = 0
    kept_A3: float = 0.0


def mask(arguments: Namespace) -> None:
    """Make a mask and say what was done."""
    _check_options(arguments)
    keep_inputs(arguments.out, _inputs(arguments))
    volume = _mean_map(arguments.map, arguments.apix)
    density, inside = _region(arguments, volume)
    dilate_A, soft_A = _edges(arguments)
    made = masks.grown(inside, volume.pixel_size_A, dilate_A, soft_A, arguments.fill)
    for word, path in arguments.joined:
        made = JOIN[word](made, _other(path, volume, arguments.apix))
    if arguments.invert:
        made = masks.inverse(made)
    checks = masks.inspect(made, volume.pixel_size_A, arguments.resolution, None if density is None else density.data)
    if not made.max() > masks.SUPPORT:
        raise InputError(f"{arguments.out}: is not written, for the mask would be empty: look at --and and --subtract")
    io.write_volume(arguments.out, Volume(made, volume.pixel_size_A, volume.header_origin_A))
    facts = _facts(made, volume) | {"dilate_A": dilate_A, "soft_A": soft_A, "path": arguments.out}
    _tell(Printer(arguments.json), arguments, density, facts, checks)


def _check_options(arguments: Namespace) -> None:
    if arguments.model is None and (arguments.select or arguments.radius is not None):
        raise InputError("--select and --radius are of a model: give it by --model FILE")
    if (arguments.components or 0) < 0:
        raise InputError(f"--components {arguments.components}: write how many parts to keep, or 0 for all")
    if len(arguments.map) > 2:
        raise InputError(f"{len(arguments.map)} maps are given: give one, or two half maps")
    require_folder(arguments.out)


def _inputs(arguments: Namespace) -> list[Path]:
    model = [] if arguments.model is None else [arguments.model]
    return [*arguments.map, *model, *(path for _, path in arguments.joined)]


def _mean_map(paths: Sequence[Path], apix: float | None) -> Volume:
    """The map, or the mean of two half maps."""
    volumes = [io.read_volume(path, apix) for path in paths]
    first = volumes[0]
    for other in volumes[1:]:
        check_alike(first, other)
    data = first.data if len(volumes) == 1 else 0.5 * (first.data + volumes[1].data)
    return Volume(data, first.pixel_size_A, first.header_origin_A, first.path)


def _other(path: Path, volume: Volume, apix: float | None) -> Float32:
    """A mask to join with, checked."""
    other = io.read_volume(path, apix)
    check_alike(volume, other)
    return masks.checked(other, volume.box, volume.pixel_size_A).data


def _region(arguments: Namespace, volume: Volume) -> tuple[Density | None, Bool]:
    """The voxels that the mask is grown from, and the map's density; None if no threshold is asked for or found."""
    shapes = _shapes(arguments, volume)
    asked = arguments.threshold is not None or shapes is None
    if not asked:
        assert shapes is not None
        return _density(arguments, volume) if volume.data.max() > 0 else None, _chosen(arguments, volume, shapes, 0)[0]
    density = _density(arguments, volume)
    within = density.inside if shapes is None else density.inside & shapes
    if not within.any():
        raise InputError(
            f"threshold {density.threshold:.4g}: nothing above it lies in the shapes: lower it or move them"
        )
    inside, parts = _chosen(arguments, volume, within, 1)
    kept_A3 = float(inside.sum()) * volume.pixel_size_A**3
    return replace(density, parts=parts, kept_A3=kept_A3), inside


def _density(arguments: Namespace, volume: Volume) -> Density:
    filtered = masks.lowpass(volume.data, volume.pixel_size_A, arguments.lowpass)
    threshold = arguments.threshold
    if threshold in (None, "auto"):
        threshold = masks.automatic_threshold(filtered)
    inside = masks.above(filtered, threshold)
    return Density(np.where(inside, filtered, np.float32(0)), inside, threshold)


def _chosen(arguments: Namespace, volume: Volume, inside: Bool, default: int) -> tuple[Bool, int]:
    """The parts asked for, and how many there were; unasked, the `default` largest (0: all)."""
    if arguments.at is not None:
        _, parts = masks.components(inside, 0)
        point = _point("--at", arguments.at, volume)
        return masks.component_at(inside, volume.pixel_size_A, point), parts
    return masks.components(inside, default if arguments.components is None else arguments.components)


def _shapes(arguments: Namespace, volume: Volume) -> Bool | None:
    """All shapes and atoms together; None if there are none."""
    grid = (volume.box, volume.pixel_size_A)
    drawn: list[Bool] = []
    for where, radius in arguments.sphere:
        drawn.append(masks.sphere(*grid, _point("--sphere", where, volume), _number("--sphere", radius)) > 0)
    for where, size in arguments.box:
        drawn.append(masks.box(*grid, _point("--box", where, volume), _size("--box", size)) > 0)
    for where, axis, radius, length in arguments.cylinder:
        name = "--cylinder"
        along = AXES.get(axis) or _three(name, axis)
        sizes = _number(name, radius), _number(name, length)
        drawn.append(masks.cylinder(*grid, _point(name, where, volume), along, *sizes) > 0)
    if arguments.model is not None:
        radius_A = 5.0 if arguments.radius is None else arguments.radius
        drawn.append(masks.around_atoms(volume, masks.read_atoms(arguments.model, arguments.select or ""), radius_A))
    return np.logical_or.reduce(drawn) if drawn else None


def _point(name: str, text: str, volume: Volume) -> Point:
    """(x, y, z) in Å from the box centre, written as a fulcrum is."""
    try:
        if text.strip() == "box" or FULCRUM_PATTERN.match(text):
            return fulcrum_point(text.strip(), volume.box, volume.pixel_size_A, (0.0, 0.0, 0.0), volume.header_origin_A)
    except ValueError:
        pass
    raise InputError(f"{name} {text!r}: write a point as box, 'x, y, z px' or 'x, y, z A' (from the corner of the box)")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} {text!r}: is not a length in A above 0")
    return value


def _size(name: str, text: str) -> Point:
    return _three(name, text) if "," in text else (_number(name, text),) * 3


def _three(name: str, text: str) -> Point:
    parts = re.split(r"\s*,\s*", text.strip())
    try:
        x, y, z = map(float, parts)
    except ValueError:
        x = y = z = np.nan
    if not np.isfinite([x, y, z]).all():
        raise InputError(f"{name} {text!r}: write three numbers, x,y,z")
    return x, y, z


def _edges(arguments: Namespace) -> tuple[float, float]:
    """Dilation and width of the soft edge in Å."""
    shapes = arguments.sphere or arguments.box or arguments.cylinder or arguments.model
    thresholded = arguments.threshold is not None or not shapes
    dilate_A = arguments.dilate if arguments.dilate is not None else DILATE_A * thresholded
    if arguments.soft is not None:
        return dilate_A, arguments.soft
    return dilate_A, SOFT_A if arguments.resolution is None else masks.EDGE_PER_RESOLUTION * arguments.resolution


def _facts(made: Float32, volume: Volume) -> dict[str, Any]:
    centre = masks.centre_of_mass(made) + volume.box // 2
    volume_A3 = float(np.count_nonzero(made > 0.5)) * volume.pixel_size_A**3
    return {
        "box": volume.box,
        "pixel_size_A": volume.pixel_size_A,
        "volume_A3": volume_A3,
        "mass_kDa": masks.mass_kDa(volume_A3),
        "fraction": float(made.mean(dtype=np.float64)),
        "centre_px": centre,
    }


def _tell(
    printer: Printer,
    arguments: Namespace,
    density: Density | None,
    facts: dict[str, Any],
    checks: Sequence[masks.Check],
) -> None:
    if printer.as_json:
        found: dict[str, Any] = {}
        if density and density.parts:
            found = {"threshold": density.threshold, "parts": density.parts, "density_A3": density.kept_A3}
        printer.tell("", "mask", **found, **facts, checks=[asdict(check) for check in checks])
        return
    if density and density.parts:
        how = "" if arguments.threshold not in (None, "auto") else ", found in the map"
        at = f" low-passed to {arguments.lowpass:g} A" if arguments.lowpass else ""
        printer.say(f"threshold {density.threshold:.4g}{how}{at}")
        kept = f"{density.kept_A3:.0f} A3 ({masks.mass_kDa(density.kept_A3):.0f} kDa at 0.81 Da/A3)"
        printer.say(f"density   {kept}, kept of {density.parts} part{'s' * (density.parts > 1)}")
    filled = ", holes filled" if arguments.fill else ""
    printer.say(f"edge      from {facts['dilate_A']:g} A outside, {facts['soft_A']:g} A wide{filled}")
    centre = ", ".join(f"{x:.1f}" for x in facts["centre_px"])
    size = f"{facts['volume_A3']:.0f} A3 (room for {facts['mass_kDa']:.0f} kDa at 0.81 Da/A3)"
    printer.say(f"mask      {size}, {100 * facts['fraction']:.2g} % of the box, centre {centre} px")
    for check in checks:
        printer.say(f"{'ok' if check.passed else 'WARNING':9s} {check.sentence}")
    printer.say(f"wrote {arguments.out}")
