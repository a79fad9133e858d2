"""Every option of every command that names what is written: folders are made, refusals come early and leave nothing.

The options are read from the parsers, so that a new one is tested without a change here; a new command needs arguments.
"""

import argparse
import functools
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore import io
from lrcore.analysis.advice.finding import Finding
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from lrwidgets.cli import arguments, demo, option_types
from lrwidgets.cli._main import main
from lrwidgets.session.session import Session
from tests.fakes import FakeEngine

WRITES_NOTHING = {"info", "fsc", "check", "tree", "napari", "bench"}
"""Commands without such an option."""
SUFFIXES = {
    "FILE": {"plot": ".png", "cxc": ".cxc", "fsc_xml": ".xml", "netcdf": ".nc", "cs": ".cs"},
    "B": {"target": ".cs"},
}
"""Metavar → option → suffix, where it is not that of a table or of the metavar itself."""


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Name of a command → its parser."""
    top = arguments.parser()
    (action,) = [each for each in top._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(action.choices)


def option_of(command: str, dest: str) -> argparse.Action:
    (option,) = [each for each in subparsers()[command]._actions if each.dest == dest]
    return option


OPTIONS = [
    (name, option.dest)
    for name, command in subparsers().items()
    for option in option_types.output_options(command)
    if name not in WRITES_NOTHING
]


def file_name(option: argparse.Action) -> str:
    """A name with a suffix that the option takes."""
    metavar = str(option.metavar)
    if option.type is option_types.output_folder or metavar == "DIR-or-FILE":
        return "new"
    suffix = Path(metavar).suffix or (".mrc" if metavar.isupper() and "FILE" not in metavar and metavar != "B" else "")
    return "new" + (suffix or SUFFIXES.get(metavar, {}).get(option.dest, ".star"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    """A small particle, and in run.zarr beside it a refinement of its body."""
    folder = tmp_path_factory.mktemp("outputs")
    made = simulate_flexible_particle(folder, n=60, box=24, pixel_size_A=8.0, snr=0.5)
    argv = ["refine", str(made.star), "--mask", str(made.map("mask_b")), "--iterations", "2", "--threads", "1"]
    assert main([*argv, "--out", str(folder / "run.zarr")]) == 0
    assert main(["export", str(folder / "run.zarr"), "--maps", str(folder / "maps")]) == 0
    return made


def required(command: str, data: FlexibleParticle) -> list[str]:
    """The other arguments of a command, without those that name what it writes."""
    folder = data.star.parent
    star, run, mask = str(data.star), str(folder / "run.zarr"), str(data.map("mask_b"))
    halves = [str(folder / "maps" / f"half{number}.mrc") for number in (1, 2)]
    words = {
        "demo": [],
        "refine": [star, "--mask", mask],
        "export": [run],
        "compare": [run, "1", "2", "--held-out", "0"],
        "reconstruct": [star, "--backend", "cpu"],
        "locres": [*halves, "--window", "64"],
        "filter": halves,
        "convert": [star],
        "expand": [star, "--symmetry", "C2"],
        "duplicates": [star],
        "mask": halves[:1],
        "subtract": [star, "--mask", mask],
        "motion": [run],
        "uncertainty": [run],
        "classify": [run, "--classes", "1", "--max-iterations", "1"],
        "sweep": [run, "--over", "rotation_prior_sd_deg=2,5", "--subset", "20"],
        "advise": [run],
        "select": [run, "--max-angle-sd", "90"],
        "recenter": [star, "--mask", mask],
        "resample": [mask, "--box", "48"],
    }
    assert command in words, f"{command} writes something: list arguments with which it does"
    return words[command]


def argv_with(command: str, dest: str, path: Path, data: FlexibleParticle, other: Path) -> list[str]:
    """A command line that writes to `path` by one option; others that the command needs write into `other`."""
    words = [command, *required(command, data)]
    for option in option_types.output_options(subparsers()[command]):
        if option.dest == dest or option.required:
            place = path if option.dest == dest else other / f"{option.dest}-{file_name(option)}"
            words += [*option.option_strings[:1], str(place)]
    return words


@pytest.fixture
def quick(data: FlexibleParticle, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What makes long commands short, and `advise` find a mask; hooks of `main` by command."""
    small = {**demo.DATA, "box": 40, "pixel_size_A": 4.6}
    run_demo = functools.partial(demo.run_demo, particles=12, engine=FakeEngine(), data=small)
    monkeypatch.setattr(demo, "run_demo", run_demo)
    with Session.open(data.star.parent / "run.zarr", write=False) as session:
        mask = replace(session.mask, data=(0.5 * session.mask.data).astype(np.float32))
    advice = Finding("mask_still", "something stays behind", "take it out of the mask", 0.3, 0.15, mask=mask)
    monkeypatch.setattr("lrwidgets.cli.advise.findings", lambda *_: (advice,))
    return {"refine": {"engine": FakeEngine()}}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "dest"), OPTIONS)
