"""Compare with RELION on the same files: a whole local refinement, and a reconstruction."""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.maps.fsc import fsc_curves
from lrcore.masks import centre_of_mass
from lrcore.records import Fsc, HalfMaps, Particles, Volume
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.testing import fsc_against_truth, rotation_error_deg, shift_error_A
from lrwidgets.bench.measurement import BenchmarkOptions, BenchmarkSkipped, Measurement
from lrwidgets.bench.subprocesses import command_error, run_command, run_lrwidgets

RELION_OPTIONS = shlex.split(
    "--auto_refine --split_random_halves --ini_high 8 --ctf --flatten_solvent --zero_mask --solvent_correct_fsc"
    " --oversampling 1 --healpix_order 5 --auto_local_healpix_order 5 --sigma_ang 3 --offset_range 4 --offset_step 2"
    " --low_resol_join_halves 40 --norm --scale --pad 2 --pool 10 --preread_images --dont_combine_weights_via_disc"
)
"""Options of a typical local search in RELION: steps of 1.8°, then finer, within 9°; shifts within 4 px."""
LOG = Path(tempfile.gettempdir()) / "lrwidgets-bench-relion.log"
RANKS = 3
"""MPI ranks: the leader and one per half set."""


@dataclass(frozen=True)
class RelionCase:
    """Simulated data set to refine.

    Attributes
    ----------
    folder : its folder, with files named as in `lrcore.simulation`
    name : its name
    half_maps : two half maps
    mean : their mean
    """

    folder: Path
    name: str
    half_maps: tuple[Path, Path]
    mean: Path


@dataclass(frozen=True)
class ProgramOutcome:
    """Result of a program on a case.

    Attributes
    ----------
    seconds : wall time
    iterations : number of iterations
    complete : True if it converged, False if it was stopped
    particles : its particle file
    half_maps : its unfiltered half maps
    """

    seconds: float
    iterations: int
    complete: bool
    particles: Path
    half_maps: tuple[Path, Path]


