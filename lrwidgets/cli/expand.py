"""`lrwidgets expand`: write each particle once for every operator of a point group."""

from argparse import Namespace

from lrcore import io
from lrcore.particles.symmetry_expansion import expand_symmetry
from lrwidgets.cli.printer import Printer


def expand(arguments: Namespace) -> None:
    """Write each particle once for every operator of a point group."""
    particles = io.read_particles(arguments.particles, arguments.images)
    out = expand_symmetry(particles, arguments.symmetry)
    io.write_particles(arguments.out, out, out.poses)
    copies = len(out) // len(particles)
    Printer(arguments.json).report_file(
        arguments.out,
        f"{len(particles)} particles, {copies} copies of each: refine them in C1",
        particles=len(particles),
        copies=copies,
    )
