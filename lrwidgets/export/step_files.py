"""A step of a run as files for other programs: STAR, .cs, maps, FSC curves, a scene for ChimeraX, netCDF."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import numpy as np
import numpy.typing as npt
import xarray as xr

from lrcore import io
from lrcore.analysis.motion_estimate import estimate_motion, principal_motions
from lrcore.analysis.pose_uncertainty import pose_sds
from lrcore.errors import InputError
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.poses import pose_differences
from lrcore.io.fsc_curves import KIND, write_fsc_star, write_fsc_xml
from lrcore.io.paths import atomic_write
from lrcore.maps.fsc import randomisation_shell
from lrcore.records import Expectation, Step, Volume
from lrcore.refinement.density import final_map, map_with_surroundings, mask_for_next_iteration
from lrcore.refinement.geometry import fulcrum_of
from lrcore.refinement.job import Job
from lrcore.units import DEGREE
from lrwidgets.export import chimerax as export_chimerax

PathLike = str | Path


class ExportTargets(TypedDict, total=False):
    """What can be written, and where to: `maps` and `chimerax` are folders, the others files; None is not written."""

    star: PathLike | None
    cs: PathLike | None
    maps: PathLike | None
    fsc_xml: PathLike | None
    fsc_star: PathLike | None
    chimerax: PathLike | None
    netcdf: PathLike | None


TARGET_NAMES = tuple(get_type_hints(ExportTargets))


def write_step(
    targets: Mapping[str, Any],
    job: Job,
    step: Step,
    before: Callable[[], tuple[Step, ...]],
    tree: Callable[[], xr.DataTree],
    drawn: xr.Dataset | None = None,
) -> list[Path]:
    """Write a step as `Targets` says; the paths written.

    before: the first step of its run and the one that it grew from, once if they are one; none of a first step. tree:
    all results. drawn: the step's /uncertainty, if it was asked for. Raises InputError for what cannot be written or is
    not known.
    """
    unknown = set(targets) - set(TARGET_NAMES)
    if unknown:
        raise InputError(
            f"export: {min(unknown)} is nothing that can be written: choose among {', '.join(TARGET_NAMES)}"
        )
    to = {name: Path(targets[name]) for name in TARGET_NAMES if targets.get(name) is not None}
    written = list[Path]()
    for name in ("star", "cs"):
        if name in to:
            write_step_particles(to[name], job, step, drawn)
            written.append(to[name])
    if "maps" in to or "chimerax" in to:
        steps = (*before(), step)
        written += write_step_maps(to["maps"], job, steps[0], step) if "maps" in to else []
        written += write_chimerax_scene(to["chimerax"], job, steps) if "chimerax" in to else []
    if "fsc_xml" in to:
        write_fsc_xml(to["fsc_xml"], step.fsc[KIND])
        written.append(to["fsc_xml"])
    if "fsc_star" in to:
        write_fsc_star(to["fsc_star"], step.fsc, _general(step, to.get("maps")))
        written.append(to["fsc_star"])
    if "netcdf" in to:
        write_netcdf(to["netcdf"], tree())
        written.append(to["netcdf"])
    return written


def write_step_particles(path: Path, job: Job, step: Step, drawn: xr.Dataset | None = None) -> None:
    """The particles with the step's poses as .star or .cs, and columns that say how far they moved and how sure."""
    io.write_particles(path, job.particles, step.expectation.poses, pose_columns(job, step, drawn))


def pose_columns(job: Job, step: Step, drawn: xr.Dataset | None = None) -> dict[str, npt.NDArray[Any]]:
    """Extra columns, each (n,): changes from the input pose and SDs (root mean square over the axes), degree and Å.

    drawn: the step's /uncertainty, in place of the covariance that the search gives.
    """
    found = step.expectation
    behind = magnification_in_3d(job.particles, np.arange(len(job.particles)))
    angle, shift = pose_differences(job.particles.poses, found.poses, fulcrum_of(job, step), behind)
    turn, slide = pose_sds(found.covariance if drawn is None else drawn["covariance"].values)
    return {
        "lrwAngleChange": angle,
        "lrwShiftChangeAngst": shift,
        "lrwRotationSd": turn,
        "lrwShiftSdAngst": slide,
        "lrwModeProbability": found.mode_probability,
        **_second_mode(found),
        "lrwFlags": found.flags.astype(np.int32),
    }


