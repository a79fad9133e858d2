"""`lrwidgets select`: select particles of a step by their poses and optics groups, or of a file by optics groups."""

from argparse import Namespace

import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.job_folders import find_job_files, is_job_folder
from lrcore.io.optics_groups import GroupChoice, match_groups, write_optics_groups
from lrwidgets.cli.job_folder import is_run, print_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.cli.run_lookup import find_node
from lrwidgets.export.step_files import pose_columns
from lrwidgets.session.session import Session

AT_MOST = {
    "max_angle_sd": "lrwRotationSd",
    "max_shift_sd": "lrwShiftSdAngst",
    "max_angle_change": "lrwAngleChange",
    "max_shift_change": "lrwShiftChangeAngst",
}
"""Option → exported column of which it is the maximum."""
AT_LEAST = {"min_mode_probability": "lrwModeProbability", "min_presence": "lrwPresence"}
"""Option → exported column of which it is the minimum."""


def select(arguments: Namespace) -> None:
    """Write the particles that were chosen from a run or a particle file."""
    if arguments.run.is_file() or (
        arguments.run.is_dir() and not is_run(arguments.run) and is_job_folder(arguments.run)
    ):
        _select_from_file(arguments)
    else:
        _select_from_run(arguments)


def _select_from_file(arguments: Namespace) -> None:
    """Write the rows of the chosen optics groups, with all columns as they are in the file."""
    for name in (*AT_MOST, *AT_LEAST, "iteration"):
        if getattr(arguments, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')}: needs a run, but {arguments.run} is a particle file: leave it out"
            )
    choice = GroupChoice(arguments.optics_group, arguments.pixel_size, arguments.box)
    if choice == GroupChoice([]):
        raise InputError(f"{arguments.run}: is a particle file: choose --optics-group NAME, --pixel-size A or --box N")
    printer, path = Printer(arguments.json), arguments.run
    if path.is_dir():
        files = find_job_files(path, [])
        print_job_folder(printer, path, files)
        path = files.particles
    kept, total = write_optics_groups(path, arguments.out, choice)
    printer.report(
        f"wrote {arguments.out} ({kept} of {total} particles)",
        "written",
        path=arguments.out,
        particles=kept,
        dropped={"optics_group": total - kept},
    )


def _select_from_run(arguments: Namespace) -> None:
    """Write the particles within all bounds, at the poses of the step and with the columns that `export` adds."""
    for name in ("pixel_size", "box"):
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}: the images of a run have one: give a particle file instead")
    maxima = {name: getattr(arguments, name) for name in AT_MOST if getattr(arguments, name) is not None}
    minima = {name: getattr(arguments, name) for name in AT_LEAST if getattr(arguments, name) is not None}
    if not (maxima or minima or arguments.optics_group):
        raise InputError("no bounds: give at least one bound, such as --max-angle-sd 3")
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        job, step = session.job_of(node), session.load_step(node.id)[1]
        uncertainty = session.results(node.id).children.get("uncertainty")
        values = pose_columns(job, step, uncertainty.to_dataset() if uncertainty else None)
    kept = {name: values[AT_MOST[name]] <= bound for name, bound in maxima.items()}
    kept |= {name: values[AT_LEAST[name]] >= bound for name, bound in minima.items()}
    if arguments.optics_group:
        names = [(group.name,) for group in job.particles.optics]
        kept["optics_group"] = match_groups(arguments.run, names, arguments.optics_group)[job.particles.group]
    rows = np.nonzero(np.logical_and.reduce(list(kept.values())))[0]
    if len(rows) == 0:
        raise InputError(
            f"{arguments.run}: no particle is within these bounds: relax them (lrwidgets export writes all values)"
        )
    columns = {name: column[rows] for name, column in values.items()}
    io.write_particles(arguments.out, job.particles.select(rows), step.expectation.poses.select(rows), columns)
    dropped = {name: int((~within).sum()) for name, within in kept.items()}
    counts = ", ".join(f"{count} by --{name.replace('_', '-')}" for name, count in dropped.items())
    Printer(arguments.json).report_file(
        arguments.out,
        f"{len(rows)} of {len(job.particles)} particles; dropped: {counts}",
        particles=len(rows),
        dropped=dropped,
    )
