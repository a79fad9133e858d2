"""The noise that the search sees: power of what the model leaves, measured where the mask's shadow falls.

What a rigid model of the rest of the particle leaves behind lies where the particle is, not all over the image, so a
spectrum averaged over the whole image would promise more than the data hold.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.grids import half_plane, radius_grid, shell_mean
from lrcore.imaging.poses import magnified_rotation
from lrcore.masks import cosine_edge
from lrcore.particles.image_stream import Batch
from lrcore.records import Particles, Poses
from lrcore.refinement.geometry import SearchGeometry
from lrcore.refinement.reference import Reference

NoiseResiduals = tuple[Float64, npt.NDArray[np.int32]]
"""Residual powers of some images, and their optics groups."""


SAMPLE = 1024
"""Images of a half set that are measured, at most; evenly spread over its batches."""
GROUP_SHRINKAGE_IMAGES = 10.0
"""A group's noise is drawn towards the mean of all groups as if that were this many images of its own."""


def choose_sample(rows: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.bool_]:
    """Which of `total` particles to measure, (total,): up to SAMPLE of a half set's `rows`, evenly spread over them."""
    out = np.zeros(total, np.bool_)
    out[rows[:: max(1, -(-len(rows) // SAMPLE))]] = True
    return out


def residual_power(
    rest: Batch,
    chosen: npt.NDArray[np.int64],
    particles: Particles,
    poses: Poses,
    reference: Reference,
    shape: SearchGeometry,
    backend: Backend,
) -> Float64:
    """|FT|² per coefficient and shell of X − C S about the mask's centre: (len(chosen), n // 2 + 1).

    rest: images without what lies outside the mask. poses: (B,) found for the batch. The residual is multiplied by a
    soft disc of the mask's diameter and its power brought to the scale of the whole image.
    """
    n, window, workers = shape.box, shape.window, backend.threads
    found, behind = poses.select(chosen), magnification_in_3d(particles, rest.rows[chosen])
    at, points = backend.to_device(chosen), shape.centre_in(found, behind)
    residual, ctf = backend.to_host(rest.spectrum[at]), backend.to_host(rest.ctf[at])
    # The reference lives in the window: its slice at sample k of the full grid is the one at k · window / n.
    ratio = window / n
    samples = half_plane(
        n, (min(reference.frame.volume.limit / ratio, (n - 1) // 2) / largest_magnification(particles),)
    )
    planes = backend.kernels.project_slices(
        reference.frame.volume, magnified_rotation(found.rotation, behind) * ratio, samples
    )
    backend.kernels.subtract_model(residual, ctf, planes, -points, samples)
    disc = cosine_edge(radius_grid(window, 2), 0.5 * shape.diameter, 3.0)
    seen = scipy.fft.rfftn(crop_about_points(residual, points, window, workers) * disc, axes=(1, 2), workers=workers)
    power = shell_mean(seen.real**2 + seen.imag**2, window, 2) * (n**2 / float((disc**2).sum()))
    weights = np.stack(
        [np.interp(np.arange(n // 2 + 1) * ratio, np.arange(power.shape[1]), row) for row in np.eye(power.shape[1])]
    )
    return power @ weights


def crop_about_points(spectra: Complex64, points: Float64, size: int, workers: int = 1) -> Float32:
    """The size × size pixels about `points` (B, 2), (x, y) pixels from n // 2, of images given by their FT.

    Each axis is cut before the next is transformed. Uses up the spectra.
    """
    n = spectra.shape[1]
    start = 2j * np.pi / n * (points - size // 2)
    spectra *= np.exp(start[:, 1:] * np.fft.fftfreq(n, 1.0 / n)).astype(np.complex64)[:, :, None]
    spectra *= np.exp(start[:, :1] * np.arange(n // 2 + 1)).astype(np.complex64)[:, None, :]
    rows = scipy.fft.ifft(spectra, axis=1, workers=workers, overwrite_x=True)[:, :size]
    return scipy.fft.irfft(rows, n, axis=2, workers=workers)[:, :, :size]


def noise_spectrum(power: Float64, group: npt.NDArray[np.integer], groups: int) -> Float64:
    """Mean power per optics group, (groups, shells), from that of single images (m, shells) of the given groups."""
    mean = power.mean(axis=0)
    out = np.empty((groups, power.shape[1]))
    for number in range(groups):
        mine = power[group == number]
        out[number] = (mine.sum(axis=0) + GROUP_SHRINKAGE_IMAGES * mean) / (len(mine) + GROUP_SHRINKAGE_IMAGES)
    out[:, 0] = out[:, 1]
    return np.maximum(out, 1e-6 * out.max())


def apply_noise_model(noise: Float64, model: str) -> Float64:
    """(2, groups, shells) of a model: coloured as measured, symmetric one curve for all groups, white one number."""
    if model == "coloured":
        return noise
    alike = np.broadcast_to(noise.mean(axis=1, keepdims=True), noise.shape)
    if model == "white":
        samples = np.arange(noise.shape[2])  # a shell of an image has as many as its radius, in proportion
        alike = np.broadcast_to(np.average(alike, axis=2, weights=samples)[..., None], noise.shape)
    return alike.copy()


def measure_residuals(
    rest: Batch,
    wanted: npt.NDArray[np.bool_],
    particles: Particles,
    poses: Poses,
    reference: Reference,
    shape: SearchGeometry,
    backend: Backend,
) -> tuple[Float64, npt.NDArray[np.int32]]:
    """Residual power of the batch's wanted (B,) images but bad ones, and the optics groups of those."""
    chosen = np.nonzero(wanted & ~rest.bad)[0]
    if len(chosen) == 0:
        return np.empty((0, shape.box // 2 + 1)), np.empty(0, np.int32)
    return residual_power(rest, chosen, particles, poses, reference, shape, backend), particles.group[rest.rows[chosen]]


def _pooled_noise_spectrum(left: Sequence[NoiseResiduals], particles: Particles) -> Float64:
    """The noise spectrum of the residual powers and groups of some batches."""
    power, groups = (np.concatenate(column) for column in zip(*left, strict=True))
    if len(power) == 0:
        raise InputError(
            f"{particles.path}: none of the images of a half set holds an image (they are constant, NaN or of an "
            "absurd amplitude): look at the stacks (lrwidgets info STACK)"
        )
    return noise_spectrum(power, groups, len(particles.optics))
