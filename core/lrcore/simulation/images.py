"""Simulate images: projections of a moving phantom with CTF and coloured noise, written to an image stack."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.aberrations import magnification_in_3d, magnify_frequencies, odd_phase
from lrcore.imaging.ctf import particle_ctf
from lrcore.imaging.ewald import EWALD_SIGNS
from lrcore.imaging.grids import ft, hermitian_weight, ift, index_grid
from lrcore.imaging.poses import magnified_rotation
from lrcore.io.image_stack_writer import write_image_stack
from lrcore.records import Optics, Particles, Poses
from lrcore.simulation.atoms import points_ft
from lrcore.simulation.phantom import Phantom, SimulatedMotion
from lrcore.simulation.scenes import Part
from lrcore.units import electron_wavelength_A

Noise = Literal["coloured", "white"]

BATCH = 64
"""Images per batch."""
NOISE_PEAK = 4.0
NOISE_PEAK_WIDTH_A = 50.0
"""Coloured noise: white noise plus NOISE_PEAK times its variance at low frequencies, up to 1 / NOISE_PEAK_WIDTH_A."""
SLAB_RAD = 0.2
"""Difference of the CTF phase at the Nyquist frequency across a slab of atoms that share a defocus."""


def project(
    phantom: Phantom,
    particles: Particles,
    poses: Poses,
    motion: SimulatedMotion,
    bfactor_A2: float,
    ewald: str = "none",
    *,
    parts: Callable[[int], list[Part]] | None = None,
) -> Iterator[npt.NDArray[np.complex128]]:
    """Yield the FTs of the images of the moved atoms, with CTF, in batches.

    Parameters
    ----------
    phantom
        The atoms at rest.
    particles
        Their optics and CTF parameters.
    poses
        Poses of body A.
    motion
        Motion of body B in each particle.
    bfactor_A2
        B-factor of the atoms in Å².
    ewald
        "none", "positive" or "negative", as in RefineSpec; with a sign, each atom has the defocus of its height above
        the middle of the particle.
    parts
        Atoms of the image `row` with their weights, see `lrcore.simulation.scenes`; by default body A and the moved
        body B with the weight 1.

    Yields
    ------
    (b ≤ BATCH, box, box // 2 + 1) complex128.
    """
    box, pixel = particles.box, particles.pixel_size_A
    views = magnified_rotation(poses.rotation, magnification_in_3d(particles, np.arange(len(particles))))
    transfers = [_group_transfer_function(optics, bfactor_A2) for optics in particles.optics]

    def whole(row: int) -> list[Part]:
        """Return the atoms of both bodies."""
        return [(np.concatenate([phantom.body_a, motion.move(row, phantom.body_b)]), 1.0)]

    def image_of(row: int) -> npt.NDArray[np.complex128]:
        """Return the FT of one image without its CTF, or with it on an Ewald sphere."""
        image = np.zeros((box, box // 2 + 1), np.complex128)
        for atoms, weight in (parts or whole)(row):
            seen = (atoms @ views[row, :2].T - poses.origin_A[row]) / pixel
            if ewald == "none":
                image += weight * points_ft(seen, box)
            else:
                height = EWALD_SIGNS[ewald] * atoms @ views[row, 2]
                image += weight * _image_with_depth(seen, height, particles, row)
        return image * transfers[particles.group[row]]

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(particles), BATCH):
            rows = range(start, min(start + BATCH, len(particles)))
            ctf = particle_ctf(particles, rows) if ewald == "none" else 1.0
            yield np.stack(list(pool.map(image_of, rows))) * ctf


def _image_with_depth(points: Float64, nearer_A: Float64, particles: Particles, row: int) -> npt.NDArray[np.complex128]:
    """Return the FT of the image of points (m, 2) in pixels, with CTF, each at a defocus reduced by `nearer_A`."""
    particle, box = particles.select(np.array([row])), particles.box
    wavelength = electron_wavelength_A(particles.optics[particles.group[row]].voltage_kV)
    thickness = SLAB_RAD / (np.pi * wavelength * (0.5 / particles.pixel_size_A) ** 2)
    slab = np.rint(nearer_A / thickness)
    image = np.zeros((box, box // 2 + 1), np.complex128)
    for number in np.unique(slab):
        at_depth = replace(particle, defocus_A=particle.defocus_A - number * thickness)
        image += points_ft(points[slab == number], box) * particle_ctf(at_depth, [0])[0]
    return image


def _group_transfer_function(optics: Optics, bfactor_A2: float) -> npt.NDArray[np.complex128]:
    """Return the form factor of an atom times the odd aberrations of a group: (box, box // 2 + 1)."""
    ky, kx = (k / (optics.box * optics.pixel_size_A) for k in index_grid(optics.box, 2))
    x, y = magnify_frequencies(optics, kx, ky)
    return np.exp(-0.25 * bfactor_A2 * (x**2 + y**2) + 1j * odd_phase(optics, kx, ky))


def premultiply_by_ctf(
    particles: Particles, batches: Iterator[npt.NDArray[np.complexfloating]]
) -> Iterator[npt.NDArray[np.complexfloating]]:
    """Multiply FTs of images by their CTF (without scale and B-factor) in optics groups whose images are stored so.

    Parameters
    ----------
    particles
        The particles; `ctf_premultiplied` of their optics groups decides.
    batches : (b, box, box // 2 + 1) each
        FTs of consecutive images; changed in place.

    Yields
    ------
    The batches.
    """
    plain = replace(particles, bfactor_A2=np.zeros(len(particles)), scale=np.ones(len(particles)))
    premultiplied = np.array([optics.ctf_premultiplied for optics in particles.optics])[particles.group]
    start = 0
    for batch in batches:
        rows = np.arange(start, start + len(batch))
        chosen = np.nonzero(premultiplied[rows])[0]
        batch[chosen] *= particle_ctf(plain, rows[chosen])
        yield batch
        start += len(batch)


def noise_variance(box: int, pixel_size_A: float, noise: Noise, group: int) -> Float64:
    """Return the variance of the Fourier samples of noise relative to white noise, of mean 1.

    Parameters
    ----------
    box, pixel_size_A
        Box in pixels and pixel size in Å.
    noise
        "white" or "coloured".
    group
        Number of the optics group; the colour differs between groups.

    Returns
    -------
    (box, box // 2 + 1).
    """
    if noise == "white":
        return np.ones((box, box // 2 + 1))
    ky, kx = (k / (box * pixel_size_A) for k in index_grid(box, 2))
    variance = 1.0 + NOISE_PEAK * (1 + group) * np.exp(-(kx**2 + ky**2) * NOISE_PEAK_WIDTH_A**2)
    total: Float64 = (variance * hermitian_weight(box, 2)).sum()
    return variance * box**2 / total


def noise_ft(particles: Particles, noise: Noise, rng: np.random.Generator) -> Iterator[npt.NDArray[np.complexfloating]]:
    """Yield FTs of noise images whose pixels have variance 1, in batches of BATCH: (b, box, box // 2 + 1) each."""
    box, pixel = particles.box, particles.pixel_size_A
    amplitude = np.sqrt([noise_variance(box, pixel, noise, group) for group in range(len(particles.optics))])
    for start in range(0, len(particles), BATCH):
        group = particles.group[start : start + BATCH]
        yield ft(rng.standard_normal((len(group), box, box)), 2) * amplitude[group]


def write_stack(particles: Particles, batches: Iterator[npt.NDArray[np.complexfloating]], float16: bool) -> None:
    """Write images, given by batches of their FTs, to the stack of the particles.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_images(particles, (ift(batch, particles.box, 2) for batch in batches), float16)


def write_images(particles: Particles, batches: Iterator[npt.NDArray[np.floating]], float16: bool) -> None:
    """Write batches of images (b, box, box) to the stack of the particles.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_image_stack(
        particles.images.stacks[0], len(particles), particles.box, particles.pixel_size_A, batches, float16
    )
