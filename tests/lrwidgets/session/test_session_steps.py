"""What a session knows of its steps: the masks they were run with, two of them side by side, who is at work on them."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.errors import InputError
from lrcore.records import Volume
from lrcore.refinement.density import final_map
from lrcore.results.schema import validate
from lrcore.results.zarr_store import Store
from lrwidgets.session.session import Session
from tests.fakes import CHUNKS, PIXEL, FakeEngine, make_job, make_mask, same_bits
from tests.lrwidgets.conftest import Files
from tests.lrwidgets.session.test_session import permit, run_into_first_iteration, until


def another_mask() -> Volume:
    mask = make_mask()
    return replace(mask, data=np.roll(mask.data, 1, axis=2), path=None, header_origin_A=(3.0, 0.0, -1.0))


def test_another_mask_holds_from_the_next_iteration_on(session: Session, engine: FakeEngine) -> None:
    session.run(1, wait=True)
    mask, told = another_mask(), []
    session.mask_changed.connect(told.append)
    session.use_mask(mask)
    session.run(2, wait=True)
    assert session.mask is session.job.mask is mask
    assert told == [mask]
    assert [made is mask for made in engine.masks] == [False, True, True]
    assert engine.adopted_masks == [mask], "the step before is taken up under the new mask once"
    assert [node.mask == session.state.tree[-1].mask for node in session.state.tree] == [False, False, True, True]
    tree = session.results()
    validate(tree)
    assert np.array_equal(tree["mask"]["mask"].values, mask.data)
    before = session.results(session.state.tree[1].id)
    assert np.array_equal(before["mask"]["mask"].values, make_mask().data)
    assert json.loads(tree.attrs["inputs"])["mask"] != json.loads(before.attrs["inputs"])["mask"]


def test_a_mask_that_comes_during_an_iteration_waits_for_its_end(
    gated: tuple[Session, FakeEngine, threading.Semaphore],
) -> None:
    session, engine, gate = run_into_first_iteration(gated, 2)
    session.use_mask(another_mask())
    permit(gate, 100)
    until(lambda: session.state.phase == "idle")
    assert [mask is session.mask for mask in engine.masks] == [False, True]
    assert [node.parent is None for node in session.state.tree] == [True, False, False]


def test_a_start_is_made_anew_for_another_mask(session: Session) -> None:
    session.run(1, wait=True)
    session.rewind(session.state.tree[0].id)
    session.use_mask(another_mask())
    session.run(1, wait=True)
    assert [node.parent is None for node in session.state.tree] == [True, False, True, False]
    session.branch(session.state.tree[1].id, wait=True)
    assert np.array_equal(session.mask.data, make_mask().data), "a branch has the mask of its step"
    session.rewind(session.state.tree[3].id, wait=True)
    assert np.array_equal(session.mask.data, make_mask().data), "rewinding leaves the mask"


def test_a_run_keeps_its_masks(tmp_path: Path) -> None:
    out, job, mask = tmp_path / "run.zarr", make_job(), another_mask()
    with Session(job, out=out, engine=FakeEngine()) as session:
        session.run(1, wait=True)
        session.use_mask(mask)
        session.run(2, wait=True)
        ids = [node.id for node in session.state.tree]
    assert len([path for path in (out / "masks").iterdir() if path.is_dir()]) == 1
    with Session(job, store=Store.open(out), engine=FakeEngine()) as session:
        assert same_bits(session.mask, mask)
        assert [node.id for node in session.state.tree] == ids
        session.run(1, wait=True)
        assert session.job_of(session.state.tree[1]).mask is job.mask
        assert same_bits(session.job_of(session.state.tree[-1]).mask, mask)
        assert np.array_equal(session.results()["mask"]["mask"].values, mask.data)
    (chunk,) = [path for path in (out / "masks").rglob("*") if path.is_file() and "mask/c" in path.as_posix()]
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        Session(job, store=Store.open(out), engine=FakeEngine())


def test_a_mask_that_does_not_fit_is_refused(session: Session) -> None:
    before = session.mask
    with pytest.raises(InputError, match="re-box the mask"):
        session.use_mask(Volume(np.ones((4, 4, 4), np.float32), PIXEL))
    assert session.mask is before


def test_two_steps_side_by_side(session: Session) -> None:
    session.run(2, wait=True)
    start, one, two = session.state.tree
    session.branch(one.id, rotation_prior_sd_deg=2.0)
    session.run(1, wait=True)
    found = session.compare(two.id)
    other = session.state.tree[-1]
    assert found.names == (two.id, other.id)
    assert found.spec == {"rotation_prior_sd_deg": (5.0, 2.0)}
    steps = [session.load_step(node.id)[1] for node in (two, other)]
    assert np.array_equal(found.fsc["masked"].values, [step.fsc["masked"].value for step in steps])
    assert np.array_equal(found.maps["map"].values[1], final_map(session.job, steps[1]).data)
    assert "iteration 2 → 2" in found.summary
    assert "rotation_prior_sd_deg 5 → 2" in found.summary
    assert "is better than" in found.verdict
    assert found.summary_line == f"{found.summary}; {found.verdict}"
    more = found.held_out["log_likelihood"].values
    assert float(np.diff(more, axis=0).mean()) == pytest.approx(found.held_out.attrs["gain"])
    assert list(found.held_out["uid"].values) == list(session.job.particles.uid)
    assert session.compare(two.id, images=0).verdict == ""
    same = session.compare(two.id, two.id)
    assert same.spec == {}
    assert "no difference" in same.verdict
    assert float(same.poses["angle_difference"].max()) < 1e-5
    assert float(same.poses["shift_difference"].max()) == 0
    from_start = session.compare(start.id, two.id).poses
    results = session.results(two.id)["particles"].isel(iteration=-1)
    assert np.allclose(from_start["angle_difference"], results["angle_change"])
    assert np.allclose(from_start["shift_difference"], results["shift_change"])


def test_a_run_at_work_is_found_again_in_the_same_process(tmp_path: Path, files: Files) -> None:
    out, gate = tmp_path / "run.zarr", threading.Semaphore(0)
    load = {"out": out, "engine": FakeEngine(gate=gate)}
    session = Session.load(files.star, files.mask, files.halves, **load)
    session.run(1)
    permit(gate, CHUNKS + 1)
    until(lambda: session.state.tree)
    again = Session.open(out)
    assert again is session, "it goes on, and is shown"
    permit(gate, 100)
    until(lambda: again.state.phase == "idle")
    assert again.state.iteration == 1
    with Session.open(out, write=False) as reader:
        assert reader is not session
        assert reader.state.iteration == 1
    session.close()
    with Session.open(out, engine=FakeEngine()) as reopened:
        assert reopened is not session
        assert reopened.state.iteration == 1


def test_a_session_says_what_it_is(session: Session) -> None:
    session.run(1, wait=True)
    assert repr(session).startswith("<Session: 10 particles, iteration 1, ")
    node, step = session.load_step()
    for shown, words in (
        (session, "in memory only"),
        (step, "Iteration 1"),
        (session.spec, "rotation_prior_sd_deg"),
        (session.mask, "12³ voxels of 2.5 Å"),
        (session.compare(node.id), "the same parameters"),
    ):
        assert words in shown._repr_html_()
    assert "(changed)" in session.edit(symmetry="C2")._repr_html_()
