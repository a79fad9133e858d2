"""Point groups are RELION's: the operators that its programs print, and the poses to which they expand a particle."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lrcore.imaging.rotations import from_euler
from lrcore.imaging.symmetry import symmetry_operators

GROUPS = ["C2", "C7", "C12", "D1", "D2", "D3", "D7", "T", "O", "I", "I1", "I2", "I3", "I4"]
ANGLES = [31.0, 47.0, 59.0]
TABLE = """
data_

loop_
_rlnImageName #1
_rlnAngleRot #2
_rlnAngleTilt #3
_rlnAnglePsi #4
_rlnOriginX #5
_rlnOriginY #6
000001@a.mrcs 31.000000 47.000000 59.000000 1.500000 -2.500000
"""


def unlike(theirs: npt.NDArray[np.float64], ours: npt.NDArray[np.float64]) -> float:
    """The largest difference of an element between each of theirs and ours that is nearest; each is met once."""
    difference = np.abs(theirs[:, None] - ours).max(axis=(2, 3))
    assert sorted(difference.argmin(axis=1)) == list(range(len(ours)))
    return float(difference.min(axis=1).max())


def matrices(text: str) -> npt.NDArray[np.float64]:
    """The 3 × 3 matrices in a text, one row a line."""
    rows = [line.split() for line in text.splitlines()]
    return np.array([row for row in rows if len(row) == 3 and _are_numbers(row)], float).reshape(-1, 3, 3)


def _are_numbers(words: list[str]) -> bool:
    return all(word.lstrip("-").replace(".", "", 1).isdigit() for word in words)


@pytest.mark.parametrize("group", GROUPS)
def test_poses_of_an_expanded_particle_are_relions(group: str, relion: Callable[[str], str], tmp_path: Path) -> None:
    """Angles have six decimals there, so that matrices agree to 1e-6; RELION's own axes are as good as that."""
    program = relion("relion_particle_symmetry_expand")
    (tmp_path / "p.star").write_text(TABLE)
    command = [program, "--i", "p.star", "--o", "e.star", "--sym", group, "--ignore_optics"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    rows = [line.split() for line in (tmp_path / "e.star").read_text().splitlines() if "@" in line]
    theirs = from_euler([[float(angle) for angle in row[1:4]] for row in rows])
    assert unlike(theirs, from_euler([ANGLES]) @ symmetry_operators(group)) < 1e-6


@pytest.mark.parametrize("group", GROUPS)
def test_operators_are_those_that_relion_prints(group: str, relion: Callable[[str], str]) -> None:
    """Printed with five decimals where there is more than an axis of z."""
    command = [relion("relion_refine"), "--sym", group, "--print_symmetry_ops"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
    assert unlike(matrices(printed), symmetry_operators(group)) < 1e-5
