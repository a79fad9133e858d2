"""RELION's own programs take a converted file as they take the original."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lrcore.io import star_table
from lrwidgets.cli import main


@pytest.fixture
def back(make) -> Path:
    """A STAR file by way of .cs, beside its stack."""
    make.stack()
    there, back = make.folder / "there.cs", make.folder / "back.star"
    assert main(["convert", str(make.star(without=("someUnknownColumn",))), str(there)]) == 0
    assert main(["convert", str(there), str(back)]) == 0
    return back


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_star_handler_keeps_every_row_and_warns_of_no_label(back: Path, make, relion: Callable[[str], str]) -> None:
    said = _run(
        back.parent, relion("relion_star_handler"), "--i", back.name, "--o", "out.star", "--select", "rlnDefocusU"
    )
    assert "unknown label" not in said.lower()
    assert len(star_table.read_source(back.parent / "out.star").table) == make.count


def test_stack_create_finds_every_image(back: Path, make, relion: Callable[[str], str]) -> None:
    said = _run(back.parent, relion("relion_stack_create"), "--i", back.name, "--o", "again")
    assert "unknown label" not in said.lower()
    assert len(star_table.read_source(back.parent / "again.star").table) == make.count
    assert (back.parent / "again.mrcs").stat().st_size == 1024 + 4 * make.count * make.box**2
