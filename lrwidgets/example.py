"""A small flexible particle to try things on: simulated once, with every file that a refinement can be given."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from lrcore import io
from lrcore.compute.backend import get_backend
from lrcore.errors import InputError
from lrcore.records import Particles, Volume
from lrcore.refinement.reconstruction import reconstruct
from lrcore.simulation.data_set import simulate_flexible_particle

PARTICLES, BOX, PIXEL_A = 800, 72, 2.6
SNR, HINGE_SD_DEG = 0.07, 4.0
"""A minute of work on one core, in little memory; still enough to see the body sharpen."""


@dataclass(frozen=True)
class Example:
    """The files of an example. Body B is hinged to body A, which the consensus poses know.

    particles: STAR. mask: of body B; whole_mask: of both. half_maps: of the consensus poses. true_map: of body B.
    true_particles: at the poses that body B was simulated with.
    """

    folder: Path

    @property
    def particles(self) -> Path:
        """The particles at their consensus poses, what a refinement starts from."""
        return self.folder / "particles.star"

    @property
    def true_particles(self) -> Path:
        """The particles at the true poses of body B."""
        return self.folder / "truth_b.star"

    @property
    def mask(self) -> Path:
        """Soft mask of body B."""
        return self.folder / "mask_b.mrc"

    @property
    def whole_mask(self) -> Path:
        """Soft mask of both bodies."""
        return self.folder / "mask_full.mrc"

    @property
    def true_map(self) -> Path:
        """The density of body B."""
        return self.folder / "gt_b.mrc"

    @property
    def half_maps(self) -> tuple[Path, Path]:
        """Reconstructions of the two half sets at the consensus poses."""
        return self.folder / "half1.mrc", self.folder / "half2.mrc"


def make_example(folder: str | Path = "example", particles: int = PARTICLES) -> Example:
    """The example in a folder, made there in a few seconds unless it is there already; always the same.

    Raises InputError if the folder cannot be written, or holds something else.
    """
    found = Example(Path(folder).absolute())
    if found.folder.exists():
        if not all(path.exists() for path in (found.particles, found.mask, *found.half_maps)):
            raise InputError(f"{found.folder}: exists already and is no example: choose another folder")
        return found
    partial = Example(found.folder.with_name(f".{found.folder.name}.partial"))
    shutil.rmtree(partial.folder, ignore_errors=True)
    made = simulate_flexible_particle(
        partial.folder, n=particles, box=BOX, pixel_size_A=PIXEL_A, snr=SNR, hinge_sd_deg=HINGE_SD_DEG
    )
    for half, path in enumerate(partial.half_maps, 1):
        io.write_volume(path, _half_map(made.particles, half))
    partial.folder.rename(found.folder)
    return found


def _half_map(particles: Particles, half: int) -> Volume:
    *_, volume = reconstruct(particles, half, "C1", get_backend("cpu"))
    assert isinstance(volume, Volume)
    return volume


if __name__ == "__main__":
    make_example()