def compare_refinement(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Run `lrwidgets refine` with default parameters and RELION's local search until both converge."""
    mpirun, program = (_program(name) for name in ("mpirun", "relion_refine_mpi"))
    case = prepare_case(options)
    options.report(f"{case.name}: lrwidgets refine")
    ours = _run_lrwidgets(case, options)
    yield from _measurements("lrwidgets", case, ours, options)
    options.report(f"{case.name}: relion_refine_mpi, log in {LOG}")
    theirs = _run_relion([mpirun, *_permissions(mpirun), "-n", str(RANKS), program], case, options)
    yield from _measurements("RELION", case, theirs, options)
    parameters = {"data": case.name, "relion_iterations": theirs.iterations, "relion_stopped": not theirs.complete}
    name = "RELION / lrwidgets" if theirs.complete else "RELION stopped early / lrwidgets whole"
    yield Measurement("relion", name, theirs.seconds / ours.seconds, "x", parameters)
    if not theirs.complete and options.relion_total:
        whole = theirs.seconds / theirs.iterations * options.relion_total
        parameters |= {"extrapolated_to_iterations": options.relion_total}
        yield Measurement("relion", "RELION extrapolated", whole, "s", parameters)
        yield Measurement("relion", "RELION extrapolated / lrwidgets", whole / ours.seconds, "x", parameters)


def compare_reconstruction(options: BenchmarkOptions) -> Iterator[Measurement]:
    """Run `lrwidgets reconstruct` and relion_reconstruct at the true poses; compare wall time and FSC to the truth."""
    relion = _program("relion_reconstruct")
    size: dict[str, Any] = {"n": 1000, "box": 96, "pixel_size_A": 2.0}
    if options.quick:
        size = {"n": 100, "box": 48, "pixel_size_A": 4.0}
    folders = {"simulated": simulate_flexible_particle(options.folder / "simulated", **size).folder}
    if options.data and not options.quick:
        folders[options.data.name] = options.data
    for name, data in folders.items():
        options.report(f"{name}: reconstruct")
        maps = {program: options.folder / f"{name}-{program}.mrc" for program in ("lrwidgets", "RELION")}
        ours = ("reconstruct", str(data / "truth_b.star"), "--out", str(maps["lrwidgets"]))
        theirs = [relion, "--i", "truth_b.star", "--o", str(maps["RELION"]), "--ctf", "--j", str(options.threads)]
        run_lrwidgets(*ours)  # compiles the kernels
        times = {
            "lrwidgets": min(run_lrwidgets(*ours).seconds for _ in range(options.repeats)),
            "RELION": min(run_command(theirs, data).seconds for _ in range(options.repeats)),
        }
        parameters = {
            "data": name,
            "particles": len(io.read_particles(data / "truth_b.star")),
            "threads": options.threads,
        }
        truth, mask = io.read_volume(data / "gt_b.mrc"), io.read_volume(data / "mask_b.mrc")
        for program, seconds in times.items():
            resolution_A = fsc_against_truth(io.read_volume(maps[program]).data, truth, mask).resolution_A(0.5)
            known = {**parameters, "program": program}
            yield Measurement("reconstruct", "wall time", seconds, "s", known)
            yield Measurement("reconstruct", "against the truth, FSC 0.5", resolution_A, "angstrom", known)
        yield Measurement("reconstruct", "RELION / lrwidgets", times["RELION"] / times["lrwidgets"], "x", parameters)


def prepare_case(options: BenchmarkOptions) -> RelionCase:
    """Link the data set of the options into a new folder, or simulate one, and reconstruct its half maps."""
    folder = options.folder / "case"
    if options.data and not options.quick:
        folder.mkdir()
        for path in options.data.iterdir():
            (folder / path.name).symlink_to(path.resolve())
        name = options.data.name
    else:
        size: dict[str, Any] = {"n": 100, "box": 48, "pixel_size_A": 4.0, "snr": 0.2}
        if not options.quick:
            size = {"n": 1200, "box": 96, "pixel_size_A": 2.0, "snr": 0.05}
        options.report(f"simulating {size['n']} particles")
        simulate_flexible_particle(folder, **size)
        name = "simulated"
    halves = (folder / "consensus_half1.mrc", folder / "consensus_half2.mrc")
    for number, path in enumerate(halves, 1):
        if not path.exists():
            run_lrwidgets("reconstruct", str(folder / "particles.star"), "--half", str(number), "--out", str(path))
    first, second = (io.read_volume(path) for path in halves)
    mean = folder / "consensus_mean.mrc"
    io.write_volume(mean, Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A))
    return RelionCase(folder, name, halves, mean)


def _run_lrwidgets(case: RelionCase, options: BenchmarkOptions) -> ProgramOutcome:
    """Refine with lrwidgets and export the result."""
    inputs = [str(case.folder / "particles.star"), "--mask", str(case.folder / "mask_b.mrc")]
    inputs += ["--half-maps", *map(str, case.half_maps), "--threads", str(options.threads)]
    warm_up, run = options.folder / "compiles.zarr", options.folder / "run.zarr"
    run_lrwidgets("refine", *inputs, "--out", str(warm_up), "--iterations", "1", "--subset", "32")
    done = run_lrwidgets("refine", *inputs, "--out", str(run))
    run_lrwidgets(
        "export", str(run), "--star", str(options.folder / "ours.star"), "--maps", str(options.folder / "maps")
    )
    maps = (options.folder / "maps" / "half1.mrc", options.folder / "maps" / "half2.mrc")
    # A line for the start, one for each iteration, and one at the end.
    return ProgramOutcome(done.seconds, len(done.lines) - 2, True, options.folder / "ours.star", maps)


