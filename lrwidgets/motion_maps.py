"""Maps along a principal motion as files: the body moved rigidly, bins reconstructed, and scripts for ChimeraX."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from lrcore import io
from lrcore.backend import Backend
from lrcore.errors import InputError
from lrcore.fsc import combined_gain
from lrcore.io.cs_table import rows_of
from lrcore.io.files import new_files, written_whole
from lrcore.morph import binned, moved
from lrcore.records import Progress, Step, Volume
from lrcore.refine import Job, whole_map
from lrcore.units import DEGREE
from lrwidgets.scene import FARTHEST_SD, shown_level

FRAMES = 9


def series(job: Job, first: Step, step: Step, motions: xr.Dataset, number: int) -> Iterator[tuple[float, Volume]]:
    """The whole map with the body moved along a principal motion: its place in SD, and the map.

    first: the run's Step 0. motions: of `estimate.principal_motions`. Raises InputError for a motion that is not there.
    """
    if number not in motions["motion"].values:
        raise InputError(f"motion {number}: there are motions 1 to {motions.sizes['motion']}")
    one, whole = motions.sel(motion=number), whole_map(job, first, step)
    turn, shift = one["turn"].values * DEGREE, one["shift"].values
    for at in np.linspace(-FARTHEST_SD, FARTHEST_SD, FRAMES):
        yield float(at), moved(whole, job.mask, motions["fulcrum"].values, at * turn, at * shift)


def write(
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
    with new_files(folder, [*rigid, *apart, *scripts]) as folder:
        made = list(series(job, first, step, motions, number))
        for file, (_, volume) in zip(rigid, made, strict=True):
            io.write_volume(folder / file, volume)
            yield folder / file
        yield _script(folder / scripts[0], rigid, [volume for _, volume in made])
        if bins:
            volumes, gain = list[Volume](), combined_gain(step.fsc["corrected"].value)
            rows = rows_of(job.particles.uid, motions["uid"].values)
            places = motions["coordinate"].sel(motion=number).values
            for event in binned(job.particles, rows, places, bins, gain, backend, job.spec.symmetry):
                if isinstance(event, Progress):
                    yield event
                    continue
                volumes.append(event)
                io.write_volume(folder / apart[len(volumes) - 1], event)
                yield folder / apart[len(volumes) - 1]
            yield _script(folder / scripts[1], apart, volumes)


def _script(path: Path, files: list[str], volumes: list[Volume]) -> Path:
    """Commands that open maps as a series at one level, and play it to and fro."""
    level = shown_level(volumes[len(volumes) // 2])
    lines = [
        f"open {' '.join(files)} vseries true",
        f"volume #1 level {level:.5g}",
        "vseries play #1 direction oscillate",
    ]
    with written_whole(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return path
