"""Every command and Python example of README, docs/commands.md and docs/guide/python.md runs on simulated data."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from lrcore import io
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli import main
from lrwidgets.cli.arguments import COMMANDS


def blocks(page: Path, language: str) -> list[str]:
    """Return the contents of a page's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def run_commands(page: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Run all commands of a page; return their names."""
    names = set()
    for command in [line for block in blocks(page, "sh") for line in block.splitlines()]:
        program, *arguments = shlex.split(command)
        assert program == "lrwidgets"
        assert main(arguments) == 0, (command, capsys.readouterr().err)
        names.add(arguments[0])
    return names


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


def test_commands_of_the_readme(project: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_commands(root / "README.md", capsys) == {"refine", "export"}
    assert len(io.read_particles(project / "refined.star")) == len(io.read_particles(project / "refined.csg")) == 60
    assert {path.name for path in (project / "maps").iterdir()} == {
        "half1.mrc",
        "body_half1.mrc",
        "body_half2.mrc",
        "half2.mrc",
        "map.mrc",
        "map_whole.mrc",
        "mask.mrc",
    }


@pytest.mark.slow
def test_commands(project: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = {"demo", "napari", "bench", "check", "convert", "duplicates"}
    assert run_commands(root / "docs" / "commands.md", capsys) == set(COMMANDS) - elsewhere
    assert set(re.findall(r"`(?:lrwidgets )?(\w+)", (root / "docs" / "commands.md").read_text())) >= set(COMMANDS)


@pytest.mark.slow
def test_python(project: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = blocks(root / "docs" / "guide" / "python.md", "python")
    assert len(examples) == 2
    for example in examples:
        (project / "example.py").write_text(example)
        runpy.run_path("example.py")
    output = capsys.readouterr().out
    assert re.search(r"^median \d+\.\d degree$", output, re.MULTILINE)
    assert re.search(r"^2 \d+\.\d+$", output, re.MULTILINE)
    assert (project / "changes.png").is_file()


def test_python_of_the_readme(project: Path, root: Path) -> None:
    (example,) = blocks(root / "README.md", "python")
    (project / "example.py").write_text(example)
    runpy.run_path("example.py")
    assert (project / "fsc.png").is_file()
