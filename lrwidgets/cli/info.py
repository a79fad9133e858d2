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


def _census(path: Path, facts: dict[str, object]) -> dict[str, object]:
    """Half sets and directions of view, of a particle file that has all that a refinement needs."""
    if not str(facts["kind"]).startswith("particles") or facts["missing"]:
        return {}
    try:
        particles = io.read_particles(path)
    except InputError as error:
        return {"missing": [str(error)]}
    where = read_micrograph_coordinates(particles)
    half, seen = half_set_overlap(particles, where, SAME_PLACE_A), view_distribution(particles.poses)
    return {
        "images_in_both_half_sets": half.images_in_both,
        f"places_in_both_half_sets_{SAME_PLACE_A:.0f}A": "unknown" if where is None else half.places_in_both,
        "rows_that_repeat_an_image": len(find_repeated_images(particles).removed),
        "views_cover": f"{seen.covered:.0%} of all directions (even ones: {seen.covered_if_even:.0%})",
        "views_most": f"{seen.most_times:.1f} times the mean at " + _direction(seen.most_deg),
        "fourier_least": f"{seen.least_times:.2f} of what even views know, at " + _direction(seen.least_deg),
        "views": asdict(seen),
    }


def _direction(rot_tilt_deg: tuple[float, float]) -> str:
    return "rot {:.0f}, tilt {:.0f} degrees".format(*rot_tilt_deg)


def info(arguments: Namespace) -> None:
    """Say what is in a file, a run, or a job folder of CryoSPARC or RELION and its particles."""
    printer = Printer(arguments.json)
    if arguments.file.is_dir() and not is_run(arguments.file) and is_job_folder(arguments.file):
        found = find_job_files(arguments.file)
        print_job_folder(printer, arguments.file, found)
        arguments.file = found.particles
    if arguments.file.is_dir():
        from lrwidgets.cli.run_lookup import print_run_info

        print_run_info(printer, arguments.file)
        return
    facts = io.describe_file(arguments.file)
    facts |= _census(arguments.file, facts)
    if printer.as_json:
        printer.report("", "info", **facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if name != "views":  # the same as the lines above it, for programs
            printer.print_line(f"{name:{width}s}  {format_for_display(value)}")
