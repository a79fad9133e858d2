"""Images without the body, and junk, weigh nothing: the map is that of the images with the body, and claims no more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lrcore.analysis.advice.presence import presence_findings
from lrcore.compute.backend import Backend
from lrcore.records import Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle
from lrcore.simulation.realism import REALISTIC_SET, Realism
from lrcore.testing import fsc_against_truth, rotation_error_deg
from tests.validation.judge import SimulatedCase, last_step, load_case, mean_map, print_measurement

ITERATIONS = 5


def refined(case: SimulatedCase, weighted: bool, backend: Backend) -> Step:
    job = case.job(RefineSpec(weight_by_presence=weighted))
    first = last = last_step(start(job, backend))
    for _ in range(ITERATIONS):
        last = last_step(run_iteration(job, first, last, backend))
    return last


def roc_area(evidence: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]) -> float:
    """Probability that an image with the body has more evidence than one without."""
    rank = np.argsort(np.argsort(evidence))
    with_body, without = present.sum(), (~present).sum()
    return float((rank[present].sum() - with_body * (with_body - 1) / 2) / (with_body * without))


def outcome(name: str, case: SimulatedCase, step: Step, present: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Claimed and true resolution in Å, and the median rotation error of the images with the body."""
    claimed = step.fsc["corrected"].resolution_A()
    true = fsc_against_truth(mean_map(step), case.gt_b, case.mask).resolution_A(0.5)
    error = float(np.median(rotation_error_deg(step.expectation.poses, case.truth)[present]))
    print_measurement(f"{name}: claimed {claimed:.2f} Å, true {true:.2f} Å ({claimed / true:.2f}); {error:.2f}°")
    return claimed, true, error


def three(case: SimulatedCase, present: npt.NDArray[np.bool_], backend: Backend) -> dict[str, Step]:
    """Refinements with weights, without, and of the images with the body alone; prints nothing."""
    rows = np.flatnonzero(present)
    alone = replace(case, particles=case.particles.select(rows), truth=case.truth.select(rows))
    return {
        "weighted": refined(case, True, backend),
        "not weighted": refined(case, False, backend),
        "alone": refined(alone, False, backend),
    }


@pytest.mark.parametrize(("snr", "missing", "seed"), [(0.05, 0.2, 1), (0.05, 0.7, 2), (0.02, 0.4, 3)])
def test_bodies_that_are_missing(snr: float, missing: float, seed: int, backend: Backend, tmp_path: Path) -> None:
    realism = Realism(missing_share=missing)
    simulate_flexible_particle(tmp_path, n=1200, box=96, pixel_size_A=1.5, snr=snr, seed=seed, realism=realism)
    case, present = load_case(tmp_path), np.load(tmp_path / "truth.npz")["present"]
    rows = np.flatnonzero(present)
    alone = replace(case, truth=case.truth.select(rows))
    steps = three(case, present, backend)
    found = {
        name: outcome(name, alone if name == "alone" else case, step, present[rows] if name == "alone" else present)
        for name, step in steps.items()
    }
    weighted = steps["weighted"].expectation
    area, share = roc_area(weighted.evidence, present), weighted.presence.mean()
    print_measurement(f"SNR {snr:g}: ROC area {area:.4f}; share {share:.3f}, true {present.mean():.3f}")
    assert area > (0.97 if snr == 0.05 else 0.9)
    assert abs(share - present.mean()) < 0.03
    reliable(weighted.presence, present)
    assert found["weighted"][1] < 1.08 * found["alone"][1]
    assert found["weighted"][2] < 1.06 * found["alone"][2]
    assert found["weighted"][1] < found["not weighted"][1]
    assert found["weighted"][2] < found["not weighted"][2]
    (advice,) = presence_findings(steps["weighted"])
    assert advice.evidence == pytest.approx(1 - present.mean(), abs=0.03)


def reliable(presence: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]) -> None:
    """Images said to hold the body with some probability hold it about as often, where there are enough of them."""
    for low in np.arange(0.0, 1.0, 0.25):
        inside = (presence >= low) & (presence <= low + 0.25)
        if inside.sum() > 25:
            assert present[inside].mean() == pytest.approx(presence[inside].mean(), abs=0.2)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_realistic_set(seed: int, backend: Backend, tmp_path: Path) -> None:
    """12 % junk, 20 % without the body, neighbours, wrong CTFs, contrast, ice gradients, coloured noise, SNR 0.05."""
    simulate_flexible_particle(tmp_path, n=1500, box=96, pixel_size_A=1.5, seed=seed, **REALISTIC_SET)
    case, truth = load_case(tmp_path), np.load(tmp_path / "truth.npz")
    present, rows = truth["present"], np.flatnonzero(truth["present"])
    alone = replace(case, truth=case.truth.select(rows))
    steps = three(case, present, backend)
    found = {
        name: outcome(name, alone if name == "alone" else case, step, present[rows] if name == "alone" else present)
        for name, step in steps.items()
    }
    weighted = steps["weighted"].expectation
    area, kept = roc_area(weighted.evidence, present), weighted.presence > 0.5
    shares = {name: kept[rows].mean() for name, rows in (("body", present), ("junk", truth["junk"] > 0))}
    print_measurement(f"ROC area {area:.4f}; said to hold the body: {shares['body']:.2f}, of junk {shares['junk']:.2f}")
    assert area > 0.97
    assert shares["body"] > 0.85
    assert shares["junk"] < 0.03
    assert found["weighted"][1] < 1.08 * found["alone"][1]
    assert found["weighted"][2] < 1.15 * found["alone"][2]
    assert found["weighted"][1] < 0.95 * found["not weighted"][1]
    assert found["weighted"][0] / found["weighted"][1] > 0.9
