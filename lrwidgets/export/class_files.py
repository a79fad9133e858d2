"""Write the result of a classification: maps of the classes, particles with their class, and a summary."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lrcore import io
from lrcore.classification.result import Classification, class_map
from lrcore.io.derived_particles import derive_particles
from lrcore.io.paths import atomic_write
from lrcore.maps.body_maps import body_in_box
from lrcore.records import Step
from lrcore.refinement.job import Job

SUMMARY = "summary.txt"


def class_file_names(classes: int, suffix: str) -> list[str]:
    """Return the names of the files of `write_class_files`.

    Parameters
    ----------
    classes : number of classes with density
    suffix : of the particle file, .star or .cs
    """
    maps = [f"class{k}{part}.mrc" for k in range(1, classes + 1) for part in ("", "_half1", "_half2")]
    return [*maps, f"particles{suffix}", *(["particles.csg"] if suffix == ".cs" else []), SUMMARY]


def write_class_files(folder: Path, job: Job, step: Step, result: Classification) -> int:
    """Write classK.mrc, classK_half1.mrc, classK_half2.mrc, particles.star or .cs, and summary.txt.

    The particles are at the poses of the step. A STAR file gets rlnClassNumber, a .cs file alignments3D/class, which
    counts from 0 as CryoSPARC does, with the empty class as the last; both get lrwClassProbability.

    Parameters
    ----------
    folder : that exists
    job : input of the refinement
    step : whose poses were used
    result : of the classification

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    origin, box = job.mask.header_origin_A, job.mask.box
    count = 0
    for number, maps in enumerate(result.maps, 1):
        if maps is None:
            continue
        volumes = {"": class_map(maps, box)} | {f"_half{half}": body_in_box(maps.body, box, half) for half in (1, 2)}
        for part, volume in volumes.items():
            io.write_volume(folder / f"class{number}{part}.mrc", replace(volume, header_origin_A=origin))
            count += 1
    count += _write_particles(folder, job, step, result)
    with atomic_write(folder / SUMMARY) as temporary:
        temporary.write_text(class_summary(result) + "\n", encoding="utf-8")
    return count + 1


def _write_particles(folder: Path, job: Job, step: Step, result: Classification) -> int:
    """Write the particles with their class; returns the number of files."""
    particles, probability = job.particles, result.posterior.max(axis=1)
    if particles.source is not None and particles.path.suffix.lower() in (".cs", ".csg"):
        columns = {"alignments3D/class": result.posterior.argmax(axis=1).astype(np.uint32)}
        particles = derive_particles(particles, np.arange(len(particles)), particles.uid, columns)
        extra = {"lrwClassProbability": probability}
        io.write_particles(folder / "particles.cs", particles, step.expectation.poses, extra)
        return 2
    extra = {"rlnClassNumber": result.label, "lrwClassProbability": probability}
    io.write_particles(folder / "particles.star", particles, step.expectation.poses, extra)
    return 1


def class_summary(result: Classification) -> str:
    """Return a line for each class: number and effective number of particles, and resolution of its half maps."""
    total, lines = len(result.posterior), []
    for at, (size, effective) in enumerate(zip(result.sizes, result.effective_sizes, strict=True)):
        dense = at < result.settings.classes
        name, maps = (f"class {at + 1}", result.maps[at]) if dense else ("empty", None)
        resolution = f"; {maps.resolution_A:.2f} A (FSC 0.143 inside the mask)" if maps else ""
        lines.append(f"{name:8} {size} particles ({size / total:.1%}), effectively {effective:.0f}{resolution}")
    last = result.history[-1]
    ending = f"{last.switched:.1%} changed their class in the last iteration"
    state = "converged" if result.converged else "not converged: raise the number of iterations"
    lines.append(f"classified to {result.resolution_A:.1f} A; {state}, {ending}")
    return "\n".join(lines)