def _run_relion(program: list[str], case: RelionCase, options: BenchmarkOptions) -> ProgramOutcome:
    """Refine with RELION. Raises InputError, one line, if it fails; its log is kept."""
    out = case.folder / "relion"
    out.mkdir()
    inputs = ["--i", "particles.star", "--ref", case.mean.name, "--solvent_mask", "mask_b.mrc", "--o", "relion/run"]
    command = [*program, *inputs, *RELION_OPTIONS]
    last = None
    if options.relion_iterations:
        last = out / f"run_it{options.relion_iterations:03d}_optimiser.star"
    start = time.time()
    with LOG.open("w") as log:
        process = subprocess.Popen(command, cwd=case.folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None and not (last and last.exists()):
                time.sleep(0.2)
            status = process.returncode
        finally:
            # mpirun terminates its ranks when it is terminated.
            process.terminate()
            process.wait()
    if status not in (None, 0):
        raise InputError(f"{command_error(command, status, LOG.read_text(errors='replace'))} (log: {LOG})")
    return _relion_outcome(out, time.time() - start)


def _relion_outcome(out: Path, seconds: float) -> ProgramOutcome:
    """Return RELION's final files or, if it was stopped, those of its last complete iteration."""
    complete = sorted(out.glob("run_it*_optimiser.star"), key=lambda path: path.name)
    count = len(complete) - 1
    if (out / "run_data.star").exists():
        # The last iteration, with all the data, writes no optimiser file of its own.
        return ProgramOutcome(seconds, count + 1, True, out / "run_data.star", _unfiltered(out / "run"))
    stem = out / complete[-1].name.removesuffix("_optimiser.star")
    until_complete = complete[-1].stat().st_mtime - (time.time() - seconds)
    return ProgramOutcome(until_complete, count, False, Path(f"{stem}_data.star"), _unfiltered(stem))


def _unfiltered(stem: Path) -> tuple[Path, Path]:
    """Return the paths of RELION's unfiltered half maps."""
    return Path(f"{stem}_half1_class001_unfil.mrc"), Path(f"{stem}_half2_class001_unfil.mrc")


def _measurements(
    program: str, case: RelionCase, outcome: ProgramOutcome, options: BenchmarkOptions
) -> Iterator[Measurement]:
    """Yield the wall time and the quality of the result of a program."""
    known: dict[str, Any] = {"data": case.name, "program": program, "iterations": outcome.iterations}
    if not outcome.complete:
        known["stopped"] = True
    cores = options.threads if program == "lrwidgets" else RANKS - 1
    yield Measurement("relion", "wall time", outcome.seconds, "s", {**known, "cores": cores})
    for name, (value, unit) in evaluate_outcome(case, outcome).items():
        yield Measurement("relion", name, value, unit, known)


def evaluate_outcome(case: RelionCase, outcome: ProgramOutcome) -> dict[str, tuple[float, str]]:
    """Compare half maps with each other, and their mean and the poses with the truth.

    Parameters
    ----------
    case : the data set, with its truth
    outcome : result of a program

    Returns
    -------
    dict
        Label → (value, unit).
    """
    mask, truth = (io.read_volume(case.folder / f"{name}.mrc") for name in ("mask_b", "gt_b"))
    first, second = (io.read_volume(path, truth.pixel_size_A) for path in outcome.half_maps)
    curves: dict[str, Fsc] = fsc_curves(first, second, mask)
    maps = HalfMaps(first, second)
    mean = 0.5 * (maps.first.data + maps.second.data)
    found = _by_image(io.read_particles(outcome.particles, case.folder)).poses
    true = _by_image(io.read_particles(case.folder / "truth_b.star")).poses
    angle = rotation_error_deg(found, true)
    shift = shift_error_A(found, true, centre_of_mass(mask.data) * mask.pixel_size_A)
    return {
        "half maps in the mask, FSC 0.143": (curves["masked"].resolution_A(), "angstrom"),
        "the same, corrected for the mask": (curves["corrected"].resolution_A(), "angstrom"),
        "against the truth in the mask, FSC 0.5": (fsc_against_truth(mean, truth, mask).resolution_A(0.5), "angstrom"),
        "rotation error, median": (float(np.median(angle)), "degree"),
        "particles with more than 5°": (float(100 * np.mean(angle > 5)), "%"),
        "shift error, RMS": (float(np.sqrt(np.mean(shift**2))), "angstrom"),
    }


def _by_image(particles: Particles) -> Particles:
    """Sort by the index in their one stack, since RELION changes the order of the rows."""
    return particles.select(np.argsort(particles.images.index))


def _program(name: str) -> str:
    """Return the path of a program. Raises BenchmarkSkipped if it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise BenchmarkSkipped(f"{name} is not on PATH (Debian: apt-get install relion)")
    return path


def _permissions(mpirun: str) -> list[str]:
    """Return the options without which Open MPI refuses to run as root, or more ranks than there are cores."""
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" not in version and "OpenRTE" not in version:
        return []
    return ["--oversubscribe"] + ["--allow-run-as-root"] * (os.geteuid() == 0)
