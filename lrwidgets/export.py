"""A step of a run as files for other programs: STAR, .cs, maps, netCDF."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lrcore import io
from lrcore.aberrations import lens
from lrcore.errors import InputError
from lrcore.io.files import written_whole
from lrcore.poses import changes
from lrcore.records import Step, Volume
from lrcore.refine import Job, final_map, mask_of, whole_map
from lrcore.results import fulcrum_of
from lrcore.units import DEGREE


def particles(path: Path, job: Job, step: Step) -> None:
    """The particles with the step's poses as .star or .cs, and columns that say how far they moved and how sure."""
    io.write_particles(path, job.particles, step.expectation.poses, columns(job, step))


def columns(job: Job, step: Step) -> dict[str, npt.NDArray[Any]]:
    """Extra columns, each (n,): changes from the input pose and SDs (root mean square over the axes), degree and Å."""
    found = step.expectation
    behind = lens(job.particles, np.arange(len(job.particles)))
    angle, shift = changes(job.particles.poses, found.poses, fulcrum_of(job, step), behind)
    variance = np.diagonal(found.covariance, axis1=1, axis2=2)
    return {
        "lrwAngleChange": angle,
        "lrwShiftChangeAngst": shift,
        "lrwRotationSd": np.sqrt(variance[:, :3].mean(axis=1)) / DEGREE,
        "lrwShiftSdAngst": np.sqrt(variance[:, 3:].mean(axis=1)),
        "lrwModeProbability": found.mode_probability,
        "lrwFlags": found.flags.astype(np.int32),
    }


def maps(folder: Path, job: Job, first: Step, step: Step) -> list[Path]:
    """half1.mrc, half2.mrc (unfiltered), map.mrc (combined, filtered by its FSC), map_whole.mrc and mask.mrc.

    map_whole.mrc shows the body amid the rest of the particle; see `whole_map`. first: the run's Step 0. A dynamic
    mask is the one of the next iteration, made from this step's map.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error}): choose another folder") from error
    volumes: dict[str, Volume] = {
        "half1.mrc": step.half_maps.first,
        "half2.mrc": step.half_maps.second,
        "map.mrc": final_map(job, step),
        "map_whole.mrc": whole_map(job, first, step),
        "mask.mrc": mask_of(job, step),
    }
    for name, volume in volumes.items():
        io.write_volume(folder / name, volume)
    return [folder / name for name in volumes]


def netcdf(path: Path, tree: xr.DataTree) -> None:
    """Results as netCDF 4. Raises InputError if the libraries for it are not installed."""
    try:
        import h5netcdf  # noqa: F401
        import h5py  # type: ignore[import-untyped] # noqa: F401
    except ImportError as error:
        raise InputError(f"{path}: netCDF needs h5netcdf and h5py: pip install 'lrwidgets[netcdf]'") from error
    with written_whole(path) as temporary:
        tree.to_netcdf(temporary, engine="h5netcdf")
