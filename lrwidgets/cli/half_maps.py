"""Read and check half maps, and check the output paths of the map commands."""

import os
from argparse import Namespace
from pathlib import Path

from lrcore import io
from lrcore.io.checks import require_same_grid
from lrcore.io.paths import refuse_to_overwrite_inputs, require_writable_file
from lrcore.maps.half_map_checks import check_half_maps
from lrcore.records import HalfMaps, Volume


def thread_count(arguments: Namespace) -> int:
    """Return the number of threads of --threads, or of all cores of this process."""
    return arguments.threads or len(os.sched_getaffinity(0))


def read_matching_half_maps(first: Path, second: Path, apix: float | None) -> tuple[Volume, Volume]:
    """Read two half maps; warn of what makes their FSC wrong.

    Raises InputError when their boxes or voxel sizes differ, or their contrast is opposite.
    """
    a, b = (io.read_volume(path, apix) for path in (first, second))
    require_same_grid(a, b)
    check_half_maps(HalfMaps(a, b))
    return a, b


def require_writable(path: Path, inputs: list[Path]) -> None:
    """Raise InputError when `path` is one of the inputs, or cannot be written."""
    refuse_to_overwrite_inputs(path, inputs)
    require_writable_file(path)
