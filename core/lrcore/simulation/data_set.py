"""Simulate a flexible particle: images, masks and the true poses of a phantom whose body B moves about a hinge."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from lrcore.arrays import Float32, Float64
from lrcore.errors import InputError, write_remedy
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.grids import ift
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.rotations import rotation_exp
from lrcore.io import mrc_maps, star_particles
from lrcore.io.paths import atomic_write
from lrcore.masks import cosine_edge
from lrcore.records import ImageSource, Optics, Particles, Poses, Volume
from lrcore.simulation.atoms import density_of_atoms, distance_to_atoms_A
from lrcore.simulation.disturbances import disturbance_ft
from lrcore.simulation.image_truth import VIEW, ImageTruth, draw_image_truth, preferred_rotations, stream
from lrcore.simulation.images import BATCH, Noise, noise_ft, premultiply_by_ctf, project, write_stack
from lrcore.simulation.phantom import Phantom, SimulatedMotion, make_two_body_phantom, second_conformer
from lrcore.simulation.realism import CLEAN, Realism
from lrcore.simulation.scenes import Scenes, draw_neighbours

MASK_REACH_A = 6.0
"""Distance from the atoms at which the edge of a mask starts."""
MASK_EDGE_A = 10.0
"""Width of the soft edge of a mask."""
VOLTAGES_KV = (300.0, 200.0)
"""Voltages of the optics groups in turn."""


@dataclass(frozen=True)
class FlexibleParticle:
    """Files of `simulate_flexible_particle`, and the truth.

    Attributes
    ----------
    folder
        Folder of all files.
    particles
        The particles with the poses of a consensus refinement: those of body A, with errors.
    poses_a, poses_b
        True poses of both bodies.
    motion
        True motion of body B.
    phantom
        The atoms at rest.
    gain
        Amplitude of the images and of the maps gt_*.mrc relative to the density of the phantom.
    images
        What each image shows.
    second_body : (m, 3)
        Body B in its second conformer, in Å from the box centre; empty if no image shows it.
    """

    folder: Path
    particles: Particles
    poses_a: Poses
    poses_b: Poses
    motion: SimulatedMotion
    phantom: Phantom
    gain: float
    images: ImageTruth
    second_body: Float64

    @property
    def star(self) -> Path:
        """STAR file of the particles: the input of a refinement."""
        return self.folder / "particles.star"

    @property
    def truth_b_star(self) -> Path:
        """STAR file of the particles with the true poses of body B."""
        return self.folder / "truth_b.star"

    @property
    def truth(self) -> Path:
        """Npz file with the true poses of both bodies, the fulcrum, the motion and each field of `ImageTruth`."""
        return self.folder / "truth.npz"

    def map(self, name: str) -> Path:
        """Return the path of the map mask_b, mask_full, gt_b or gt_full; gt_b2 is the second conformer of body B."""
        return self.folder / f"{name}.mrc"


def simulate_flexible_particle(
    folder: str | Path,
    *,
    n: int = 1500,
    box: int = 80,
    pixel_size_A: float = 2.3,
    seed: int = 0,
    snr: float = 0.06,
    hinge_sd_deg: float | tuple[float, float, float] = 5.0,
    hinge_axes: npt.ArrayLike | None = None,
    hinge_shift_sd_A: float = 1.0,
    pose_error_deg: float = 0.7,
    pose_error_A: float = 0.5,
    noise: Noise = "coloured",
    defocus_A: tuple[float, float] = (8000.0, 20000.0),
    bfactor_A2: float = 80.0,
    radius_a_A: float = 36.0,
    radius_b_A: float = 30.0,
    groups: int = 1,
    scale_sd: float = 0.0,
    intensities: tuple[float, ...] = (),
    optics: Mapping[str, Any] | None = None,
    float16: bool = False,
    ewald: str = "none",
    realism: Realism = CLEAN,
) -> FlexibleParticle:
    """Write images of a two-body phantom, its masks and the truth to a folder; the same seed gives the same data.

    Parameters
    ----------
    folder
        Folder to write to; it is created.
    n
        Number of images.
    box, pixel_size_A
        Box in pixels and pixel size in Å.
    seed
        Seed of the random numbers.
    snr
        Variance of the CTF-modulated signal of whole particles over that of the noise, whose pixels have variance 1.
    hinge_sd_deg
        SD of the rotation of body B about each axis in degrees; one for all axes, or three.
    hinge_axes : (3, 3), optional
        Axes of three SDs, as rows; by default x, y and z.
    hinge_shift_sd_A
        SD of the shift of body B along each axis in Å.
    pose_error_deg, pose_error_A
        SD of the errors of the consensus poses per axis.
    noise
        "coloured" or "white".
    defocus_A
        Range of the defocus in Å, underfocus positive.
    bfactor_A2
        B-factor of the atoms in Å².
    radius_a_A, radius_b_A
        Radii of the bodies in Å.
    groups
        Number of optics groups; they differ in voltage and in the spectrum of their noise.
    scale_sd
        SD of the amplitudes of the images about 1; they are not written to the STAR file.
    intensities
        Amplitude of each optics group; not written to the STAR file either.
    optics
        Fields of `lrcore.records.Optics` to replace in all groups (aberrations, images multiplied by their CTF).
    float16
        Write the images as 16-bit floats.
    ewald
        "none", "positive" or "negative", as in RefineSpec; with a sign, each height has its own defocus.
    realism
        Junk, missing bodies, neighbours, wrong CTF parameters and more, see `lrcore.simulation.realism`; off by
        default. The maps show whole bodies.

    Returns
    -------
    The files and the truth.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    folder = make_folder(folder)
    phantom = make_two_body_phantom(seed, radius_a_A, radius_b_A)
    rng = np.random.default_rng([seed, 2])
    poses_a = Poses(random_rotations(n, rng), rng.normal(0.0, 1.5 * pixel_size_A, (n, 2)))
    if realism.view_concentration > 0.0:
        views = preferred_rotations(realism.view_concentration, n, stream(seed, VIEW))
        poses_a = Poses(views, poses_a.origin_A)
    turns = np.radians(rng.normal(0.0, hinge_sd_deg, (n, 3)))
    turns = turns if hinge_axes is None else turns @ np.asarray(hinge_axes, dtype=np.float64)
    motion = SimulatedMotion(turns, rng.normal(0.0, hinge_shift_sd_A, (n, 3)), phantom.fulcrum_A)
    error = rotation_exp(np.radians(rng.normal(0.0, pose_error_deg, (n, 3))))
    consensus = Poses(poses_a.rotation @ error, poses_a.origin_A + rng.normal(0.0, pose_error_A, (n, 2)))
    particles = make_particles(folder, consensus, box, pixel_size_A, defocus_A, groups, rng)
    particles = replace(particles, optics=tuple(replace(group, **(optics or {})) for group in particles.optics))

    scale = np.maximum(1 + scale_sd * np.random.default_rng([seed, 4]).standard_normal(n), 0.1)
    if intensities:
        scale = scale * np.array(intensities)[particles.group]
    second = realism.second_conformer_share > 0.0
    out = FlexibleParticle(
        folder=folder,
        particles=particles,
        poses_a=poses_a,
        poses_b=motion.poses_of_b(poses_a, magnification_in_3d(particles, np.arange(n))),
        motion=motion,
        phantom=phantom,
        gain=_signal_gain(snr, project(phantom, particles, poses_a, motion, bfactor_A2, ewald), box),
        images=draw_image_truth(realism, particles, scale, bfactor_A2, seed),
        second_body=second_conformer(phantom, realism.conformer_turn_deg) if second else np.empty((0, 3)),
    )
    true = out.images.true_particles(particles)
    signal = project(phantom, true, poses_a, motion, bfactor_A2, ewald, parts=_scenes(out, seed).parts)
    batches = zip(signal, disturbance_ft(true, out.images, seed, BATCH), noise_ft(particles, noise, rng), strict=True)
    images = (out.gain * a + b + c for a, b, c in batches)
    write_stack(particles, premultiply_by_ctf(particles, images), float16)
    star_particles.write_particles(out.star, particles, particles.poses)
    star_particles.write_particles(out.truth_b_star, particles, out.poses_b)
    _write_maps(out, bfactor_A2)
    _write_truth(out)
    return out


