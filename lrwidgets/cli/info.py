"""`lrwidgets info`: describe a particle file, map, stack, run or job folder."""

import warnings
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.job_folders import JobFiles, find_job_files, is_job_folder
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates
from lrcore.masks import mask_warnings
from lrcore.particles.duplicates import find_repeated_images, require_disjoint_half_sets
from lrcore.particles.half_sets import SAME_PLACE_A
from lrcore.particles.statistics import half_set_overlap, view_distribution
from lrcore.records import Particles
from lrcore.refinement.input_checks import check_input
from lrwidgets.cli.job_folder import is_run, print_job_folder
from lrwidgets.cli.printer import Printer
from lrwidgets.session.loading import read_half_maps
from lrwidgets.text.formatting import format_for_display

Facts = dict[str, Any]


def info(arguments: Namespace) -> None:
    """Describe a file, a run, or a job folder of CryoSPARC or RELION and its particles."""
    printer, files = Printer(arguments.json), None
    if arguments.file.is_dir() and not is_run(arguments.file) and is_job_folder(arguments.file):
        files = find_job_files(arguments.file)
        print_job_folder(printer, arguments.file, files)
        arguments.file = files.particles
    if arguments.file.is_dir():
        from lrwidgets.cli.run_lookup import print_run_info  # imported here, so that info of a file starts quickly

        print_run_info(printer, arguments.file)
        return
    facts: Facts = io.describe_file(arguments.file)
    if str(facts["kind"]).startswith("particles") and not facts["missing"]:
        facts |= _examine(lambda: _particle_facts(arguments.file, files))
    elif facts.get("looks_like_mask"):
        facts |= _examine(lambda: _mask_facts(arguments.file, facts))
    if printer.as_json:
        printer.report("", "info", **facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        for line in (value or ["none"]) if name == "warnings" else [format_for_display(value)]:
            if name != "views":  # for programs: the numbers of the lines above
                printer.print_line(f"{name:{width}s}  {line}")


def _examine(find: Callable[[], Facts]) -> Facts:
    """Return the facts of a function, with "missing" if it raises InputError, and the warnings that it issues."""
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        try:
            facts = find()
        except InputError as error:
            facts = {"missing": [str(error)]}
    messages = [*facts.pop("warnings", ()), *(" ".join(str(warning.message).split()) for warning in issued)]
    return facts | {"warnings": messages}


def _mask_facts(path: Path, facts: Facts) -> Facts:
    """Return what a refinement would warn of in a mask; the voxel size is 1 Å where the header has none."""
    return {"warnings": mask_warnings(io.read_volume(path, (facts["voxel_size_A"] or [1.0])[0]))}


def _particle_facts(path: Path, files: JobFiles | None) -> Facts:
    """Return facts about half sets and views of a particle file, and what a refinement would refuse or warn of.

    files: those of the job folder, whose mask and half maps are checked as well.
    """
    particles = io.read_particles(path)
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
        **_check(particles, files),
    }


def _check(particles: Particles, files: JobFiles | None) -> Facts:
    """Return what a refinement of the particles, with the maps of their job folder, would refuse or warn of."""
    try:
        require_disjoint_half_sets(particles)
        mask = io.read_volume(files.mask) if files and files.mask else None
        half_maps = read_half_maps(tuple(map(str, files.half_maps)), None) if files else None
        return {"warnings": check_input(particles, mask, half_maps)}
    except InputError as error:
        return {"missing": [str(error)]}


def _direction(rot_tilt_deg: tuple[float, float]) -> str:
    """Return a direction as text."""
    return "rot {:.0f}, tilt {:.0f} degrees".format(*rot_tilt_deg)
