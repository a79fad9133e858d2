"""`lrwidgets motion`: estimate the fulcrum and the motion of the refined body, and suggest settings."""

from argparse import Namespace

import numpy as np
import xarray as xr

from lrcore.analysis.motion_estimate import MotionEstimate, estimate_motion, principal_motions
from lrcore.arrays import Float64
from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Progress, Step
from lrcore.refinement.job import Job
from lrcore.units import DEGREE
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.export.motion_maps import write_motion_maps
from lrwidgets.export.step_files import write_netcdf
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import map_and_mask_arrays, poorly_determined_note


def motion(arguments: Namespace) -> None:
    """Estimate the motion from the poses of an iteration and their uncertainties; print, plot and write it."""
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        if node.parent is None:
            raise InputError(f"{arguments.run}: iteration 0 has the input poses: choose a later --iteration")
        (_, step), (_, before) = session.load_step(node.id), session.load_step(node.parent)
        job = session.job_of(node)
        _, first = session.load_step(session.path()[0].id)
    estimate = estimate_motion(job, step, before)
    printer = Printer(arguments.json)
    _print_estimate(printer, estimate, job.mask.box, job.mask.pixel_size_A)
    motions = principal_motions(job, estimate)
    _print_motions(printer, motions)
    if arguments.out is not None:
        write_netcdf(arguments.out, xr.DataTree(motions))
        printer.report_file(arguments.out)
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.motion(motions, *map_and_mask_arrays(job, first, step)), arguments.plot)
    if arguments.maps is not None:
        _write_maps(arguments, printer, job, (first, step), motions)


def _write_maps(
    arguments: Namespace, printer: Printer, job: Job, steps: tuple[Step, Step], motions: xr.Dataset
) -> None:
    """Write the maps along a principal motion. steps: step 0 and the step of the motion."""
    count = 0
    for event in write_motion_maps(
        arguments.maps,
        job,
        steps,
        motions,
        arguments.number,
        arguments.bins,
        get_backend("auto"),
        overwrite=arguments.overwrite,
    ):
        if isinstance(event, Progress):
            printer.show_progress(event)
        else:
            count += 1
    printer.close()
    printer.report_file(arguments.maps, f"{count} files; open the .cxc in ChimeraX to play them", files=count)


def _print_motions(printer: Printer, motions: xr.Dataset) -> None:
    """Print one line per motion that is a tenth of the displacement or more."""
    lines = []
    for number in motions["motion"].values:
        mode = motions.sel(motion=number)
        if float(mode["share"]) >= 0.1:
            turn, resolved = mode["turn"].values, 1 - float((mode["coordinate_sd"] ** 2).mean())
            angle = float(np.linalg.norm(turn))
            lines.append(
                f"motion {number}     {100 * float(mode['share']):.0f} % of the displacement: {angle:.1f}° about "
                f"{_vector(turn / max(angle, 1e-9))} and {float(np.linalg.norm(mode['shift'])):.1f} A (SD); "
                f"the poses determine {100 * max(resolved, 0.0):.0f} % of its variance"
            )
    numbers = {name: motions[name].values for name in ("displacement", "share", "turn", "shift")}
    printer.report("\n".join(lines), "principal_motions", **numbers)


def _print_estimate(printer: Printer, estimate: MotionEstimate, box: int, pixel_size_A: float) -> None:
    """Print fulcrum and motion with their errors, and the settings to try."""
    hinge = estimate.overall
    corner = hinge.fulcrum_A + (box // 2) * pixel_size_A
    error, turn = np.sqrt(np.diag(hinge.covariance_A2)), hinge.rotation_sd / DEGREE
    turn_error = hinge.rotation_sd_error / DEGREE
    angstrom, px = ", ".join(f"{x:.1f}" for x in corner), ", ".join(f"{x:.1f}" for x in corner / pixel_size_A)
    settings = [
        f'--set "fulcrum={angstrom} A"',
        f"--set rotation_prior_sd_deg={turn:.2g}",
        f"--set shift_prior_sd_A={hinge.shift_sd_A:.2g}",
    ]
    if hinge.has_dominant_axis:
        settings = ["--set prior=motion", "--set fulcrum=estimate"]
    lines = [
        f"{len(estimate.particles)} particles; the errors of their poses are corrected for",
        f"fulcrum      {angstrom} A = {px} px from the corner of the box",
        f"its error    {', '.join(f'{x:.1f}' for x in error)} A (statistical); "
        f"half sets {estimate.half_set_distance_A:.1f} A apart",
        *(
            f"free         along {_vector(axis)}: not determined by the motion, taken from the mask"
            for axis in hinge.free_directions
        ),
        f"motion       {turn:.2f} ± {turn_error:.2f}° and {hinge.shift_sd_A:.2f} ± {hinge.shift_sd_error_A:.2f} Å "
        "per axis about it (SD)",
        *_anisotropy_lines(hinge),
        *(f"undetermined {poorly_determined_note(name)}" for name in hinge.undetermined),
        f"wrong modes  {estimate.motion.outlier_share:.1%} of the particles",
        "try          " + " ".join(settings),
    ]
    printer.report("\n".join(lines), "motion", **_estimate_fields(estimate, corner))


def _anisotropy_lines(hinge: FulcrumEstimate) -> list[str]:
    """Return one line for a body that turns about one axis more than about the others."""
    if not hinge.has_dominant_axis:
        return []
    sds, axes = hinge.axes
    most, *others = (f"{sd / DEGREE:.2g}°" for sd in sds)
    return [
        f"anisotropic  rotations of {most} about {_vector(axes[0])}, {' and '.join(others)} about the perpendicular "
        "axes (SD)"
    ]


def _estimate_fields(estimate: MotionEstimate, corner: Float64) -> dict[str, object]:
    """Return the fields of an estimate for JSON. corner: fulcrum in Å from the corner of the box."""
    hinge, motion = estimate.overall, estimate.motion
    return {
        "particles": len(estimate.particles),
        "fulcrum_from_corner_A": corner,
        "fulcrum_from_centre_A": hinge.fulcrum_A,
        "fulcrum_covariance_A2": hinge.covariance_A2,
        "free_directions": hinge.free_directions,
        **_width_fields(hinge),
        "outliers": motion.outlier_share,
        "reference_from_centre_A": motion.reference_A,
        "mean": motion.mean,
        "covariance": motion.covariance,
        "half_sets": [_half_set_fields(half) for half in estimate.halves],
        "fulcra_apart_A": estimate.half_set_distance_A,
    }


def _half_set_fields(hinge: FulcrumEstimate) -> dict[str, object]:
    """Return the fields of the estimate from one half set."""
    return {"fulcrum_from_centre_A": hinge.fulcrum_A, **_width_fields(hinge)}


def _width_fields(hinge: FulcrumEstimate) -> dict[str, object]:
    """Return the widths of the motion and their errors."""
    return {
        "rotation_sd_deg": hinge.rotation_sd / DEGREE,
        "rotation_axes_sd_deg": hinge.axes[0] / DEGREE,
        "rotation_axes": hinge.axes[1],
        "rotation_sd_error_deg": hinge.rotation_sd_error / DEGREE,
        "shift_sd_A": hinge.shift_sd_A,
        "shift_sd_error_A": hinge.shift_sd_error_A,
        "untold_widths": list(hinge.undetermined),
    }


def _vector(axis: Float64) -> str:
    """Return a vector as text."""
    return "(" + ", ".join(f"{x:.2f}" for x in axis) + ")"
