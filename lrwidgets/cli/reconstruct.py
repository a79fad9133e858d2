"""`lrwidgets reconstruct`: reconstruct a map from particles at their poses."""

from argparse import Namespace

from lrcore import io
from lrcore.compute.backend import get_backend
from lrcore.io.paths import require_parent_folder
from lrcore.records import Progress
from lrcore.refinement.input_checks import warn_of_input
from lrcore.refinement.reconstruction import reconstruct as reconstruct_map
from lrwidgets.cli.job_folder import fill_from_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.text.parameters import DEFAULT_SPEC, edit_spec


def reconstruct(arguments: Namespace) -> None:
    """Reconstruct a map from particles at their poses and write it."""
    symmetry = edit_spec(DEFAULT_SPEC, {"symmetry": arguments.symmetry}).symmetry
    require_parent_folder(arguments.out)
    printer = Printer(arguments.json)
    fill_from_job_folder(arguments, printer)
    particles = io.read_particles(arguments.particles, arguments.images)
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
    printer.report(f"wrote {arguments.out} ({count} particles)", "written", path=arguments.out, particles=count)
