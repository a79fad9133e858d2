"""`lrwidgets bench`: what it prints, that its numbers follow the work, and what it says of what cannot be done."""

import importlib.util
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lrcore import io
from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.imaging.rotations import rotation_exp
from lrcore.io import StackReader
from lrcore.records import Poses
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.iteration import run_iteration
from lrcore.simulation.benchmark_data import BenchmarkData, make_benchmark_data, synthetic_start
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.bench import boxes, iteration, relion, roofline, scaling
from lrwidgets.bench.kernels import SETTING
from lrwidgets.bench.measurement import BenchmarkOptions, BenchmarkSkipped, Measurement, fastest_seconds
from lrwidgets.bench.subprocesses import run_command
from lrwidgets.cli import bench
from lrwidgets.cli._main import main
from lrwidgets.text.parameters import edit_spec

Out = pytest.CaptureFixture[str]
FIELDS = {"event", "benchmark", "name", "value", "unit", "parameters", "ceiling", "bound", "fraction"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkData:
    """64 particles of 16 views, box 48."""
    spec = edit_spec(SETTING, {"max_align_resolution_A": 9.0, "initial_lowpass_A": 9.0})
    folder = tmp_path_factory.mktemp("small")
    return make_benchmark_data(folder, 64, spec, box=48, pixel_size_A=3.0, radius_px=15.0, snr=0.5, distinct=16)


@pytest.fixture
def options(tmp_path: Path) -> BenchmarkOptions:
    return BenchmarkOptions(tmp_path, lambda words: None, 1, quick=True)


def objects(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_json_is_one_measured_number_a_line(capsys: Out) -> None:
    assert main(["bench", "--quick", "--threads", "1", "--only", "ceilings", "--json"]) == 0
    first, *measured, last = objects(capsys.readouterr().out)
    assert first["event"] == "machine"
    assert first["cores"] >= 1
    assert last["event"] == "end"
    assert last["failed"] == []
    assert len(measured) == 7
    for one in measured:
        assert set(one) == FIELDS
        assert one["benchmark"] == "ceilings"
        assert one["value"] > 0
        assert one["parameters"]["threads"] == 1


def test_the_table_has_a_line_for_each_number(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Measurement("x", "one", 12.5, "particles/s", {"n": 3}, 50.0, "gathers"), Measurement("x", "two", 2.0, "s")]
    pretend(monkeypatch, x=lambda options: iter(found))
    assert main(["bench"]) == 0
    shown = capsys.readouterr().out
    assert "12.5 particles/s" in shown
    assert "25 % of gathers  [n: 3]" in shown
    assert "  2 s\n" in shown


def pretend(monkeypatch: pytest.MonkeyPatch, **benchmarks: Any) -> None:
    """Let these functions be all the benchmarks."""
    room = ModuleType("lrwidgets.bench.pretended")
    for name, run in benchmarks.items():
        setattr(room, name, run)
    monkeypatch.setitem(sys.modules, room.__name__, room)
    monkeypatch.setattr(bench, "BENCHMARKS", {name: (f"pretended.{name}", name) for name in benchmarks})


def test_a_fraction_is_of_the_ceiling() -> None:
    assert Measurement("x", "rate", 20.0, "particles/s", {}, 80.0).fraction == 0.25
    assert Measurement("x", "time", 20.0, "ns/sample/core", {}, 5.0).fraction == 0.25
    assert Measurement("x", "free", 20.0, "s").fraction is None


@pytest.mark.alone
def test_times_follow_the_work() -> None:
    assert 0.02 <= fastest_seconds(lambda: time.sleep(0.02), 3) < 0.06
    get_backend("cpu", 1)
    from lrcore.kernels.roofline.cpu import multiply_add

    values = np.ones((4, 512), np.float32)
    once, eight = (fastest_seconds(lambda n=n: multiply_add(values, 0.5, 0.5, n), 20) for n in (50, 400))
    assert 4 < eight / once < 16


def test_speeds_do_not_depend_on_the_amount() -> None:
    get_backend("cpu", 1)
    speeds = [roofline.measure_arithmetic_speed(lines) for lines in (4, 16)]
    assert 0.5 < speeds[0] / speeds[1] < 2


def test_a_workload_repeats_its_views_under_fresh_noise(small: BenchmarkData) -> None:
    particles = small.job.particles
    assert len(particles) == 64
    assert sorted(particles.half).count(1) == 32
    with StackReader(particles.images, 48) as reader:
        images = reader.read(np.arange(64)).reshape(64, -1)
    alike = np.corrcoef(images)
    same = [alike[i, i + 16] for i in range(48)]
    other = [alike[i, i + 17] for i in range(47)]
    assert 0.1 < np.mean(same) < 0.6
    assert np.mean(same) > 2 * np.mean(other)
    turned = particles.poses.rotation[:16], particles.poses.rotation[16:32]
    assert 0 < np.abs(turned[0] - turned[1]).max() < 0.1


def test_stages_are_timed_in_a_run(small: BenchmarkData) -> None:
    (step,) = scaling.first_iterations(small.job, get_backend("cpu"), 1)
    assert step.iteration == 1
    seconds = step.history[-1].seconds
    assert min(seconds[stage] for stage in ("read", "window", "search")) > 0


def test_costs_of_a_box(small: BenchmarkData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "FEW", 16)
    monkeypatch.setattr(boxes, "MANY", 64)
    cost = boxes.measure_box(small.job, 1, 2)
    assert min(cost.start_s, cost.start_cpu_s, *cost.first_s, *cost.later_s) > 0
    assert {name: value for name, value, _ in boxes._numbers(cost)}["start, CPU time"] == cost.start_cpu_s
    window = search_geometry(small.job.mask, small.job.spec).window
    half_disc = np.pi / 8 * window**2
    assert cost.cache_bytes == pytest.approx(6 * half_disc, rel=0.1)  # three numbers of two bytes
    numbers = {name: value for name, value, _ in boxes._numbers(replace(cost, later_s=(1.0, 4.0)))}
    assert numbers["later iteration, per particle"] == pytest.approx(1e3 * 3 / 48)
    assert numbers["later iteration, fixed"] == pytest.approx(0.0)


def test_rates_come_from_the_clock(small: BenchmarkData) -> None:
    backend, first = get_backend("cpu"), synthetic_start(small.job)
    done = iteration.last_step(run_iteration(small.job, first, first, backend))
    found = {one.name: one for one in iteration.rates([done], 64, {"threads": 1})}
    line = done.history[-1]
    assert found["search"].value == pytest.approx(64 / line.seconds["search"])
    spent = sum(line.seconds[name] for name in ("read", "window", "search"))
    assert found["expectation"].value == pytest.approx(64 / spent)
    assert found["whole iteration"].value < found["expectation"].value
    assert found["search"].parameters["align_resolution_A"] == 9.0


def test_thread_counts() -> None:
    assert [scaling.thread_counts(n) for n in (1, 2, 6)] == [[1], [1, 2], [1, 2, 4, 6]]


def test_peak_memory_is_that_of_the_process() -> None:
    code = "import time; x = bytearray({} << 20); x[::4096] = b'1' * len(x[::4096]); time.sleep(0.2); print('done')"
    some, more = (run_command([sys.executable, "-c", code.format(size)]) for size in (1, 200))
    assert 180 < more.peak_MB - some.peak_MB < 230
    assert more.lines[0][1] == "done"
    assert more.lines[0][0] <= more.seconds


def test_a_command_that_fails_is_one_line() -> None:
    code = "import sys; print('all well'); print('Error: no such thing', file=sys.stderr); sys.exit(3)"
    with pytest.raises(InputError, match=r"ended with status 3: Error: no such thing$"):
        run_command([sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "speed"], "--only speed: there is no such benchmark; there are ceilings, kernels"),
        (["--threads", "0"], "'0' is not a whole number above 0"),
        (["--only", "relion", "--data", "nowhere"], "--data nowhere: there is no nowhere/particles.star"),
        (["--relion-iterations", "some"], "'some' is not a whole number above 0"),
    ],
)
def test_what_cannot_be_asked_for(more: list[str], message: str, capsys: Out) -> None:
    assert main(["bench", *more]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert message in said


def test_without_relion(capsys: Out, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["bench", "--quick", "--only", "relion"]) == 2
    assert "benchmark relion: mpirun is not on PATH (Debian: apt-get install relion)" in capsys.readouterr().err


def test_the_others_go_on_when_one_cannot(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    def skips(options: BenchmarkOptions) -> Iterator[Measurement]:
        yield Measurement("skips", "before", 1.0, "s")
        raise BenchmarkSkipped("nothing to measure with")

    def fails(options: BenchmarkOptions) -> Iterator[Measurement]:
        raise InputError("it broke")

    pretend(monkeypatch, skips=skips, fails=fails, works=lambda options: iter([Measurement("works", "a", 1.0, "s")]))
    assert main(["bench", "--json"]) == 2
    out, err = capsys.readouterr()
    assert [one["event"] for one in objects(out)] == ["machine", "measured", "skipped", "failed", "measured", "end"]
    assert objects(out)[-1]["failed"] == ["fails"]
    assert err.endswith("\nerror: benchmarks that failed: fails: the reasons are above\n")


def test_an_interrupt_leaves_what_was_measured(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def interrupted(options: BenchmarkOptions) -> Iterator[Measurement]:
        folders.append(options.folder)
        yield Measurement("interrupted", "before", 1.25, "s")
        raise KeyboardInterrupt

    pretend(monkeypatch, interrupted=interrupted)
    assert main(["bench"]) == 130
    out, err = capsys.readouterr()
    assert "1.25 s" in out
    assert err == "error: interrupted\n"
    assert not folders[0].exists()


def test_quick_is_not_beside_relion_unless_asked() -> None:
    def names(quick: bool, only: list[str] | None) -> list[str]:
        return bench.selected_benchmarks(Namespace(quick=quick, only=only))

    assert names(False, None) == list(bench.BENCHMARKS)
    assert "relion" not in names(True, None)
    assert names(True, ["relion", "step"]) == ["step", "relion"]


def pretended_case(folder: Path) -> relion.RelionCase:
    folder.mkdir()
    return relion.RelionCase(folder, "pretended", (folder / "h1.mrc", folder / "h2.mrc"), folder / "mean.mrc")


def script(path: Path, text: str) -> list[str]:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


def test_a_relion_that_fails_is_one_line(
    options: BenchmarkOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(relion, "LOG", tmp_path / "log")
    program = script(tmp_path / "mpirun", "echo starting; echo 'ERROR: no reference' >&2; echo '-----'; exit 5")
    with pytest.raises(InputError) as refusal:
        relion._run_relion(program, pretended_case(tmp_path / "case"), options)
    assert str(refusal.value) == f"mpirun ended with status 5: ERROR: no reference (log: {tmp_path / 'log'})"
    assert "starting" in (tmp_path / "log").read_text()


@pytest.mark.alone
def test_a_relion_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relion, "LOG", tmp_path / "log")
    text = "touch relion/run_it000_optimiser.star; sleep 0.3; touch relion/run_it001_optimiser.star; exec sleep 60"
    program = script(tmp_path / "mpirun", text)
    options = BenchmarkOptions(tmp_path, lambda words: None, 1, relion_iterations=1)
    began = time.monotonic()
    found = relion._run_relion(program, pretended_case(tmp_path / "case"), options)
    assert time.monotonic() - began < 10
    assert found.iterations == 1
    assert not found.complete
    assert 0.2 < found.seconds < 5
    assert found.particles.name == "run_it001_data.star"
    assert [path.name for path in found.half_maps] == [f"run_it001_half{h}_class001_unfil.mrc" for h in (1, 2)]


def test_both_programs_are_judged_by_the_truth(tmp_path: Path) -> None:
    made = simulate_flexible_particle(tmp_path, n=12, box=32, pixel_size_A=5.0)
    halves = (made.map("gt_b"), made.map("gt_b"))
    case = relion.RelionCase(tmp_path, "simulated", halves, made.map("gt_b"))
    rows = np.random.default_rng(0).permutation(12)
    turned = made.poses_b.rotation @ rotation_exp(np.radians([[0.0, 3.0, 0.0]]))
    answers = {"right": made.poses_b, "wrong": Poses(turned, made.poses_b.origin_A)}
    found = {}
    for name, poses in answers.items():
        io.write_particles(tmp_path / f"{name}.star", made.particles.select(rows), poses.select(rows))
        outcome = relion.ProgramOutcome(1.0, 1, True, tmp_path / f"{name}.star", halves)
        found[name] = {key: value for key, (value, _) in relion.evaluate_outcome(case, outcome).items()}
    assert found["right"]["rotation error, median"] < 1e-3
    assert found["wrong"]["rotation error, median"] == pytest.approx(3.0, abs=1e-3)
    assert found["right"]["shift error, RMS"] < 1e-3
    assert found["wrong"]["shift error, RMS"] > 0.5
    assert found["right"]["against the truth in the mask, FSC 0.5"] == pytest.approx(10.0)


@pytest.fixture(scope="module")
def tables(root: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location("tables", root / "scripts" / "performance_tables.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_no_number_of_the_document_is_typed_by_hand(tables: ModuleType, root: Path) -> None:
    document = (root / "docs" / "performance.md").read_text()
    records = tables.read_records(root / "docs" / "measurements.jsonl")
    assert {name for _, name, _ in tables.PLACE.findall(document)} == set(tables.TABLES)
    assert set(bench.BENCHMARKS) | {"machine"} == set(tables.TABLES)
    assert tables.fill_tables(document, records) == document


def test_tables_say_what_was_measured(tables: ModuleType) -> None:
    document = "<!-- measured: memory -->\nold\n<!-- end -->\n<!-- measured: box -->\nold\n<!-- end -->\n"
    known = {"particles": 20000, "box": 192}
    for peak in (1234.5, 2345.6):
        record = {"event": "measured", **Measurement("memory", "peak", peak, "MB", known).record()}
        found = tables.fill_tables(document, [record])
        assert f"| 20,000 of box 192 | {peak:,.0f} |" in found
        assert "*not measured*" in found
        assert "old" not in found


def test_every_benchmark_is_there(options: BenchmarkOptions) -> None:
    for where, _ in bench.BENCHMARKS.values():
        module, function = where.split(".")
        assert callable(getattr(importlib.import_module(f"lrwidgets.bench.{module}"), function))
    assert options.repeats == 3
    assert os.access(options.folder, os.W_OK)