def simulate_noise_particles(
    folder: str | Path,
    *,
    n: int = 500,
    box: int = 64,
    pixel_size_A: float = 3.0,
    seed: int = 0,
    noise: Noise = "coloured",
    defocus_A: tuple[float, float] = (8000.0, 20000.0),
    groups: int = 1,
) -> Particles:
    """Write images of pure noise, with poses and CTFs as if they showed a particle.

    Parameters
    ----------
    folder, n, box, pixel_size_A, seed, noise, defocus_A, groups
        See `simulate_flexible_particle`, which also says what is raised.

    Returns
    -------
    The particles, as written to particles.star.
    """
    folder = make_folder(folder)
    rng = np.random.default_rng([seed, 2])
    poses = Poses(random_rotations(n, rng), rng.normal(0.0, 1.5 * pixel_size_A, (n, 2)))
    particles = make_particles(folder, poses, box, pixel_size_A, defocus_A, groups, rng)
    write_stack(particles, noise_ft(particles, noise, rng), float16=False)
    star_particles.write_particles(particles.path, particles, poses)
    return particles


def random_rotations(n: int, rng: np.random.Generator) -> Float64:
    """Return uniformly distributed rotations.

    Parameters
    ----------
    n : number of rotations
    rng : random generator

    Returns
    -------
    (n, 3, 3)
    """
    return Rotation.from_quat(rng.normal(size=(n, 4))).as_matrix()


