"""The motion that a refinement of two_body tells, against the truth, and what is gained by taking it as settings."""

import numpy as np
import pytest

from lrcore.backend import Backend
from lrcore.compare import verdict
from lrcore.estimate import estimate
from lrcore.heldout import held_out
from lrcore.records import Step
from lrcore.spec import RefineSpec
from lrcore.testing import rotation_error_deg
from tests.validation.judge import Case, refined, tell


def test_fulcrum_and_widths_and_what_learning_them_is_worth(
    two_body: Case, two_body_run: tuple[Step, Step], backend: Backend
) -> None:
    truth = np.load(two_body.folder / "truth.npz")
    step = two_body_run[1]
    found = estimate(two_body.job(), step)
    hinge = found.all
    off, before = (np.linalg.norm(at - truth["fulcrum"]) for at in (hinge.fulcrum_A, step.held.fulcrum_A))
    spread = np.degrees(truth["dR"].std()), truth["d"].std()
    tell(
        f"two_body: fulcrum {off:.1f} Å from the truth (mask centre {before:.1f}), halves {found.apart_A:.1f} Å apart; "
        f"motion {np.degrees(hinge.rotation_sd):.2f}°, {hinge.shift_sd_A:.2f} Å (true {spread[0]:.2f}, {spread[1]:.2f})"
    )
    assert off < 5
    assert found.apart_A < 4
    assert np.degrees(hinge.rotation_sd) == pytest.approx(spread[0], rel=0.15)
    assert hinge.shift_sd_A == pytest.approx(spread[1], rel=0.2)

    learning = two_body.job(RefineSpec(prior="motion", fulcrum="estimate"))
    first, after = refined(learning, backend)
    errors = [rotation_error_deg(one.expectation.poses, two_body.truth) for one in (after, step)]
    wrong, median = [float((e > 5).mean()) for e in errors], [float(np.median(e)) for e in errors]
    tell(f"with these settings, without: {median[0]:.2f}, {median[1]:.2f}°; {wrong[0]:.1%}, {wrong[1]:.1%} above 5°")
    assert median[0] < median[1]
    assert wrong[0] < wrong[1]
    assert after.held is not None
    assert np.linalg.norm(after.held.fulcrum_A - truth["fulcrum"]) < 8
    # What the truth says, held-out images say without it; and that the end is better than the start.
    judged = held_out(first, (two_body.job(), step), (learning, after), backend)
    tell(verdict(("fixed", "learned"), judged))
    assert judged.better == 1
    assert held_out(first, (learning, after), (learning, first), backend).better == 0
