"""`lrwidgets reconstruct` against RELION's `relion_reconstruct` on the same simulated particles, in one run.

.venv/bin/python benchmarks/reconstruct.py [--particles 1000] [--box 96]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lrcore import io
from lrcore.fsc import masked_correlation
from lrcore.grids import shell_frequency
from lrcore.records import Fsc
from lrcore.simulate import flexible_particle


def timed(command: list[str], folder: Path) -> float:
    """Seconds of a command that succeeds."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print seconds, their ratio and both maps' FSC 0.5 against the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--box", type=int, default=96)
    given = parser.parse_args()
    program = shutil.which("relion_reconstruct")
    if program is None:
        sys.exit("relion_reconstruct is not on PATH (Debian: apt-get install relion)")
    threads = str(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = flexible_particle(folder / "data", n=given.particles, box=given.box)
        ours = [sys.executable, "-m", "lrwidgets", "reconstruct", "truth_b.star", "--out", "ours.mrc"]
        theirs = [program, "--i", "truth_b.star", "--o", "theirs.mrc", "--ctf", "--j", threads]
        timed(ours, data.star.parent)  # compiles
        (data.star.parent / "ours.mrc").unlink()
        seconds = {"ours": timed(ours, data.star.parent), "theirs": timed(theirs, data.star.parent)}
        truth, mask = io.read_volume(data.map("gt_b")), io.read_volume(data.map("mask_b"))
        for who, spent in seconds.items():
            found = io.read_volume(data.star.parent / f"{who}.mrc")
            values = masked_correlation(found.data, truth.data, mask.data)
            frequency = shell_frequency(truth.box, truth.pixel_size_A)
            resolution = Fsc("truth", frequency, values).resolution_A(0.5)
            print(f"{who:8}{spent:8.1f} s   FSC 0.5 against the truth {resolution:.2f} Å")
        print(f"ratio {seconds['theirs'] / seconds['ours']:.1f}")


if __name__ == "__main__":
    main()
