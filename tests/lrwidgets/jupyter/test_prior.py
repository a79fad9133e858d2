"""PriorWidget: its controls and the session's spec say the same, refusals are sentences, and the figure follows."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from lrcore.motion.model import FulcrumEstimate
from lrcore.records import Step
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrwidgets import plots
from lrwidgets.gui.prior_model import PRIOR_FIELDS
from lrwidgets.jupyter import PriorWidget
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import MotionWidths, changes_from_search_centres
from tests.lrwidgets.jupyter.widgets import by_hand, classes_of, opened, wait_until

WORDS = (
    "The particles move by 1.1 ± 0.06° and 0.43 ± 0.3 Å per axis (SD). The poses hardly determine the SD of the shifts"
    ": the estimate depends on the SD of the prior."
)


@pytest.fixture
def prior(session: Session) -> Iterator[PriorWidget]:
    yield from opened(PriorWidget(session))


def test_every_field_has_a_control_with_help(prior: PriorWidget) -> None:
    assert list(prior.form.controls) == list(PRIOR_FIELDS)
    assert all(control.tooltip and control.description for control in prior.form.controls.values())
    names = ("rotation-sd", "shift-sd", "rotation-extent", "shift-extent", "recenter-rotations", "prior")
    assert {f"lrw-prior-{name}" for name in names} <= classes_of(prior.widget)


def test_a_control_edits_the_spec(prior: PriorWidget, session: Session) -> None:
    by_hand(prior.form.controls["rotation_prior_sd_deg"], 2.5)
    prior.form.controls["shift_extent_A"].value = "6"
    prior.form.controls["recenter_shifts"].value = True
    spec = session.spec
    assert (spec.rotation_prior_sd_deg, spec.shift_extent_A, spec.recenter_shifts) == (2.5, 6.0, True)
    prior.form.controls["shift_extent_A"].value = ""
    assert session.spec.shift_extent_A is None
    assert prior.flush()
    assert prior.form.controls["rotation_extent_deg"].placeholder == "auto: 7.5"


def test_an_edit_from_elsewhere_is_shown(prior: PriorWidget, session: Session) -> None:
    session.edit(rotation_prior_sd_deg=40.0, rotation_extent_deg=12.0, prior="none", recenter_rotations=True)
    session.run(0, wait=True)
    assert prior.flush()
    values = {name: control.value for name, control in prior.form.controls.items()}
    assert (values["rotation_prior_sd_deg"], values["rotation_extent_deg"], values["prior"]) == (40.0, "12", "none")
    assert "may drift" in prior.warning.value


def test_what_is_refused_is_told_and_what_holds_is_shown_again(prior: PriorWidget, session: Session) -> None:
    field = prior.form.controls["rotation_extent_deg"]
    for text in ("400", "far"):
        field.value = text
        assert prior.flush()
        assert "Rotation search extent" in prior.message.value
        assert field.value == ""
        assert session.spec.rotation_extent_deg is None
    field.value = "12"
    assert prior.flush()
    assert prior.message.value == ""


def test_nothing_is_edited_without_a_hand(prior: PriorWidget, session: Session) -> None:
    """A browser rounds what it shows to the steps of its sliders."""
    session.edit(rotation_prior_sd_deg=7.3, shift_prior_sd_A=0.1)
    session.run(0, wait=True)
    assert prior.flush()
    for name in ("rotation_prior_sd_deg", "shift_prior_sd_A"):
        prior.form.controls[name].set_state({"value": 7.5})
    assert prior.flush()
    assert (session.spec.rotation_prior_sd_deg, session.spec.shift_prior_sd_A) == (7.3, 0.1)


def test_an_sd_below_zero_is_refused(prior: PriorWidget, session: Session) -> None:
    sd = prior.form.controls["rotation_prior_sd_deg"]
    by_hand(sd, "-4")
    assert prior.flush()
    assert "Rotation prior SD = -4" in prior.message.value
    assert session.spec.rotation_prior_sd_deg == sd.value == 5.0
    by_hand(sd, "4°")
    prior.form.controls["shift_extent_A"].value = "6 Å"
    assert (session.spec.rotation_prior_sd_deg, session.spec.shift_extent_A) == (4.0, 6.0)


@pytest.mark.alone
def test_a_slider_that_moves_fast_leaves_its_last_value(prior: PriorWidget, session: Session) -> None:
    """200 moves within seconds: no callback blocks, the last one holds, the figure is drawn a few times only."""
    drawn = 0

    def count(_: object) -> None:
        nonlocal drawn
        drawn += 1

    prior.flush()
    prior.figure.observe(count, "png")
    slider, slowest = prior.form.controls["rotation_prior_sd_deg"], 0.0
    for i in range(200):
        began = time.monotonic()
        by_hand(slider, 1.0 + 0.05 * i)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.01)
    session.run(0, wait=True)
    assert prior.flush(30)
    assert session.spec.rotation_prior_sd_deg == slider.value == pytest.approx(10.95)
    assert slowest < 0.1
    assert 1 <= drawn < 100
    assert prior.message.value == ""


def test_the_figure_stands_on_what_the_search_is_centred_on(session: Session) -> None:
    assert changes_from_search_centres(session) is None
    session.run(0, wait=True)
    assert changes_from_search_centres(session) is None
    session.run(2, wait=True)
    last = session.results()["particles"].isel(iteration=-1)
    found = changes_from_search_centres(session)
    assert found is not None
    assert (found["angle_change"].values == last["angle_change"].values).all()
    session.edit(recenter_rotations=True)
    found = changes_from_search_centres(session)
    assert found is not None
    assert (found["angle_change"].values == last["angle_change_last"].values).all()
    assert (found["shift_change"].values == last["shift_change"].values).all()


def test_the_figure_has_prior_extent_and_spread(session: Session) -> None:
    session.run(1, wait=True)
    figure: Figure = plots.prior(
        session.spec, changes_from_search_centres(session), MotionWidths((1.5, 0.8), (0.12, 0.2))
    )
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert any(word.startswith("prior, SD 5°") for word in words)
    assert "extent 15°" in words
    assert "motion estimate, SD 1.5 ± 0.1° per axis" in words
    assert len(plots.prior(session.spec).axes[1].get_legend().get_texts()) == 2
    turned = MotionWidths(
        (4.6, 0.8), (0.12, 0.2), rotation_sd_range_deg=(8.0, 0.5), rotation_covariance_deg2=np.diag([0.25, 1.0, 64.0])
    )
    spec = RefineSpec(prior="motion")
    words = [
        text.get_text()
        for text in plots.prior(spec, changes_from_search_centres(session), turned).axes[0].get_legend().get_texts()
    ]
    assert {"motion estimate, SD 0.5, 1, 8° along its axes", "prior, SD 0.5, 1, 8° along its axes", "extent 24°"} <= {
        *words
    }


def test_the_learned_widths_become_the_prior(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrwidgets.session.step_analysis.estimate_motion", estimated)
    prior = PriorWidget(session)
    assert prior.flush()
    assert prior.use.disabled
    session.run(1, wait=True)
    wait_until(lambda: not prior.use.disabled, "the widths")
    wait_until(lambda: prior.learned.value == WORDS, "the words")
    prior.use.click()
    assert (session.spec.rotation_prior_sd_deg, session.spec.shift_prior_sd_A) == (1.1, 0.43)
    prior.close()


ALIKE = np.eye(3)


def test_of_a_hinge_the_prior_follows_the_axis(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = np.diag(np.radians([8.0, 1.0, 0.5]) ** 2)
    monkeypatch.setattr(
        "lrwidgets.session.step_analysis.estimate_motion", lambda *steps: estimated(*steps, turns=turns, uneven=90.0)
    )
    session.edit(recenter_shifts=True)
    prior = PriorWidget(session)
    session.run(1, wait=True)
    wait_until(lambda: not prior.use.disabled, "the widths")
    assert (
        "Rotations differ by axis, 8° about the widest and 0.5° about the narrowest: prior=motion accounts for it."
        in prior.learned.value
    )
    prior.use.click()
    assert prior.flush()
    assert "Re-centre" in prior.message.value, "refused: it counts the motion from the input poses"
    session.edit(recenter_shifts=False)
    prior.use.click()
    assert session.spec.prior == "motion"
    prior.close()


def estimated(job: Job, step: Step, before: Step, turns: np.ndarray = ALIKE, uneven: float = 1.0) -> Any:
    assert (step.iteration, before.iteration) == (1, 0)
    none = np.zeros((0, 3))
    return SimpleNamespace(
        overall=FulcrumEstimate(
            np.zeros(3), np.eye(3), none, np.radians(1.123), 0.4321, np.radians(0.06), 0.31, turns, uneven
        )
    )
