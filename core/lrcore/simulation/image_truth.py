"""Draw what each image of a realistic set shows, and keep it as the truth."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.records import Particles
from lrcore.simulation.realism import Realism

JUNK_KINDS = ("none", "noise", "contaminant", "ice edge")
"""What an image shows in place of a particle, in the order of the numbers in `ImageTruth.junk`."""
CONTENT, CONFORMER, NEIGHBOUR, PLACE, DEFOCUS, BFACTOR, CONTRAST, ICE, VIEW, JUNK = range(10)
"""Numbers of the random streams: an option does not change what the others draw."""


@dataclass(frozen=True)
class ImageTruth:
    """Content of n images, and their parameters that differ from the table of the particles.

    Attributes
    ----------
    junk : (n,) int8
        Kind of junk, an index of `JUNK_KINDS`; 0 for a particle.
    present : (n,) bool
        Body B is in the image.
    conformer : (n,) int8
        Conformer of body B, 0 or 1; -1 where it is missing.
    occupancy : (n,)
        Weight of the atoms of body B; 0 where it is missing.
    neighbours : (n,) int64
        Number of other particles near the box.
    defocus_A : (n, 2)
        True defocus in Å along both axes.
    bfactor_A2 : (n,)
        B-factor in Å² in addition to that of the atoms.
    scale : (n,)
        Amplitude of the signal.
    ice_gradient : (n, 2)
        Rise of the background from edge to edge of the box along x and y, in SDs of the noise.
    beam_tilt_mrad : (2,)
        Beam tilt in mrad in addition to that of the table.
    """

    junk: npt.NDArray[np.int8]
    present: npt.NDArray[np.bool_]
    conformer: npt.NDArray[np.int8]
    occupancy: Float64
    neighbours: npt.NDArray[np.int64]
    defocus_A: Float64
    bfactor_A2: Float64
    scale: Float64
    ice_gradient: Float64
    beam_tilt_mrad: Float64

    def true_particles(self, table: Particles) -> Particles:
        """Return the particles with the CTF parameters, amplitudes and beam tilt that the images have."""
        x, y = self.beam_tilt_mrad
        optics = tuple(
            replace(group, beam_tilt_mrad=(group.beam_tilt_mrad[0] + x, group.beam_tilt_mrad[1] + y))
            for group in table.optics
        )
        return replace(table, optics=optics, defocus_A=self.defocus_A, bfactor_A2=self.bfactor_A2, scale=self.scale)


def draw_image_truth(
    realism: Realism, table: Particles, scale: Float64, atoms_bfactor_A2: float, seed: int
) -> ImageTruth:
    """Draw what each image shows.

    Parameters
    ----------
    realism
        Shares and SDs. Shares of images are met exactly, up to rounding.
    table
        The n particles, with the CTF parameters of the table.
    scale : (n,)
        Amplitudes of the signal without the spread of the contrast.
    atoms_bfactor_A2
        B-factor of the atoms in Å².
    seed
        Seed of the random numbers.
    """
    n = len(table)
    junk, present = _draw_content(realism, n, stream(seed, CONTENT))
    conformer = np.where(present, 0, -1).astype(np.int8)
    rows = stream(seed, CONFORMER).permutation(np.flatnonzero(present))
    conformer[rows[: round(realism.second_conformer_share * len(rows))]] = 1
    neighbours = stream(seed, NEIGHBOUR).poisson(realism.neighbours, n)
    defocus_error = stream(seed, DEFOCUS).normal(0.0, realism.defocus_sd_A, (n, 1))
    bfactor = np.maximum(stream(seed, BFACTOR).normal(0.0, realism.bfactor_sd_A2, n), -atoms_bfactor_A2)
    return ImageTruth(
        junk=junk,
        present=present,
        conformer=conformer,
        occupancy=np.where(present, realism.occupancy, 0.0),
        neighbours=np.where(junk == 0, neighbours, 0),
        defocus_A=table.defocus_A + defocus_error,
        bfactor_A2=table.bfactor_A2 + bfactor,
        scale=scale * np.exp(stream(seed, CONTRAST).normal(0.0, realism.contrast_sd, n)),
        ice_gradient=stream(seed, ICE).normal(0.0, realism.ice_gradient_sd, (n, 2)),
        beam_tilt_mrad=np.array(realism.beam_tilt_mrad, np.float64),
    )


def _draw_content(
    realism: Realism, n: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Return the kind of junk of each image, and whether it shows body B."""
    order = rng.permutation(n)
    spoilt = round(realism.junk_share * n)
    missing = min(round(realism.missing_share * n), n - spoilt)
    junk, present = np.zeros(n, np.int8), np.ones(n, bool)
    junk[order[:spoilt]] = 1 + np.arange(spoilt) % (len(JUNK_KINDS) - 1)
    present[order[: spoilt + missing]] = False
    return junk, present


def preferred_rotations(concentration: float, n: int, rng: np.random.Generator) -> Float64:
    """Return rotations whose viewing directions crowd about both ends of a random axis.

    Parameters
    ----------
    concentration
        Concentration κ > 0 of the von Mises-Fisher distribution about each end.
    n
        Number of rotations.
    rng
        Generator of the random numbers.

    Returns
    -------
    (n, 3, 3), whose third rows are the viewing directions in the frame of the map.

    References
    ----------
    Wood (1994), Communications in Statistics - Simulation and Computation 23, 157-164: the cosine w of the angle from
    the axis has the distribution function (exp(κ w) - exp(-κ)) / (exp(κ) - exp(-κ)), which is inverted here.
    """
    axis = _unit(rng.normal(size=3))
    u = rng.uniform(size=n)
    cosine = 1.0 + np.log(u + (1.0 - u) * np.exp(-2.0 * concentration)) / concentration
    across = rng.normal(size=(n, 3))
    across = _unit(across - (across @ axis)[:, None] * axis)
    sine = np.sqrt(np.maximum(1.0 - cosine**2, 0.0))
    view = rng.choice([-1.0, 1.0], n)[:, None] * (cosine[:, None] * axis + sine[:, None] * across)
    first = rng.normal(size=(n, 3))
    first = _unit(first - (first * view).sum(axis=1, keepdims=True) * view)
    return np.stack([first, np.cross(view, first), view], axis=1)


def stream(seed: int, number: int) -> np.random.Generator:
    """Return the generator of a random stream."""
    return np.random.default_rng([seed, 5, number])


def _unit(vectors: Float64) -> Float64:
    """Return vectors scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
