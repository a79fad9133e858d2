"""`lrwidgets demo`: simulate a flexible particle, refine its moving body, and compare with the known truth."""

import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.poses import pose_differences
from lrcore.maps.fsc import masked_fsc
from lrcore.records import Fsc, Poses, Step, Volume
from lrcore.refinement.geometry import fulcrum_A
from lrcore.refinement.job import Job
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.simulation.image_truth import ImageTruth
from lrcore.simulation.realism import REALISTIC_SET
from lrwidgets import plots
from lrwidgets.cli.printer import Printer
from lrwidgets.session.engine import LRCORE_ENGINE, Engine
from lrwidgets.session.session import Session
from lrwidgets.text.parameters import DEFAULT_SPEC, edit_spec

ROWS = {
    "resolution_masked_A": "half maps, inside the mask: FSC 0.143 at Å",
    "resolution_corrected_A": "the same, corrected for the mask",
    "resolution_truth_A": "against the true density: FSC 0.5 at Å",
    "angle_error_deg": "rotation error of the body, median °",
    "above_5_deg_percent": "particles with more than 5°, %",
    "shift_error_A": "shift error at the body's centre, RMS Å",
}
"""Rows of the table: name in JSON → label."""
PRESENCE_ROWS = {
    "without_body_percent": "images without the body, as measured, %",
    "wrong_presence_percent": "images with and without it that were confused, %",
}
"""Further rows where the body is missing in some images."""

DATA: Mapping[str, Any] = {"box": 112, "pixel_size_A": 1.6, "snr": 0.045, "hinge_sd_deg": 4.0, "bfactor_A2": 80.0}
"""Arguments of the simulation, difficult enough that the resolution stays well below the Nyquist limit, 3.2 Å."""

REALISTIC_DATA: Mapping[str, Any] = {**DATA, **REALISTIC_SET}
"""Arguments of the realistic simulation: the same particle in a stack with junk, missing bodies and neighbours."""

ITERATIONS = 4
"""Maximum number of iterations: later ones gain little, and a demo should be short."""


def demo(arguments: Namespace) -> None:
    """Simulate, refine and compare with the truth."""
    data = REALISTIC_DATA if arguments.realistic else DATA
    run_demo(arguments.out, Printer(arguments.json), backend=arguments.backend, threads=arguments.threads, data=data)


