"""Every field of the spec at every time at which it can be edited: it acts, or it is refused with the reason."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lrcore.errors import InputError
from lrcore.records import Step
from lrcore.refinement import calibration
from lrcore.refinement.parameter_effects import acts_from, fields_that_act
from lrcore.refinement.parameters import RefineSpec
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main
from lrwidgets.session.run_loop import START_FIELDS
from lrwidgets.session.session import Session
from lrwidgets.session.sweep import ranking_notes, sweep
from lrwidgets.text.fields import parameter_field
from tests.fakes import same_bits

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FEW, ENOUGH = 60, 440
"""Particles: for most fields, and to estimate a motion."""
DYNAMIC = {"mask_mode": "dynamic", "dynamic_mask_start_A": 200.0}


@dataclass(frozen=True)
class Case:
    """A value other than that of the base; beside: other fields of the base."""

    name: str
    value: Any
    beside: dict[str, Any] = field(default_factory=dict)
    n: int = FEW
    acts_in: int = 1

    @property
    def changes(self) -> dict[str, Any]:
        return {self.name: self.value}

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


CASES = (
    Case("prior", "none"),
    Case("prior", "motion", n=ENOUGH, acts_in=2),
    Case("rotation_prior_sd_deg", 2.0),
    Case("rotation_prior_sd_deg", 12.0, {"prior": "motion"}, ENOUGH),
    Case("shift_prior_sd_A", 1.0),
    Case("rotation_extent_deg", 2.0),
    Case("shift_extent_A", 1.0),
    Case("recenter_rotations", True, acts_in=2),
    Case("recenter_shifts", True, acts_in=2),
    Case("fulcrum", "box"),
    Case("fulcrum", "20, 80, 30 A"),
    Case("fulcrum", "estimate", n=ENOUGH, acts_in=2),
    Case("max_align_resolution_A", 30.0),
    Case("initial_lowpass_A", 40.0),
    Case("mask_mode", "dynamic", {"dynamic_mask_start_A": 200.0}),
    Case("dynamic_mask_threshold", 0.5, DYNAMIC, acts_in=2),
    Case("dynamic_mask_near_A", 9.0, DYNAMIC, acts_in=2),
    Case("dynamic_mask_far_A", 30.0, DYNAMIC, acts_in=2),
    Case("dynamic_mask_start_A", 2.0, DYNAMIC, acts_in=2),
    Case("non_uniform", True),
    Case("non_uniform_window_factor", 8.0, {"non_uniform": True}),
    Case("noise_model", "symmetric"),
    Case("noise_model", "white"),
    Case("per_particle_scale", True),
    Case("weight_by_presence", False),
    Case("subtract_outside", False),
    Case("symmetry", "C2"),
    Case("ewald", "positive"),
    Case("ewald", "negative"),
    Case("marginalize", False),
    Case("seed", 1),
)
ENDS = ("max_iterations", "extra_final_passes")
"""Fields that change no iteration; they have tests of their own."""


def test_no_field_and_no_choice_is_forgotten() -> None:
    assert {*ENDS, *(case.name for case in CASES)} == set(RefineSpec.model_fields)
    assert fields_that_act("end of the run") == ENDS
    for name in RefineSpec.model_fields:
        shown = parameter_field(name)
        tried = {case.value for case in CASES if case.name == name}
        assert tried >= {choice for choice in shown.choices if choice != shown.default}


@pytest.fixture(scope="module", autouse=True)
def few_are_measured() -> Iterator[None]:
    """The start measures some of the images alone, which the seed draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "MAX_SAMPLED_IMAGES", 20)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_flexible_particle(folder, n=ENOUGH, box=32, pixel_size_A=5.5, snr=0.5, groups=2, scale_sd=0.2)
    return folder


@dataclass
class Base:
    """A run to its end with the settings of the base, and where it is stored after iteration 1."""

    session: Session
    stored: Path
    nodes: list[str]
    steps: list[Step]

    def at(self, iteration: int) -> Session:
        """The session at a step of the base, with its settings."""
        self.session.branch(self.nodes[iteration], wait=True)
        return self.session


def load(data: Path, n: int, spec: dict[str, Any], out: Path | None = None) -> Session:
    files = (data / "particles.star", data / "mask_b.mrc")
    return Session.load(*files, spec=RefineSpec(**spec), subset=n, out=out, threads=1)


@pytest.fixture(scope="module")
def base_of(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], Base]]:
    made: dict[str, Base] = {}

    def find(case: Case) -> Base:
        key = f"{case.n} {case.beside}"
        if key not in made:
            stored = tmp_path_factory.mktemp("runs") / "run.zarr"
            with load(data, case.n, case.beside, stored) as session:
                session.run(1, wait=True)
            session = load(data, case.n, {**case.beside, "max_iterations": 3})
            session.run(wait=True)
            session.step(wait=True)
            path = session.path()
            nodes = [node.id for node in path]
            made[key] = Base(session, stored, nodes, [session.load_step(node)[1] for node in nodes])
        return made[key]

    yield find
    for base in made.values():
        base.session.close()


