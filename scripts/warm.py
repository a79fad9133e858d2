"""Compile the kernels with a small simulated refinement, so that the first real run does not have to."""

import tempfile
import warnings
from pathlib import Path

from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.session.session import Session


def main() -> None:
    """Run one iteration of a dozen particles in a window, and make whole maps; only the compiled code is kept."""
    warnings.simplefilter("ignore")  # the mask of so small a box is not a good one
    with tempfile.TemporaryDirectory() as folder:
        data = simulate_flexible_particle(Path(folder) / "data", n=12, box=64, pixel_size_A=4.5)
        with Session.load(data.star, data.map("mask_b")) as session:
            session.run(1, wait=True)


if __name__ == "__main__":
    main()
