"""How often `compare` is right: branches that differ by their seed alone, and by a good and a bad fulcrum.

    python -m tests.validation.compare_table DATA/two_body

A branch is three iterations from the same start, and held-out images judge it as `lrwidgets compare` does. The bad
fulcra lie 40 to 76 Å from the hinge, in directions drawn at random.
"""

import sys
from pathlib import Path

import numpy as np

from lrcore.analysis.held_out_likelihood import HeldOut, held_out
from lrcore.compute.backend import Backend, get_backend
from lrcore.records import Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from tests.validation.judge import from_corner, last_step, load_case

ITERATIONS = 3
SEEDS, FULCRA = 20, 10


def branch(first: Step, job: Job, backend: Backend) -> tuple[Job, Step]:
    """So many iterations from the start."""
    step = first
    for _ in range(ITERATIONS):
        step = last_step(run_iteration(job, first, step, backend))
    return job, step


def format_score(one: HeldOut) -> str:
    """In a line."""
    which = "no difference" if one.better is None else f"{('the first', 'the second')[one.better]} is better"
    return f"{which}: {one.gain:+.2f} ± {one.error:.2f}"


def main(folder: Path, backend: Backend) -> None:
    """Print each verdict, and how many are right."""
    case, rng = load_case(folder), np.random.default_rng(5)
    hinge = np.load(folder / "truth.npz")["fulcrum"]
    first = last_step(start(case.job(), backend))
    base, alike, right = branch(first, case.job(), backend), 0, 0
    for seed in range(1, SEEDS + 1):
        verdict = held_out(first, base, branch(first, case.job(RefineSpec(seed=seed)), backend), backend)
        alike += verdict.better is None
        print(f"seed 0, seed {seed}: {format_score(verdict)}", flush=True)
    good = branch(
        first, case.job(RefineSpec(fulcrum=from_corner(hinge, case.mask.box, case.mask.pixel_size_A))), backend
    )
    for _ in range(FULCRA):
        aside = rng.normal(size=3)
        aside *= rng.uniform(40, 76) / np.linalg.norm(aside)
        spec = RefineSpec(fulcrum=from_corner(hinge + aside, case.mask.box, case.mask.pixel_size_A))
        verdict = held_out(first, good, branch(first, case.job(spec), backend), backend)
        right += verdict.better == 0
        print(f"the hinge, a point {np.linalg.norm(aside):.0f} Å away: {format_score(verdict)}", flush=True)
    print(f"no difference: {alike} of {SEEDS}; the hinge is better: {right} of {FULCRA}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), get_backend("auto"))
