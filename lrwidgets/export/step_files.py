"""Write a step of a run as files for other programs: STAR, .cs, maps, FSC curves, ChimeraX scene, EMDB, netCDF."""

from collections.abc import Callable, Mapping
from dataclasses import replace
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
from lrcore.maps.body_maps import body_in_box
from lrcore.maps.fsc import randomisation_shell
from lrcore.records import Expectation, Step, Volume
from lrcore.refinement.density import final_map, map_with_surroundings, mask_for_next_iteration
from lrcore.refinement.geometry import step_fulcrum_A
from lrcore.refinement.job import Job
from lrcore.units import DEGREE
from lrwidgets.export import chimerax as export_chimerax
from lrwidgets.export.deposition import README_FILE, write_deposition
from lrwidgets.export.sharpened_map import SHARPENED_FILE, try_to_sharpen

PathLike = str | Path


class ExportTargets(TypedDict, total=False):
    """Paths to write to: `maps`, `chimerax` and `deposit` are folders, the others files; None: not written."""

    star: PathLike | None
    cs: PathLike | None
    maps: PathLike | None
    fsc_xml: PathLike | None
    fsc_star: PathLike | None
    chimerax: PathLike | None
    deposit: PathLike | None
    netcdf: PathLike | None


TARGET_NAMES = tuple(get_type_hints(ExportTargets))
_MAPS = ("map.mrc", "map_whole.mrc", "mask.mrc")
FOLDER_FILES = {
    "maps": ("half1.mrc", "half2.mrc", *_MAPS, SHARPENED_FILE),
    "chimerax": (*_MAPS, export_chimerax.SCENE_FILE, export_chimerax.MARKERS_FILE),
    "deposit": ("half1.mrc", "half2.mrc", "map.mrc", SHARPENED_FILE, "mask.mrc", "fsc.xml", README_FILE),
}
"""Target that is a folder → files that may be written into it."""


