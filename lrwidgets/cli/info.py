"""`lrwidgets info`: describe a particle file, map, stack, run or job folder."""

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.job_folders import find_job_files, is_job_folder
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates
from lrcore.particles.duplicates import find_repeated_images
from lrcore.particles.half_sets import SAME_PLACE_A
from lrcore.particles.statistics import half_set_overlap, view_distribution
from lrwidgets.cli.job_folder import is_run, print_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.text.formatting import format_for_display


def info(arguments: Namespace) -> None:
    """Describe a file, a run, or a job folder of CryoSPARC or RELION and its particles."""
    printer = Printer(arguments.json)
    if arguments.file.is_dir() and not is_run(arguments.file) and is_job_folder(arguments.file):
        files = find_job_files(arguments.file)
        print_job_folder(printer, arguments.file, files)
        arguments.file = files.particles
    if arguments.file.is_dir():
        from lrwidgets.cli.run_lookup import print_run_info  # imported here, so that info of a file starts quickly

        print_run_info(printer, arguments.file)
        return
    facts = io.describe_file(arguments.file)
    facts |= _particle_statistics(arguments.file, facts)
    if printer.as_json:
        printer.report("", "info", **facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if name != "views":  # for programs: the numbers of the lines above
            printer.print_line(f"{name:{width}s}  {format_for_display(value)}")


def _particle_statistics(path: Path, facts: dict[str, object]) -> dict[str, object]:
    """Return facts about half sets and views of a particle file that can be refined; none of another file."""
    if not str(facts["kind"]).startswith("particles") or facts["missing"]:
        return {}
    try:
        particles = io.read_particles(path)
    except InputError as error:
        return {"missing": [str(error)]}
    coordinates = read_micrograph_coordinates(particles)
    overlap = half_set_overlap(particles, coordinates, SAME_PLACE_A)
    views = view_distribution(particles.poses)
    return {
        "images_in_both_half_sets": overlap.images_in_both,
        f"places_in_both_half_sets_{SAME_PLACE_A:.0f}A": "unknown" if coordinates is None else overlap.places_in_both,
        "rows_that_repeat_an_image": len(find_repeated_images(particles).removed),
        "views_cover": f"{views.covered:.0%} of all directions (uniform views: {views.covered_if_even:.0%})",
        "views_most": f"{views.most_times:.1f} times the mean at " + _direction(views.most_deg),
        "fourier_least": f"{views.least_times:.2f} of the coverage by uniform views at " + _direction(views.least_deg),
        "views": asdict(views),
    }


def _direction(rot_tilt_deg: tuple[float, float]) -> str:
    """Return a direction as text."""
    return "rot {:.0f}, tilt {:.0f} degrees".format(*rot_tilt_deg)
