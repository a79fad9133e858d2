"""The noise that the search sees: power of what the model leaves, measured where the mask's shadow falls.

What a rigid model of the rest of the particle leaves behind lies where the particle is, not all over the image, so a
spectrum averaged over the whole image would promise more than the data hold.
"""

import numpy as np
import numpy.typing as npt

from lrcore.backend import Backend
from lrcore.grids import ft, half_plane, ift, radius_grid, shell_mean, window_at
from lrcore.images import Batch, phase_ramp, subtract_model
from lrcore.masks import cosine_edge
from lrcore.records import Particles, Poses
from lrcore.reference import Geometry, Reference

Float64 = npt.NDArray[np.float64]

SAMPLE = 1024
"""Images of a half set that are measured, at most; evenly spread over its batches."""
SHRINK = 10.0
"""A group's noise is drawn towards the mean of all groups as if that were this many images of its own."""


def thinned(batch: Batch, total: int) -> npt.NDArray[np.int64]:
    """Positions in the batch to measure when the half set holds `total` particles; images marked bad left out."""
    stride = max(1, -(-total // SAMPLE))
    return np.nonzero(~batch.bad & (np.arange(len(batch.rows)) % stride == 0))[0]


def residual_power(
    rest: Batch, chosen: npt.NDArray[np.int64], poses: Poses, reference: Reference, shape: Geometry, backend: Backend
) -> Float64:
    """|FT|² per coefficient and shell of X − C S about the mask's centre: (len(chosen), n // 2 + 1).

    rest: images without what lies outside the mask. poses: (B,) found for the batch. The residual is multiplied by a
    soft disc of the mask's diameter and its power brought to the scale of the whole image.
    """
    n, window, workers = shape.box, shape.window, backend.threads
    found = poses.select(chosen)
    residual = rest.spectrum[chosen] * phase_ramp(n, shape.centre_in(found))
    # The reference lives in the window: its slice at sample k of the full grid is the one at k · window / n.
    ratio = window / n
    samples = half_plane(n, (min(reference.frame.volume.limit / ratio, (n - 1) // 2),))
    planes = backend.kernels.slices(reference.frame.volume, found.rotation * ratio, samples)
    subtract_model(residual, rest.ctf[chosen], planes, samples)
    disc = cosine_edge(radius_grid(window, 2), 0.5 * shape.diameter, 3.0)
    seen = window_at(ift(residual, n, 2, workers), (n // 2, n // 2), window) * disc
    power = shell_mean(np.abs(ft(seen, 2, workers)) ** 2, window, 2) * (n**2 / float((disc**2).sum()))
    at = np.arange(n // 2 + 1) * ratio
    return np.stack([np.interp(at, np.arange(power.shape[1]), row) for row in power])


def spectrum(power: Float64, group: npt.NDArray[np.integer], groups: int) -> Float64:
    """Mean power per optics group, (groups, shells), from that of single images (m, shells) of the given groups."""
    mean = power.mean(axis=0)
    out = np.empty((groups, power.shape[1]))
    for number in range(groups):
        mine = power[group == number]
        out[number] = (mine.sum(axis=0) + SHRINK * mean) / (len(mine) + SHRINK)
    out[:, 0] = out[:, 1]
    return np.maximum(out, 1e-6 * out.max())


def measured(
    rest: Batch, total: int, particles: Particles, poses: Poses, reference: Reference, shape: Geometry, backend: Backend
) -> tuple[Float64, npt.NDArray[np.int32]]:
    """Residual power of the batch's share of the sample, and the optics groups of those images."""
    chosen = thinned(rest, total)
    if len(chosen) == 0:
        return np.empty((0, shape.box // 2 + 1)), np.empty(0, np.int32)
    return residual_power(rest, chosen, poses, reference, shape, backend), particles.group[rest.rows[chosen]]
