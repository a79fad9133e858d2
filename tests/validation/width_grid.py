"""The table of docs/validation.md: refinements with a learned prior, and with each of a grid of fixed widths.

    python -m tests.validation.width_grid 21 22 23
    python -m tests.validation.width_grid hinge 21 22 23

Each seed is a simulated particle of two bodies. The fixed priors are 0.5, 1 and 2 times as wide as the true motion and
turn about the true hinge; the learned ones begin at the default widths and know nothing of the truth but, in the first
of two, the hinge. With `hinge` the body turns about one axis, by 6° to 9°, and 0.3° to 1.2° about the others; the fixed
priors are as wide as its mean. Errors of the poses and the map are judged by the truth after as many iterations.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from lrcore.compute.backend import Backend, get_backend
from lrcore.records import Step
from lrcore.refinement.parameters import RefineSpec
from tests.validation.advice_scenarios import BOX, PIXEL_A, World, world
from tests.validation.advice_table import run
from tests.validation.judge import from_corner, pose_errors

FACTORS = (0.5, 1.0, 2.0)
GRID = tuple(product(FACTORS, FACTORS))
LEARNED, ALL_LEARNED = "learned", "learned, fulcrum too"
ITERATIONS = 6


@dataclass(frozen=True)
class WidthRow:
    """A refinement judged by the truth.

    name: of the prior. error_deg: median of the poses. fsc: mean over the shells, of the map to the true body. widths:
    (°, Å) of the prior that the last iteration held, over the true ones.
    """

    name: str
    error_deg: float
    fsc: float
    widths: tuple[float, float]

    def __str__(self) -> str:
        turn, shift = self.widths
        return (
            f"{self.name}: {self.error_deg:.3f}°, FSC {self.fsc:.4f}; widths {turn:.2f}, {shift:.2f} of the true ones"
        )


def true_widths(made: World) -> tuple[float, float]:
    """SD per axis of the motion from the input poses about the hinge, ° and Å."""
    moved = pose_errors(made.truth.particles.poses, made.truth.poses_b, made.truth.phantom.fulcrum_A)
    turn, shift = (float(np.sqrt((part**2).mean())) for part in (moved[:, :3], moved[:, 3:]))
    return float(np.degrees(turn)), shift


def specs(made: World, grid: tuple[tuple[float, float], ...] = GRID) -> Iterator[tuple[str, RefineSpec]]:
    """The priors that are compared: learned, learned with the fulcrum, and fixed ones."""
    hinge, (turn, shift) = from_corner(made.truth.phantom.fulcrum_A, BOX, PIXEL_A), true_widths(made)
    yield LEARNED, RefineSpec(prior="motion", fulcrum=hinge)
    yield ALL_LEARNED, RefineSpec(prior="motion", fulcrum="estimate")
    for a, b in grid:
        fixed = RefineSpec(fulcrum=hinge, rotation_prior_sd_deg=a * turn, shift_prior_sd_A=b * shift)
        yield f"{a:g}, {b:g}", fixed


def evaluate_step(made: World, name: str, step: Step) -> WidthRow:
    """How near to the truth a step is."""
    turns = pose_errors(step.expectation.poses, made.truth.poses_b, made.truth.phantom.fulcrum_A)[:, :3]
    true, held = true_widths(made), step.search
    assert held is not None
    return WidthRow(
        name,
        float(np.degrees(np.median(np.linalg.norm(turns, axis=1)))),
        made.quality(step),
        (held.rotation_sd_deg / true[0], held.shift_sd_A / true[1]),
    )


def rows(made: World, grid: tuple[tuple[float, float], ...] = GRID, iterations: int = ITERATIONS) -> Iterator[WidthRow]:
    """Each refinement, judged as it ends."""
    for name, spec in specs(made, grid):
        job = replace(made.job, spec=spec)
        yield evaluate_step(made, name, run(replace(made, job=job), iterations).steps[-1])


def compare_with_grid(found: list[WidthRow]) -> dict[str, tuple[float, float]]:
    """Of either learned prior: its error over the least of the grid, and its FSC less the best of the grid."""
    fixed = [row for row in found if row.name not in (LEARNED, ALL_LEARNED)]
    least, best = min(row.error_deg for row in fixed), max(row.fsc for row in fixed)
    return {row.name: (row.error_deg / least, row.fsc - best) for row in found if row.name in (LEARNED, ALL_LEARNED)}


def hinge_data(seed: int) -> dict[str, Any]:
    """Data of a body that turns about one axis above all, in any direction."""
    rng = np.random.default_rng([seed, 78])
    across = rng.uniform(0.3, 1.2, 2)
    sd = (float(rng.uniform(6.0, 9.0)), float(across[0]), float(across[1]))
    return {"hinge_sd_deg": sd, "hinge_axes": Rotation.random(rng=rng).as_matrix()}


def main(seeds: list[int], backend: Backend, hinge: bool = False) -> None:
    """Print the rows of each seed, and their means."""
    every: list[list[WidthRow]] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            made = world(Path(folder), seed, hinge_data(seed) if hinge else {}, backend)
            turn, shift = true_widths(made)
            print(f"seed {seed}: {len(made.truth.particles)} particles, motion {turn:.1f}°, {shift:.1f} Å", flush=True)
            every.append([])
            for row in rows(made):
                every[-1].append(row)
                print(f"  {row}", flush=True)
        print(f"  {compare_with_grid(every[-1])}", flush=True)
    for same in zip(*every, strict=True):
        error, fsc = np.mean([row.error_deg for row in same]), np.mean([row.fsc for row in same])
        print(f"{same[0].name}: {error:.3f}°, FSC {fsc:.4f}")


if __name__ == "__main__":
    words = sys.argv[1:]
    main([int(word) for word in words if word != "hinge"], get_backend("auto"), "hinge" in words)
