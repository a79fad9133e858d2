"""The commands that need no session: reconstruct, fsc, info. They start quickly, since they import little."""

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lrcore import io
from lrcore.census import halves, views
from lrcore.duplicates import same_image
from lrcore.errors import InputError
from lrcore.fsc import family
from lrcore.halves import SAME_PLACE_A
from lrcore.io.checks import check_alike
from lrcore.io.files import require_folder
from lrcore.io.folders import find, is_job
from lrcore.io.places import places
from lrcore.masks import checked
from lrcore.records import Fsc, Particles, Progress
from lrwidgets.finding import fill, is_run, say
from lrwidgets.params import DEFAULTS, edited
from lrwidgets.table import Printer, text

if TYPE_CHECKING:
    from lrcore.conical import ConicalFsc


def reconstruct(arguments: Namespace) -> None:
    """Reconstruct a map from particles at their poses."""
    from lrcore.backend import pick
    from lrcore.reconstruct import reconstruct as run

    symmetry = edited(DEFAULTS, {"symmetry": arguments.symmetry}).symmetry
    require_folder(arguments.out)
    printer = Printer(arguments.json)
    fill(arguments, printer)
    particles: Particles = io.read_particles(arguments.particles, arguments.images)
    count = len(particles) if arguments.half is None else int((particles.half == arguments.half).sum())
    try:
        backend = pick(arguments.backend, arguments.threads)
        for event in run(particles, arguments.half, symmetry, backend, arguments.ewald):
            if isinstance(event, Progress):
                printer.progress(event)
            else:
                io.write_volume(arguments.out, event)
    finally:
        printer.close()
    printer.tell(f"wrote {arguments.out} ({count} particles)", "written", path=arguments.out, particles=count)


def fsc(arguments: Namespace) -> None:
    """Print every FSC curve of two maps: where it crosses, or with --json all of it."""
    first, second = (io.read_volume(path, arguments.apix) for path in (arguments.first, arguments.second))
    check_alike(first, second)
    mask = arguments.mask and checked(io.read_volume(arguments.mask, arguments.apix), first.box, first.pixel_size_A)
    printer = Printer(arguments.json)
    if not printer.as_json:
        printer.say("FSC          0.143 at Å   0.5 at Å")
    for curve in family(first, second, mask or None, arguments.seed).values():
        _print_curve(printer, curve)
    if arguments.conical:
        from lrcore.conical import conical

        _print_conical(printer, conical(first, second, mask or None))


def _print_curve(printer: Printer, curve: Fsc) -> None:
    at = {threshold: curve.resolution_A(threshold) for threshold in (0.143, 0.5)}
    printer.tell(
        f"{curve.kind:12s} {at[0.143]:10.2f} {at[0.5]:10.2f}",
        "fsc",
        kind=curve.kind,
        resolution_0143_A=at[0.143],
        resolution_05_A=at[0.5],
        frequency_per_A=curve.frequency,
        fsc=curve.value,
    )


def _print_conical(printer: Printer, found: "ConicalFsc") -> None:
    finest, coarsest = float(found.resolution_A.min()), float(found.resolution_A.max())
    worst = found.direction[found.area.argmin()]
    printer.tell(
        f"by direction, 0.143 at {finest:.2f} to {coarsest:.2f} Å; smallest over largest area {found.ratio:.2f}, worst "
        f"along ({', '.join(f'{x:.2f}' for x in worst)})",
        "conical",
        finest_A=finest,
        coarsest_A=coarsest,
        area_ratio=found.ratio,
        direction=found.direction,
        resolution_0143_A=found.resolution_A,
        area_per_A=found.area,
        frequency_per_A=found.frequency,
        fsc=found.value,
    )


def _census(path: Path, facts: dict[str, object]) -> dict[str, object]:
    """Half sets and directions of view, of a particle file that has all that a refinement needs."""
    if not str(facts["kind"]).startswith("particles") or facts["missing"]:
        return {}
    try:
        particles = io.read_particles(path)
    except InputError as error:
        return {"missing": [str(error)]}
    where = places(particles)
    half, seen = halves(particles, where, SAME_PLACE_A), views(particles.poses)
    return {
        "images_in_both_half_sets": half.images_in_both,
        f"places_in_both_half_sets_{SAME_PLACE_A:.0f}A": "unknown" if where is None else half.places_in_both,
        "rows_that_repeat_an_image": len(same_image(particles).removed),
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
    if arguments.file.is_dir() and not is_run(arguments.file) and is_job(arguments.file):
        found = find(arguments.file)
        say(printer, arguments.file, found)
        arguments.file = found.particles
    if arguments.file.is_dir():
        from lrwidgets.commands import run_info

        run_info(printer, arguments.file)
        return
    facts = io.info(arguments.file)
    facts |= _census(arguments.file, facts)
    if printer.as_json:
        printer.tell("", "info", **facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if name != "views":  # the same as the lines above it, for programs
            printer.say(f"{name:{width}s}  {text(value)}")
