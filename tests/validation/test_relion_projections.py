"""Our slices are the images that relion_project makes: Euler angles, shifts and CTF are RELION's, odd boxes too."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest
import starfile

from lrcore.arrays import FloatArray
from lrcore.compute.backend import Backend
from lrcore.imaging.ctf import particle_ctf
from lrcore.imaging.fourier_volume import map_to_fourier_volume
from lrcore.imaging.grids import ft, half_plane, ift, resize
from lrcore.imaging.rotations import from_euler
from lrcore.io import read_particles, read_volume, write_particles, write_volume
from lrcore.kernels.model_images.reference import make_column_hermitian
from lrcore.records import Poses, Volume
from lrcore.simulation.data_set import random_rotations, simulate_noise_particles
from lrcore.testing import smooth_map
from tests.validation.judge import model_images, print_measurement


def projected(volume: Volume, poses: Poses, backend: Backend) -> FloatArray:
    """Images of the map at poses, with their origins: (n, box, box), no CTF."""
    n = volume.box
    samples = half_plane(n, (float((n - 1) // 2),))
    planes = model_images(
        map_to_fourier_volume(volume.data, (n - 1) // 2), poses, samples, volume.pixel_size_A, backend
    )
    spectra = np.zeros((len(poses), n, n // 2 + 1), np.complex64)
    spectra[:, samples.ky, samples.kx] = planes
    make_column_hermitian(spectra, samples)
    return ift(spectra, n, 2)


def correlations(first: FloatArray, second: FloatArray) -> npt.NDArray[np.float64]:
    return np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second, strict=True)])


@pytest.mark.parametrize(
    ("name", "origins"),
    [("centered", ["rlnOriginXAngst", "rlnOriginYAngst"]), ("shifted", ["rlnOriginX", "rlnOriginY"])],
)
def test_four_images_of_a_ribosome(
    test_data: Callable[[str], Path], backend: Backend, name: str, origins: list[str]
) -> None:
    folder = test_data("formats/relion_small")
    # The header of this odd box says no voxel size; both tables say 1 Å, so that pixels are Å.
    volume = read_volume(folder / "clean70SRibosome_vol_65p.mrc", 1.0)
    assert volume.box == 65
    table = starfile.read(folder / f"rln_proj_64_{name}.star")["particles"]
    angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
    poses = Poses(from_euler(angles), table[origins].to_numpy(float))
    images = mrcfile.read(folder / f"rln_proj_64_{name}.mrcs")
    found = correlations(resize(projected(volume, poses, backend), 64, 2), images)
    print_measurement(f"{name} projections of the ribosome: correlation {found.round(4).tolist()}")
    assert len(found) == 4
    assert found.min() > 0.99


@pytest.mark.parametrize("box", [48, 49])
@pytest.mark.parametrize("ctf", [False, True])
def test_relion_projects_as_we_do(
    relion: Callable[[str], str], tmp_path: Path, backend: Backend, box: int, ctf: bool
) -> None:
    program = relion("relion_project")
    rng = np.random.default_rng(box)
    poses = Poses(random_rotations(12, rng), rng.normal(0.0, 6.0, (12, 2)))
    particles = simulate_noise_particles(tmp_path, n=12, box=box, pixel_size_A=3.0, groups=2)
    write_particles(tmp_path / "poses.star", particles, poses)
    volume = Volume(smooth_map(box, seed=box), 3.0)
    write_volume(tmp_path / "map.mrc", volume)
    command = [program, "--i", "map.mrc", "--ang", "poses.star", "--o", "made", "--angpix", "3"]
    subprocess.run(command + ["--ctf"] * ctf, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    made = mrcfile.read(tmp_path / "made.mrcs")
    if box % 2:
        # relion_project puts the centre of an odd image one pixel too high in x and y.
        made = np.roll(made, (-1, -1), axis=(1, 2))
    # Rounded as in the file: 5 digits of an angle.
    ours = projected(volume, read_particles(tmp_path / "poses.star").poses, backend)
    if ctf:
        ours = ift(ft(ours, 2) * particle_ctf(particles, np.arange(12)), box, 2)
    found, gain = correlations(ours, made), ours.std(axis=(1, 2)) / made.std(axis=(1, 2))
    print_measurement(
        f"relion_project, box {box}, CTF {ctf}: correlation {found.min():.6f} at least, amplitude {gain.mean():.4f}"
    )
    assert found.min() > 0.9998
    assert np.abs(gain - 1).max() < 0.005
