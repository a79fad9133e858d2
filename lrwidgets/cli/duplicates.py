"""The commands that make particles from particles: expand and duplicates."""

import warnings
from argparse import Namespace

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates
from lrcore.particles.duplicates import find_repeated_images, find_repeated_places
from lrwidgets.cli.printer import Printer


def duplicates(arguments: Namespace) -> None:
    """Write the particles without those that list an image again or, with --distance, show the same place."""
    particles = io.read_particles(arguments.particles, arguments.images)
    kept = particles.select(find_repeated_images(particles).keep)
    again, near = len(particles) - len(kept), 0
    if arguments.distance is not None:
        if arguments.distance <= 0:
            raise InputError(f"--distance {arguments.distance:g}: give a length in A above 0")
        where = read_micrograph_coordinates(kept)
        if where is None:
            raise InputError(f"{arguments.particles}: has no micrographs and coordinates: leave out --distance")
        if where.pixel_size_is_assumed:
            warnings.warn(
                f"{arguments.particles}: does not say the pixel size of the micrographs: that of the images is taken",
                stacklevel=2,
            )
        rest = kept.select(find_repeated_places(kept, where, arguments.distance).keep)
        near, kept = len(kept) - len(rest), rest
    io.write_particles(arguments.out, kept, kept.poses)
    Printer(arguments.json).report(
        f"wrote {arguments.out} ({len(kept)} of {len(particles)} particles; {again} listed an image again, "
        f"{near} were too near to another)",
        "written",
        path=arguments.out,
        particles=len(kept),
        same_image=again,
        same_place=near,
    )
