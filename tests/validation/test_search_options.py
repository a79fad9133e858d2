"""Options of the search, each with and without, on one simulated particle whose body turns 5° an axis about a hinge."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import Backend
from lrcore.imaging.poses import pose_differences
from lrcore.particles.subsets import draw_balanced_subset
from lrcore.records import Step
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.testing import fsc_against_truth, rotation_error_deg, shift_error_A
from tests.validation.judge import (
    SimulatedCase,
    body_centre_A,
    last_step,
    load_case,
    mean_map,
    print_measurement,
    refine,
)

BOX, PIXEL = 64, 3.0


@dataclass(frozen=True)
class Result:
    """After some iterations: resolution against the truth, errors, and the largest change from the input in any."""

    step: Step
    truth_A: float
    rotation_deg: float
    shift_A: float
    farthest: tuple[float, float]

    def __str__(self) -> str:
        angle, shift = self.farthest
        moved = f"moved by {angle:.1f}°, {shift:.1f} Å at most"
        return f"{self.truth_A:.2f} Å, {self.rotation_deg:.2f}°, {self.shift_A:.2f} Å; {moved}"


def run(case: SimulatedCase, backend: Backend, iterations: int = 2, **settings: object) -> Result:
    """A refinement of so many iterations, converged or not, and what it is worth."""
    job = case.job(RefineSpec(**settings))
    fulcrum = search_geometry(job.mask, job.spec).fulcrum_A
    first = last = last_step(start(job, backend))
    farthest = np.zeros(2)
    for _ in range(iterations):
        last = last_step(run_iteration(job, first, last, backend))
        moved = pose_differences(case.particles.poses, last.expectation.poses, fulcrum)
        farthest = np.maximum(farthest, [moved[0].max(), moved[1].max()])
    poses = last.expectation.poses
    shift = shift_error_A(poses, case.truth, body_centre_A(case.mask))
    found = Result(
        step=last,
        truth_A=fsc_against_truth(mean_map(last), case.gt_b, case.mask).resolution_A(0.5),
        rotation_deg=float(np.median(rotation_error_deg(poses, case.truth))),
        shift_A=float(np.sqrt(np.mean(shift**2))),
        farthest=(float(farthest[0]), float(farthest[1])),
    )
    print_measurement(f"{settings}: {found}")
    return found


def simulated(folder: Path, n: int, degrees: float, shift_A: float) -> SimulatedCase:
    """A body that moves by so much about its hinge, SDs per axis; the poses know the other body."""
    simulate_flexible_particle(
        folder, n=n, box=BOX, pixel_size_A=PIXEL, snr=0.1, hinge_sd_deg=degrees, hinge_shift_sd_A=shift_A, seed=11
    )
    return load_case(folder)


@pytest.fixture(scope="module")
def hinged(tmp_path_factory: pytest.TempPathFactory) -> SimulatedCase:
    return simulated(tmp_path_factory.mktemp("hinged"), 800, 5.0, 0.5)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> SimulatedCase:
    """The body moves further than the extents of its test."""
    return simulated(tmp_path_factory.mktemp("far"), 600, 8.0, 4.0)


@pytest.fixture(scope="module")
def plain(hinged: SimulatedCase, backend: Backend) -> Result:
    return run(hinged, backend)


def test_the_prior_and_its_width(hinged: SimulatedCase, plain: Result, backend: Backend) -> None:
    """The right width (5°, 3 Å) beats none at all, and one that holds the body where it is not."""
    none = run(hinged, backend, prior="none")
    narrow = run(hinged, backend, rotation_prior_sd_deg=1.5, shift_prior_sd_A=1.0)
    assert plain.truth_A < none.truth_A - 0.4
    assert plain.rotation_deg < none.rotation_deg - 1.0
    assert plain.truth_A < narrow.truth_A - 1.0
    assert plain.rotation_deg < narrow.rotation_deg - 1.5


def test_extents_are_never_exceeded_from_the_first_iteration_on(
    hinged: SimulatedCase, plain: Result, backend: Backend
) -> None:
    tight = run(hinged, backend, rotation_extent_deg=4.0, shift_extent_A=2.0)
    last = tight.step.history[-1]
    print_measurement(f"at the extents: {last.at_rotation_extent:.0%}, {last.at_shift_extent:.0%}")
    assert tight.farthest == pytest.approx((4.0, 2.0), abs=1e-6)
    assert plain.farthest[0] <= 15.0 + 1e-6
    assert plain.farthest[1] <= 9.0 + 1e-6
    # Most of the body's motion is beyond: the flags say so, and it costs what it must.
    assert last.at_rotation_extent > 0.3
    assert tight.rotation_deg > plain.rotation_deg + 0.5


def corner_A(point: np.ndarray) -> str:
    """A point from the box centre as a fulcrum is typed."""
    return ", ".join(f"{x + BOX // 2 * PIXEL:.3f}" for x in point) + " A"


def test_the_fulcrum(hinged: SimulatedCase, backend: Backend) -> None:
    """With little shift allowed about it, the body turns about the hinge and about no other point."""
    hinge, middle = np.load(hinged.folder / "truth.npz")["fulcrum_A"], body_centre_A(hinged.mask)
    held = {"shift_prior_sd_A": 1.0, "shift_extent_A": 3.0}
    right = run(hinged, backend, fulcrum=corner_A(hinge), **held)
    mask = run(hinged, backend, fulcrum="mask", **held)
    wrong = run(hinged, backend, fulcrum=corner_A(2 * middle - hinge), **held)
    assert right.truth_A < mask.truth_A - 0.3 < wrong.truth_A - 1.0
    assert right.rotation_deg < mask.rotation_deg - 1.0 < wrong.rotation_deg - 2.5


def test_recentring_follows_a_body_that_moves_further_than_the_extents(far: SimulatedCase, backend: Backend) -> None:
    extents = {"rotation_extent_deg": 8.0, "shift_extent_A": 4.0}
    off = run(far, backend, 3, **extents)
    turned = run(far, backend, 3, recenter_rotations=True, **extents)
    both = run(far, backend, 3, recenter_rotations=True, recenter_shifts=True, **extents)
    assert off.farthest == pytest.approx((8.0, 4.0), abs=1e-6)
    # Rotations alone: shifts still count from where the input has the fulcrum.
    assert turned.farthest[1] <= 4.0 + 1e-6
    assert turned.farthest[0] > 12.0
    assert both.farthest[0] > 12.0
    assert both.farthest[1] > 6.0
    assert both.truth_A < off.truth_A - 1.0
    assert both.rotation_deg < off.rotation_deg - 1.5
    assert both.shift_A < 0.6 * off.shift_A


def test_limits_of_resolution(hinged: SimulatedCase, plain: Result, backend: Backend) -> None:
    """No finer than what is asked for, in the first iteration or in all: it is kept to, and a low limit costs."""
    limited = run(hinged, backend, max_align_resolution_A=25.0)
    coarse = run(hinged, backend, initial_lowpass_A=40.0)
    used = {name: [line.align_resolution_A for line in result.step.history[1:]] for name, result in
            {"auto": plain, "limit": limited, "initial": coarse}.items()}  # fmt: skip
    print_measurement(f"resolution used for the poses, Å: {used}")
    assert used["limit"] == [25.0, 25.0]
    assert used["initial"][0] == 40.0
    assert used["initial"][1] < 12.0
    assert max(used["auto"]) < 15.0
    assert limited.rotation_deg > plain.rotation_deg + 1.5
    assert coarse.rotation_deg > plain.rotation_deg + 0.5


def test_subtraction_of_what_lies_outside(hinged: SimulatedCase, plain: Result, backend: Backend) -> None:
    left = run(hinged, backend, subtract_outside=False)
    assert plain.rotation_deg < left.rotation_deg - 0.2
    assert plain.truth_A < left.truth_A
    assert plain.shift_A < left.shift_A


def test_extra_final_passes_go_on_after_convergence(hinged: SimulatedCase, backend: Backend) -> None:
    rows = draw_balanced_subset(hinged.particles.half, 200, 0)
    part = replace(hinged, particles=hinged.particles.select(rows), truth=hinged.truth.select(rows))
    ends = {}
    for passes in (0, 2):
        job: Job = part.job(RefineSpec(extra_final_passes=passes, max_iterations=20))
        ends[passes] = refine(job, backend)[1]
    error = {n: float(np.median(rotation_error_deg(end.expectation.poses, part.truth))) for n, end in ends.items()}
    count = {n: end.iteration for n, end in ends.items()}
    print_measurement(f"iterations {count}, rotation error {error}")
    assert ends[0].converged
    assert count[2] == count[0] + 2 < 20
    # Converged means that there is little to gain.
    assert abs(error[2] - error[0]) < 0.2
