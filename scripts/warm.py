"""Compile the kernels once, by refining a handful of simulated particles, so that the first real run need not."""

import tempfile
import warnings
from pathlib import Path

from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.session.session import Session


def main() -> None:
    """One iteration of a dozen particles with a Gaussian prior; nothing is kept but the compiled code."""
    warnings.simplefilter("ignore")  # so small a mask is not meant to be a good one
    with tempfile.TemporaryDirectory() as folder:
        data = simulate_flexible_particle(Path(folder) / "data", n=12, box=32, pixel_size_A=4.5)
        with Session.load(data.star, data.map("mask_b")) as session:
            session.step(wait=True)


if __name__ == "__main__":
    main()
