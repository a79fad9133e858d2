"""Particles of a run are selected by their optics group."""

from pathlib import Path

from lrcore import io
from lrwidgets.cli._main import main
from tests.fakes import FakeEngine
from tests.lrwidgets.conftest import Files


def test_a_group_of_a_run(files: Files, tmp_path: Path, capsys) -> None:
    assert main(files.refine(tmp_path / "run.zarr", "--iterations", "1"), engine=FakeEngine()) == 0
    name = io.read_particles(files.star).optics[0].name
    argv = ["select", str(tmp_path / "run.zarr"), "--out", str(tmp_path / "out.star"), "--overwrite", "--optics-group"]
    assert main([*argv, name]) == 0
    assert len(io.read_particles(tmp_path / "out.star")) == 10
    capsys.readouterr()
    assert main([*argv, "other"]) == 2
    assert f"has no optics group other: choose from {name}" in capsys.readouterr().err
    assert main([*argv, name, "--box", "12"]) == 2
    assert "--box: the images of a run have one" in capsys.readouterr().err
