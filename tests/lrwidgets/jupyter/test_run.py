"""RunWidget against a session with a made-up engine: what its controls ask for, and what it shows."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.comparison import Comparison
from lrwidgets.jupyter import RunWidget
from lrwidgets.session.advice import apply_finding, findings
from lrwidgets.session.session import Session
from tests.fakes import CHUNKS, FakeEngine, make_job
from tests.lrwidgets.jupyter.widgets import all_of, classes_of, is_idle, opened, wait_until

NAMES = [
    "step",
    "run",
    "count",
    "pause",
    "stop",
    "preview",
    "rewind",
    "branch",
    "compare",
    "status",
    "progress",
    "unrun",
    "history",
    "tree",
    "advice",
]


@pytest.fixture
def gate() -> threading.Semaphore:
    """A permit for each chunk: as many as there may be, unless a test takes them away."""
    return threading.Semaphore(10_000)


@pytest.fixture
def session(gate: threading.Semaphore) -> Iterator[Session]:
    with Session(make_job(40), engine=FakeEngine(gate=gate)) as session:
        yield session
        for _ in range(100):
            gate.release()


@pytest.fixture
def run(session: Session) -> Iterator[RunWidget]:
    yield from opened(RunWidget(session))


def close_the_gate(gate: threading.Semaphore) -> None:
    while gate.acquire(blocking=False):
        pass


def done(run: RunWidget, iteration: int) -> None:
    """Wait until an iteration is done and shown."""
    wait_until(lambda: is_idle(run.session) and run.session.state.iteration == iteration, f"iteration {iteration}")
    assert run.flush()


def test_every_control_can_be_found_and_says_what_it_is(run: RunWidget) -> None:
    assert {f"lrw-run-{name}" for name in NAMES} <= classes_of(run.widget)
    for control in all_of(run.widget):
        if control.has_trait("disabled") and control is not run.tree:
            assert control.tooltip or control.description, control


def test_step_and_run_show_a_line_and_a_node_for_each_iteration(run: RunWidget) -> None:
    run.step.click()
    done(run, 1)
    run.count.value = "2"
    run.run.click()
    done(run, 3)
    assert [label.split(",")[0].removeprefix("▶ ") for label, _ in run.tree.options] == [
        "start", "iteration 1", "iteration 2", "iteration 3",
    ]  # fmt: skip
    assert run.tree.options[-1][0].startswith("▶")
    assert run.tree.value == run.session.state.node
    assert run.history.value.count("<tr") == 6, "a header of two lines, and the start and three iterations"
    assert run.status.value == "ready: iteration 3 done"
    assert run.message.value == ""


def test_a_number_of_iterations_that_is_none_is_refused_in_a_sentence(run: RunWidget) -> None:
    run.count.value = "two"
    run.run.click()
    assert run.flush()
    assert "write a whole number above 0" in run.message.value
    assert run.session.state.tree == ()


def test_stop_and_pause_are_toggles_that_follow_the_run(run: RunWidget, gate: threading.Semaphore) -> None:
    assert run.stop.disabled
    close_the_gate(gate)
    run.run.click()
    wait_until(lambda: not run.stop.disabled, "the run")
    for _ in range(CHUNKS + 1):
        gate.release()
    run.pause.value = True
    gate.release()
    wait_until(lambda: run.session.state.phase == "paused", "the pause")
    assert run.flush()
    assert run.pause.value
    assert run.pause.description == "Resume"
    assert run.status.value == "paused"
    run.pause.value = False
    wait_until(lambda: run.session.state.phase == "running", "going on")
    run.stop.value = True
    gate.release()
    wait_until(lambda: is_idle(run.session), "the stop")
    assert run.flush()
    assert (run.stop.value, run.pause.value, run.stop.disabled) == (False, False, True)
    assert run.status.value == "ready: stopped"
    assert [node.iteration for node in run.session.state.tree] == [0]


def test_a_pause_from_elsewhere_presses_the_toggle_and_asks_for_nothing(
    run: RunWidget, gate: threading.Semaphore
) -> None:
    close_the_gate(gate)
    run.session.run()
    gate.release()
    run.session.pause()
    gate.release()
    wait_until(lambda: run.pause.value, "the toggle")
    assert run.session.state.phase == "paused"
    run.session.resume()
    wait_until(lambda: not run.pause.value, "the toggle")
    assert run.session.state.phase == "running"


def test_progress_is_shown_while_it_runs(run: RunWidget, gate: threading.Semaphore) -> None:
    close_the_gate(gate)
    run.step.click()
    for _ in range(CHUNKS + 1):
        gate.release()
    wait_until(lambda: run.progress.value.startswith("iteration 1, search: 13 of 40 particles"), "progress")
    assert run.bar.value == pytest.approx(13 / 40)
    assert run.progress.value.endswith("left")


def test_rewind_and_branch_go_on_from_the_chosen_step(run: RunWidget) -> None:
    run.session.run(2, wait=True)
    assert run.flush()
    _, one, two = run.session.state.tree
    run.tree.value = one.id
    run.session.edit(rotation_prior_sd_deg=2.0)
    wait_until(lambda: "Rotation prior SD, ° 5 → 2" in run.pending.value, "the pending change")
    run.rewind.click()
    done(run, 1)
    assert run.session.state.node == one.id
    assert run.session.spec.rotation_prior_sd_deg == 2.0
    run.tree.value = two.id
    run.branch.click()
    done(run, 2)
    assert run.session.spec.rotation_prior_sd_deg == 5.0
    assert run.pending.value == ""


def test_compare_tells_a_sentence_and_hands_on_what_it_found(run: RunWidget) -> None:
    run.session.run(2, wait=True)
    assert run.flush()
    found: list[Comparison] = []
    run.model.comparison_done.connect(found.append)
    run.tree.value = run.session.state.tree[0].id
    run.compare.click()
    wait_until(lambda: found, "the comparison")
    assert run.flush()
    assert found[0].names == (run.session.state.tree[0].id, run.session.state.tree[2].id)
    assert "iteration 0 → 2" in run.message.value


def test_an_advice_is_applied_as_a_branch(run: RunWidget) -> None:
    run.session.run(1, wait=True)
    wait_until(lambda: run.advice.children, "advice")
    node = run.session.state.node
    (apply,) = [one for one in all_of(run.advice) if "lrw-run-advice-apply-0" in one._dom_classes]
    apply.click()
    wait_until(lambda: run.session.spec.rotation_prior_sd_deg == 7.5, "the change")
    run.step.click()
    done(run, 2)
    assert run.session.state.tree[-1].parent == node
    assert run.session.state.tree[-1].spec.rotation_prior_sd_deg == 7.5


def test_an_advice_on_the_first_iteration_is_a_branch_of_the_start(run: RunWidget) -> None:
    run.session.edit(initial_lowpass_A=200.0)
    run.session.run(2, wait=True)
    wait_until(lambda: run.advice.children, "advice")
    advice = findings(run.session, run.session.state.tree[-1].id)
    assert (advice[0].name, advice[0].from_start) == ("initial_lowpass", True)
    apply_finding(run.session, run.session.state.tree[-1].id, advice[0])
    wait_until(lambda: run.session.spec.initial_lowpass_A is None, "the change")
    wait_until(lambda: run.session.state.node == run.session.state.tree[0].id, "the start")
    run.step.click()
    done(run, 1)
    steps = {step.id: step for step in run.session.state.tree}
    begun = steps[run.session.state.tree[-1].parent]
    assert (begun.parent, begun.spec.initial_lowpass_A) == (None, None)


def test_an_advice_on_the_mask_is_a_branch_inside_another_one(run: RunWidget) -> None:
    run.session.run(2, wait=True)
    given, node = run.session.mask, run.session.state.tree[1].id
    better = replace(given, data=(0.5 * given.data).astype(np.float32), path=None)
    apply_finding(run.session, node, Finding("mask_still", "what stays", "take it out", 0.3, 0.15, mask=better))
    wait_until(lambda: run.session.state.node == node, "the step from which to branch")
    assert run.session.mask is better
    run.step.click()
    done(run, 2)
    new = run.session.state.tree[-1]
    assert new.parent == node
    assert np.array_equal(run.session.job_of(new).mask.data, better.data)
    assert np.array_equal(run.session.job_of(run.session.state.tree[-2]).mask.data, given.data)


def test_without_a_choice_there_is_a_sentence(run: RunWidget) -> None:
    for button in (run.rewind, run.branch, run.compare):
        button.click()
        assert run.flush()
        assert "no step is selected" in run.message.value


def test_a_failure_is_told_in_the_panel_and_the_session_goes_on() -> None:
    engine = FakeEngine(fails_at=1, error=FileNotFoundError(2, "No such file or directory", "stack.mrcs"))
    with Session(make_job(40), engine=engine) as session:
        run = RunWidget(session)
        run.step.click()
        wait_until(lambda: "stack.mrcs: No such file" in run.message.value, "the sentence")
        for error, words in (
            (MemoryError("2 GiB"), "not enough memory"),
            (ValueError("odd"), "internal error, ValueError"),
        ):
            engine.error = error
            run.step.click()
            wait_until(lambda words=words: words in run.message.value, words)
        engine.fails_at = None
        run.step.click()
        done(run, 1)
        assert run.message.value == ""
        run.close()


def test_two_sessions_do_not_disturb_each_other() -> None:
    with Session(make_job(40), engine=FakeEngine()) as one, Session(make_job(20, seed=3), engine=FakeEngine()) as two:
        first, second = RunWidget(one), RunWidget(two)
        first.step.click()
        second.run.click()
        done(second, 4)
        done(first, 1)
        assert (len(first.tree.options), len(second.tree.options)) == (2, 5)
        first.session.edit(rotation_prior_sd_deg=2.0)
        assert first.flush()
        assert second.flush()
        assert second.pending.value == ""
        first.close()
        second.close()


@pytest.mark.alone
def test_no_callback_blocks(run: RunWidget, gate: threading.Semaphore) -> None:
    run.session.run(1, wait=True)
    assert run.flush()
    close_the_gate(gate)
    for button in (run.step, run.run, run.preview, run.compare, run.branch, run.rewind):
        began = time.monotonic()
        button.click()
        assert time.monotonic() - began < 0.1, button.description
    for toggle in (run.pause, run.stop):
        began = time.monotonic()
        toggle.value = not toggle.value
        assert time.monotonic() - began < 0.1, toggle.description


def test_a_closed_panel_hears_nothing(run: RunWidget) -> None:
    run.close()
    run.session.run(1, wait=True)
    assert run.history.value == ""