def bits(step: Step) -> tuple[Any, ...]:
    return (step.expectation, step.half_maps, step.fsc)


def next_step(session: Session, n: int = 1) -> Step:
    session.run(n, wait=True)
    return session.load_step()[1]


EARLY = [case for case in CASES if acts_from(case.name) == "first iteration"]
LATER = [case for case in CASES if case not in EARLY]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_before_the_start_and_at_the_start(data: Path, base_of: Callable[[Case], Base], case: Case) -> None:
    base = base_of(case)
    expected = base.steps[case.acts_in]
    with load(data, case.n, {**case.beside, **case.changes}) as session:
        fresh = next_step(session, case.acts_in)
        assert not same_bits(bits(fresh), bits(expected))
    session = base.at(0)
    session.edit(**case.changes)
    edited = next_step(session, case.acts_in)
    assert not same_bits(bits(edited), bits(expected))
    if case.name in ("initial_lowpass_A", "symmetry", "ewald", "noise_model"):
        assert same_bits(bits(edited), bits(fresh)), "as if it had been so from the beginning"


@pytest.mark.parametrize("case", LATER, ids=str)
def test_after_an_iteration_on_a_branch_and_resumed(
    base_of: Callable[[Case], Base], tmp_path: Path, case: Case
) -> None:
    base = base_of(case)
    session = base.at(1)
    session.edit(**case.changes)
    edited = next_step(session)
    assert not same_bits(bits(edited), bits(base.steps[2]))
    session.branch(base.nodes[1], **case.changes)
    assert same_bits(bits(next_step(session)), bits(edited))
    run = shutil.copytree(base.stored, tmp_path / "run.zarr")
    with Session.open(run, threads=1) as resumed:
        resumed.edit(**case.changes)
        assert same_bits(bits(next_step(resumed)), bits(edited))


