"""Say which atoms each image shows: both bodies, one of two conformers, none of body B, and neighbours."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.rotations import rotation_exp
from lrcore.simulation.image_truth import PLACE, ImageTruth, stream
from lrcore.simulation.phantom import Phantom, SimulatedMotion

NEAREST_NEIGHBOUR = 1.5
"""Smallest distance of the centres of two particles, in units of the radius of the phantom."""

Part = tuple[Float64, float]
"""Atoms (m, 3) in Å in the frame of the map, and their weight."""


@dataclass(frozen=True)
class Neighbours:
    """Other particles near the boxes of the images.

    Attributes
    ----------
    image : (k,)
        Row of the image in which the neighbour is seen.
    particle : (k,)
        Row of the particle whose atoms it has.
    rotation : (k, 3, 3)
        Its rotation, map → image.
    centre_A : (k, 2)
        Its centre (x, y) in Å from the box centre.
    """

    image: npt.NDArray[np.int64]
    particle: npt.NDArray[np.int64]
    rotation: Float64
    centre_A: Float64


@dataclass(frozen=True)
class Scenes:
    """Atoms that each image shows.

    Attributes
    ----------
    phantom
        Atoms at rest, body B in its first conformer.
    second_body : (m, 3)
        Body B in its second conformer.
    motion
        Motion of body B in each particle.
    truth
        What each image shows.
    views : (n, 3, 3)
        Rotations of the images, magnification included.
    origin_A : (n, 2)
        Origins of the poses.
    neighbours
        Other particles.
    width_A
        Width of the box in Å; atoms of neighbours outside the box are left out.
    """

    phantom: Phantom
    second_body: Float64
    motion: SimulatedMotion
    truth: ImageTruth
    views: Float64
    origin_A: Float64
    neighbours: Neighbours
    width_A: float

    def parts(self, row: int) -> list[Part]:
        """Return the atoms of an image; none for junk, which has no particle."""
        if self.truth.junk[row]:
            return []
        return [*self._particle(row), *self._near(row)]

    def _particle(self, row: int) -> list[Part]:
        """Return the atoms of a particle in its own frame; those of the weight 1 together."""
        weight = float(self.truth.occupancy[row])
        if weight == 0.0:
            return [(self.phantom.body_a, 1.0)]
        body = self.motion.move(row, self.second_body if self.truth.conformer[row] == 1 else self.phantom.body_b)
        if weight == 1.0:
            return [(np.concatenate([self.phantom.body_a, body]), 1.0)]
        return [(self.phantom.body_a, 1.0), (body, weight)]

    def _near(self, row: int) -> list[Part]:
        """Return the atoms of neighbours inside the box, moved to the frame of the map of this image."""
        parts = []
        back = np.linalg.inv(self.views[row]).T
        for number in np.flatnonzero(self.neighbours.image == row):
            for atoms, weight in self._particle(int(self.neighbours.particle[number])):
                seen = atoms @ self.neighbours.rotation[number].T
                seen[:, :2] += self.neighbours.centre_A[number]
                seen = seen[(np.abs(seen[:, :2]) < 0.5 * self.width_A).all(axis=1)]
                seen[:, :2] += self.origin_A[row]
                parts.append((seen @ back, weight))
        return parts


def draw_neighbours(truth: ImageTruth, rotation: Float64, radius_A: float, width_A: float, seed: int) -> Neighbours:
    """Draw the neighbours of each image: particles of the same set, turned in the plane, hardly overlapping.

    Their centres are uniform in the ring between the nearest distance and the largest one that reaches into the box.

    Parameters
    ----------
    truth
        Number of neighbours of each image.
    rotation : (n, 3, 3)
        Rotations of the particles, map → image.
    radius_A
        Radius of the particle in Å.
    width_A
        Width of the box in Å.
    seed
        Seed of the random numbers.
    """
    rng = stream(seed, PLACE)
    image = np.repeat(np.arange(len(rotation)), truth.neighbours)
    k = len(image)
    particle = rng.integers(0, len(rotation), k)
    turn = np.zeros((k, 3))
    turn[:, 2] = rng.uniform(0.0, 2.0 * np.pi, k)
    nearest = NEAREST_NEIGHBOUR * radius_A
    farthest = max(nearest, 0.5 * width_A + radius_A)
    distance = np.sqrt(rng.uniform(nearest**2, farthest**2, k))
    angle = rng.uniform(0.0, 2.0 * np.pi, k)
    centre = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Neighbours(image, particle, rotation_exp(turn) @ rotation[particle], centre)
