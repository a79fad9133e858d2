"""The motion that a refinement of two_body tells, against the truth, and what is gained by taking it as settings."""

import numpy as np
import pytest

from lrcore.analysis.comparison import verdict_sentence
from lrcore.analysis.held_out_likelihood import held_out
from lrcore.analysis.motion_estimate import estimate_motion
from lrcore.compute.backend import Backend
from lrcore.records import Step
from lrcore.refinement.parameters import RefineSpec
from lrcore.testing import rotation_error_deg
from tests.validation.judge import SimulatedCase, print_measurement, refine


def test_fulcrum_and_widths_and_what_learning_them_is_worth(
    two_body: SimulatedCase, two_body_run: tuple[Step, Step], backend: Backend
) -> None:
    truth = np.load(two_body.folder / "truth.npz")
    step = two_body_run[1]
    found = estimate_motion(two_body.job(), step)
    hinge = found.overall
    off, before = (np.linalg.norm(at - truth["fulcrum"]) for at in (hinge.fulcrum_A, step.search.fulcrum_A))
    spread = np.degrees(truth["dR"].std()), truth["d"].std()
    print_measurement(
        f"two_body: fulcrum {off:.1f} Å from the truth (mask centre {before:.1f}), "
        f"halves {found.half_set_distance_A:.1f} Å apart; "
        f"motion {np.degrees(hinge.rotation_sd):.2f}°, {hinge.shift_sd_A:.2f} Å (true {spread[0]:.2f}, {spread[1]:.2f})"
    )
    assert off < 5
    assert found.half_set_distance_A < 4
    assert np.degrees(hinge.rotation_sd) == pytest.approx(spread[0], rel=0.15)
    assert hinge.shift_sd_A == pytest.approx(spread[1], rel=0.2)

    learning = two_body.job(RefineSpec(prior="motion", fulcrum="estimate"))
    first, after = refine(learning, backend)
    errors = [rotation_error_deg(one.expectation.poses, two_body.truth) for one in (after, step)]
    wrong, median = [float((e > 5).mean()) for e in errors], [float(np.median(e)) for e in errors]
    print_measurement(
        f"with these settings, without: {median[0]:.2f}, {median[1]:.2f}°; {wrong[0]:.1%}, {wrong[1]:.1%} above 5°"
    )
    assert median[0] < median[1]
    assert wrong[0] < wrong[1]
    assert after.search is not None
    assert np.linalg.norm(after.search.fulcrum_A - truth["fulcrum"]) < 8
    # What the truth says, held-out images say without it; and that the end is better than the start.
    judged = held_out(first, (two_body.job(), step), (learning, after), backend)
    print_measurement(verdict_sentence(("fixed", "learned"), judged))
    assert judged.better == 1
    assert held_out(first, (learning, after), (learning, first), backend).better == 0
