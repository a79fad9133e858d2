"""Write the files and numbers that EMDB asks for when a map is deposited.

EMDB wants the primary map, both half maps as they were reconstructed (not masked, filtered or sharpened) in the same
frame, the mask, and the FSC curve.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lrcore import io
from lrcore.io.fsc_curves import KIND, write_fsc_xml
from lrcore.io.paths import atomic_write
from lrcore.maps.sharpening import Guinier
from lrcore.records import FLAG_BAD_IMAGE, Particles, Step, Volume
from lrcore.refinement.density import (
    final_map,
    images_are_subtracted,
    maps_include_surroundings,
    mask_for_next_iteration,
)
from lrcore.refinement.job import Job
from lrcore.results.fingerprints import package_versions
from lrwidgets.export.chimerax import display_level
from lrwidgets.export.sharpened_map import SHARPENED_FILE, try_to_sharpen

README_FILE = "README.md"


def write_deposition(
    folder: Path, job: Job, steps: tuple[Step, ...], report: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Write half1.mrc, half2.mrc, sharpened.mrc, mask.mrc, fsc.xml and README.md.

    Without information finer than 10 Å no B-factor can be fitted; map.mrc, filtered by the FSC, then takes the place of
    sharpened.mrc. The mask is the one inside which the FSC of this step was measured.

    Parameters
    ----------
    folder : where to write; it is made if it does not exist
    job : the job that the step was run with
    steps : the start of the run, the step's parent (left out if it is the start) and the step; for a start, it alone
    report : called with the sentence about the B-factor

    Returns
    -------
    list[Path]
        The paths that were written.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    origin, step = job.mask.header_origin_A, steps[-1]
    halves = [replace(half, header_origin_A=origin) for half in (step.half_maps.first, step.half_maps.second)]
    mask = job.mask if len(steps) < 2 else mask_for_next_iteration(job, steps[-2])
    sharpened = try_to_sharpen(job, step, report)
    name, primary = (SHARPENED_FILE, sharpened[0]) if sharpened else ("map.mrc", final_map(job, step))
    volumes = {"half1.mrc": halves[0], "half2.mrc": halves[1], name: primary, "mask.mrc": mask}
    for file, volume in volumes.items():
        io.write_volume(folder / file, volume)
    write_fsc_xml(folder / "fsc.xml", step.fsc[KIND])
    with atomic_write(folder / README_FILE) as temporary:
        text = deposition_text(job, steps[0], step, name, primary, sharpened[1] if sharpened else None)
        temporary.write_text(text, encoding="utf-8")
    return [*(folder / file for file in volumes), folder / "fsc.xml", folder / README_FILE]


def deposition_text(job: Job, first: Step, step: Step, name: str, primary: Volume, plot: Guinier | None) -> str:
    """Return the text of README.md.

    Parameters
    ----------
    job : the job that the step was run with
    first : the start of its run
    step : the step
    name : file name of the primary map
    primary : the primary map
    plot : fit of its B-factor; None if it is not sharpened
    """
    sharpening = "none: the resolution is too low to fit a B-factor"
    if plot is not None:
        coarse, fine = plot.range_A
        sharpening = f"B-factor {plot.bfactor_A2:.1f} Å², fitted from {coarse:.3g} to {fine:.3g} Å (Guinier plot)"
    files = {
        name: "primary map: mean of the half maps, weighted by their FSC" + (", sharpened" if plot else ""),
        "half1.mrc, half2.mrc": "half maps, not masked, filtered or sharpened",
        "mask.mrc": "mask inside which the FSC was measured",
        "fsc.xml": "FSC of the half maps inside the mask, corrected by phase randomisation",
    }
    numbers = {**_map_numbers(step, primary), "Sharpening": sharpening, **_reconstruction_numbers(job, step)}
    whole = step.body is not None or step.iteration == 0 or maps_include_surroundings(job.spec)
    shown = "show the whole particle" if whole else "show the refined region alone: the rest was subtracted"
    if images_are_subtracted(job.particles, first):
        shown = "show the refined region alone: the rest was subtracted from the images before this refinement"
    lines = [
        "# Files and numbers for a deposition in EMDB",
        "",
        *(f"* `{file}`: {text}".replace(", half2", "`, `half2") for file, text in files.items()),
        "",
        "| EMDB asks for | value |",
        "|---|---|",
        *(f"| {label} | {value} |" for label, value in numbers.items()),
        "",
        f"This is a local refinement: poses were refined inside the mask, and the half maps {shown}.",
        "The contour level is a proposal: check it by eye.",
    ]
    return "\n".join(lines) + "\n"


def _map_numbers(step: Step, primary: Volume) -> dict[str, str]:
    """Return what EMDB asks about the map."""
    curve, size = step.fsc[KIND], primary.box
    return {
        "Box": f"{size} × {size} × {size} voxels",
        "Voxel size": f"{primary.pixel_size_A:.6g} Å",
        "Recommended contour level": f"{display_level(primary):.4g}",
        "Resolution": f"{curve.resolution_A():.2f} Å",
        "Resolution method": "FSC 0.143 CUT-OFF, of independent half maps, corrected for the mask",
        "Resolution at FSC 0.5": f"{curve.resolution_A(0.5):.2f} Å",
    }


def _reconstruction_numbers(job: Job, step: Step) -> dict[str, str]:
    """Return what EMDB asks about particles, microscope and software."""
    particles = job.particles
    used = (step.expectation.flags & FLAG_BAD_IMAGE) == 0
    halves = " and ".join(f"{int((used & (particles.half == number)).sum())}" for number in (1, 2))
    return {
        "Number of particles used": f"{int(used.sum())} (half sets of {halves})",
        "Symmetry": job.spec.symmetry,
        "Final angle assignment": "MAXIMUM LIKELIHOOD",
        "Software": f"lrwidgets {package_versions()['lrwidgets']}",
        **_microscope_numbers(particles),
    }


def _microscope_numbers(particles: Particles) -> dict[str, str]:
    """Return what the table says about the microscope; several values if its optics groups differ."""

    def values(name: str, unit: str) -> str:
        return ", ".join(f"{value:g}" for value in sorted({getattr(group, name) for group in particles.optics})) + unit

    defocus = particles.defocus_A.mean(axis=1)
    return {
        "Acceleration voltage": values("voltage_kV", " kV"),
        "Spherical aberration": values("cs_mm", " mm"),
        "Amplitude contrast": values("amplitude_contrast", ""),
        "Defocus": f"{np.min(defocus) / 10:.0f} to {np.max(defocus) / 10:.0f} nm",
    }
