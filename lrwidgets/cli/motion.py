"""lrwidgets motion: where the body of a run turns, how far it moves, and the settings that follow."""

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
    """Estimate the motion from the poses of an iteration and their uncertainties."""
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        if node.parent is None:
            raise InputError(f"{arguments.run}: iteration 0 has the input poses: give a later --iteration")
        (_, step), (_, before) = session.load_step(node.id), session.load_step(node.parent)
        job = session.job_of(node)
        _, first = session.load_step(session.path()[0].id)
    found = estimate_motion(job, step, before)
    printer = Printer(arguments.json)
    _print_estimate(printer, found, job.mask.box, job.mask.pixel_size_A)
    motions = principal_motions(job, found)
    _print_motions(printer, motions)
    if arguments.out is not None:
        write_netcdf(arguments.out, xr.DataTree(motions))
        printer.report(f"wrote {arguments.out}", "written", path=arguments.out)
    if arguments.plot is not None:
        from lrwidgets import plots

        plots.save(plots.motion(motions, *map_and_mask_arrays(job, first, step)), arguments.plot)
    if arguments.maps is not None:
        _maps(arguments, printer, job, (first, step), motions)


def _maps(arguments: Namespace, printer: Printer, job: Job, steps: tuple[Step, Step], motions: xr.Dataset) -> None:
    count = 0
    for event in write_motion_maps(
        arguments.maps, job, steps, motions, arguments.number, arguments.bins, get_backend("auto")
    ):
        if isinstance(event, Progress):
            printer.show_progress(event)
        else:
            count += 1
    printer.close()
    text = f"wrote {arguments.maps} ({count} files; the .cxc play them in ChimeraX)"
    printer.report(text, "written", path=arguments.maps, files=count)


def _print_motions(printer: Printer, motions: xr.Dataset) -> None:
    """A line for each motion that makes up a tenth of the displacement or more."""
    lines = []
    for number in motions["motion"].values:
        one = motions.sel(motion=number)
        if float(one["share"]) >= 0.1:
            turn, sure = one["turn"].values, 1 - float((one["coordinate_sd"] ** 2).mean())
            angle = float(np.linalg.norm(turn))
            lines.append(
                f"motion {number}     {100 * float(one['share']):.0f} % of the displacement: {angle:.1f}° about "
                f"{_vector(turn / max(angle, 1e-9))} and {float(np.linalg.norm(one['shift'])):.1f} A (SD); "
                f"particles are known on it to {100 * max(sure, 0.0):.0f} % of its variance"
            )
    numbers = {name: motions[name].values for name in ("displacement", "share", "turn", "shift")}
    printer.report("\n".join(lines), "principal_motions", **numbers)


def _print_estimate(printer: Printer, found: MotionEstimate, box: int, pixel_size_A: float) -> None:
    hinge = found.overall
    corner = hinge.fulcrum_A + (box // 2) * pixel_size_A
    error, turn = np.sqrt(np.diag(hinge.covariance_A2)), hinge.rotation_sd / DEGREE
    turn_error = hinge.rotation_sd_error / DEGREE
    place, px = ", ".join(f"{x:.1f}" for x in corner), ", ".join(f"{x:.1f}" for x in corner / pixel_size_A)
    settings = [
        f'--set "fulcrum={place} A"',
        f"--set rotation_prior_sd_deg={turn:.2g}",
        f"--set shift_prior_sd_A={hinge.shift_sd_A:.2g}",
    ]
    if hinge.has_dominant_axis:
        settings = ["--set prior=motion", "--set fulcrum=estimate"]
    lines = [
        f"{len(found.particles)} particles; the errors of their poses are taken out",
        f"fulcrum      {place} A = {px} px from the corner of the box",
        f"its error    {', '.join(f'{x:.1f}' for x in error)} A (statistical); "
        f"half sets {found.half_set_distance_A:.1f} A apart",
        *(
            f"free         along {_vector(axis)}: the motion does not tell, the mask does"
            for axis in hinge.free_directions
        ),
        f"motion       {turn:.2f} ± {turn_error:.2f}° and {hinge.shift_sd_A:.2f} ± {hinge.shift_sd_error_A:.2f} Å "
        "per axis about it (SD)",
        *_shape(hinge),
        *(f"untold       {poorly_determined_note(name)}" for name in hinge.undetermined),
        f"wrong modes  {found.motion.outlier_share:.1%} of the particles",
        "try          " + " ".join(settings),
    ]
    printer.report("\n".join(lines), "motion", **_numbers(found, corner))


def _shape(hinge: FulcrumEstimate) -> list[str]:
    """A line of a body that does not turn alike about all axes."""
    if not hinge.has_dominant_axis:
        return []
    sds, axes = hinge.axes
    most, *others = (f"{sd / DEGREE:.2g}°" for sd in sds)
    return [
        f"uneven       turns of {most} about {_vector(axes[0])}, {' and '.join(others)} about the axes across it (SD)"
    ]


def _numbers(found: MotionEstimate, corner: Float64) -> dict[str, object]:
    hinge, motion = found.overall, found.motion
    return {
        "particles": len(found.particles),
        "fulcrum_from_corner_A": corner,
        "fulcrum_from_centre_A": hinge.fulcrum_A,
        "fulcrum_covariance_A2": hinge.covariance_A2,
        "free_directions": hinge.free_directions,
        **_widths(hinge),
        "outliers": motion.outlier_share,
        "reference_from_centre_A": motion.reference_A,
        "mean": motion.mean,
        "covariance": motion.covariance,
        "half_sets": [_half(half) for half in found.halves],
        "fulcra_apart_A": found.half_set_distance_A,
    }


def _half(hinge: FulcrumEstimate) -> dict[str, object]:
    return {
        "fulcrum_from_centre_A": hinge.fulcrum_A,
        **_widths(hinge),
    }


def _widths(hinge: FulcrumEstimate) -> dict[str, object]:
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
    return "(" + ", ".join(f"{x:.2f}" for x in axis) + ")"