def test_folders_are_made_and_no_file_is_replaced_unasked(
    command: str, dest: str, data: FlexibleParticle, quick: dict[str, dict[str, Any]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, hooks = tmp_path / "not" / "yet" / file_name(option_of(command, dest)), quick.get(command, {})
    argv = argv_with(command, dest, path, data, tmp_path)
    assert main(argv, **hooks) == 0
    assert path.exists()
    assert not [name for name in os.listdir(path.parent) if name.startswith(".")]
    if command == "demo":
        return
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert main(argv, **hooks) == 2
    error = capsys.readouterr().err
    assert "exists already" in error
    assert ("--overwrite" in error) == (command != "refine")
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    if command in ("convert", "export", "motion", "recenter", "subtract"):
        assert main([*argv, "--overwrite"], **hooks) == 0
        assert set(before) == {file for file in tmp_path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("command", "dest", "place"),
    [
        (*option, place)
        for option in OPTIONS
        for place in ("below a file", "in a folder of the system", "a folder itself")
        if place != "a folder itself" or option_of(*option).type is option_types.output_file
    ],
)
def test_a_refusal_comes_first_and_names_the_remedy(
    command: str, dest: str, place: str, data: FlexibleParticle, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("kept")
    option = option_of(command, dest)
    name = file_name(option)
    path = {"below a file": tmp_path / "file" / name, "in a folder of the system": Path("/proc/none") / name}.get(
        place, tmp_path / name
    )
    if place == "a folder itself":
        path.mkdir()
    capsys.readouterr()
    for module, name_of_reader in ((io, "read_particles"), (io, "read_volume"), (Session, "open"), (Session, "load")):
        monkeypatch.setattr(module, name_of_reader, None)  # nothing is read before
    assert main(argv_with(command, dest, path, data, tmp_path)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{path}: cannot be written (" in error
    assert "free some space" not in error
    assert {"below a file": "a file is in the place of a folder", "a folder itself": "give the name of a file"}.get(
        place, "choose another place"
    ) in error
    assert sorted(os.listdir(tmp_path)) == sorted({"file", *([name] if place == "a folder itself" else [])})


@pytest.mark.parametrize(("command", "dest"), [option for option in OPTIONS if option[0] != "demo"])
def test_no_folder_is_left_when_the_input_is_unusable(
    command: str, dest: str, data: FlexibleParticle, tmp_path: Path
) -> None:
    words = argv_with(command, dest, tmp_path / "not" / "yet" / file_name(option_of(command, dest)), data, tmp_path)
    words[1] = str(tmp_path / "missing.star")
    assert main(words) == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", sorted(set(arguments.COMMANDS) - WRITES_NOTHING))
def test_every_option_that_writes_is_declared(command: str) -> None:
    """A path with "write" in its help, or with the name of such an option, has the type of an output."""
    parser = subparsers()[command]
    names = {dest for _, dest in OPTIONS}
    forgotten = [
        option.dest
        for option in parser._actions
        if option.type is Path and (option.dest in names - {"maps"} or re.search(r"\bwrit", option.help or ""))
    ]
    assert forgotten == []
    assert option_types.output_options(parser)
    assert set(dict(parser.get_default("outputs"))) == {option.dest for option in option_types.output_options(parser)}


@pytest.mark.parametrize("command", sorted(WRITES_NOTHING))
def test_the_others_write_nothing(command: str) -> None:
    assert option_types.output_options(subparsers()[command]) == []
