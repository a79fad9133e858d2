"""Write maps along a principal motion: the body moved rigidly, reconstructions of bins, and ChimeraX scripts."""

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
from lrcore.refinement.density import map_with_surroundings, symmetry_of_mask
from lrcore.refinement.job import Job
from lrcore.units import DEGREE
from lrwidgets.export.chimerax import MOTION_RANGE_SD, display_level

FRAMES = 9


def motion_series(
    job: Job, first: Step, step: Step, motions: xr.Dataset, number: int
) -> Iterator[tuple[float, Volume]]:
    """Move the body rigidly along a principal motion, in the map of the whole particle.

    Parameters
    ----------
    job : the job that the step was run with
    first : the start of its run
    step : the step
    motions : as `principal_motions` returns them
    number : number of the motion, from 1

    Yields
    ------
    tuple[float, Volume]
        Position on the motion in SD, and map; FRAMES of them.

    Raises
    ------
    InputError
        If there is no such motion.
    """
    if number not in motions["motion"].values:
        raise InputError(f"motion {number}: there are motions 1 to {motions.sizes['motion']}")
    motion, whole = motions.sel(motion=number), map_with_surroundings(job, first, step)
    turn, shift = motion["turn"].values * DEGREE, motion["shift"].values
    for sd in np.linspace(-MOTION_RANGE_SD, MOTION_RANGE_SD, FRAMES):
        yield float(sd), move_body(whole, job.mask, motions["fulcrum"].values, sd * turn, sd * shift)


def write_motion_maps(
    folder: Path,
    job: Job,
    steps: tuple[Step, Step],
    motions: xr.Dataset,
    number: int,
    bins: int,
    backend: Backend,
    *,
    overwrite: bool = False,
) -> Iterator[Progress | Path]:
    """Write the rigid series and, with `bins`, reconstructions along the motion, each with a .cxc that plays it.

    Parameters
    ----------
    folder : where to write; it is created if needed
    job : the job that the step was run with
    steps : the start of the run, and the step
    motions : as `principal_motions` returns them
    number : number of the motion, from 1
    bins : number of reconstructions from particles binned by their position on the motion; 0 for none
    backend : backend for the reconstructions
    overwrite : replace files that exist

    Yields
    ------
    Progress | Path
        Progress of the reconstructions, and the path of each file that was written.

    Raises
    ------
    InputError
        If there is no such motion, if one of the files exists or the folder cannot be written.
    """
    first, step = steps
    name = f"motion{number}"
    rigid_files = [f"{name}_rigid_{i}.mrc" for i in range(1, FRAMES + 1)]
    bin_files = [f"{name}_bin_{i}.mrc" for i in range(1, bins + 1)]
    scripts = [f"{name}_rigid.cxc", *([f"{name}_bins.cxc"] if bins else [])]
    with create_files_or_clean_up(folder, [*rigid_files, *bin_files, *scripts], overwrite) as folder:
        series = list(motion_series(job, first, step, motions, number))
        for file, (_, volume) in zip(rigid_files, series, strict=True):
            io.write_volume(folder / file, volume)
            yield folder / file
        yield _script(folder / scripts[0], rigid_files, [volume for _, volume in series])
        if bins:
            volumes, gain = list[Volume](), combined_gain(step.fsc["corrected"].value)
            rows = find_rows(job.particles.uid, motions["uid"].values)
            positions = motions["coordinate"].sel(motion=number).values
            symmetry = symmetry_of_mask(job.mask, job.spec.symmetry)  # the other copies move otherwise
            for event in reconstruct_bins(job.particles, rows, positions, bins, gain, backend, symmetry):
                if isinstance(event, Progress):
                    yield event
                    continue
                volumes.append(event)
                io.write_volume(folder / bin_files[len(volumes) - 1], event)
                yield folder / bin_files[len(volumes) - 1]
            yield _script(folder / scripts[1], bin_files, volumes)


def _script(path: Path, files: list[str], volumes: list[Volume]) -> Path:
    """Write commands that open maps as a series at one contour level and play it back and forth."""
    level = display_level(volumes[len(volumes) // 2])
    lines = [
        f"open {' '.join(files)} vseries true",
        f"volume #1 level {level:.5g}",
        "vseries play #1 direction oscillate",
    ]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return path
