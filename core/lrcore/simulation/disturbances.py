"""Make what images show besides particles: contaminants, ice edges and gradients of the ice."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.ctf import particle_ctf
from lrcore.imaging.grids import ft, ift
from lrcore.records import Particles
from lrcore.simulation.image_truth import JUNK, JUNK_KINDS, ImageTruth, stream

JUNK_SD = (0.5, 1.5)
"""Range of the SD of contaminants and ice edges, in SDs of the noise."""
TEXTURE = 0.15
"""SD of the density inside a contaminant or behind an ice edge, relative to its mean."""
EDGE = 0.01
"""Width of the edges of junk, relative to the box."""


def disturbance_ft(
    particles: Particles, truth: ImageTruth, seed: int, batch: int
) -> Iterator[npt.NDArray[np.complexfloating]]:
    """Yield the FTs of the junk, with CTF, and of the gradients of the ice, in SDs of the noise.

    Parameters
    ----------
    particles
        The particles with their true CTF parameters.
    truth
        Junk and gradient of each image.
    seed
        Seed of the random numbers.
    batch
        Images per batch.

    Yields
    ------
    (b ≤ batch, box, box // 2 + 1) complex.
    """
    rng, box = stream(seed, JUNK), particles.box
    y, x = _axes(box)
    for start in range(0, len(particles), batch):
        rows = np.arange(start, min(start + batch, len(particles)))
        slope_x, slope_y = truth.ice_gradient[rows].T[..., None, None]
        out = ft(slope_x * x + slope_y * y, 2)
        for place, row in enumerate(rows):
            if JUNK_KINDS[truth.junk[row]] in SHAPES:
                out[place] += _junk_ft(JUNK_KINDS[truth.junk[row]], particles, int(row), rng)
        yield out


def _junk_ft(kind: str, particles: Particles, row: int, rng: np.random.Generator) -> npt.NDArray[np.complexfloating]:
    """Return the FT of an image of junk with CTF, of mean 0 and a random SD."""
    density = SHAPES[kind](particles.box, rng)
    density *= 1.0 + TEXTURE * rng.standard_normal(density.shape)
    spectrum = ft(density, 2) * particle_ctf(particles, [row])[0]
    spectrum[0, 0] = 0.0
    return rng.uniform(*JUNK_SD) / ift(spectrum, particles.box, 2).std() * spectrum


def contaminant(box: int, rng: np.random.Generator) -> Float64:
    """Return the density of an ellipse of a random size, shape and place: (box, box), from 0 to 1."""
    y, x = _axes(box)
    angle, radius = rng.uniform(0.0, np.pi), rng.uniform(0.15, 0.35)
    stretch = rng.uniform(1.0, 1.6)
    x, y = x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return _step(radius - np.hypot(along / stretch, across * stretch))


def ice_edge(box: int, rng: np.random.Generator) -> Float64:
    """Return the density of ice that ends at a line of a random direction and place: (box, box), from 0 to 1."""
    y, x = _axes(box)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return _step(np.cos(angle) * x + np.sin(angle) * y + rng.uniform(-0.25, 0.25))


SHAPES = {"contaminant": contaminant, "ice edge": ice_edge}
"""Kinds of junk with a density; an image of the kind "noise" shows nothing."""


def _step(distance: Float64) -> Float64:
    """Return a smooth step from 0 to 1 at the distance 0."""
    return 0.5 * (1.0 + np.tanh(distance / EDGE))


def _axes(box: int) -> tuple[Float64, Float64]:
    """Return y and x from the box centre relative to the box: (box, 1) and (1, box)."""
    axis = (np.arange(box) - box // 2) / box
    return axis[:, None], axis[None, :]
