"""A 45 kDa stalk in a float16 stack gets sharper, and its half maps promise no more than the truth confirms."""

import numpy as np

from lrcore.backend import Backend
from lrcore.records import Step
from lrcore.spec import RefineSpec
from lrcore.testing import against, rotation_error_deg, shift_error_A
from tests.validation.judge import Case, body_centre_A, mean_map, refined, tell

Run = tuple[Step, Step]


def test_the_stalk_improves(pol2_stalk: Case, pol2_run: Run) -> None:
    for name, truth in (("the stalk", pol2_stalk.gt_b), ("the whole", pol2_stalk.gt_full)):
        curves = [against(mean_map(step), truth, pol2_stalk.mask) for step in pol2_run]
        before, after = (curve.resolution_A(0.5) for curve in curves)
        tell(f"FSC 0.5 against the truth of {name} inside the mask: {before:.2f} → {after:.2f} Å")
        assert after < before
        assert curves[1].value[1:].mean() > curves[0].value[1:].mean()


def test_half_maps_and_truth_agree(pol2_stalk: Case, pol2_run: Run) -> None:
    last = pol2_run[1]
    halves = last.fsc["masked"].resolution_A()
    truth = against(mean_map(last), pol2_stalk.gt_full, pol2_stalk.mask).resolution_A(0.5)
    corrected = last.fsc["corrected"].resolution_A()
    tell(f"half-map FSC 0.143: {halves:.2f} Å (corrected {corrected:.2f} Å), FSC 0.5 against the truth: {truth:.2f} Å")
    assert abs(halves / truth - 1) < 0.1


def test_poses_come_nearer_to_the_truth(pol2_stalk: Case, pol2_run: Run) -> None:
    centre = body_centre_A(pol2_stalk.mask)
    poses = [step.expectation.poses for step in pol2_run]
    median = [np.median(rotation_error_deg(p, pol2_stalk.truth)) for p in poses]
    shift = [np.sqrt(np.mean(shift_error_A(p, pol2_stalk.truth, centre) ** 2)) for p in poses]
    tell(f"rotation error, median: {median[0]:.2f} → {median[1]:.2f}° in {pol2_run[1].iteration} iterations")
    tell(f"shift error at the stalk's centre, RMS: {shift[0]:.2f} → {shift[1]:.2f} Å")
    assert median[1] < median[0]
    assert shift[1] < shift[0]


def test_non_uniform_regularisation(pol2_stalk: Case, pol2_run: Run, backend: Backend) -> None:
    _, with_it = refined(pol2_stalk.job(RefineSpec(non_uniform=True)), backend)
    pair = [with_it, pol2_run[1]]
    at = [against(mean_map(step), pol2_stalk.gt_b, pol2_stalk.mask).resolution_A(0.5) for step in pair]
    wrong = [np.median(rotation_error_deg(step.expectation.poses, pol2_stalk.truth)) for step in pair]
    tell(f"pol2_stalk, non-uniform, uniform: {at[0]:.2f}, {at[1]:.2f} Å; {wrong[0]:.2f}, {wrong[1]:.2f}°")
    assert at[0] < at[1]
    assert wrong[0] < wrong[1]