def make_folder(folder: str | Path) -> Path:
    """Create a folder, if it does not exist, and return its path.

    Raises
    ------
    InputError
        If it cannot be created.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror}): {write_remedy(error)}") from error
    return path


def make_particles(
    folder: Path,
    poses: Poses,
    box: int,
    pixel_size_A: float,
    defocus_A: tuple[float, float],
    groups: int,
    rng: np.random.Generator,
) -> Particles:
    """Return the records of particles.star and particles.mrcs, with random defocus, half sets and optics groups.

    Parameters
    ----------
    folder
        Folder of the two files; nothing is written.
    poses
        Poses of the n particles.
    box, pixel_size_A
        Box in pixels and pixel size in Å.
    defocus_A
        Range of the defocus in Å.
    groups
        Number of optics groups, with alternating voltages.
    rng
        Generator of the random numbers.
    """
    n = len(poses)
    mean, half_difference = rng.uniform(*defocus_A, n), rng.uniform(0.0, 250.0, n)
    optics = tuple(
        Optics(f"opticsGroup{number + 1}", VOLTAGES_KV[number % 2], 2.7, 0.1, pixel_size_A, box)
        for number in range(groups)
    )
    return Particles(
        uid=np.arange(1, n + 1, dtype=np.uint64),
        half=(rng.permutation(n) % 2 + 1).astype(np.int8),
        group=(np.arange(n) * groups // n).astype(np.int32),
        optics=optics,
        poses=poses,
        defocus_A=np.stack([mean + half_difference, mean - half_difference], axis=1),
        defocus_angle_rad=rng.uniform(0.0, np.pi, n),
        phase_shift_rad=np.zeros(n),
        bfactor_A2=np.zeros(n),
        scale=np.ones(n),
        images=ImageSource((folder / "particles.mrcs",), np.zeros(n, np.int32), np.arange(n), np.ones(n, np.float32)),
        path=folder / "particles.star",
    )


def _signal_gain(snr: float, signal: Iterator[npt.NDArray[np.complex128]], box: int) -> float:
    """Return the factor that gives the signal the wanted SNR, from its first batch."""
    return float(np.sqrt(snr / ift(next(signal), box, 2).var(axis=(1, 2)).mean()))


def _scenes(out: FlexibleParticle, seed: int) -> Scenes:
    """Return the atoms that each image shows."""
    particles = out.particles
    width_A = particles.box * particles.pixel_size_A
    radius_A = float(np.linalg.norm(out.phantom.atoms, axis=1).max())
    lens = magnification_in_3d(particles, np.arange(len(particles)))
    return Scenes(
        phantom=out.phantom,
        second_body=out.second_body,
        motion=out.motion,
        truth=out.images,
        views=magnified_rotation(out.poses_a.rotation, lens),
        origin_A=out.poses_a.origin_A,
        neighbours=draw_neighbours(out.images, out.poses_a.rotation, radius_A, width_A, seed),
        width_A=width_A,
    )


def _write_maps(out: FlexibleParticle, bfactor_A2: float) -> None:
    """Write the masks and the true maps of body B, in each conformer, and of the whole particle."""
    box, pixel = out.particles.box, out.particles.pixel_size_A
    densities = {"b": out.phantom.body_b, "full": out.phantom.atoms}
    if len(out.second_body):
        densities["b2"] = out.second_body
    for name, atoms in densities.items():
        truth = (out.gain * density_of_atoms(atoms, box, pixel, bfactor_A2)).astype(np.float32)
        mrc_maps.write_volume(out.map(f"gt_{name}"), Volume(truth, pixel))
    for name in ("b", "full"):
        atoms = np.concatenate([densities[name], out.second_body])
        mrc_maps.write_volume(out.map(f"mask_{name}"), Volume(soft_mask(atoms, box, pixel), pixel))


def soft_mask(atoms_A: Float64, box: int, pixel_size_A: float) -> Float32:
    """Return a mask (box, box, box) that is 1 within MASK_REACH_A of an atom and falls to 0 over MASK_EDGE_A."""
    return cosine_edge(distance_to_atoms_A(atoms_A, box, pixel_size_A), MASK_REACH_A, MASK_EDGE_A)


def _write_truth(out: FlexibleParticle) -> None:
    """Write the true poses, the motion and what each image shows to an npz file."""
    with atomic_write(out.truth) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            rotation_a=out.poses_a.rotation,
            origin_a_A=out.poses_a.origin_A,
            rotation_b=out.poses_b.rotation,
            origin_b_A=out.poses_b.origin_A,
            motion_rotation_rad=out.motion.rotation,
            motion_shift_A=out.motion.shift_A,
            fulcrum_A=out.motion.fulcrum_A,
            **{field.name: getattr(out.images, field.name) for field in fields(out.images)},
        )
