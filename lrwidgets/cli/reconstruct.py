"""`lrwidgets reconstruct`: reconstruct a map from particles at their poses."""

import warnings
from argparse import Namespace

from lrcore import io
from lrcore.compute.backend import get_backend
from lrcore.records import Progress
from lrcore.refinement.input_checks import warn_of_input
from lrcore.refinement.reconstruction import reconstruct as reconstruct_map
from lrwidgets.cli.job_folder import fill_from_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.text.parameters import DEFAULT_SPEC, edit_spec


def reconstruct(arguments: Namespace) -> None:
    """Reconstruct a map from particles at their poses and write it."""
    symmetry = edit_spec(DEFAULT_SPEC, {"symmetry": arguments.symmetry}).symmetry
    printer = Printer(arguments.json)
    fill_from_job_folder(arguments, printer)
    particles = io.read_particles(arguments.particles, arguments.images)
    if particles.subtracted and symmetry != "C1":
        warnings.warn(
            f"{arguments.particles}: the density outside a mask is subtracted from these images: if that mask does not "
            f"have the symmetry {symmetry}, the average makes the density too weak: use --symmetry C1",
            stacklevel=2,
        )
    warn_of_input(particles, None, None)
    count = len(particles) if arguments.half is None else int((particles.half == arguments.half).sum())
    try:
        backend = get_backend(arguments.backend, arguments.threads)
        for event in reconstruct_map(particles, arguments.half, symmetry, backend, arguments.ewald):
            if isinstance(event, Progress):
                printer.show_progress(event)
            else:
                io.write_volume(arguments.out, event)
    finally:
        printer.close()
    printer.report_file(arguments.out, f"{count} particles", particles=count)
