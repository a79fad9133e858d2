"""A sweep as it is typed into a face, and its end."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lrcore.errors import InputError
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.gui.sweep_model import SWEEP_PARAMETERS, SweepRunner, parse_sweep, suggested_values
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import parse_values, settings_of_rank
from lrwidgets.text import fields
from lrwidgets.text.parameters import edit_spec
from tests.fakes import CHUNKS, FakeEngine, make_job


@pytest.fixture
def session() -> Iterator[Session]:
    with Session(make_job(40), engine=FakeEngine()) as made:
        made.run(1, wait=True)
        yield made


@pytest.mark.parametrize("name", SWEEP_PARAMETERS)
def test_what_is_offered_can_be_asked(name: str) -> None:
    for spec in (RefineSpec(), RefineSpec(prior="none", rotation_extent_deg=60, fulcrum="1,2,3 A")):
        over = parse_sweep(spec, [(name, suggested_values(spec, name))])
        assert len(over[name]) >= 2
        for value in over[name]:
            edit_spec(spec, {name: value})


def test_a_width_is_tried_with_the_prior_that_has_it() -> None:
    row = ("shift_prior_sd_A", "1, 2")
    assert parse_sweep(RefineSpec(), [row]) == {"shift_prior_sd_A": ["1", "2"]}
    assert parse_sweep(RefineSpec(prior="motion"), [row]) == {"prior": ["gaussian"], "shift_prior_sd_A": ["1", "2"]}
    rows = [row, ("prior", "motion")]
    assert "gaussian" not in parse_sweep(RefineSpec(prior="motion"), rows)["prior"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("shift_prior_sd_A", " ")], f"{fields.parameter_field('shift_prior_sd_A').label}: type the values"),
        ([("prior", "none"), ("prior", "gaussian")], "twice"),
        ([("prior", "nonesuch")], "prior = nonesuch"),
    ],
)
def test_what_is_refused(session: Session, rows: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SweepRunner(session, lambda *_: None, FakeEngine()).prepare(rows, "20")()


def test_values_with_commas_are_separated_by_semicolons() -> None:
    assert parse_values("fulcrum", "mask; 1,2,3 A") == ["mask", "1,2,3 A"]
    assert parse_values("rotation_extent_deg", "none, 20") == [None, "20"]


def test_the_best_settings_are_taken_over_as_the_spec_has_them(session: Session) -> None:
    told: list[tuple[float, str]] = []
    trying = SweepRunner(session, lambda *so_far: told.append(so_far), FakeEngine())
    rows = [("rotation_extent_deg", "none, 30"), ("marginalize", "true, false")]
    found = trying.prepare(rows, "20")()
    assert found is not None
    assert told[-1] == (1.0, "80 of 80 particles")
    picked = [settings_of_rank(found, rank) for rank in (1, 2, 3, 4)]
    assert len({tuple(one.items()) for one in picked}) == 4
    for one in picked:
        session.edit(**one)
        extent = one["rotation_extent_deg"]
        assert session.spec.rotation_extent_deg == (None if extent is None else 30.0)
        assert session.spec.marginalize is one["marginalize"]


def test_it_ends_at_the_next_chunk(session: Session) -> None:
    gate, told = threading.Semaphore(0), threading.Event()
    engine = FakeEngine(gate)
    trying = SweepRunner(session, lambda share, _: told.set() if share else None, engine)
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda work: results.append(work()), args=(trying.prepare([("prior", "none")], "20"),)
    )
    thread.start()
    gate.release()
    assert told.wait(20)
    trying.stop()
    gate.release()
    thread.join(20)
    assert results == [None]
    assert engine.chunks < CHUNKS


@pytest.mark.parametrize("typed", ["", "2,000", "20"])
def test_how_many_particles(session: Session, typed: str) -> None:
    assert SweepRunner(session, lambda *_: None, FakeEngine()).prepare([("prior", "none")], typed)() is not None


def test_there_has_to_be_a_step_and_nothing_that_runs() -> None:
    gate = threading.Semaphore(0)
    with Session(make_job(40), engine=FakeEngine(gate)) as session:
        trying = SweepRunner(session, lambda *_: None, FakeEngine())
        with pytest.raises(InputError, match="no step"):
            trying.prepare([("prior", "none")], "20")
        session.step()
        with pytest.raises(InputError, match="is running"):
            trying.prepare([("prior", "none")], "20")
        with pytest.raises(InputError, match="number of particles"):
            trying.prepare([("prior", "none")], "few")
        gate.release(100)