@pytest.mark.parametrize("case", LATER, ids=str)
def test_after_the_last_iteration(base_of: Callable[[Case], Base], case: Case) -> None:
    base = base_of(case)
    session = base.at(3)
    assert session.run(wait=True).startswith("nothing to run: max_iterations = 3 reached")
    session.edit(**case.changes)
    edited = next_step(session)
    assert edited.iteration == 4
    assert edited.settings_since == 3
    assert not same_bits(bits(edited), bits(base.steps[4]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_a_sweep(base_of: Callable[[Case], Base], case: Case) -> None:
    session = base_of(case).at(1)
    now = getattr(session.spec, case.name)
    events = sweep(session, {case.name: [now, case.value]}, case.n)
    if case.name in (*START_FIELDS, "per_particle_scale"):
        with pytest.raises(InputError, match=f"sweep: {case.name} "):
            next(events)
        return
    *_, found = events
    assert sorted(found["same_step"].values) == [1, 2], "two settings, two steps"
    assert ranking_notes(found) == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_resumed_on_the_command_line(
    data: Path, base_of: Callable[[Case], Base], case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["refine", str(data / "particles.star"), "--out", str(base_of(case).stored), "--resume"]
    assert main([*arguments, "--set", f"{case.name}={case.value}"]) == 2
    assert f"{case.name} = " in capsys.readouterr().err


@pytest.mark.parametrize("case", EARLY, ids=str)
def test_what_only_the_first_iteration_reads_is_refused_after_it(
    base_of: Callable[[Case], Base], tmp_path: Path, case: Case
) -> None:
    base = base_of(case)
    words = f"{case.name} = {case.value:g}: acts on the first iteration only"
    for iteration in (1, 3):
        session = base.at(iteration)
        with pytest.raises(InputError, match=words):
            session.edit(**case.changes)
        with pytest.raises(InputError, match=words):
            session.branch(base.nodes[iteration], **case.changes)
        assert getattr(session.spec, case.name) == getattr(RefineSpec(), case.name)
    with Session.open(base.stored, write=False) as resumed, pytest.raises(InputError, match=words):
        resumed.edit(**case.changes)
    session = base.at(0)
    session.edit(**case.changes)
    session.rewind(base.nodes[1], wait=True)
    assert getattr(session.spec, case.name) == getattr(RefineSpec(), case.name)
    assert f"{case.name} stays" in session.state.message


@pytest.mark.parametrize("case", [c for c in LATER if acts_from(c.name) == "second iteration"], ids=str)
def test_a_sweep_at_the_start_refuses_what_the_first_iteration_does_not_read(
    base_of: Callable[[Case], Base], case: Case
) -> None:
    session = base_of(case).at(0)
    with pytest.raises(InputError, match=f"{case.name} has no effect on the first iteration"):
        next(sweep(session, {case.name: [case.value]}, case.n))


def test_a_sweep_names_the_values_that_make_no_difference(base_of: Callable[[Case], Base]) -> None:
    session = base_of(Case("fulcrum", "estimate")).at(0)
    *_, found = sweep(session, {"fulcrum": ["mask", "estimate"], "marginalize": [True, False]}, FEW)
    assert ranking_notes(found) == ["fulcrum: has no effect on this iteration, all values give the same poses and maps"]


def test_amplitudes_are_swept_once_there_are_some(base_of: Callable[[Case], Base]) -> None:
    session = base_of(Case("per_particle_scale", True)).at(1)
    session.edit(per_particle_scale=True)
    session.run(1, wait=True)
    *_, found = sweep(session, {"per_particle_scale": [True, False]}, FEW)
    assert ranking_notes(found) == []


NEEDS = [replace(case, beside={}) for case in CASES if case.name.startswith("dynamic_mask")] + [
    Case("non_uniform_window_factor", 8.0),
    Case("rotation_prior_sd_deg", 2.0, {"prior": "none"}),
    Case("shift_prior_sd_A", 2.0, {"prior": "none"}),
]


def test_no_need_is_forgotten() -> None:
    needing = {name for name, info in RefineSpec.model_fields.items() if dict(info.json_schema_extra or {})["needs"]}
    assert {case.name for case in NEEDS} == needing


@pytest.mark.parametrize("case", NEEDS, ids=str)
def test_what_another_field_switches_off_is_refused(
    data: Path, base_of: Callable[[Case], Base], case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, words = base_of(case), rf"{case.name} = {case.value:g}: has no effect with \w+=\w+: set \w+=\w+ with it"
    for iteration in (0, 1, 3):
        session = base.at(iteration)
        with pytest.raises(InputError, match=words):
            session.edit(**case.changes)
        with pytest.raises(InputError, match=words):
            session.branch(base.nodes[iteration], **case.changes)
    with pytest.raises(InputError, match=f"sweep: {case.name} has no effect with"):
        next(sweep(base.at(1), {case.name: [getattr(RefineSpec(), case.name), case.value]}, case.n))
    settings = [f"--set={name}={value}" for name, value in {**case.beside, **case.changes}.items()]
    files = [str(data / "particles.star"), "--mask", str(data / "mask_b.mrc"), "--out", str(tmp_path / "r.zarr")]
    assert main(["refine", *files, *settings]) == 2
    assert f"{case.name} = {case.value:g}: has no effect with" in capsys.readouterr().err
    assert not (tmp_path / "r.zarr").exists()
    with load(data, case.n, {**case.beside, **case.changes}) as session, pytest.warns(UserWarning, match=words):
        session.run(0, wait=True)


# --- fields that change no iteration, but how many there are


def iterations_run(session: Session) -> int:
    session.run(wait=True)
    return session.state.iteration


def test_max_iterations_whenever_it_is_edited(
    data: Path, base_of: Callable[[Case], Base], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_of(Case("max_iterations", 2))
    with load(data, FEW, {"max_iterations": 2}) as session:
        assert iterations_run(session) == 2
    for at, most in ((0, 1), (1, 2), (3, 4)):
        session = base.at(at)
        session.edit(max_iterations=most)
        assert iterations_run(session) == most
        session.branch(base.nodes[at], max_iterations=most)
        assert iterations_run(session) == most
    with pytest.raises(InputError, match="sweep: max_iterations decides when a run ends"):
        next(sweep(session, {"max_iterations": [3, 4]}, FEW))
    run = shutil.copytree(base.stored, tmp_path / "run.zarr")
    arguments = ["refine", str(data / "particles.star"), "--out", str(run), "--resume", "--set", "max_iterations=2"]
    for words in ("iteration 2 done; max_iterations = 2 reached", "nothing to run: max_iterations = 2 reached"):
        assert main(arguments) == 0
        assert words in capsys.readouterr().out.splitlines()[-1]


def test_extra_final_passes_whenever_they_are_edited(
    data: Path, base_of: Callable[[Case], Base], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_of(Case("extra_final_passes", 1))
    session = base.at(1)
    session.edit(max_iterations=50)
    converged, end = iterations_run(session), session.state.node
    assert 3 < converged < 50
    for most in (converged, 50):
        with load(data, FEW, {"max_iterations": most, "extra_final_passes": 1}) as before:
            assert iterations_run(before) == converged + 1, "not cut by max_iterations"
    for node in (base.nodes[0], base.nodes[1], end):
        session.branch(node, wait=True)
        session.edit(max_iterations=50, extra_final_passes=1)
        assert iterations_run(session) == converged + 1
        session.branch(node, extra_final_passes=2, max_iterations=50)
        assert iterations_run(session) == converged + 2
    with pytest.raises(InputError, match="sweep: extra_final_passes decides when a run ends"):
        next(sweep(session, {"extra_final_passes": [0, 1]}, FEW))
    run = shutil.copytree(base.stored, tmp_path / "run.zarr")
    arguments = ["refine", str(data / "particles.star"), "--out", str(run), "--resume", "--iterations", "50"]
    for passes in (0, 1):
        assert main([*arguments, "--set", f"extra_final_passes={passes}"]) == 0
        assert f"iteration {converged + passes} done" in capsys.readouterr().out.splitlines()[-1]
