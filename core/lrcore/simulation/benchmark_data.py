"""Make data for speed measurements: any number of simulated images of any size, within seconds.

A few hundred distinct projections of a two-body phantom, with CTF, are repeated with fresh white noise and fresh errors
of their poses. For a search, this is as much work as distinct images; the resulting map has no meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32
from lrcore.imaging.fourier_volume import PADDING, fourier_volume_shape
from lrcore.imaging.grids import FourierSamples, ift, radius_grid, resize, shell_frequency
from lrcore.imaging.rotations import rotation_exp
from lrcore.io import mrc_maps, star_particles
from lrcore.masks import cosine_edge
from lrcore.records import Expectation, Fsc, HalfMaps, ImageSource, Particles, Poses, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.simulation.atoms import density_of_atoms
from lrcore.simulation.data_set import make_folder, make_particles, random_rotations
from lrcore.simulation.images import BATCH, project, write_images
from lrcore.simulation.phantom import Phantom, SimulatedMotion, make_two_body_phantom

BFACTOR_A2 = 40.0
DEFOCUS_A = (8000.0, 20000.0)
HINGE_DEG, HINGE_A = 4.0, 1.0
"""SDs of the motion of body B."""
POSE_DEG, POSE_A = 0.7, 0.5
"""SDs of the errors of the poses."""
RADIUS_A_A = 24.0
"""Radius of the body outside the mask."""
EDGE_PX = 6.0
"""Width of the soft edge of the mask."""
MAP_NOISE = 0.02
"""Noise of a half map, in units of the SD of the map inside the mask."""
DENSITY_BOX = 128
"""Box that holds the phantom; for a larger box its map is padded."""


@dataclass(frozen=True)
class BenchmarkData:
    """Input of a refinement in memory and on disk.

    Attributes
    ----------
    folder
        Folder with particles.star, mask.mrc, half1.mrc and half2.mrc.
    job
        The same input as a Job.
    """

    folder: Path
    job: Job

    @property
    def arguments(self) -> list[str]:
        """Arguments of `lrwidgets refine` for this input."""
        files = {name: str(self.folder / name) for name in ("particles.star", "mask.mrc", "half1.mrc", "half2.mrc")}
        return [files["particles.star"], "--mask", files["mask.mrc"], "--half-maps", *list(files.values())[2:]]


def make_benchmark_data(
    folder: str | Path,
    n: int,
    spec: RefineSpec,
    *,
    box: int = 128,
    pixel_size_A: float = 1.5,
    radius_px: float = 30.0,
    snr: float = 0.05,
    distinct: int = 512,
    seed: int = 0,
    float16: bool = False,
) -> BenchmarkData:
    """Write simulated images, a spherical mask and half maps to a folder.

    Parameters
    ----------
    folder, n, box, pixel_size_A, seed, float16
        See `simulate_flexible_particle`, which also says what is raised.
    spec
        Settings of the job.
    radius_px
        Radius of the mask in pixels, soft edge included.
    snr
        Variance of the CTF-modulated signal over that of the noise, which is white with variance 1.
    distinct
        Number of distinct views.

    Returns
    -------
    The folder and the job.
    """
    folder, rng = make_folder(folder), np.random.default_rng([seed, 3])
    phantom = make_two_body_phantom(seed, RADIUS_A_A, 0.75 * radius_px * pixel_size_A)
    count = min(distinct, n)
    poses = Poses(random_rotations(count, rng), rng.normal(0.0, 1.5 * pixel_size_A, (count, 2)))
    motion = SimulatedMotion(
        np.radians(rng.normal(0.0, HINGE_DEG, (count, 3))), rng.normal(0.0, HINGE_A, (count, 3)), phantom.fulcrum_A
    )
    views = make_particles(folder, poses, box, pixel_size_A, DEFOCUS_A, 1, rng)
    signal = np.concatenate(
        [ift(batch, box, 2).astype(np.float32) for batch in project(phantom, views, poses, motion, BFACTOR_A2)]
    )
    gain = np.float32(np.sqrt(snr / signal[:BATCH].var(axis=(1, 2)).mean()))
    particles = _repeat_views(views, n, rng)
    write_images(particles, _add_noise(gain * signal, n, rng), float16)
    star_particles.write_particles(particles.path, particles, particles.poses)
    mask = _mask(phantom, box, pixel_size_A, radius_px)
    maps = _half_maps(gain * _density(phantom, box, pixel_size_A), mask, rng)
    for name, volume in (("mask", mask), ("half1", maps.first), ("half2", maps.second)):
        mrc_maps.write_volume(folder / f"{name}.mrc", volume)
    return BenchmarkData(folder, Job(particles, mask, spec, maps))


def synthetic_start(job: Job) -> Step:
    """Return step 0 of a job without measurements: its half maps, a noise variance of 1 per pixel, an FSC of 0.99."""
    particles, maps = job.particles, job.half_maps
    assert maps is not None
    frequency = shell_frequency(particles.box, particles.pixel_size_A)
    fsc = {kind: Fsc(kind, frequency, np.full(len(frequency), 0.99)) for kind in ("masked", "corrected")}
    noise = np.full((2, 1, len(frequency)), float(particles.box) ** 2)
    return Step(0, Expectation.before_search(particles.poses), maps, fsc, noise, job.spec.initial_lowpass_A or 0.0, ())


def voxel_indices(limit: int, rotations: npt.NDArray[np.float64], samples: FourierSamples) -> npt.NDArray[np.int32]:
    """Return the flat index of the voxel at or below each sample of slices of a Fourier volume.

    Three voxels further along any axis are still inside the array.

    Parameters
    ----------
    limit
        Radius up to which the volume can be read, see `lrcore.imaging.fourier_volume.fourier_volume_shape`.
    rotations : (B, 3, 3)
        A of the slices.
    samples
        Samples of each slice.

    Returns
    -------
    (B, S) int32.
    """
    shape = fourier_volume_shape(limit)
    k = np.stack([samples.kx, samples.ky, np.zeros_like(samples.kx)])
    q = PADDING * (np.swapaxes(rotations, 1, 2) @ k)
    q *= np.where(q[:, :1] < 0, -1, 1)
    x, y, z = np.moveaxis(np.floor(q).astype(np.int64), 1, 0)
    places = (z + shape[0] // 2, y + shape[1] // 2, x + 1)
    inside = [np.clip(place, 0, size - 4) for place, size in zip(places, shape, strict=True)]
    return np.ravel_multi_index(inside, shape).astype(np.int32)


def _repeat_views(views: Particles, n: int, rng: np.random.Generator) -> Particles:
    """Return n particles that show the views in turn, with errors of their poses, in two half sets of equal size."""
    rows = np.arange(n) % len(views)
    true = views.poses.select(rows)
    error = rotation_exp(np.radians(rng.normal(0.0, POSE_DEG, (n, 3))))
    given = Poses(true.rotation @ error, true.origin_A + rng.normal(0.0, POSE_A, (n, 2)))
    stack = views.images.stacks
    return replace(
        views.select(rows),
        uid=np.arange(1, n + 1, dtype=np.uint64),
        half=(rng.permutation(n) % 2 + 1).astype(np.int8),
        poses=given,
        images=ImageSource(stack, np.zeros(n, np.int32), np.arange(n), np.ones(n, np.float32)),
    )


def _add_noise(signal: Float32, n: int, rng: np.random.Generator) -> Iterator[Float32]:
    """Yield batches of images: the signals in turn, with white noise of variance 1."""
    for start in range(0, n, BATCH):
        rows = np.arange(start, min(start + BATCH, n)) % len(signal)
        images = rng.standard_normal((len(rows), *signal.shape[1:]), dtype=np.float32)
        images += signal[rows]
        yield images


def _mask(phantom: Phantom, box: int, pixel_size_A: float, radius_px: float) -> Volume:
    """Return a sphere about the voxel nearest to the centre of body B."""
    x, y, z = (float(c) for c in np.rint(phantom.body_b.mean(axis=0) / pixel_size_A))
    distance = radius_grid(box, 3, (z, y, x))
    return Volume(cosine_edge(distance, radius_px - EDGE_PX, EDGE_PX), pixel_size_A)


def _density(phantom: Phantom, box: int, pixel_size_A: float) -> Float32:
    """Return the map of the phantom, padded if the box is large."""
    small = density_of_atoms(phantom.atoms, min(box, DENSITY_BOX), pixel_size_A, BFACTOR_A2)
    return resize(small, box, 3).astype(np.float32)


def _half_maps(truth: Float32, mask: Volume, rng: np.random.Generator) -> HalfMaps:
    """Return two half maps: the truth with independent noise."""
    sd = MAP_NOISE * truth[mask.data > 0.5].std()
    first, second = (truth + sd * rng.standard_normal(truth.shape, dtype=np.float32) for _ in (1, 2))
    return HalfMaps(Volume(first, mask.pixel_size_A), Volume(second, mask.pixel_size_A))
