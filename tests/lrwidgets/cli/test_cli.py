"""The command line: what it prints, what it writes, and one line with exit status 2 for every unusable input."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore import io
from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.motion_estimate import MotionEstimate
from lrcore.errors import InputError
from lrcore.motion.model import fit_about_fulcrum
from lrcore.records import Volume
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.zarr_store import Store
from lrwidgets.cli import printer as cli_printer
from lrwidgets.cli import refine
from lrwidgets.cli._main import main
from lrwidgets.cli.motion import _print_estimate
from lrwidgets.cli.printer import Printer
from lrwidgets.export.step_files import pose_columns
from lrwidgets.session import advice as session_advice
from lrwidgets.session.session import Session
from lrwidgets.session.step_analysis import motion_widths
from lrwidgets.text import formatting, parameters
from tests.fakes import FakeEngine, make_job, make_step, same_bits
from tests.lrcore.motion.test_principal import hinged
from tests.lrwidgets.cli.commands import Out, refused
from tests.lrwidgets.conftest import Files


@pytest.fixture(scope="module")
def run(kept: Files) -> Path:
    """A finished run that no test changes."""
    out = kept.folder.parent / "run.zarr"
    assert main(kept.refine(out), engine=FakeEngine()) == 0
    return out


def test_a_refinement_prints_a_line_for_each_iteration(files: Files, tmp_path: Path, capsys: Out) -> None:
    assert main(files.refine(tmp_path / "run.zarr"), engine=FakeEngine()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "resolution Å" in lines[0]
    assert [int(text.split()[0]) for text in lines[2:-1]] == [0, 1, 2, 3, 4]
    assert lines[-1].startswith(f"{tmp_path / 'run.zarr'}: iteration 4 done, converged; ")
    summary = make_step(make_job(), make_step(make_job())).history[1]
    shown = lines[3].split()
    wanted = (
        summary.resolution_masked_A,
        summary.resolution_corrected_A,
        summary.angle_from_input_deg,
        summary.angle_since_last_deg,
        summary.shift_from_input_A,
        summary.shift_since_last_A,
    )
    assert shown[14:] == ["body", "in", "81", "%"]
    assert np.isfinite([float(x) for x in shown[1:10]]).all()
    assert formatting.format_iteration(summary).split()[1:7] == [f"{number:.2f}" for number in wanted]


@pytest.mark.parametrize("before", [True, False])
def test_json_is_one_object_a_line(before: bool, files: Files, tmp_path: Path, capsys: Out) -> None:
    argv = files.refine(tmp_path / "run.zarr")
    assert main(["--json", *argv] if before else [*argv, "--json"], engine=FakeEngine()) == 0
    records = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [r["event"] for r in records] == ["iteration"] * 5 + ["end"]
    assert records[2]["iteration"] == 2
    assert records[2]["particles_per_s"].keys() == {"search", "insert"}
    assert records[2]["angle_since_last_deg"] > 0


def test_what_is_not_finite_is_null_in_json() -> None:
    assert json.loads(cli_printer.json_line("x", a=float("nan"), b=[float("inf"), 1.0], c=np.array([1.5, np.nan]))) == {
        "event": "x",
        "a": None,
        "b": [None, 1.0],
        "c": [1.5, None],
    }


def test_parameters_from_a_file_from_set_and_from_options(files: Files, tmp_path: Path) -> None:
    toml = tmp_path / "spec.toml"
    toml.write_text("rotation_prior_sd_deg = 2.5\nseed = 3\nshift_extent_A = 4\nmax_align_resolution_A = 5.0\n")
    settings = ["--set", "seed=4", "--set", "shift_extent_A=", "--set", "prior=none", "--set", "recenter_shifts=true"]
    argv = [*files.refine(tmp_path / "run.zarr"), "--spec", str(toml), *settings, "--iterations", "2"]
    engine = FakeEngine()
    assert main(argv, engine=engine) == 0
    expected = {"rotation_prior_sd_deg": 2.5, "seed": 4, "prior": "none", "recenter_shifts": True, "max_iterations": 2}
    assert engine.specs[-1] == RefineSpec(**expected, max_align_resolution_A=5.0)
    assert len(engine.specs) == 2


def test_a_subset_is_balanced_and_remembered(files: Files, tmp_path: Path, capsys: Out) -> None:
    out, engine = tmp_path / "run.zarr", FakeEngine()
    assert main(files.refine(out, "--subset", "6", "--iterations", "1"), engine=engine) == 0
    assert engine.particles == [6]
    half = Store.open(out, write=False).results()["particles"]["half"].values
    assert sorted(half) == [1, 1, 1, 2, 2, 2]
    assert main(files.refine(out, "--resume", "--iterations", "2"), engine=engine) == 0
    assert engine.particles == [6, 6]
    assert "has 6" in refused(capsys, files.refine(out, "--resume", "--subset", "4"), engine=engine)


def test_resuming_ends_with_the_same_bits(kept: Files, run: Path, tmp_path: Path, capsys: Out) -> None:
    broken = tmp_path / "broken.zarr"
    assert main(kept.refine(broken), engine=FakeEngine(fails_at=3, error=InputError("no"))) == 2
    assert len(Store.open(broken, write=False).tree()) == 3
    capsys.readouterr()
    assert main(kept.refine(broken, "--resume"), engine=FakeEngine()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(text.split()[0]) for text in lines[2:-1]] == [0, 1, 2, 3, 4]
    stores = [Store.open(path, write=False) for path in (run, broken)]
    last = [store.load(store.node().id) for store in stores]
    assert same_bits(*last)
    assert [node.id for node in stores[0].tree()] == [node.id for node in stores[1].tree()]


def test_resuming_needs_no_paths_but_the_particles(kept: Files, run: Path) -> None:
    argv = ["refine", str(kept.star), "--out", str(run), "--resume"]
    assert main(argv, engine=FakeEngine()) == 0


def test_resuming_with_another_spec_is_refused(kept: Files, run: Path, capsys: Out) -> None:
    argv = kept.refine(run, "--resume", "--set", "shift_prior_sd_A=9")
    assert "shift_prior_sd_A = 9.0: the run" in refused(capsys, argv, engine=FakeEngine())
    assert main(kept.refine(run, "--resume", "--set", "shift_prior_sd_A=3"), engine=FakeEngine()) == 0
    assert main(kept.refine(run, "--resume", "--iterations", "9"), engine=FakeEngine()) == 0


def test_resuming_with_other_input_is_refused(files: Files, tmp_path: Path, capsys: Out) -> None:
    run = tmp_path / "run.zarr"
    assert main(files.refine(run, "--iterations", "1"), engine=FakeEngine()) == 0
    text = files.star.read_text()
    assert "15" in text
    files.star.write_text(text.replace("15", "16"))
    message = refused(capsys, files.refine(run, "--resume"), engine=FakeEngine())
    assert f"{files.star}: not the particles that {run} was started with" in message


def test_a_run_is_never_overwritten(kept: Files, run: Path, capsys: Out) -> None:
    assert "exists already: continue it with --resume" in refused(capsys, kept.refine(run), engine=FakeEngine())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--set", "rotation_prior_sd_deg=-1"],
            "rotation_prior_sd_deg = -1: input should be greater than 0 (valid: > 0",
        ),
        (["--set", "symmetry=TH"], "symmetry = TH: write Cn, Dn, T, O, I"),
        (["--set", "fulcrum=1,2"], "fulcrum = 1,2: write mask, box"),
        (["--set", "rotation_prior=1"], "rotation_prior is not a parameter: did you mean rotation_prior_sd_deg?"),
        (["--set", "nope=3"], "nope is not a parameter: choose among "),
        (["--set", "seed"], "--set seed: write name=value"),
        (["--iterations", "0"], "max_iterations = 0: input should be greater than or equal to 1 (valid: >= 1"),
        (["--iterations", "many"], "argument --iterations: invalid int value: 'many'"),
        (["--subset", "0"], "argument --subset: '0' is not a whole number above 0"),
        (["--backend", "abacus"], "argument --backend: invalid choice: 'abacus'"),
        (["--spec", "none.toml"], "none.toml: cannot be read (No such file or directory)"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_unusable_arguments(more: list[str], message: str, files: Files, tmp_path: Path, capsys: Out) -> None:
    assert message in refused(capsys, files.refine(tmp_path / "run.zarr", *more), engine=FakeEngine())
    assert os.listdir(tmp_path) == ["input"]


def test_an_unusable_parameter_file_is_named(files: Files, tmp_path: Path, capsys: Out) -> None:
    toml = tmp_path / "spec.toml"
    argv = files.refine(tmp_path / "run.zarr", "--spec", str(toml))
    toml.write_text("rotation_prior_sd_deg = ")
    assert f"{toml}: is not TOML" in refused(capsys, argv, engine=FakeEngine())
    toml.write_text("shift_extent = 3")
    message = refused(capsys, argv, engine=FakeEngine())
    assert f"{toml}: shift_extent is not a parameter: did you mean shift_extent_A?" in message


def unusable(name: str, files: Files) -> list[str]:
    """Spoil one input; further arguments of the refinement."""
    if name == "missing stack":
        files.stack.unlink()
    elif name == "short stack":
        files.stack.write_bytes(files.stack.read_bytes()[: 1024 + 5 * 12 * 12 * 4])
    elif name == "mask of another box":
        io.write_volume(files.mask, Volume(np.ones((10, 10, 10), np.float32), 2.5))
    elif name == "empty mask":
        io.write_volume(files.mask, Volume(np.zeros((12, 12, 12), np.float32), 2.5))
    elif name == "truncated map":
        files.halves[0].write_bytes(files.halves[0].read_bytes()[:2000])
    elif name == "no poses":
        files.star.write_text(files.star.read_text().replace("_rlnAngleTilt", "_rlnSomething"))
    elif name == "no half sets":
        files.star.write_text(files.star.read_text().replace("_rlnRandomSubset", "_rlnSomething"))
    elif name == "not there":
        files.star.unlink()
    elif name == "one half map":
        return ["--half-maps", str(files.halves[0])]
    elif name == "no GPU":
        return ["--backend", "cuda"]
    return []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing stack", ["p.star", "s.mrcs"]),
        ("short stack", ["s.mrcs"]),
        ("mask of another box", ["mask.mrc", "box"]),
        ("empty mask", ["mask.mrc", "empty"]),
        ("truncated map", ["half1.mrc", "truncated"]),
        ("no poses", ["p.star", "poses"]),
        ("no half sets", ["p.star", "rlnRandomSubset"]),
        ("not there", ["p.star"]),
        ("one half map", ["half1.mrc", "give both"]),
        ("no GPU", ["backend cuda"]),
    ],
)
def test_unusable_input_writes_nothing(name: str, words: list[str], files: Files, tmp_path: Path, capsys: Out) -> None:
    more = unusable(name, files)
    message = refused(capsys, files.refine(tmp_path / "run.zarr", *more))
    assert all(word in message for word in words), message
    assert os.listdir(tmp_path) == ["input"]


@pytest.mark.parametrize("place", ["input/p.star/run.zarr", "/proc/run.zarr"])
def test_a_place_that_cannot_be_written(place: str, files: Files, tmp_path: Path, capsys: Out) -> None:
    engine = FakeEngine()
    message = refused(capsys, files.refine(tmp_path / place), engine=engine)
    assert str(tmp_path / place) in message
    assert engine.chunks == 0


def test_the_mask_is_asked_for(files: Files, tmp_path: Path, capsys: Out) -> None:
    argv = ["refine", str(files.star), "--out", str(tmp_path / "run.zarr")]
    assert "--mask is missing" in refused(capsys, argv, engine=FakeEngine())


def test_an_internal_error_is_one_line_too(
    files: Files, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, engine = files.refine(tmp_path / "run.zarr"), FakeEngine(fails_at=0)
    monkeypatch.delenv("LRW_DEBUG", raising=False)
    assert main(argv, engine=engine) == 1
    assert capsys.readouterr().err.startswith("error: internal error, RuntimeError: broken (set LRW_DEBUG=1")
    monkeypatch.setenv("LRW_DEBUG", "1")
    with pytest.raises(RuntimeError, match="broken"):
        main(argv, engine=engine)


def test_an_interrupted_run_says_how_to_go_on(
    files: Files, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run.zarr"

    def interrupted(session: Any, wait: bool) -> None:
        session.step(wait=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(refine.Session, "run", interrupted)
    assert main(files.refine(out), engine=FakeEngine()) == 130
    assert f"{out} holds iterations 0 to 1: continue it with --resume" in capsys.readouterr().err


def test_export_writes_what_is_asked_for(files: Files, run: Path, tmp_path: Path, capsys: Out) -> None:
    pytest.importorskip("h5py")
    names = {"--star": "new.star", "--cs": "new.cs", "--maps": "maps", "--netcdf": "run.nc"}
    argv = ["export", str(run)]
    for option, name in names.items():
        argv += [option, str(tmp_path / name)]
    assert main(argv) == 0
    assert capsys.readouterr().out.count("(iteration 4)") == 8
    store = Store.open(run, write=False)
    step = store.load(store.node().id)
    for name in ("new.star", "new.cs"):
        poses = io.read_particles(tmp_path / name, files.folder).poses
        assert np.allclose(poses.rotation, step.expectation.poses.rotation, atol=1e-5)
        assert np.allclose(poses.origin_A, step.expectation.poses.origin_A, atol=1e-4)
    assert sorted(os.listdir(tmp_path / "maps")) == ["half1.mrc", "half2.mrc", "map.mrc", "map_whole.mrc", "mask.mrc"]
    assert np.array_equal(io.read_volume(tmp_path / "maps" / "half2.mrc").data, step.half_maps.second.data)
    assert not list(tmp_path.glob(".*"))


def test_export_of_an_earlier_iteration(run: Path, tmp_path: Path, capsys: Out) -> None:
    argv = ["--json", "export", str(run), "--maps", str(tmp_path / "maps"), "--overwrite", "--iteration"]
    assert main([*argv, "2"]) == 0
    records = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    store = Store.open(run, write=False)
    assert {record["node"] for record in records} == {store.tree()[2].id}
    step = store.load(store.tree()[2].id)
    assert np.array_equal(io.read_volume(tmp_path / "maps" / "half1.mrc").data, step.half_maps.first.data)
    assert "has iterations 0 to 4" in refused(capsys, [*argv, "9"])


def test_export_of_nothing_or_from_nothing(files: Files, run: Path, tmp_path: Path, capsys: Out) -> None:
    assert "nothing to write" in refused(capsys, ["export", str(run)])
    assert "is not an lrwidgets run" in refused(capsys, ["export", str(tmp_path), "--star", "x.star"])
    where = str(files.star / "x.star")
    assert where in refused(capsys, ["export", str(run), "--star", where])


def test_fsc_of_two_maps(files: Files, capsys: Out) -> None:
    first, second = map(str, files.halves)
    assert main(["fsc", first, second, "--mask", str(files.mask)]) == 0
    kinds = [text.split()[0] for text in capsys.readouterr().out.splitlines()[1:]]
    assert kinds == ["unmasked", "spherical", "loose", "tight", "masked", "randomised", "corrected"]
    assert main(["fsc", first, first, "--json"]) == 0
    records = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [r["kind"] for r in records] == ["unmasked", "spherical", "loose", "tight"]
    assert np.allclose(records[0]["fsc"], 1)
    assert records[0]["resolution_0143_A"] == pytest.approx(5.0)


def test_fsc_of_maps_that_do_not_fit(files: Files, capsys: Out) -> None:
    other = files.folder / "other.mrc"
    io.write_volume(other, Volume(np.ones((10, 10, 10), np.float32), 2.5))
    assert "other.mrc: the map is 10³ but" in refused(capsys, ["fsc", str(files.halves[0]), str(other)])
    io.write_volume(other, Volume(np.ones((12, 12, 12), np.float32), 3.5))
    assert "other.mrc: voxel size 3.5" in refused(capsys, ["fsc", str(files.halves[0]), str(other)])
    io.write_volume(other, Volume(np.ones((12, 12, 12), np.float32), 0.0))
    assert "--apix" in refused(capsys, ["fsc", str(files.halves[0]), str(other)])


def test_a_hinge_is_told_and_what_to_do_about_it(capsys: Out) -> None:
    sights, *_ = hinged(1, 1.0)
    motion, found = fit_about_fulcrum(sights, (np.radians(5), 3.0), 40.0)
    for hinge, told in ((found, True), (replace(found, rotation_covariance=np.eye(3) * found.rotation_sd**2), False)):
        _print_estimate(Printer(False), MotionEstimate(motion, np.arange(1200), hinge, (hinge, hinge)), 48, 2.0)
        out = capsys.readouterr().out
        assert ("anisotropic  rotations of 4" in out) == told
        assert ("try          --set prior=motion --set fulcrum=estimate" in out) == told
        assert ("differ by axis" in str(motion_widths(hinge))) == told


def test_motion_of_a_run(run: Path, capsys: Out) -> None:
    assert main(["motion", str(run), "--json"]) == 0
    event, motions = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert motions["event"] == "principal_motions"
    assert sum(motions["share"]) == pytest.approx(1.0)
    assert event["event"] == "motion"
    assert len(event["fulcrum_from_corner_A"]) == 3
    assert event["rotation_sd_deg"] > 0
    assert event["rotation_sd_error_deg"] > 0
    assert np.linalg.norm(event["rotation_axes_sd_deg"]) == pytest.approx(np.sqrt(3) * event["rotation_sd_deg"])
    assert np.allclose(np.linalg.norm(event["rotation_axes"], axis=1), 1)
    assert event["shift_sd_error_A"] > 0
    assert event["untold_widths"] == event["half_sets"][0]["untold_widths"] == ["rotation", "shift"], "10 particles"
    assert len(event["half_sets"]) == 2
    assert main(["motion", str(run)]) == 0
    out = capsys.readouterr().out
    assert "try          --set" in out
    assert "undetermined The poses hardly determine the SD of the shifts" in out


def test_motion_of_no_iteration(run: Path, capsys: Out) -> None:
    assert main(["motion", str(run), "--iteration", "0"]) == 2
    assert "iteration 0 has the input poses" in capsys.readouterr().err


def test_info_of_files_and_runs(kept: Files, run: Path, capsys: Out) -> None:
    assert main(["info", str(kept.star), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 10
    assert main(["info", str(kept.halves[0])]) == 0
    assert "half1.mrc" in capsys.readouterr().out
    assert main(["info", str(run)]) == 0
    shown = capsys.readouterr().out
    assert str(kept.star) in shown
    assert "steps: 5, branches: 1" in shown
    assert main(["info", str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [one["iteration"] for one in record["tree"]] == [one["iteration"] for one in record["history"]]
    assert "cannot be read" in refused(capsys, ["info", str(kept.folder / "none.star")])


def test_reconstruct(files: Files, tmp_path: Path, capsys: Out) -> None:
    out = tmp_path / "map.mrc"
    assert main(["reconstruct", str(files.star), "--out", str(out), "--half", "1", "--backend", "reference"]) == 0
    assert "5 particles" in capsys.readouterr().out
    assert io.read_volume(out).data.shape == (12, 12, 12)
    flat = io.read_volume(out).data
    curved = ["--out", str(out), "--half", "1", "--backend", "reference", "--ewald", "negative", "--overwrite"]
    assert main(["reconstruct", str(files.star), *curved]) == 0
    assert not np.array_equal(io.read_volume(out).data, flat)
    assert "symmetry = X" in refused(
        capsys, ["reconstruct", str(files.star), "--out", str(tmp_path / "x.mrc"), "--symmetry", "X"]
    )


def test_reconstructing_subtracted_images_with_a_symmetry_is_told(
    files: Files, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    particles = io.read_particles(files.star)
    told = "the density outside a mask is subtracted from these images: if that mask does not have the symmetry C2"
    for subtracted in (True, False):
        monkeypatch.setattr(io, "read_particles", lambda *_, mark=subtracted: replace(particles, subtracted=mark))
        for symmetry in ("C2", "C1"):
            argv = ["reconstruct", str(files.star), "--out", str(tmp_path / "map.mrc"), "--symmetry", symmetry]
            assert main([*argv, "--backend", "reference", "--overwrite"]) == 0
            assert (told in capsys.readouterr().err) == (subtracted and symmetry == "C2")


def test_a_bar_on_a_terminal_only() -> None:
    from io import StringIO

    from lrcore.records import Progress

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    for err, shown in ((Terminal(), True), (StringIO(), False)):
        out = StringIO()
        printer = cli_printer.Printer(False, out, err)
        printer.show_progress(Progress(1, "search", 5, 10))
        printer.print_line("line")
        printer.show_progress(Progress(1, "search", 10, 10))
        printer.close()
        assert out.getvalue() == "line\n"
        assert ("iteration 1: search" in err.getvalue()) == shown


def test_text_becomes_what_the_field_wants() -> None:
    assert parameters.changes_from_text(["rotation_extent_deg=none", "prior=none", "fulcrum=1, 2, 3 px"]) == {
        "rotation_extent_deg": None,
        "prior": "none",
        "fulcrum": "1, 2, 3 px",
    }
    spec = parameters.edit_spec(parameters.DEFAULT_SPEC, {"rotation_extent_deg": "12.5", "subtract_outside": "false"})
    assert spec.rotation_extent_deg == 12.5
    assert spec.subtract_outside is False


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'core'}"}
    argv = [sys.executable, "-m", "lrwidgets", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=600)


@pytest.mark.alone
def test_as_a_program(root: Path, files: Files, tmp_path: Path) -> None:
    start = time.monotonic()
    done = command(root, "--help")
    assert time.monotonic() - start < 5
    assert done.returncode == 0
    assert "refine" in done.stdout
    done = command(root, *files.refine(tmp_path / "run.zarr", "--set", "seed=-1"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == "error: seed = -1: input should be greater than or equal to 0 (valid: >= 0 and <= 2147483647)\n"
    )
    shutil.rmtree(files.folder)
    done = command(root, *files.refine(tmp_path / "run.zarr"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_help_pulls_in_nothing_heavy(root: Path) -> None:
    code = "import sys, lrwidgets.cli.arguments; lrwidgets.cli.arguments.parser(); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'core'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert not {"numpy", "scipy", "pydantic", "xarray", "zarr"} & set(done.stdout.split())


def test_two_steps_are_compared(files: Files, tmp_path: Path, capsys: Out) -> None:
    run, engine = tmp_path / "run.zarr", FakeEngine()
    assert main(files.refine(run, "--iterations", "2"), engine=engine) == 0
    capsys.readouterr()
    plot = tmp_path / "compare.png"
    assert main(["compare", str(run), "0", "2", "--plot", str(plot)]) == 0
    assert capsys.readouterr().out.startswith("iteration 0 → 2: ")
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(["compare", str(run), "0001-", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["nodes"][0].startswith("0001-")
    assert record["angle_difference"] > 0
    assert "matches no steps of" in refused(capsys, ["compare", str(run), "0009-", "2"])
    assert "has iterations 0 to 2" in refused(capsys, ["compare", str(run), "7", "2"])


def test_an_advised_mask_is_written(run: Path, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session.open(run, write=False) as session:
        mask = session.mask
    other = replace(mask, data=(0.5 * mask.data).astype(np.float32))
    advice = Finding("mask_still", "something stays behind", "take it out of the mask", 0.3, 0.15, mask=other)
    monkeypatch.setattr("lrwidgets.cli.advise.findings", lambda *_: (advice,))
    assert main(["advise", str(run)]) == 0
    assert "--mask-out" in capsys.readouterr().out
    assert main(["advise", str(run), "--json", "--mask-out", str(tmp_path / "better.mrc")]) == 0
    said, written = map(json.loads, capsys.readouterr().out.splitlines())
    assert said["findings"][0]["has_mask"]
    assert said["findings"][0]["figure"] == "Before / after"
    assert "mask" not in said["findings"][0]
    assert written["path"] == str(tmp_path / "better.mrc")
    assert np.allclose(io.read_volume(tmp_path / "better.mrc").data, other.data)


def test_images_are_asked_once_for_the_advice_on_a_step(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("held_out", "audit_input"):
        whole = getattr(session_advice, name)
        monkeypatch.setattr(
            session_advice, name, lambda *given, name=name, whole=whole: asked.append(name) or whole(*given)
        )
    with Session.open(run, write=False) as session:
        nodes = [node.id for node in session.path()]
        first = [session_advice.findings(session, node) for node in nodes[:4]]
        assert sorted(asked) == ["audit_input", "held_out", "held_out"]
        assert [session_advice.findings(session, node) for node in nodes[:4]] == first
        assert len(asked) == 3


def test_motions_advice_and_choice_of_a_run(run: Path, tmp_path: Path, capsys: Out) -> None:
    assert main(["tree", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[-1].lstrip().startswith("> iteration 4")
    assert main(["advise", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["event"] == "advice"
    assert all({"name", "finding", "evidence"} <= set(one) for one in found["findings"])
    assert main(["advise", str(run), "--iteration", "0"]) == 0
    assert "no problem found in the input" in capsys.readouterr().out
    better = tmp_path / "better.mrc"
    words = refused(capsys, ["advise", str(run), "--iteration", "0", "--mask-out", str(better)])
    assert "no finding suggests another mask" in words
    assert not better.exists()
    table = tmp_path / "sure.star"
    assert main(["select", str(run), "--out", str(table)]) == 2
    assert "at least one bound" in capsys.readouterr().err
    assert main(["select", str(run), "--max-angle-sd", "0", "--out", str(table)]) == 2
    assert not table.exists()
    with Session.open(run, write=False) as session:
        values = pose_columns(session.job, session.load_step()[1])
    bound = float(np.median(values["lrwRotationSd"]))
    assert (
        main(["select", str(run), "--max-angle-sd", str(bound), "--min-mode-probability", "0", "--out", str(table)])
        == 0
    )
    assert "by --max-angle-sd" in capsys.readouterr().out
    kept = io.read_particles(table)
    assert len(kept) == int((values["lrwRotationSd"] <= bound).sum())
    middle = float(np.median(values["lrwPresence"]))
    assert main(["select", str(run), "--min-presence", str(middle), "--out", str(table), "--overwrite"]) == 0
    assert len(io.read_particles(table)) == int((values["lrwPresence"] >= middle).sum())
