"""RELION's own programs take a converted file as they take the original."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.imaging import rotations
from lrcore.io import star_table
from lrwidgets.cli._main import main


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


def test_a_table_of_relion_30_becomes_what_relions_own_conversion_makes_of_it(
    make, relion: Callable[[str], str]
) -> None:
    """It is for such tables alone: of one of 3.1, as we write it, RELION's program makes an empty one."""
    make.stack()
    old = make.old_star()
    _run(make.folder, relion("relion_convert_star"), "--i", old.name, "--o", "theirs.star")
    before = io.read_particles(old)
    io.write_particles(make.folder / "ours.star", before, before.poses)
    ours, theirs = (io.read_particles(make.folder / f"{name}.star") for name in ("ours", "theirs"))
    assert len(theirs) == len(ours) == make.count
    assert rotations.rotation_angle_deg(ours.poses.rotation, theirs.poses.rotation).max() < 1e-4
    np.testing.assert_allclose(ours.poses.origin_A, theirs.poses.origin_A, atol=2e-5)
    np.testing.assert_allclose(ours.defocus_A, theirs.defocus_A, atol=1e-2)
    np.testing.assert_array_equal(ours.half, theirs.half)
    for name in ("voltage_kV", "cs_mm", "amplitude_contrast", "pixel_size_A", "box"):
        one, other = ([getattr(p.optics[group], name) for group in p.group] for p in (ours, theirs))
        assert one == pytest.approx(other), name
