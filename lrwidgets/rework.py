"""The commands that make particles from particles: expand and duplicates."""

import warnings
from argparse import Namespace

from lrcore import io
from lrcore.duplicates import same_image, same_place
from lrcore.errors import InputError
from lrcore.expand import expand as expanded
from lrcore.io.places import places
from lrwidgets.table import Printer


def expand(arguments: Namespace) -> None:
    """Write every particle at each operator of a point group."""
    particles = io.read_particles(arguments.particles, arguments.images)
    out = expanded(particles, arguments.symmetry)
    io.write_particles(arguments.out, out, out.poses)
    copies = len(out) // len(particles)
    Printer(arguments.json).tell(
        f"wrote {arguments.out} ({len(particles)} particles, {copies} copies of each: refine them in C1)",
        "written",
        path=arguments.out,
        particles=len(particles),
        copies=copies,
    )


def duplicates(arguments: Namespace) -> None:
    """Write the particles without those that list an image again or, with --distance, show the same place."""
    particles = io.read_particles(arguments.particles, arguments.images)
    kept = particles.select(same_image(particles).keep)
    again, near = len(particles) - len(kept), 0
    if arguments.distance is not None:
        if arguments.distance <= 0:
            raise InputError(f"--distance {arguments.distance:g}: give a length in A above 0")
        where = places(kept)
        if where is None:
            raise InputError(f"{arguments.particles}: has no micrographs and coordinates: leave out --distance")
        if where.assumed:
            warnings.warn(
                f"{arguments.particles}: does not say the pixel size of the micrographs: that of the images is taken",
                stacklevel=2,
            )
        rest = kept.select(same_place(kept, where, arguments.distance).keep)
        near, kept = len(kept) - len(rest), rest
    io.write_particles(arguments.out, kept, kept.poses)
    Printer(arguments.json).tell(
        f"wrote {arguments.out} ({len(kept)} of {len(particles)} particles; {again} listed an image again, "
        f"{near} were too near to another)",
        "written",
        path=arguments.out,
        particles=len(kept),
        same_image=again,
        same_place=near,
    )
