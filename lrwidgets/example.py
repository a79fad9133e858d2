"""Simulate a small example of a flexible particle, with every file that a refinement can take."""

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
"""Sizes for a refinement that takes a minute on one core, in little memory, and visibly sharpens the body."""


@dataclass(frozen=True)
class Example:
    """The files of an example: a particle of two bodies, B hinged to A. The consensus poses are those of body A.

    Attributes
    ----------
    folder
        Folder of all files.
    particles
        Particles with their consensus poses, the input of a refinement (STAR).
    true_particles
        Particles with the true poses of body B (STAR).
    mask, whole_mask
        Soft masks of body B and of both bodies.
    true_map
        Density of body B that was simulated.
    half_maps
        Half maps reconstructed with the consensus poses.
    """

    folder: Path
    particles: Path
    true_particles: Path
    mask: Path
    whole_mask: Path
    true_map: Path
    half_maps: tuple[Path, Path]

    @classmethod
    def in_folder(cls, folder: Path) -> "Example":
        """Return the example whose files are in a folder."""
        return cls(
            folder=folder,
            particles=folder / "particles.star",
            true_particles=folder / "truth_b.star",
            mask=folder / "mask_b.mrc",
            whole_mask=folder / "mask_full.mrc",
            true_map=folder / "gt_b.mrc",
            half_maps=(folder / "half1.mrc", folder / "half2.mrc"),
        )


def make_example(folder: str | Path = "example", particles: int = PARTICLES) -> Example:
    """Create the example in a folder, in a few seconds, unless it exists; it is always the same.

    Parameters
    ----------
    folder : where to write the files
    particles : number of particles

    Returns
    -------
    Example
        The paths of the files.

    Raises
    ------
    InputError
        If the folder cannot be written, or exists with other content.
    """
    example = Example.in_folder(Path(folder).absolute())
    if example.folder.exists():
        if not all(path.exists() for path in (example.particles, example.mask, *example.half_maps)):
            raise InputError(f"{example.folder}: exists already and is not an example: choose another folder")
        return example
    partial = Example.in_folder(example.folder.with_name(f".{example.folder.name}.partial"))
    shutil.rmtree(partial.folder, ignore_errors=True)
    simulated = simulate_flexible_particle(
        partial.folder, n=particles, box=BOX, pixel_size_A=PIXEL_A, snr=SNR, hinge_sd_deg=HINGE_SD_DEG
    )
    for half, path in enumerate(partial.half_maps, 1):
        io.write_volume(path, _half_map(simulated.particles, half))
    partial.folder.rename(example.folder)
    return example


def _half_map(particles: Particles, half: int) -> Volume:
    """Reconstruct half set 1 or 2."""
    *_, volume = reconstruct(particles, half, "C1", get_backend("cpu"))
    assert isinstance(volume, Volume)
    return volume


if __name__ == "__main__":
    make_example()