def write_step(
    targets: Mapping[str, Any],
    job: Job,
    step: Step,
    before: Callable[[], tuple[Step, ...]],
    tree: Callable[[], xr.DataTree],
    drawn: xr.Dataset | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write a step to the given targets.

    Parameters
    ----------
    targets : name of a field of `ExportTargets` → path
    job : the job that the step was run with
    step : the step
    before : returns the start of the run and the step's parent (one step if they are the same, none for a start)
    tree : returns all results up to the step
    drawn : the step's group /uncertainty, if it has been computed
    report : called with a sentence about what was written, such as the B-factor of the sharpened map

    Returns
    -------
    The paths that were written.

    Raises
    ------
    InputError
        If a target is unknown or cannot be written.
    """
    unknown = set(targets) - set(TARGET_NAMES)
    if unknown:
        raise InputError(f"export: {min(unknown)} is not an export target: choose among {', '.join(TARGET_NAMES)}")
    paths = {name: Path(targets[name]) for name in TARGET_NAMES if targets.get(name) is not None}
    written = list[Path]()
    for name in ("star", "cs"):
        if name in paths:
            write_step_particles(paths[name], job, step, drawn)
            written.append(paths[name])
    if {"maps", "chimerax", "deposit"} & set(paths):
        steps = (*before(), step)
        written += write_step_maps(paths["maps"], job, steps[0], step, report) if "maps" in paths else []
        written += write_chimerax_scene(paths["chimerax"], job, steps) if "chimerax" in paths else []
        written += write_deposition(paths["deposit"], job, steps, report) if "deposit" in paths else []
    if "fsc_xml" in paths:
        write_fsc_xml(paths["fsc_xml"], step.fsc[KIND])
        written.append(paths["fsc_xml"])
    if "fsc_star" in paths:
        write_fsc_star(paths["fsc_star"], step.fsc, _general(step, paths.get("maps")))
        written.append(paths["fsc_star"])
    if "netcdf" in paths:
        write_netcdf(paths["netcdf"], tree())
        written.append(paths["netcdf"])
    return written


def write_step_particles(path: Path, job: Job, step: Step, drawn: xr.Dataset | None = None) -> None:
    """Write the particles with the step's poses as .star or .cs, with the columns of `pose_columns`.

    A .cs of a refinement with `per_particle_scale` gets the scales in alignments3D/alpha, as CryoSPARC writes them.

    drawn: the step's group /uncertainty, if it has been computed. Raises InputError if the file cannot be written.
    """
    particles = job.particles
    if job.spec.per_particle_scale and path.suffix.lower() == ".cs":
        particles = replace(particles, scale=particles.scale * step.expectation.scale)
    io.write_particles(path, particles, step.expectation.poses, pose_columns(job, step, drawn))


def pose_columns(job: Job, step: Step, drawn: xr.Dataset | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return extra columns for the particles' file, each (n,).

    Changes from the input pose, SDs (root mean square over the axes), probabilities of the reported and of the second
    mode, and flags; angles in degrees, lengths in Å.

    Parameters
    ----------
    job : the job that the step was run with
    step : the step
    drawn : the step's group /uncertainty, whose covariance replaces that of the search

    Returns
    -------
    dict[str, ndarray]
        Column name → values.
    """
    expectation = step.expectation
    magnification = magnification_in_3d(job.particles, np.arange(len(job.particles)))
    angle, shift = pose_differences(job.particles.poses, expectation.poses, step_fulcrum_A(job, step), magnification)
    rotation_sd, shift_sd = pose_sds(expectation.covariance if drawn is None else drawn["covariance"].values)
    return {
        "lrwAngleChange": angle,
        "lrwShiftChangeAngst": shift,
        "lrwRotationSd": rotation_sd,
        "lrwShiftSdAngst": shift_sd,
        "lrwModeProbability": expectation.mode_probability,
        "lrwPresence": expectation.presence,
        "lrwEvidence": expectation.evidence,
        **_second_mode(expectation),
        "lrwFlags": expectation.flags.astype(np.int32),
    }


def _second_mode(expectation: Expectation) -> dict[str, npt.NDArray[Any]]:
    """Return the probability of the second mode and its distance from the reported pose; 0 without one."""
    rows = np.arange(len(expectation.poses))
    second = expectation.other_probability.argmax(axis=1)
    difference = np.nan_to_num(expectation.other_modes[rows, second].astype(np.float64))
    return {
        "lrwSecondModeProbability": expectation.other_probability[rows, second].astype(np.float64),
        "lrwSecondModeAngle": np.linalg.norm(difference[:, :3], axis=1) / DEGREE,
        "lrwSecondModeShiftAngst": np.linalg.norm(difference[:, 3:], axis=1),
    }


def needs_whole_maps(targets: ExportTargets) -> bool:
    """Return True if one of the targets holds maps of the whole box."""
    return any(targets.get(name) for name in ("maps", "deposit", "fsc_xml", "fsc_star", "chimerax", "netcdf"))


def write_step_maps(
    folder: Path, job: Job, first: Step, step: Step, report: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Write the half maps, the final map and the mask of a step.

    half1.mrc and half2.mrc are unfiltered, of whole images where the step has whole maps; body_half1.mrc and
    body_half2.mrc are those of the refined body alone, from which the next iteration goes on. map.mrc is their mean,
    filtered by the FSC, and sharpened.mrc the same with the B-factor of its Guinier plot, if the resolution is high
    enough to fit one. map_whole.mrc shows the body with the rest of the particle (`map_with_surroundings`).
    mask.mrc, if dynamic, is the mask of the next iteration, made from this step's map.

    Parameters
    ----------
    folder : created if needed
    job : the job that the step was run with
    first : the start of its run
    step : the step
    report : called with the sentence about the B-factor

    Returns
    -------
    The paths of the files.

    Raises
    ------
    InputError
        If the folder cannot be created or a file cannot be written.
    """
    volumes = {"half1.mrc": step.half_maps.first, "half2.mrc": step.half_maps.second}
    if step.body:
        body = {f"body_half{half}.mrc": body_in_box(step.body, job.mask.box, half) for half in (1, 2)}
        volumes |= {name: replace(v, header_origin_A=job.mask.header_origin_A) for name, v in body.items()}
    volumes |= _step_volumes(job, first, step)
    if sharpened := try_to_sharpen(job, step, report):
        volumes[SHARPENED_FILE] = sharpened[0]
    return _write_maps(folder, volumes)


def write_chimerax_scene(folder: Path, job: Job, steps: tuple[Step, ...]) -> list[Path]:
    """Write map.mrc, map_whole.mrc and mask.mrc, and scene.cxc, which shows them with the estimated motion.

    Parameters
    ----------
    folder : created if needed
    job : the job that the step was run with
    steps : the start of the run, the step's parent (left out if it is the start) and the step; for a start, it alone

    Returns
    -------
    The paths that were written; what is raised is said in `write_step_maps`.
    """
    step = steps[-1]
    motions = None if len(steps) < 2 else principal_motions(job, estimate_motion(job, step, steps[-2]))
    volumes = _step_volumes(job, steps[0], step)
    return [*_write_maps(folder, volumes), *export_chimerax.write_scene(folder, volumes, job, step, motions)]


def _step_volumes(job: Job, first: Step, step: Step) -> dict[str, Volume]:
    """Return the maps and the mask of a step by file name."""
    return {
        "map.mrc": final_map(job, step),
        "map_whole.mrc": map_with_surroundings(job, first, step),
        "mask.mrc": mask_for_next_iteration(job, step),
    }


def _write_maps(folder: Path, volumes: dict[str, Volume]) -> list[Path]:
    """Write maps into a folder, which is made if it does not exist."""
    for name, volume in volumes.items():
        io.write_volume(folder / name, volume)
    return [folder / name for name in volumes]


def _general(step: Step, folder: Path | None) -> dict[str, str]:
    """Return fields of RELION's general table: where phase randomisation starts, and the files in `folder`."""
    curves = [step.fsc[kind] for kind in ("unmasked", "loose") if kind in step.fsc]
    start = max(randomisation_shell(curve.value) for curve in curves)
    table = {} if "randomised" not in step.fsc else {"rlnRandomiseFrom": f"{1 / curves[0].frequency[start]:.6f}"}
    if folder is None:
        return table
    files = {"rlnUnfilteredMapHalf1": "half1.mrc", "rlnUnfilteredMapHalf2": "half2.mrc", "rlnMaskName": "mask.mrc"}
    return table | {name: str(folder / file) for name, file in files.items()}


def write_netcdf(path: Path, tree: xr.DataTree) -> None:
    """Write results as netCDF 4. Raises InputError if h5netcdf or h5py is not installed."""
    try:
        import h5netcdf  # noqa: F401
        import h5py  # type: ignore[import-untyped] # noqa: F401
    except ImportError as error:
        raise InputError(f"{path}: netCDF needs h5netcdf and h5py: pip install 'lrwidgets[netcdf]'") from error
    with atomic_write(path) as temporary:
        _with_utf8_attributes(tree).to_netcdf(temporary, engine="h5netcdf")


def _with_utf8_attributes(tree: xr.DataTree) -> xr.DataTree:
    """Return a copy whose attributes are UTF-8; other bytes in the names of input files are written as escapes."""
    tree = tree.copy()
    for node in tree.subtree:
        node.attrs = {
            name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
            for name, value in node.attrs.items()
        }
    return tree
