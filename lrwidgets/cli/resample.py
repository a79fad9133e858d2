"""`lrwidgets resample`: resample a map or mask to another box and voxel size."""

from argparse import Namespace

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.resampling import resample_map
from lrcore.io.mrc_maps import read_header
from lrcore.records import Volume
from lrwidgets.cli.half_maps import require_writable
from lrwidgets.cli.printer import Printer

MAX_BOX = 4096
"""Largest box of a resampled map."""
TOLERANCE = 1e-3
"""Distance from [0, 1] up to which values are those of a mask."""


def resample(arguments: Namespace) -> None:
    """Write a map on the grid of another one, or in a given box or at a given voxel size."""
    a = arguments
    if (a.like is not None) == (a.box is not None or a.apix is not None):
        raise InputError("give either --like MAP, or --box, --apix, or both of them, for the new grid")
    require_writable(a.out, [path for path in (a.map, a.like) if path is not None])
    volume = io.read_volume(a.map, a.from_apix)
    box, pixel_size_A = _grid(arguments, volume)
    if not 2 <= box <= MAX_BOX:
        raise InputError(f"{a.map}: the new box would be {box} voxels, must be 2 to {MAX_BOX}: check --box and --apix")
    low, high = float(volume.data.min()), float(volume.data.max())
    is_mask = a.kind == "mask" or (a.kind == "auto" and low >= -TOLERANCE and 0 < high <= 1 + TOLERANCE)
    result = resample_map(volume, box, pixel_size_A, is_mask)
    io.write_volume(a.out, result)
    grid = f"{volume.box}³ voxels of {volume.pixel_size_A:g} Å → {box}³ of {pixel_size_A:g} Å"
    Printer(a.json).report(
        f"wrote {a.out} ({'mask' if is_mask else 'map'}, {grid})",
        "written",
        path=a.out,
        box=box,
        pixel_size_A=pixel_size_A,
        mask=is_mask,
    )


def _grid(arguments: Namespace, volume: Volume) -> tuple[int, float]:
    """Return box and voxel size of the result."""
    a, extent_A = arguments, volume.box * volume.pixel_size_A
    if a.like is not None:
        header = read_header(a.like)
        if not header.voxel_A[0] > 0:
            raise InputError(f"{a.like}: the header has no voxel size: give --box and --apix instead of --like")
        return header.shape[2], header.voxel_A[0]
    if a.apix is None:
        return a.box, extent_A / a.box
    return a.box or 2 * round(extent_A / a.apix / 2), a.apix
