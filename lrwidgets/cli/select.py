"""`lrwidgets select`: select particles of a step by the uncertainty and the change of their poses."""

from argparse import Namespace

import numpy as np

from lrcore import io
from lrcore.errors import InputError
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
AT_LEAST = {"min_mode_probability": "lrwModeProbability"}
"""Option → exported column of which it is the minimum."""


def select(arguments: Namespace) -> None:
    """Write the particles within all bounds, at the poses of the step and with the columns that `export` adds."""
    maxima = {name: getattr(arguments, name) for name in AT_MOST if getattr(arguments, name) is not None}
    minima = {name: getattr(arguments, name) for name in AT_LEAST if getattr(arguments, name) is not None}
    if not (maxima or minima):
        raise InputError("no bounds: give at least one bound, such as --max-angle-sd 3")
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        job, step = session.job_of(node), session.load_step(node.id)[1]
        uncertainty = session.results(node.id).children.get("uncertainty")
        values = pose_columns(job, step, uncertainty.to_dataset() if uncertainty else None)
    kept = {name: values[AT_MOST[name]] <= bound for name, bound in maxima.items()}
    kept |= {name: values[AT_LEAST[name]] >= bound for name, bound in minima.items()}
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
