"""lrwidgets select: the particles of a step that are sure enough, and not moved too far."""

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
"""Option → the exported column that it bounds from above."""
AT_LEAST = {"min_mode_probability": "lrwModeProbability"}
"""The same from below."""


def select(arguments: Namespace) -> None:
    """Write the particles that keep to all bounds, at the step's poses and with the columns that `export` adds."""
    above = {name: getattr(arguments, name) for name in AT_MOST if getattr(arguments, name) is not None}
    below = {name: getattr(arguments, name) for name in AT_LEAST if getattr(arguments, name) is not None}
    if not (above or below):
        raise InputError("nothing is asked for: give at least one bound, such as --max-angle-sd 3")
    with Session.open(arguments.run, write=False) as session:
        node = find_node(session, arguments.run, arguments.iteration)
        job, step = session.job_of(node), session.load_step(node.id)[1]
        drawn = session.results(node.id).children.get("uncertainty")
        values = pose_columns(job, step, drawn.to_dataset() if drawn else None)
    kept = {name: values[AT_MOST[name]] <= bound for name, bound in above.items()}
    kept |= {name: values[AT_LEAST[name]] >= bound for name, bound in below.items()}
    rows = np.nonzero(np.logical_and.reduce(list(kept.values())))[0]
    if len(rows) == 0:
        raise InputError(f"{arguments.run}: no particle keeps to these bounds: loosen them (lrwidgets export has all)")
    chosen = {name: column[rows] for name, column in values.items()}
    io.write_particles(arguments.out, job.particles.select(rows), step.expectation.poses.select(rows), chosen)
    lost = {name: int((~good).sum()) for name, good in kept.items()}
    words = ", ".join(f"{count} by --{name.replace('_', '-')}" for name, count in lost.items())
    Printer(arguments.json).report(
        f"wrote {arguments.out} ({len(rows)} of {len(job.particles)} particles; dropped: {words})",
        "written",
        path=arguments.out,
        particles=len(rows),
        dropped=lost,
    )
