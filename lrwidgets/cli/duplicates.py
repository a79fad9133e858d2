"""`lrwidgets duplicates`: remove particles that occur more than once."""

import warnings
from argparse import Namespace

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates
from lrcore.particles.duplicates import find_repeated_images, find_repeated_places
from lrwidgets.cli.printer import Printer


def duplicates(arguments: Namespace) -> None:
    """Write the particles without repeated images and, with --distance, without close neighbours on a micrograph."""
    particles = io.read_particles(arguments.particles, arguments.images)
    kept = particles.select(find_repeated_images(particles).keep)
    repeated, near = len(particles) - len(kept), 0
    if arguments.distance is not None:
        if arguments.distance <= 0:
            raise InputError(f"--distance {arguments.distance:g}: give a length in A above 0")
        coordinates = read_micrograph_coordinates(kept, arguments.micrograph_apix)
        if coordinates is None:
            raise InputError(f"{arguments.particles}: has no micrographs and coordinates: leave out --distance")
        if coordinates.movie_pixel_size_A is not None:
            raise InputError(
                f"{arguments.particles}: does not say the pixel size of the micrographs, only that of the movies "
                f"({coordinates.movie_pixel_size_A:g} A) and of the images ({kept.pixel_size_A:g} A), and micrographs "
                "may have been binned: give it with --micrograph-apix"
            )
        if coordinates.pixel_size_is_assumed:
            warnings.warn(
                f"{arguments.particles}: has no pixel size of the micrographs: that of the images is used; "
                "--micrograph-apix sets another one",
                stacklevel=2,
            )
        distinct = kept.select(find_repeated_places(kept, coordinates, arguments.distance).keep)
        near, kept = len(kept) - len(distinct), distinct
    io.write_particles(arguments.out, kept, kept.poses)
    Printer(arguments.json).report_file(
        arguments.out,
        f"{len(kept)} of {len(particles)} particles; removed: {repeated} repeated images, {near} close neighbours",
        particles=len(kept),
        same_image=repeated,
        same_place=near,
    )
