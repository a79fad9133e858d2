"""RELION makes of our simulated images the map that they were made from: poses, origins, CTF and files are RELION's."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore.imaging.grids import ft, shell_sum
from lrcore.io import read_volume
from lrcore.simulation import data_set


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2])
def test_relion_reconstructs_the_phantom(relion: Callable[[str], str], tmp_path: Path, groups: int) -> None:
    program = relion("relion_reconstruct")
    data_set.simulate_flexible_particle(
        tmp_path,
        n=300,
        box=48,
        pixel_size_A=4.0,
        snr=20.0,
        groups=groups,
        pose_error_deg=0.0,
        pose_error_A=0.0,
        hinge_sd_deg=0.0,
        hinge_shift_sd_A=0.0,
        radius_a_A=28.0,
        radius_b_A=24.0,
    )
    command = [program, "--i", "particles.star", "--o", "made.mrc", "--ctf"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    made, truth = (ft(read_volume(tmp_path / name).data, 3) for name in ("made.mrc", "gt_full.mrc"))
    cross = shell_sum((made * truth.conj()).real, 48, 3)
    fsc = cross / np.sqrt(shell_sum(np.abs(made) ** 2, 48, 3) * shell_sum(np.abs(truth) ** 2, 48, 3))
    assert fsc[1:20].min() > 0.98
    # RELION's Wiener filter takes off a few per cent; a wrong scale or sign of CTF or origin takes off much more.
    gain = cross / shell_sum(np.abs(truth) ** 2, 48, 3)
    assert np.abs(gain[2:15] - 1).max() < 0.15
