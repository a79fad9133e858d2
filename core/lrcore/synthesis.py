"""Synthetic images: projections of a moving phantom with CTF, coloured noise, and the stack that they go to."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt

from lrcore.atoms import envelope, points_ft
from lrcore.ctf import particle_ctf
from lrcore.grids import Float64, ft, hermitian_weight, ift, index_grid
from lrcore.io.stack_writer import write_batches
from lrcore.phantom import Motion, Phantom
from lrcore.records import Particles, Poses

Noise = Literal["coloured", "white"]

BATCH = 64
BUMP = 4.0
BUMP_WIDTH_A = 50.0
"""Coloured noise: white, and at low frequencies `BUMP` times as much again, falling off over 1 / `BUMP_WIDTH_A`."""


def project(
    phantom: Phantom, particles: Particles, poses: Poses, motion: Motion, bfactor_A2: float
) -> Iterator[npt.NDArray[np.complex128]]:
    """FTs of the images of the moved atoms, with CTF, in batches of BATCH: (b, box, box // 2 + 1) each."""
    box, pixel = particles.box, particles.pixel_size_A
    form = envelope(box, pixel, bfactor_A2, 2)

    def image_of(row: int) -> npt.NDArray[np.complex128]:
        atoms = np.concatenate([phantom.body_a, motion.move(row, phantom.body_b)])
        seen = atoms @ poses.rotation[row, :2].T - poses.origin_A[row]
        return points_ft(seen / pixel, box)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(particles), BATCH):
            rows = range(start, min(start + BATCH, len(particles)))
            yield np.stack(list(pool.map(image_of, rows))) * form * particle_ctf(particles, rows)


def noise_variance(box: int, pixel_size_A: float, noise: Noise, group: int) -> Float64:
    """Variance of the noise's Fourier samples over that of white noise, mean 1: (box, box // 2 + 1)."""
    if noise == "white":
        return np.ones((box, box // 2 + 1))
    ky, kx = (k / (box * pixel_size_A) for k in index_grid(box, 2))
    variance = 1.0 + BUMP * (1 + group) * np.exp(-(kx**2 + ky**2) * BUMP_WIDTH_A**2)
    total: Float64 = (variance * hermitian_weight(box, 2)).sum()
    return variance * box**2 / total


def noise_ft(particles: Particles, noise: Noise, rng: np.random.Generator) -> Iterator[npt.NDArray[np.complexfloating]]:
    """FTs of noise images whose pixels have variance 1, in batches of BATCH: (b, box, box // 2 + 1) each."""
    box, pixel = particles.box, particles.pixel_size_A
    shape = np.sqrt([noise_variance(box, pixel, noise, group) for group in range(len(particles.optics))])
    for start in range(0, len(particles), BATCH):
        group = particles.group[start : start + BATCH]
        yield ft(rng.standard_normal((len(group), box, box)), 2) * shape[group]


def write_stack(particles: Particles, batches: Iterator[npt.NDArray[np.complexfloating]], float16: bool) -> None:
    """Write the images of FTs as they come. Raises InputError if the file cannot be written."""
    write_images(particles, (ift(batch, particles.box, 2) for batch in batches), float16)


def write_images(particles: Particles, batches: Iterator[npt.NDArray[np.floating]], float16: bool) -> None:
    """Write images (b, box, box) as they come. Raises InputError if the file cannot be written."""
    write_batches(particles.images.stacks[0], len(particles), particles.box, particles.pixel_size_A, batches, float16)
