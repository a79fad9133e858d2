"""Maps along a principal motion as files: the body moved rigidly, bins reconstructed, and scripts for ChimeraX."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from lrcore import io
from lrcore.analysis.motion_volumes import move_body, reconstruct_bins
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.io.cs_table import find_rows
from lrcore.io.paths import atomic_write, create_files_or_clean_up
from lrcore.maps.fsc import combined_gain
from lrcore.records import Progress, Step, Volume
from lrcore.refinement.density import map_with_surroundings
from lrcore.refinement.job import Job
from lrcore.units import DEGREE
from lrwidgets.export.chimerax import MOTION_RANGE_SD, display_level

FRAMES = 9


def motion_series(
    job: Job, first: Step, step: Step, motions: xr.Dataset, number: int
) -> Iterator[tuple[float, Volume]]:
    """The whole map with the body moved along a principal motion: its place in SD, and the map.

    first: the run's Step 0. motions: of `estimate.principal_motions`. Raises InputError for a motion that is not there.
    """
    if number not in motions["motion"].values:
        raise InputError(f"motion {number}: there are motions 1 to {motions.sizes['motion']}")
    one, whole = motions.sel(motion=number), map_with_surroundings(job, first, step)
    turn, shift = one["turn"].values * DEGREE, one["shift"].values
    for at in np.linspace(-MOTION_RANGE_SD, MOTION_RANGE_SD, FRAMES):
        yield float(at), move_body(whole, job.mask, motions["fulcrum"].values, at * turn, at * shift)


def write_motion_maps(
    folder: Path, job: Job, steps: tuple[Step, Step], motions: xr.Dataset, number: int, bins: int, backend: Backend
) -> Iterator[Progress | Path]:
    """Write the rigid series and, with `bins`, reconstructions, each with a .cxc that plays it; yields the paths.

    steps: the run's Step 0, and the step. Raises InputError if the folder is not empty or cannot be written.
    """
    first, step = steps
    name = f"motion{number}"
    rigid = [f"{name}_rigid_{i}.mrc" for i in range(1, FRAMES + 1)]
    apart = [f"{name}_bin_{i}.mrc" for i in range(1, bins + 1)]
    scripts = [f"{name}_rigid.cxc", *([f"{name}_bins.cxc"] if bins else [])]
    with create_files_or_clean_up(folder, [*rigid, *apart, *scripts]) as folder:
        made = list(motion_series(job, first, step, motions, number))
        for file, (_, volume) in zip(rigid, made, strict=True):
            io.write_volume(folder / file, volume)
            yield folder / file
        yield _script(folder / scripts[0], rigid, [volume for _, volume in made])
        if bins:
            volumes, gain = list[Volume](), combined_gain(step.fsc["corrected"].value)
            rows = find_rows(job.particles.uid, motions["uid"].values)
            places = motions["coordinate"].sel(motion=number).values
            for event in reconstruct_bins(job.particles, rows, places, bins, gain, backend, job.spec.symmetry):
                if isinstance(event, Progress):
                    yield event
                    continue
                volumes.append(event)
                io.write_volume(folder / apart[len(volumes) - 1], event)
                yield folder / apart[len(volumes) - 1]
            yield _script(folder / scripts[1], apart, volumes)


def _script(path: Path, files: list[str], volumes: list[Volume]) -> Path:
    """Commands that open maps as a series at one level, and play it to and fro."""
    level = display_level(volumes[len(volumes) // 2])
    lines = [
        f"open {' '.join(files)} vseries true",
        f"volume #1 level {level:.5g}",
        "vseries play #1 direction oscillate",
    ]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return path
