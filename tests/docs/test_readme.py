"""Every command and every Python example of the README runs, on a small simulated set under the README's names."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from lrcore import io
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main


def blocks(root: Path, language: str) -> list[str]:
    """The contents of the README's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (root / "README.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with particles.star, mask.mrc, two half maps and a CryoSPARC job, as the README has them."""
    particles = simulate_flexible_particle(tmp_path, n=60, box=40, pixel_size_A=4.6, snr=0.2).particles
    shutil.copy(tmp_path / "mask_b.mrc", tmp_path / "mask.mrc")
    (tmp_path / "J42").mkdir()
    io.write_particles(tmp_path / "J42" / "particles.cs", particles, particles.poses)
    monkeypatch.chdir(tmp_path)
    for half in "12":
        assert main(["reconstruct", "particles.star", "--half", half, "--out", f"half{half}.mrc"]) == 0
    return tmp_path


def test_commands(project: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line for block in blocks(root, "sh") for line in block.splitlines()]
    assert {
        "refine",
        "export",
        "fsc",
        "reconstruct",
        "info",
        "compare",
        "expand",
        "recenter",
        "subtract",
        "mask",
        "locres",
        "filter",
        "motion",
        "tree",
        "advise",
        "select",
        "sweep",
        "uncertainty",
    } == {shlex.split(line)[1] for line in commands}
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "lrwidgets"
        assert main(arguments) == 0, (command, capsys.readouterr().err)
    assert len(io.read_particles(project / "refined.star")) == len(io.read_particles(project / "refined.csg")) == 60
    assert {path.name for path in (project / "maps").iterdir()} == {
        "half1.mrc",
        "half2.mrc",
        "map.mrc",
        "map_whole.mrc",
        "mask.mrc",
    }


def test_python(project: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = blocks(root, "python")
    assert len(examples) == 3
    for example in examples:
        (project / "example.py").write_text(example)
        runpy.run_path("example.py")
    told = capsys.readouterr().out
    assert re.search(r"^median \d+\.\d degree$", told, re.MULTILINE)
    assert re.search(r"^2 \d+\.\d+$", told, re.MULTILINE)
    assert (project / "fsc.png").is_file()
