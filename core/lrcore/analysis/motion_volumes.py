"""Make maps along a principal motion: move the body rigidly, or reconstruct the particles in bins of the motion."""

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
"""Fewest particles in a bin from which a map is reconstructed."""


def move_body(volume: Volume, mask: Volume, fulcrum_A: Float64, turn: Float64, shift_A: Float64) -> Volume:
    """Move the density inside the mask rigidly: a point x goes to R (x − f) + f + t.

    Density outside the mask stays, also where the moved body overlaps with it.

    Parameters
    ----------
    volume : map, (n, n, n)
    mask : mask of the body, of the same box
    fulcrum_A : (3,), f as (x, y, z) in Å from the box centre
    turn : (3,), rotation vector of R, rad
    shift_A : (3,), t as (x, y, z) in Å

    Returns
    -------
    Volume
        The map with the moved body.
    """
    n, apix = volume.box, volume.pixel_size_A
    back = rotation_exp(-np.asarray(turn, dtype=np.float64)[None])[0]
    zyx = back[::-1, ::-1]  # the same rotation for coordinates in the order of the array axes
    f, t, middle = (
        np.asarray(v, dtype=np.float64)[::-1] for v in (fulcrum_A / apix, shift_A / apix, np.full(3, n // 2))
    )
    offset = middle + f - zyx @ (middle + f + t)
    body = scipy.ndimage.affine_transform(volume.data * mask.data, zyx, offset, order=3)
    moved = body + volume.data * (1 - mask.data)
    return Volume(moved.astype(np.float32), apix, volume.header_origin_A)


def reconstruct_bins(
    particles: Particles,
    rows: Int64,
    coordinate: Float64,
    bins: int,
    gain: Float64,
    backend: Backend,
    symmetry: str = "C1",
) -> Iterator[Progress | Volume]:
    """Reconstruct particles in bins of equal count along a motion, at their input poses, so that only the body moves.

    Parameters
    ----------
    particles : particles at their input poses
    rows : (m,), rows of the particles to use
    coordinate : (m,), their coordinates along the motion
    bins : number of bins
    gain : (shells,), filter that is applied to each map
    backend : backend to compute with
    symmetry : point group, such as "C1"

    Yields
    ------
    Progress or Volume
        Progress of the reconstructions, and the map of each bin in order of the coordinate.

    Raises
    ------
    InputError
        If a bin would have fewer than `MIN_PARTICLES_PER_BIN` particles.
    """
    order = np.argsort(coordinate, kind="stable")
    parts: Sequence[Int64] = np.array_split(order, bins)
    if min(len(part) for part in parts) < MIN_PARTICLES_PER_BIN:
        raise InputError(
            f"{bins} bins: {len(rows)} particles are too few, at least {MIN_PARTICLES_PER_BIN} in each bin are needed: "
            "choose fewer bins"
        )
    for part in parts:
        chosen = particles.select(np.sort(rows[part]))
        for event in reconstruct(chosen, None, symmetry, backend):
            if isinstance(event, Volume):
                data = filter_map(event.data, gain, backend.threads)
                yield Volume(data, event.pixel_size_A)
            else:
                yield event
