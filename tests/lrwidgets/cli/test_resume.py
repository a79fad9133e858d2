"""`lrwidgets refine --resume`: one line that starts, goes on, and finds the work done."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lrcore.errors import InputError
from lrcore.results.zarr_store import Store
from lrwidgets.cli._main import main
from tests.fakes import FakeEngine
from tests.lrwidgets.cli.commands import Out, refused
from tests.lrwidgets.conftest import Files


@pytest.mark.parametrize("place", ["not/yet/run.zarr", "empty.zarr"])
def test_one_line_starts_resumes_and_finds_it_finished(place: str, files: Files, tmp_path: Path, capsys: Out) -> None:
    """A queue runs the same line again and again."""
    (tmp_path / "empty.zarr").mkdir()
    out = tmp_path / place
    argv = files.refine(out, "--resume")
    assert main(argv, engine=FakeEngine(fails_at=0, error=InputError("no"))) == 2
    assert main(argv, engine=FakeEngine(fails_at=3, error=InputError("no"))) == 2
    assert f"{out}: started\n" in capsys.readouterr().err
    assert main(argv, engine=FakeEngine()) == 0
    said = capsys.readouterr()
    assert f"{out}: resumed at iteration 2\n" in said.err
    assert said.out.splitlines()[-1].startswith(f"{out}: resumed at iteration 2, iteration 4 done, converged; ")
    engine = FakeEngine()
    assert main(argv, engine=engine) == 0
    said = capsys.readouterr()
    assert engine.chunks == 0
    assert "resumed" not in said.err
    assert said.out.splitlines()[-1].startswith(f"{out}: already finished at iteration 4: nothing to run: ")
    assert main([*argv, "--json"], engine=FakeEngine()) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["began"] == "already finished at iteration 4"


def test_a_start_that_cannot_be_stored_leaves_no_folder(
    files: Files, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise InputError("step 0 cannot be written (No space left on device): make room and start again")

    monkeypatch.setattr(Store, "append", full)
    assert "make room" in refused(capsys, files.refine(tmp_path / "not" / "yet" / "run.zarr"), engine=FakeEngine())
    assert os.listdir(tmp_path) == ["input"]


def test_a_line_that_starts_and_is_to_resume_needs_what_a_start_needs(
    files: Files, tmp_path: Path, capsys: Out
) -> None:
    argv = ["refine", str(files.star), "--out", str(tmp_path / "none.zarr"), "--resume"]
    assert "--mask is missing" in refused(capsys, argv, engine=FakeEngine())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    argv = files.refine(tmp_path / "other", "--resume")
    assert "is not an lrwidgets run" in refused(capsys, argv, engine=FakeEngine())
    assert os.listdir(tmp_path / "other") == ["file"]
