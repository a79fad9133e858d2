"""The sweep in the notebook: typed, run, ranked, taken over, stopped."""

import threading
from collections.abc import Iterator

import pytest

from lrwidgets.jupyter import SweepWidget
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import settings_of_rank
from tests.fakes import FakeEngine
from tests.lrwidgets.jupyter.widgets import opened, wait_until


@pytest.fixture
def sweep(session: Session) -> Iterator[SweepWidget]:
    widget = SweepWidget(session)
    widget.model.runner.engine = FakeEngine()
    yield from opened(widget)


def settle(sweep: SweepWidget) -> None:
    assert sweep.flush(60)
    assert sweep.flush(60)


def test_settings_are_tried_ranked_and_taken_over(sweep: SweepWidget, session: Session) -> None:
    session.run(1, wait=True)
    (name, typed), (second, others) = sweep.rows
    assert (name.value, typed.value) == ("rotation_prior_sd_deg", "2.5, 5, 10")
    second.value = "marginalize"
    assert others.value == "false, true"
    before = session.state.tree
    sweep.start.click()
    settle(sweep)
    assert "marginalize: has no effect on this iteration" in sweep.message.value  # of the fake engine
    assert sweep.model.result is not None
    assert sweep.model.result["rank"].shape == (3, 2)
    assert sweep.figure.png.startswith(b"\x89PNG")
    assert eval(sweep.figure.code.split("sweep(session, ")[1].rsplit(", ", 1)[0]) == {
        "rotation_prior_sd_deg": [2.5, 5.0, 10.0], "marginalize": [False, True],
    }  # fmt: skip
    assert len(sweep.best.options) == 6
    sweep.best.value = 5
    sweep.use.click()
    settle(sweep)
    wanted = settings_of_rank(sweep.model.result, 5)
    assert session.spec.rotation_prior_sd_deg == wanted["rotation_prior_sd_deg"]
    assert session.spec.marginalize == wanted["marginalize"]
    assert "in use from the next iteration" in sweep.message.value
    sweep.use.click()
    settle(sweep)
    assert "already in use" in sweep.message.value
    assert session.state.tree == before


def test_it_is_stopped_and_begun_again(sweep: SweepWidget, session: Session) -> None:
    session.run(1, wait=True)
    gate = threading.Semaphore(0)
    sweep.model.runner.engine = FakeEngine(gate)
    sweep.start.click()
    gate.release()
    wait_until(lambda: "particles" in sweep.progress.value, "the progress")
    assert sweep.start.disabled
    assert not sweep.stop.disabled
    sweep.stop.click()
    gate.release(100)
    settle(sweep)
    assert "stopped" in sweep.message.value
    assert sweep.model.result is None
    assert not sweep.start.disabled
    sweep.start.click()
    settle(sweep)
    assert sweep.model.result is not None


def test_what_goes_wrong_is_told_and_it_can_be_begun_again(sweep: SweepWidget, session: Session) -> None:
    sweep.start.click()
    settle(sweep)
    assert "no step to continue from" in sweep.message.value
    session.run(1, wait=True)
    sweep.rows[0][1].value = "wide"
    sweep.start.click()
    settle(sweep)
    assert "Rotation prior SD = wide" in sweep.message.value
    assert not sweep.start.disabled
    assert sweep.bar.layout.display == "none"


def test_closing_ends_what_is_tried(session: Session) -> None:
    session.run(1, wait=True)
    gate = threading.Semaphore(0)
    sweep = SweepWidget(session)
    sweep.model.runner.engine = FakeEngine(gate)
    sweep.start.click()
    gate.release()
    wait_until(lambda: "particles" in sweep.progress.value, "the progress")
    threading.Timer(0.2, gate.release, (100,)).start()
    sweep.close()
    assert sweep.model.result is None
