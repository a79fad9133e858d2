"""`lrwidgets reconstruct` and relion_reconstruct make the same map of the same file, and ours is no worse anywhere."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore.compute.backend import Backend
from lrcore.io import read_particles, read_volume
from lrcore.refinement.reconstruction import reconstruct
from lrcore.testing import fsc_against_truth
from tests.validation.judge import SimulatedCase, print_measurement


def timed(command: list[str], folder: Path) -> float:
    """Seconds that a command takes; it must succeed."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    return time.perf_counter() - began


def work(case: SimulatedCase, backend: Backend) -> float:
    """Seconds from the STAR file to the map in memory, in a process that has all its code loaded."""
    for _ in range(2):
        began = time.perf_counter()
        list(reconstruct(read_particles(case.folder / "truth_b.star"), None, "C1", backend))
    return time.perf_counter() - began


@pytest.mark.alone
def test_no_shell_is_worse_than_with_relion(
    root: Path, two_body: SimulatedCase, backend: Backend, relion: Callable[[str], str], tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs.mrc", tmp_path / "ours.mrc"
    program = [relion("relion_reconstruct"), "--i", "truth_b.star", "--o", str(theirs), "--ctf", "--j", "2"]
    command = [sys.executable, "-m", "lrwidgets", "reconstruct", str(two_body.folder / "truth_b.star")]
    command += ["--out", str(ours), "--overwrite"]
    timed(command, root)  # the first time may have to compile
    seconds = [timed(command, root), timed(program, two_body.folder)]
    curves = [fsc_against_truth(read_volume(path).data, two_body.gt_b, two_body.mask) for path in (ours, theirs)]
    lead = (curves[0].value - curves[1].value)[1:]
    at = [curve.resolution_A(0.5) for curve in curves]
    print_measurement(
        f"FSC to the truth, ours less RELION's: {lead.min():+.4f} (shell {1 + lead.argmin()}) to {lead.max():+.4f}"
    )
    print_measurement(f"FSC 0.5 against the truth: {at[0]:.2f} Å, RELION {at[1]:.2f} Å")
    print_measurement(
        f"whole commands: {seconds[0]:.1f} s, RELION {seconds[1]:.1f} s, ratio {seconds[0] / seconds[1]:.2f}"
    )
    alone = work(two_body, backend)
    print_measurement(f"without the start of Python: {alone:.2f} s, ratio {alone / seconds[1]:.2f}")
    assert len(lead) == two_body.mask.box // 2
    assert lead.min() > -0.01
    assert np.mean(lead) > 0