def _second_mode(found: Expectation) -> dict[str, npt.NDArray[Any]]:
    """How probable the second mode is, and how far from the pose that is reported; 0 without one."""
    each = np.arange(len(found.poses))
    which = found.other_probability.argmax(axis=1)
    away = np.nan_to_num(found.other_modes[each, which].astype(np.float64))
    return {
        "lrwSecondModeProbability": found.other_probability[each, which].astype(np.float64),
        "lrwSecondModeAngle": np.linalg.norm(away[:, :3], axis=1) / DEGREE,
        "lrwSecondModeShiftAngst": np.linalg.norm(away[:, 3:], axis=1),
    }


def write_step_maps(folder: Path, job: Job, first: Step, step: Step) -> list[Path]:
    """half1.mrc, half2.mrc (unfiltered), map.mrc (combined, filtered by its FSC), map_whole.mrc and mask.mrc.

    map_whole.mrc shows the body amid the rest of the particle; see `whole_map`. first: the run's Step 0. A dynamic
    mask is the one of the next iteration, made from this step's map.
    """
    halves = {"half1.mrc": step.half_maps.first, "half2.mrc": step.half_maps.second}
    return _write_maps(folder, halves | _step_volumes(job, first, step))


def write_chimerax_scene(folder: Path, job: Job, steps: tuple[Step, ...]) -> list[Path]:
    """map.mrc, map_whole.mrc and mask.mrc as `maps` writes them, and scene.cxc, which shows them with the motion.

    steps: the first of the run, and the last two. The motion is what the last one's poses tell; a start knows none.
    """
    step = steps[-1]
    motions = None if len(steps) < 2 else principal_motions(job, estimate_motion(job, step, steps[-2]))
    volumes = _step_volumes(job, steps[0], step)
    return [*_write_maps(folder, volumes), *export_chimerax.write_scene(folder, volumes, job, step, motions)]


def _step_volumes(job: Job, first: Step, step: Step) -> dict[str, Volume]:
    return {
        "map.mrc": final_map(job, step),
        "map_whole.mrc": map_with_surroundings(job, first, step),
        "mask.mrc": mask_for_next_iteration(job, step),
    }


def _write_maps(folder: Path, volumes: dict[str, Volume]) -> list[Path]:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error}): choose another folder") from error
    for name, volume in volumes.items():
        io.write_volume(folder / name, volume)
    return [folder / name for name in volumes]


def _general(step: Step, folder: Path | None) -> dict[str, str]:
    """What RELION's table says beside the resolution: from where phases were randomised, and the files in `folder`."""
    curves = [step.fsc[kind] for kind in ("unmasked", "loose") if kind in step.fsc]
    start = max(randomisation_shell(curve.value) for curve in curves)
    found = {} if "randomised" not in step.fsc else {"rlnRandomiseFrom": f"{1 / curves[0].frequency[start]:.6f}"}
    if folder is None:
        return found
    files = {"rlnUnfilteredMapHalf1": "half1.mrc", "rlnUnfilteredMapHalf2": "half2.mrc", "rlnMaskName": "mask.mrc"}
    return found | {name: str(folder / file) for name, file in files.items()}


def write_netcdf(path: Path, tree: xr.DataTree) -> None:
    """Results as netCDF 4. Raises InputError if the libraries for it are not installed."""
    try:
        import h5netcdf  # noqa: F401
        import h5py  # type: ignore[import-untyped] # noqa: F401
    except ImportError as error:
        raise InputError(f"{path}: netCDF needs h5netcdf and h5py: pip install 'lrwidgets[netcdf]'") from error
    with atomic_write(path) as temporary:
        tree.to_netcdf(temporary, engine="h5netcdf")
