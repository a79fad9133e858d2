"""Reference, prior and lattice that the search of one half set shares."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.imaging.rotations import ball_lattice, rotation_exp
from lrcore.kernels.local_search import SearchLimits

MAX_LATTICE_POINTS = 320
"""Largest number of rotations on the lattice."""


@dataclass(frozen=True)
class Lattice:
    """Lattice of rotations and grid of shifts for the first, coarse search.

    Attributes
    ----------
    rotations : (L, 3, 3)
    vectors : (L, 3), their rotation vectors, rad
    same_maximum : (L, L), True for pairs so close that they belong to one maximum
    shifts : (T,) along each axis, px
    penalty_rotation : (L,) −log prior
    penalty_shift : (T, T) −log prior, 1e30 beyond the extent
    """

    rotations: Float64
    vectors: Float64
    same_maximum: npt.NDArray[np.bool_]
    shifts: Float64
    penalty_rotation: Float64
    penalty_shift: Float64


@dataclass(frozen=True)
class SearchFrame:
    """Reference and geometry that the search of one half set shares. Lengths in pixels where not in Å.

    Attributes
    ----------
    volume : FT of the masked reference in the window
    samples : Fourier samples of the window, in bands
    lever : (3,) centre of the mask − fulcrum, (x, y, z)
    fulcrum_A : (3,), (x, y, z) in Å from the box centre
    limits : prior and extents
    lattice : of the first, coarse search
    pixel_size_A : Å
    other_volume : FT of the reference of the other half set, under which the evidence of the body is measured; or None
    """

    volume: FourierVolume
    samples: FourierSamples
    lever: Float64
    fulcrum_A: Float64
    limits: SearchLimits
    lattice: Lattice
    pixel_size_A: float
    other_volume: FourierVolume | None = None

    @property
    def finest(self) -> float:
        """Radius of the finest sample, in index units of the window."""
        return float(np.hypot(self.samples.kx, self.samples.ky).max())


def coarse_resolution(rotation: float, diameter: float) -> tuple[float, float]:
    """Return the finest period (px) whose lattice holds at most LATTICE_POINTS, and the spacing of that lattice (rad).

    The spacing of a body-centred lattice (two points per cell) in the ball of the extent is ((8/3) π rotation³ /
    LATTICE_POINTS)^(1/3), and the period that it resolves is spacing · diameter / 0.7.

    rotation: extent, rad. diameter: of the mask, px.
    """
    spacing = (2 * 4 / 3 * np.pi * rotation**3 / MAX_LATTICE_POINTS) ** (1 / 3)
    return float(spacing * diameter / 0.7), float(spacing)


def make_lattice(limits: SearchLimits, period: float, spacing: float) -> Lattice:
    """Make the lattice of rotations inside the extent and the grid of shifts, a fifth of the `period` (px) apart.

    The lattice is a first look: of an anisotropic prior it uses the block of the rotations, broadened by half the
    `spacing` (rad), and the mean width of the shifts.
    """
    vectors = ball_lattice(limits.rotation, spacing) if spacing > 0 else np.zeros((1, 3))
    count = int(np.ceil(limits.shift / max(period / 5, 0.5)))
    shifts = np.linspace(-limits.shift, limits.shift, 2 * count + 1)
    squared = shifts[:, None] ** 2 + shifts**2
    penalty_shift = 0.5 * squared / limits.shift_sd**2
    penalty_shift[squared > limits.shift**2 * (1 + 1e-9)] = 1e30
    precision = np.eye(3) / limits.rotation_sd**2
    if limits.motion is not None:
        precision = np.linalg.inv(limits.motion[:3, :3] + np.eye(3) * (0.5 * spacing) ** 2).astype(np.float64)
    penalty_rotation = 0.5 * np.einsum("li,ij,lj->l", vectors, precision, vectors)
    near = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) < _maximum_separation(vectors)
    return Lattice(rotation_exp(vectors), vectors, near, shifts, penalty_rotation, penalty_shift)


def _maximum_separation(vectors: Float64) -> float:
    """Return the distance below which lattice points belong to one maximum: 1.2 cells, the 14 nearest of a point."""
    if len(vectors) < 2:
        return 1.0
    nearest = np.linalg.norm(vectors[1:], axis=1).min()
    return float(1.2 * nearest / np.sqrt(0.75))
