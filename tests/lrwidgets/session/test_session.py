"""The session's life with a made-up engine: order, pause, stop, edit, rewind, branch, preview, errors, threads."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore.analysis.advice.finding import Finding
from lrcore.errors import InputError
from lrcore.records import Step
from lrcore.results.schema import validate
from lrcore.results.zarr_store import Store
from lrwidgets.session.advice import apply_finding
from lrwidgets.session.session import Session
from lrwidgets.session.view_state import make_view_state
from tests.fakes import CHUNKS, FakeEngine, make_job, make_step, same_bits


def until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def permit(gate: threading.Semaphore, chunks: int) -> None:
    for _ in range(chunks):
        gate.release()


def run_into_first_iteration(
    gated: tuple[Session, FakeEngine, threading.Semaphore], iterations: int
) -> tuple[Session, FakeEngine, threading.Semaphore]:
    """Run a gated session, which then waits within iteration 1, after its first chunk."""
    session, engine, gate = gated
    session.run(iterations)
    permit(gate, CHUNKS + 1)
    until(lambda: engine.chunks == CHUNKS + 1)
    return session, engine, gate


def expected_steps(n: int, **spec: Any) -> list[Step]:
    job = make_job(**spec)
    steps = [make_step(job)]
    for _ in range(n):
        steps.append(make_step(job, steps[-1]))
    return steps


def test_a_run_goes_from_the_start_to_convergence(session: Session) -> None:
    session.run(wait=True)
    assert [node.iteration for node in session.state.tree] == [0, 1, 2, 3, 4]
    assert session.state.phase == "idle"
    assert session.state.message == "iteration 4 done, converged"
    assert [s.iteration for s in session.state.summaries] == [0, 1, 2, 3, 4]
    assert same_bits(session.load_step()[1], expected_steps(4)[-1])
    session.run(wait=True)
    assert len(session.state.tree) == 5


def test_run_n_and_step(session: Session) -> None:
    session.run(2, wait=True)
    assert session.state.iteration == 2
    session.step(wait=True)
    assert session.state.iteration == 3
    session.run(wait=True)
    session.step(wait=True)
    assert session.state.iteration == 5, "a step goes past convergence"
    assert same_bits(session.load_step()[1], expected_steps(5)[-1])


def test_run_returns_at_once(gated: tuple[Session, FakeEngine, threading.Semaphore]) -> None:
    session, engine, _gate = gated
    session.run()
    assert session.state.phase == "running", "who waits for it to rest does not find it resting yet"
    assert engine.chunks == 0
    assert session.state.tree == ()


def test_a_request_that_is_refused_leaves_a_session_at_rest(session: Session) -> None:
    refused = []

    def listen(_: object) -> None:
        try:
            session.step(wait=True)
        except RuntimeError as error:
            refused.append(str(error))

    session.spec_changed.connect(listen)
    session.edit(rotation_prior_sd_deg=4.0)
    until(lambda: refused)
    assert "cannot wait" in refused[0]
    assert session.state.phase == "idle"


def test_signals_tell_everything_once_and_in_order(session: Session) -> None:
    events: list[tuple[str, Any]] = []
    session.progress.connect(lambda p: events.append(("progress", (p.iteration, p.done))))
    session.step_done.connect(lambda node, step: events.append(("step", (node.iteration, step.iteration))))
    session.step(wait=True)
    chunks = [10 // 3, 20 // 3, 10]
    start = [("progress", (0, done)) for done in chunks] + [("step", (0, 0))]
    assert events == start + [("progress", (1, done)) for done in chunks] + [("step", (1, 1))]


def test_snapshots_are_frozen_and_in_step_with_the_signals(session: Session) -> None:
    seen = []
    session.state_changed.connect(seen.append)
    session.run(1, wait=True)
    assert {state.phase for state in seen} == {"running", "idle"}
    assert seen[-1] == session.state
    assert max(len(state.tree) for state in seen) == 2
    with pytest.raises(FrozenInstanceError):
        seen[0].phase = "idle"  # type: ignore[misc]


def test_pause_acts_between_chunks_and_resume_goes_on(
    gated: tuple[Session, FakeEngine, threading.Semaphore],
) -> None:
    session, engine, gate = gated
    session.run(1)
    permit(gate, 1)
    until(lambda: engine.chunks == 1)
    session.pause()
    assert session.state.phase in ("pausing", "paused")
    permit(gate, 1)
    until(lambda: session.state.phase == "paused")
    permit(gate, 100)
    time.sleep(0.05)
    assert engine.chunks <= 2
    session.resume()
    until(lambda: session.state.phase == "idle")
    assert engine.chunks == 2 * CHUNKS
    assert same_bits(session.load_step()[1], expected_steps(1)[-1])


def test_time_spent_counts_no_pause(gated: tuple[Session, FakeEngine, threading.Semaphore]) -> None:
    session, engine, gate = gated
    spent: dict[int, float] = {}
    session.state_changed.connect(lambda state: spent.update({state.done: state.spent_s}))
    session.step()
    permit(gate, 1)
    until(lambda: engine.chunks == 1)
    session.pause()
    permit(gate, 1)
    until(lambda: session.state.phase == "paused")
    time.sleep(1.0)
    session.resume()
    permit(gate, 1)
    until(lambda: 10 in spent)
    assert spent[6] < spent[10] < spent[6] + 0.8


def test_run_goes_on_with_what_is_paused(gated: tuple[Session, FakeEngine, threading.Semaphore]) -> None:
    session, engine, gate = gated
    session.step()
    permit(gate, CHUNKS + 1)
    until(lambda: engine.chunks == CHUNKS + 1)
    session.pause()
    permit(gate, 1)
    until(lambda: session.state.phase == "paused")
    permit(gate, 100)
    session.run(wait=True)
    assert [node.iteration for node in session.state.tree] == [0, 1, 2, 3, 4]


def test_stop_drops_the_unfinished_step_and_keeps_the_whole_ones(
    gated: tuple[Session, FakeEngine, threading.Semaphore],
) -> None:
    session, engine, gate = gated
    session.run()
    permit(gate, 2 * CHUNKS + 1)
    until(lambda: engine.chunks == 2 * CHUNKS + 1)
    session.stop()
    assert session.state.phase in ("stopping", "idle")
    permit(gate, 1)
    until(lambda: session.state.phase == "idle")
    assert [node.iteration for node in session.state.tree] == [0, 1]
    assert session.state.iteration == 1
    assert session.state.stage == ""
    permit(gate, 100)
    session.run(wait=True)
    assert same_bits(session.load_step()[1], expected_steps(4)[-1]), "as if it had never been stopped"


def test_pause_and_stop_of_an_idle_session_do_nothing(session: Session) -> None:
    session.pause()
    session.stop(wait=True)
    assert session.state.phase == "idle"
    session.run(1, wait=True)
    assert session.state.iteration == 1


def test_an_edit_is_validated_once_and_announced_once(session: Session) -> None:
    announced = []
    session.spec_changed.connect(announced.append)
    with pytest.raises(
        InputError, match=r"rotation_prior_sd_deg = 0: .*greater than 0 \(valid: > 0 and <= 90 degree\)"
    ):
        session.edit(rotation_prior_sd_deg=0)
    with pytest.raises(InputError, match=r"rotation_sd is not a parameter: did you mean rotation_prior_sd_deg\?"):
        session.edit(rotation_sd=1)
    spec = session.edit(rotation_prior_sd_deg=2, max_iterations=3)
    session.edit(max_iterations=3)
    session.stop(wait=True)
    assert announced == [spec] == [session.spec]


def test_an_edit_takes_effect_with_the_next_iteration(
    gated: tuple[Session, FakeEngine, threading.Semaphore],
) -> None:
    session, engine, gate = run_into_first_iteration(gated, 2)
    session.edit(rotation_prior_sd_deg=2.0)
    permit(gate, 100)
    until(lambda: session.state.phase == "idle")
    assert [node.spec.rotation_prior_sd_deg for node in session.state.tree] == [5.0, 5.0, 2.0]
    assert [spec.rotation_prior_sd_deg for spec in engine.specs] == [5.0, 2.0]


def test_rewind_and_branch_make_a_tree(session: Session) -> None:
    session.run(2, wait=True)
    start, one, two = session.state.tree
    session.branch(one.id, rotation_prior_sd_deg=2.0)
    session.run(2, wait=True)
    tree = session.state.tree
    assert [node.parent for node in tree] == [None, start.id, one.id, one.id, tree[3].id]
    assert tree[4].spec.rotation_prior_sd_deg == 2.0
    assert [s.iteration for s in session.state.summaries] == [0, 1, 2, 3]
    session.rewind(two.id, wait=True)
    assert session.state.node == two.id
    assert session.state.iteration == 2
    assert session.spec.rotation_prior_sd_deg == 2.0, "rewinding leaves the spec"
    session.branch(two.id, wait=True)
    assert session.spec == two.spec
    with pytest.raises(InputError, match="no step nowhere"):
        session.rewind("nowhere")


def test_rewinding_gives_the_same_bits_again(session: Session) -> None:
    session.run(2, wait=True)
    node, step = session.load_step()
    session.rewind(session.state.tree[1].id)
    session.run(1, wait=True)
    again, same = session.load_step()
    assert again.parent == node.parent
    assert same_bits(same, step)


def test_rewinding_a_running_session_stops_it(gated: tuple[Session, FakeEngine, threading.Semaphore]) -> None:
    session, engine, gate = gated
    session.run()
    permit(gate, 2 * CHUNKS + 1)
    until(lambda: engine.chunks == 2 * CHUNKS + 1)
    session.rewind(session.state.tree[0].id)
    permit(gate, 1)
    until(lambda: session.state.phase == "idle" and session.state.iteration == 0)
    assert len(session.state.tree) == 2


@pytest.mark.parametrize("change", [{"initial_lowpass_A": 30.0}, {"ewald": "positive"}], ids=str)
def test_a_start_is_made_anew_when_the_spec_would_make_it_otherwise(session: Session, change: dict[str, Any]) -> None:
    session.run(1, wait=True)
    session.rewind(session.state.tree[0].id)
    session.edit(rotation_prior_sd_deg=2.0)
    session.run(1, wait=True)
    assert [node.parent is None for node in session.state.tree] == [True, False, False]
    session.rewind(session.state.tree[0].id)
    session.edit(**change)
    session.run(1, wait=True)
    assert [node.parent is None for node in session.state.tree] == [True, False, False, True, False]
    session.rewind(None)
    session.run(0, wait=True)
    assert session.state.tree[-1].parent is None


def test_a_preview_is_balanced_seeded_and_in_no_tree(session: Session, engine: FakeEngine) -> None:
    session.run(1, wait=True)
    session.edit(rotation_prior_sd_deg=3.0)
    session.preview(5, wait=True)
    preview = session.state.preview
    assert preview is not None
    assert len(preview.expectation.poses) == 5 == engine.particles[-1]
    assert preview.iteration == 2
    assert engine.specs[-1].rotation_prior_sd_deg == 3.0
    assert len(session.state.tree) == 2
    assert session.state.phase == "idle"
    session.preview(5, wait=True)
    assert session.state.preview is not preview
    assert same_bits(session.state.preview, preview)


def test_a_preview_before_the_start(session: Session) -> None:
    session.preview(4, wait=True)
    assert session.state.preview is not None
    assert session.state.tree == ()
    with pytest.raises(InputError, match="at least 2"):
        session.preview(1, wait=True)


def test_a_preview_while_paused_leaves_the_run_paused(
    gated: tuple[Session, FakeEngine, threading.Semaphore],
) -> None:
    session, _, gate = run_into_first_iteration(gated, 1)
    session.pause()
    permit(gate, 1)
    until(lambda: session.state.phase == "paused")
    permit(gate, CHUNKS)
    session.preview(4, wait=True)
    assert session.state.phase == "paused"
    assert len(session.state.tree) == 1
    permit(gate, 100)
    session.resume()
    until(lambda: session.state.phase == "idle")
    assert same_bits(session.load_step()[1], expected_steps(1)[-1])


def test_an_error_is_told_and_raised_to_who_waits() -> None:
    engine, errors = FakeEngine(fails_at=2, error=InputError("stack.mrcs: image 3 has NaN")), []
    with Session(make_job(), engine=engine) as session:
        session.error.connect(errors.append)
        with pytest.raises(InputError, match=r"stack.mrcs"):
            session.run(wait=True)
        assert session.state.error == "stack.mrcs: image 3 has NaN"
        assert session.state.phase == "idle"
        assert errors == [engine.error]
        assert [node.iteration for node in session.state.tree] == [0, 1], "whole steps are kept"
        engine.fails_at = None
        session.run(wait=True)
        assert session.state.error == ""
        assert session.state.iteration == 4


def test_a_failing_listener_does_not_end_the_run(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    def listener(*_: object) -> None:
        raise ValueError("drawn wrongly")

    session.step_done.connect(listener)
    session.run(2, wait=True)
    assert session.state.iteration == 2
    assert "a listener of the session failed" in caplog.text


def test_a_listener_may_drive_but_not_wait(session: Session) -> None:
    caught: list[BaseException] = []

    def listener(*_: object) -> None:
        session.pause()
        session.resume()
        try:
            session.run(wait=True)
        except RuntimeError as error:
            caught.append(error)

    session.step_done.connect(listener)
    session.run(0, wait=True)
    assert "cannot wait" in str(caught[0])


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    session = Session(make_job(), engine=FakeEngine())
    assert threading.active_count() == before, "no thread before the first request"
    session.run(wait=True)
    assert threading.active_count() == before + 1
    session.close()
    session.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        session.run()


def test_closing_drops_unfinished_work_and_frees_who_waits() -> None:
    gate = threading.Semaphore(0)
    session = Session(make_job(), engine=FakeEngine(gate=gate))
    waiting = threading.Thread(target=session.run, kwargs={"wait": True})
    waiting.start()
    until(lambda: session.state.phase == "running")
    closing = threading.Thread(target=session.close)
    closing.start()
    permit(gate, 2)
    closing.join(10)
    waiting.join(10)
    assert not closing.is_alive()
    assert not waiting.is_alive()
    assert session.state.tree == ()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_at_the_next_chunk(gated: tuple[Session, FakeEngine, threading.Semaphore]) -> None:
    session, engine, gate = gated
    permit(gate, CHUNKS + 1)

    def interrupt() -> None:
        until(lambda: engine.chunks == CHUNKS + 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        until(lambda: session.state.phase in ("stopping", "idle"))  # idle: it came between two chunks
        permit(gate, 1)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        session.run(wait=True)
    helper.join()
    assert session.state.phase == "idle"
    assert [node.iteration for node in session.state.tree] == [0]


def test_results_by_the_schema(session: Session) -> None:
    session.run(2, wait=True)
    tree = session.results()
    validate(tree)
    assert list(tree["fsc"]["iteration"].values) == [0, 1, 2]
    earlier = session.results(session.state.tree[1].id)
    assert list(earlier["fsc"]["iteration"].values) == [0, 1]
    assert np.array_equal(earlier["particles"]["ess"], tree["particles"]["ess"][:2])


def test_a_run_on_disk_is_made_with_its_first_step(tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    with Session(make_job(), out=out, engine=FakeEngine(fails_at=0)) as session:
        with pytest.raises(RuntimeError):
            session.run(wait=True)
        with pytest.raises(InputError, match="has no step yet"):
            session.results()
    assert list(tmp_path.iterdir()) == [], "nothing half-written"
    with Session(make_job(), out=out, engine=FakeEngine()) as session:
        session.run(1, wait=True)
    store = Store.open(out)
    assert [node.iteration for node in store.tree()] == [0, 1]
    store.close()
    with pytest.raises(InputError, match="exists already"):
        Session(make_job(), out=out, engine=FakeEngine())


def test_a_run_whose_first_step_cannot_be_written_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise InputError("run.zarr: step 0 cannot be written (No space left on device): make room and start again")

    with Session(make_job(), out=tmp_path / "run.zarr", engine=FakeEngine()) as session:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "append", full)
            with pytest.raises(InputError, match="No space left"):
                session.run(wait=True)
        assert list(tmp_path.iterdir()) == []
        session.run(1, wait=True)
        assert session.state.iteration == 1


def test_a_reopened_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    out, job = tmp_path / "run.zarr", make_job()
    with Session(job, out=out, engine=FakeEngine()) as session:
        session.run(2, wait=True)
    with Session(job, store=Store.open(out), engine=FakeEngine()) as session:
        assert session.state.iteration == 2
        assert len(session.state.summaries) == 3
        session.run(wait=True)
        assert same_bits(session.load_step()[1], expected_steps(4)[-1])


# --- what is run after convergence, and what is not


def test_a_run_that_has_nothing_to_do_says_why(session: Session) -> None:
    session.run(wait=True)
    remedies = "raise extra_final_passes, change a setting or the mask, or run a single step"
    assert session.run(wait=True) == f"nothing to run: converged; {remedies}"
    session.branch(session.state.node, wait=True)
    assert session.run(3, wait=True).startswith("nothing to run: converged")
    assert make_view_state(session.spec, session.state).status.startswith("ready: nothing to run: converged")
    assert len(session.state.tree) == 5
    session.rewind(session.state.tree[2].id)
    assert session.run(7, wait=True) == "iteration 4 done, converged; 5 of the requested iterations not run"


def test_a_run_that_stops_at_the_last_iteration_says_so(session: Session) -> None:
    session.edit(max_iterations=2)
    reached = "max_iterations = 2 reached without convergence"
    assert session.run(wait=True) == f"iteration 2 done; {reached}"
    assert session.run(wait=True).startswith(f"nothing to run: {reached}")
    session.edit(max_iterations=3)
    assert session.run(wait=True) == "iteration 3 done; max_iterations = 3 reached without convergence"


def change_by_edit(session: Session) -> None:
    session.edit(rotation_prior_sd_deg=2.0)


def change_by_mask(session: Session) -> None:
    session.use_mask(replace(session.mask, data=np.roll(session.mask.data, 1, axis=2)))


def change_by_branch(session: Session) -> None:
    session.branch(session.state.node, fulcrum="box")


def change_by_advice(session: Session) -> None:
    node = session.state.node
    assert node is not None
    apply_finding(session, node, Finding("overfitted", "", "", 1.0, 0.0, {"prior": "none"}))


@pytest.mark.parametrize("spec", [{}, {"max_iterations": 4}], ids=["converged", "at the last iteration"])
@pytest.mark.parametrize("change", [change_by_edit, change_by_mask, change_by_branch, change_by_advice])
def test_a_change_after_the_end_is_run(
    session: Session, change: Callable[[Session], None], spec: dict[str, Any]
) -> None:
    session.edit(**spec)
    session.run(wait=True)
    assert session.state.iteration == 4
    change(session)
    session.run(wait=True)
    assert session.state.iteration == 8, "convergence and iterations count from the change"
    assert session.run(wait=True).startswith("nothing to run")


def test_a_change_that_is_taken_back_is_none(session: Session) -> None:
    session.run(wait=True)
    session.edit(rotation_prior_sd_deg=2.0)
    session.edit(rotation_prior_sd_deg=5.0)
    assert session.run(wait=True).startswith("nothing to run")


def test_the_first_iteration_cannot_be_edited_while_it_runs(
    gated: tuple[Session, FakeEngine, threading.Semaphore],
) -> None:
    session, _, gate = run_into_first_iteration(gated, 1)
    with pytest.raises(InputError, match="initial_lowpass_A = 25: acts on the first iteration only"):
        session.edit(initial_lowpass_A=25)
    permit(gate, 100)


def test_what_is_already_subtracted_cannot_be_switched(engine: FakeEngine) -> None:
    job = make_job()
    job = replace(job, particles=replace(job.particles, subtracted=True))
    with (
        Session(job, engine=engine) as session,
        pytest.raises(InputError, match="already subtracted from these images"),
    ):
        session.edit(subtract_outside=False)


def test_what_was_measured_to_be_subtracted_cannot_be_switched_either(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.fakes.make_step", lambda job, last=None: replace(make_step(job, last), outside_fraction=(0.0, 0.0))
    )
    with Session(make_job(), engine=engine) as session:
        session.edit(subtract_outside=False)
        session.edit(subtract_outside=True)
        session.step(wait=True)
        with pytest.raises(InputError, match="already subtracted from these images"):
            session.edit(subtract_outside=False)
        with pytest.raises(InputError, match="already subtracted from these images"):
            session.branch(session.state.node, subtract_outside=False)


def test_settings_that_are_given_as_a_whole_are_let_through_with_a_warning(session: Session) -> None:
    with pytest.warns(UserWarning, match="rotation_prior_sd_deg = 2: has no effect with prior=none"):
        session.edit(prior="none", rotation_prior_sd_deg=2.0)
    with pytest.raises(InputError, match="rotation_prior_sd_deg = 3: has no effect with prior=none"):
        session.edit(rotation_prior_sd_deg=3.0)
    session.edit(rotation_prior_sd_deg=5.0)
