"""A small mask, wide extents, few noisy particles: without a prior the half maps promise what the truth denies."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from lrcore.analysis.advice.advise import advise_on_step
from lrcore.analysis.held_out_likelihood import held_out
from lrcore.compute.backend import Backend
from lrcore.imaging.poses import pose_differences
from lrcore.masks import centre_of_mass, soft_sphere
from lrcore.particles.subsets import draw_balanced_subset
from lrcore.records import Volume
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.testing import fsc_against_truth, rotation_error_deg
from lrwidgets.session.advice import HELD_OUT_IMAGES
from tests.validation.judge import SimulatedCase, last_step, mean_map, print_measurement

WIDE = {"prior": "none", "rotation_extent_deg": 40.0, "shift_extent_A": 15.0}


@dataclass(frozen=True)
class Outcome:
    """Two iterations; halves_A, truth_A and excess before and after them.

    excess: by how much the half maps' corrected FSC promises more than is true. moved: (n,) rotation from the input, as
    a share of the extent. gain: of held-out images over the start. advice: names of what is found.
    """

    halves_A: tuple[float, float]
    truth_A: tuple[float, float]
    excess: tuple[float, float]
    error_deg: float
    moved: np.ndarray
    gain: float
    advice: set[str]


@pytest.fixture(scope="module")
def small(pol2_stalk: SimulatedCase) -> SimulatedCase:
    """400 particles of pol2_stalk, and a ball of 19 Å in the middle of the stalk, with an edge of 10 Å, as the mask."""
    mask = pol2_stalk.mask
    middle = np.rint(centre_of_mass(mask.data)).astype(int)[::-1]
    ball = soft_sphere(mask.box, 19 / mask.pixel_size_A, 10 / mask.pixel_size_A)
    rows = draw_balanced_subset(pol2_stalk.particles.half, 400, 0)
    return replace(
        pol2_stalk,
        particles=pol2_stalk.particles.select(rows),
        truth=pol2_stalk.truth.select(rows),
        mask=Volume(np.roll(ball, tuple(middle), axis=(0, 1, 2)), mask.pixel_size_A),
    )


def promised(halves: np.ndarray) -> np.ndarray:
    """What the FSC of two half maps says of their mean's with the truth: √(2 FSC / (1 + FSC))."""
    fsc = np.clip(halves, 0, 1)
    return np.sqrt(2 * fsc / (1 + fsc))


def outcome(case: SimulatedCase, backend: Backend, **settings: object) -> Outcome:
    job = case.job(RefineSpec(**settings))
    first = last = last_step(start(job, backend))
    for _ in range(2):
        last = last_step(run_iteration(job, first, last, backend))
    truth = [fsc_against_truth(mean_map(step), case.gt_full, case.mask) for step in (first, last)]
    halves = [step.fsc["corrected"] for step in (first, last)]
    seen = (truth[0].frequency > 1 / 30) & (truth[0].frequency < 1 / 4)
    excess = [float((promised(h.value) - t.value)[seen].mean()) for h, t in zip(halves, truth, strict=True)]
    angle, _ = pose_differences(
        case.particles.poses, last.expectation.poses, search_geometry(job.mask, job.spec).fulcrum_A
    )
    worth = held_out(first, (job, first), (job, last), backend, HELD_OUT_IMAGES)
    found = Outcome(
        halves_A=(halves[0].resolution_A(), halves[1].resolution_A()),
        truth_A=(truth[0].resolution_A(0.5), truth[1].resolution_A(0.5)),
        excess=(excess[0], excess[1]),
        error_deg=float(np.median(rotation_error_deg(last.expectation.poses, case.truth))),
        moved=angle / job.spec.rotation_limit_deg,
        gain=worth.gain,
        advice={one.name for one in advise_on_step(job, first, last, held_out=worth)},
    )
    histogram = np.histogram(found.moved, np.linspace(0, 1, 11))[0] / len(found.moved)
    (claimed, claim), (before, after) = found.halves_A, found.truth_A
    print_measurement(
        f"{settings or 'default'}: half maps {claimed:.2f} → {claim:.2f} Å, truth {before:.2f} → {after:.2f} Å"
    )
    print_measurement(
        f"  FSC promised above that to the truth by {excess[0]:.3f} → {excess[1]:.3f}; error {found.error_deg:.1f}°"
    )
    print_measurement(f"  changes, in tenths of the extent: {' '.join(f'{share:.2f}' for share in histogram)}")
    print_measurement(
        f"  held-out images: {worth.gain:+.2f} ± {worth.error:.2f} an image over the start; advice: {found.advice}"
    )
    return found


def test_wide_extents_without_a_prior_overfit_a_small_mask(small: SimulatedCase, backend: Backend) -> None:
    held, wide = outcome(small, backend), outcome(small, backend, **WIDE)
    # With the prior the half maps claim what is so, and less too much than the input; without, far more than is.
    assert held.truth_A[1] / held.halves_A[1] < 1.12
    assert held.excess[1] < min(0.09, 0.7 * held.excess[0])
    assert wide.truth_A[1] / wide.halves_A[1] > 1.3
    assert wide.excess[1] > 1.2 * wide.excess[0]
    # The map gets better with the prior and worse without; so do the poses, whose input is 7.6° off.
    assert held.truth_A[1] < held.truth_A[0] - 1.0
    assert wide.truth_A[1] > wide.truth_A[0] + 1.0
    assert held.error_deg < 6.5
    assert wide.error_deg > 12.0
    # Held-out images tell it, and advice says so, where the half maps agree better than at the start.
    assert held.gain > 0.5
    assert wide.gain < -1.5
    assert "overfitting" in wide.advice
    assert "overfitting" not in held.advice
    assert wide.halves_A[1] < wide.halves_A[0]
    # Without a prior the changes pile up at the edge: more in the last tenth than in the two before it.
    last, before = np.mean(wide.moved > 0.9), np.mean((wide.moved > 0.7) & (wide.moved <= 0.9))
    assert last > max(0.1, before)
    assert np.mean(held.moved > 0.9) < 0.02