def run_demo(
    out: Path, printer: Printer, *, particles: int = 1500, backend: str = "auto", threads: int | None = None,
    engine: Engine = LRCORE_ENGINE, data: Mapping[str, Any] = DATA,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Simulate, refine and export into a folder; return the numbers of the table, before and after.

    Writes data/ (the simulation), run.zarr, particles.star (new poses), maps/ and the figures.

    Parameters
    ----------
    out : folder to write
    printer : prints the iterations and the table
    particles : number of particles
    backend : backend that computes
    threads : number of threads; None for all cores of this process
    engine : functions that compute a step
    data : further arguments of `simulate_flexible_particle`

    Returns
    -------
    dict
        "before" and "after" → name of a row (`ROWS`, `PRESENCE_ROWS`) → value.

    Raises
    ------
    InputError
        If the folder exists or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: exists already: remove it, or choose another --out")
    began = time.monotonic()
    made = simulate_flexible_particle(out / "data", n=particles, **data)
    printer.report(f"simulated {particles} particles in {out / 'data'}", "simulated", particles=particles)
    _report_content(made.images, printer)
    spec = edit_spec(DEFAULT_SPEC, {"max_iterations": ITERATIONS})
    inputs: dict[str, Any] = {"out": out / "run.zarr", "backend": backend, "threads": threads, "engine": engine}
    with Session.load(made.star, made.map("mask_b"), spec=spec, **inputs) as session:
        session.progress.connect(printer.show_progress)
        session.step_done.connect(lambda node, step: printer.print_iteration(node.id, step.history[-1]))
        try:
            session.run(wait=True)
        finally:
            printer.close()
        truth = io.read_volume(made.map("gt_b"))
        ends = {"before": session.path()[0].id, "after": session.path()[-1].id}
        results = {
            when: compare_with_truth(session.job, session.load_step(node)[1], made.poses_b, truth, made.images.present)
            for when, node in ends.items()
        }
        session.export(star=out / "particles.star", maps=out / "maps")
        save_figures(session.results(ends["before"]), session.results(ends["after"]), out)
    _print_table(printer, results)
    printer.report(
        f"wrote {out} in {time.monotonic() - began:.0f} s; look at {out / 'overview.png'} first", "end", out=out
    )
    return results


def _report_content(images: ImageTruth, printer: Printer) -> None:
    """Say how many images show junk or no body, if any does."""
    if images.present.all():
        return
    junk = np.count_nonzero(images.junk)
    missing = np.count_nonzero(~images.present) - junk
    text = f"{junk} of the images are junk, {missing} show the particle without the body"
    printer.report(text, "content", junk=junk, without_body=missing)


def save_figures(before: xr.DataTree, after: xr.DataTree, folder: Path) -> None:
    """Save every figure of a run as PNG in a folder. before, after: results of its first and last step."""
    maps = [plots.filtered_map(tree) for tree in (before, after)]
    figures = {
        "overview": plots.overview(before, after),
        "slices": plots.slices(maps[0], maps[1], after.children["mask"].to_dataset()["mask"]),
        "fsc": plots.fsc(after),
        "changes": plots.changes(after),
        "uncertainty": plots.uncertainty(after),
        "history": plots.history(after),
    }
    for name, figure in figures.items():
        plots.save(figure, folder / f"{name}.png")


def compare_with_truth(
    job: Job, step: Step, truth: Poses, density: Volume, present: npt.NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Compare a step with the truth.

    Parameters
    ----------
    job : inputs of the refinement
    step : step to compare
    truth : true poses of the masked body
    density : true map of the masked body
    present : (n,) which images hold the body, by default all; the errors of the poses are those of these images

    Returns
    -------
    dict
        Name of a row (`ROWS`) → value; also of `PRESENCE_ROWS` if the body is missing in some images.
    """
    present = np.ones(len(truth), bool) if present is None else present
    differences = pose_differences(truth, step.expectation.poses, fulcrum_A(job))
    angle, shift = (values[present] for values in differences)
    maps, curve = step.half_maps, step.fsc["masked"]
    mean = 0.5 * (maps.first.data + maps.second.data)
    against = Fsc("truth", curve.frequency, masked_fsc(mean, density.data, job.mask.data))
    found = {
        "resolution_masked_A": curve.resolution_A(),
        "resolution_corrected_A": step.fsc["corrected"].resolution_A(),
        "resolution_truth_A": against.resolution_A(0.5),
        "angle_error_deg": float(np.median(angle)),
        "above_5_deg_percent": float(100 * np.mean(angle > 5)),
        "shift_error_A": float(np.sqrt(np.mean(shift**2))),
    }
    if not present.all():
        said = step.expectation.is_present
        found["without_body_percent"] = float(100 * np.mean(~said))
        found["wrong_presence_percent"] = float(100 * np.mean(said != present))
    return found


def _print_table(printer: Printer, results: dict[str, dict[str, float]]) -> None:
    """Print the values before and after, one row each."""
    if printer.as_json:
        printer.report("", "judged", **results)
        return
    rows = {name: label for name, label in {**ROWS, **PRESENCE_ROWS}.items() if name in results["after"]}
    width = max(map(len, rows.values()))
    printer.print_line(f"{'':{width}s}  {'before':>7s}  {'after':>7s}")
    for name, label in rows.items():
        printer.print_line(f"{label:{width}s}  {results['before'][name]:7.2f}  {results['after'][name]:7.2f}")
