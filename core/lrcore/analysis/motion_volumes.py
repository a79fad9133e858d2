"""Maps along a principal motion: the body moved rigidly, and reconstructions of the particles in bins of the motion."""

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.ndimage

from lrcore.arrays import Float64, Int64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.rotations import rotation_exp
from lrcore.records import Particles, Progress, Volume
from lrcore.refinement.reconstruction import reconstruct

MIN_PARTICLES_PER_BIN = 20
"""Particles that a bin should have, to make a map at all."""


def move_body(volume: Volume, mask: Volume, fulcrum_A: Float64, turn: Float64, shift_A: Float64) -> Volume:
    """The map with what the mask shows turned by `turn` (rotation vector, rad) about a point and shifted.

    fulcrum_A: (x, y, z) in Å from the box centre; a point x of the body goes to R (x − f) + f + t. What lies outside
    the mask stays, also where the body comes to lie on it.
    """
    n, apix = volume.box, volume.pixel_size_A
    back = rotation_exp(-np.asarray(turn, dtype=np.float64)[None])[0]
    zyx = back[::-1, ::-1]  # the same turn of coordinates in the order of the array's axes
    f, t, middle = (
        np.asarray(v, dtype=np.float64)[::-1] for v in (fulcrum_A / apix, shift_A / apix, np.full(3, n // 2))
    )
    offset = middle + f - zyx @ (middle + f + t)
    body = scipy.ndimage.affine_transform(volume.data * mask.data, zyx, offset, order=3)
    made = body + volume.data * (1 - mask.data)
    return Volume(made.astype(np.float32), apix, volume.header_origin_A)


def reconstruct_bins(
    particles: Particles,
    rows: Int64,
    coordinate: Float64,
    bins: int,
    gain: Float64,
    backend: Backend,
    symmetry: str = "C1",
) -> Iterator[Progress | Volume]:
    """Reconstruct particles in bins of equal count along a motion, at their input poses, which hold the rest still.

    rows: (m,) of the particles; coordinate: (m,) their places. gain: (shells,) filter. Yields Progress and the map of
    each bin. Raises InputError if a bin would have fewer than `FEWEST` particles.
    """
    order = np.argsort(coordinate, kind="stable")
    parts: Sequence[Int64] = np.array_split(order, bins)
    if min(len(part) for part in parts) < MIN_PARTICLES_PER_BIN:
        raise InputError(
            f"{bins} bins: {len(rows)} particles fill fewer: at least {MIN_PARTICLES_PER_BIN} in each are needed"
        )
    for part in parts:
        chosen = particles.select(np.sort(rows[part]))
        for event in reconstruct(chosen, None, symmetry, backend):
            if isinstance(event, Volume):
                data = filter_map(event.data, gain, backend.threads)
                yield Volume(data, event.pixel_size_A)
            else:
                yield event
