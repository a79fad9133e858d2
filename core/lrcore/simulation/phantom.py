"""Make a phantom: two bodies of compact, self-avoiding, protein-like chains, and the motion of one about a hinge."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from lrcore.arrays import Float64
from lrcore.imaging.poses import magnified_rotation
from lrcore.imaging.rotations import rotation_exp
from lrcore.records import Poses

RESIDUE_A3 = 136.0
"""Volume of a residue: 110 Da at 0.81 Da/Å³, the density of protein."""
BOND_A = 3.8
"""Distance of neighbouring Cα atoms."""
CONTACT_A = 4.8
"""Minimum distance of two residues of a chain that are neither neighbours nor next neighbours."""
SECOND_NEIGHBOUR_A = 5.2
"""Minimum distance of next neighbours, so that the chain does not fold back on itself."""
RELAXATION_SWEEPS = 150
"""Iterations of the relaxation of a trace."""
ASPECT_A = np.array([0.91, 1.0, 1.1])
ASPECT_B = np.array([0.85, 1.0, 1.18])
"""Half axes of the bodies in units of their radius, shortest first; the longest points towards the hinge."""


@dataclass(frozen=True)
class Phantom:
    """Atoms at rest, in Å from the box centre.

    Attributes
    ----------
    body_a, body_b : (m, 3)
        Atoms (x, y, z) of both bodies.
    fulcrum_A : (3,)
        Point about which body B turns.
    """

    body_a: Float64
    body_b: Float64
    fulcrum_A: Float64

    @property
    def atoms(self) -> Float64:
        """All atoms: (m, 3)."""
        return np.concatenate([self.body_a, self.body_b])


@dataclass(frozen=True)
class SimulatedMotion:
    """Motion of body B in each particle: x → f + δR (x − f) + d in the frame of the map, f the fulcrum.

    Attributes
    ----------
    rotation : (n, 3)
        Rotation vectors of δR in rad.
    shift_A : (n, 3)
        d in Å.
    fulcrum_A : (3,)
        f in Å from the box centre.
    """

    rotation: Float64
    shift_A: Float64
    fulcrum_A: Float64

    def move(self, row: int, points: Float64) -> Float64:
        """Return points (m, 3) of body B at rest as moved in the particle `row`."""
        turned = (points - self.fulcrum_A) @ rotation_exp(self.rotation[row : row + 1])[0].T
        return self.fulcrum_A + turned + self.shift_A[row]

    def poses_of_b(self, poses_a: Poses, lens: Float64 | None = None) -> Poses:
        """Return the poses at which body B at rest has the same image as the moved one at `poses_a`.

        A' = A δR, o' = o + ((A' − A) f)_xy − (A d)_xy.

        Parameters
        ----------
        poses_a
            True poses A, o of body A.
        lens : (n, 3, 3) or None
            Anisotropic magnification, see `lrcore.imaging.poses`.
        """
        rotation = poses_a.rotation @ rotation_exp(self.rotation)
        lever = magnified_rotation(rotation - poses_a.rotation, lens) @ self.fulcrum_A
        shift = np.einsum("nij,nj->ni", magnified_rotation(poses_a.rotation, lens), self.shift_A)
        return Poses(rotation, poses_a.origin_A + lever[:, :2] - shift[:, :2])


def make_two_body_phantom(seed: int, radius_a_A: float = 36.0, radius_b_A: float = 30.0) -> Phantom:
    """Make two ellipsoids that touch at the fulcrum, filled with chains; the centre of the whole is the box centre.

    Parameters
    ----------
    seed
        Seed of the random numbers.
    radius_a_A, radius_b_A
        Radii of the bodies in Å; their half axes are ASPECT_A and ASPECT_B times this.
    """
    rng = np.random.default_rng([seed, 1])
    frame = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    axis = frame[:, 2]
    half_a, half_b = radius_a_A * ASPECT_A, radius_b_A * ASPECT_B
    centre_a, centre_b = -half_b[2] * axis, half_a[2] * axis
    body_a = _fill_ellipsoid(rng, half_a) @ frame.T + centre_a
    body_b = _fill_ellipsoid(rng, half_b) @ frame.T + centre_b
    return Phantom(body_a, body_b, centre_b - half_b[2] * axis)


def second_conformer(phantom: Phantom, turn_deg: float) -> Float64:
    """Return the atoms of body B with the half far from the fulcrum turned: (m, 3) in Å.

    Parameters
    ----------
    phantom
        The atoms at rest.
    turn_deg
        Angle in degrees, about a line through the centre of body B across the line to the fulcrum.
    """
    centre = phantom.body_b.mean(axis=0)
    outwards = _unit(centre - phantom.fulcrum_A)
    hinge = _unit(np.cross(outwards, np.eye(3)[np.argmin(np.abs(outwards))]))
    offset = phantom.body_b - centre
    turned = centre + offset @ rotation_exp(np.radians(turn_deg) * hinge[None])[0].T
    return np.where((offset @ outwards > 0.0)[:, None], turned, phantom.body_b)


def _fill_ellipsoid(rng: np.random.Generator, half_axes: Float64) -> Float64:
    """Return the atoms of a chain that fills an ellipsoid about the origin at the density of protein: (m, 3) in Å."""
    count = max(8, int(4.0 / 3.0 * np.pi * np.prod(half_axes) / RESIDUE_A3))
    return add_side_chains(rng, relax_trace(random_ca_trace(rng, count, half_axes), half_axes))


def random_ca_trace(rng: np.random.Generator, count: int, half_axes: Float64) -> Float64:
    """Return a Cα trace of helices and loops, each towards the emptiest of some random points: (count, 3) in Å."""
    trace = np.zeros((1, 3))
    while len(trace) < count:
        goals = _inside(rng, 40) * half_axes
        goal = goals[np.argmax(cKDTree(trace).query(goals)[0])]
        path = goal - trace[-1]
        length = max(float(np.linalg.norm(path)), 1.0)
        direction = path / length
        # An α-helix rises 1.5 Å per residue with a radius of 2.3 Å, a loop 3.3 Å; both end at the goal at the latest.
        residues = int(rng.integers(8, 22)) if rng.uniform() < 0.65 else int(rng.integers(3, 7))
        helical = residues > 6
        rise, radius = (1.5, 2.3) if helical else (3.3, 0.8)
        steps = np.arange(1, min(residues, max(2, int(length / rise))) + 1)
        angle = np.radians(100.0) * steps + rng.uniform(0, 2 * np.pi)
        across = np.linalg.svd(direction[None])[2][1:]
        coil = radius * (np.cos(angle)[:, None] * across[0] + np.sin(angle)[:, None] * across[1])
        trace = np.concatenate([trace, trace[-1] + rise * steps[:, None] * direction + coil])
    return trace[:count]


def relax_trace(trace: Float64, half_axes: Float64) -> Float64:
    """Return the trace with bonds of 3.8 Å, without contacts closer than 4.8 Å, inside the ellipsoid: (m, 3) in Å."""
    trace = trace.copy()
    chain = np.arange(len(trace))
    bonds = np.stack([chain[:-1], chain[1:]], axis=1)
    seconds = np.stack([chain[:-2], chain[2:]], axis=1)
    for _ in range(RELAXATION_SWEEPS):
        pairs = cKDTree(trace).query_pairs(CONTACT_A, output_type="ndarray")
        _move_pairs_apart(trace, pairs[np.diff(pairs, axis=1)[:, 0] > 2], CONTACT_A, 0.5)
        _move_pairs_apart(trace, seconds[_distance(trace, seconds) < SECOND_NEIGHBOUR_A], SECOND_NEIGHBOUR_A, 0.5)
        depth = np.linalg.norm(trace / half_axes, axis=1, keepdims=True)
        trace /= np.maximum(1.0, depth)
        for parity in (0, 1):
            _move_pairs_apart(trace, bonds[parity::2], BOND_A, 1.0)
    return trace


def _distance(points: Float64, pairs: npt.NDArray[np.integer]) -> Float64:
    """Return the distances (p,) between the points of each pair."""
    return np.linalg.norm(points[pairs[:, 1]] - points[pairs[:, 0]], axis=1)


def _move_pairs_apart(points: Float64, pairs: npt.NDArray[np.integer], distance: float, share: float) -> None:
    """Move both points of each pair by a fraction `share` of what brings them to `distance`, in place."""
    difference = points[pairs[:, 1]] - points[pairs[:, 0]]
    length = np.maximum(np.linalg.norm(difference, axis=1, keepdims=True), 1e-6)
    move = 0.5 * share * (length - distance) / length * difference
    np.add.at(points, pairs[:, 0], move)
    np.add.at(points, pairs[:, 1], -move)


def add_side_chains(rng: np.random.Generator, trace: Float64) -> Float64:
    """Return the backbone (N, Cα, C, O) and a side chain of one to five atoms for each inner Cα: (m, 3) in Å."""
    before, here, after = trace[:-2], trace[1:-1], trace[2:]
    bond = after - here
    outwards = _unit(here - 0.5 * (before + after))
    aside = _unit(np.cross(bond, outwards))
    backbone = [
        here,
        here + 0.38 * bond + 0.4 * aside,
        here + 0.65 * bond - 0.4 * aside,
        here + 0.45 * bond + 1.6 * aside,
    ]
    side = [here + reach * outwards for reach in (1.5, 2.5, 3.4, 4.4, 5.3)]
    size = rng.integers(1, 6, size=len(here))
    grown = [(atom + rng.normal(0.0, 0.5, atom.shape))[size > number] for number, atom in enumerate(side)]
    return np.concatenate([*backbone, *grown])


def _unit(vectors: Float64) -> Float64:
    """Return vectors scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _inside(rng: np.random.Generator, count: int) -> Float64:
    """Return uniform random points in the unit ball: (count, 3)."""
    return _unit(rng.normal(size=(count, 3))) * rng.uniform(size=(count, 1)) ** (1 / 3)
