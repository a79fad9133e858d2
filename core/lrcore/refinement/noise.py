"""Estimate the noise spectra: power of the residual that the model leaves in the projection of the mask.

With X the image without the density outside the mask, S the slice of the reference at the pose that was found, and d a
soft disc of the mask's diameter about the centre of the mask as the image shows it,

    σ²(|k|) = ⟨ |FT(d · (X − C S))|² ⟩ · n² / Σ d²

is averaged over the shell and over a sample of the images of each half set and optics group.

Differs from RELION, which averages the residual over the whole image (inside the particle mask). What a rigid model of
the rest of the particle leaves behind lies where the particle is, so that a spectrum of the whole image would be too
low where the body is searched.
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
from lrcore.particles.subsets import spread_rows
from lrcore.records import Expectation, Particles
from lrcore.refinement.geometry import SearchGeometry
from lrcore.refinement.reference import Reference

NoiseResiduals = tuple[Float64, npt.NDArray[np.int32]]
"""Residual powers (m, shells) of m images, and their optics groups (m,)."""

MAX_SAMPLED_IMAGES = 1024
"""Largest number of images of a half set that are measured, evenly spread over its batches."""
GROUP_SHRINKAGE_IMAGES = 10.0
"""The spectrum of a group is shrunk towards the mean of all images with the weight of this many images."""


def choose_sample(rows: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.bool_]:
    """Return which of `total` particles to measure, (total,): up to SAMPLE of the `rows`, evenly spread over them."""
    out = np.zeros(total, np.bool_)
    out[spread_rows(rows, MAX_SAMPLED_IMAGES)] = True
    return out


def measure_residuals(
    batch: Batch,
    selected: npt.NDArray[np.bool_],
    particles: Particles,
    found: Expectation,
    reference: Reference,
    geometry: SearchGeometry,
    backend: Backend,
) -> tuple[Float64, npt.NDArray[np.int32]]:
    """Return the residual powers (m, shells) of the selected valid images of a batch, and their optics groups (m,).

    selected: (B,). found: (B,) poses, and which images hold the body: of the others nothing is subtracted.
    """
    chosen = np.nonzero(selected & ~batch.bad)[0]
    if len(chosen) == 0:
        return np.empty((0, geometry.box // 2 + 1)), np.empty(0, np.int32)
    power = residual_power(batch, chosen, particles, found, reference, geometry, backend)
    return power, particles.group[batch.rows[chosen]]


def residual_power(
    batch: Batch,
    chosen: npt.NDArray[np.int64],
    particles: Particles,
    found: Expectation,
    reference: Reference,
    geometry: SearchGeometry,
    backend: Backend,
) -> Float64:
    """Return the power per shell of the residuals of some images, on the scale of the whole image.

    batch: images without the density outside the mask. chosen: (m,) rows of the batch. found: (B,) poses of the
    batch, and which images hold the body: of the others nothing is subtracted.
    Returns (m, n // 2 + 1).
    """
    n, window, workers = geometry.box, geometry.window, backend.threads
    chosen_poses, magnification = found.poses.select(chosen), magnification_in_3d(particles, batch.rows[chosen])
    rows, centres = backend.to_device(chosen), geometry.centre_in(chosen_poses, magnification)
    residual, ctf = backend.to_host(batch.spectrum[rows]), backend.to_host(batch.ctf[rows])
    # The reference is sampled on the grid of the window: its slice at k of the full grid is that at k · window / n.
    ratio = window / n
    samples = half_plane(
        n, (min(reference.frame.volume.limit / ratio, (n - 1) // 2) / largest_magnification(particles),)
    )
    planes = backend.kernels.project_slices(
        reference.frame.volume, magnified_rotation(chosen_poses.rotation, magnification) * ratio, samples
    )
    ctf = ctf * found.is_present[chosen][:, None, None]
    backend.kernels.subtract_model(residual, ctf, planes, -centres, samples)
    disc = cosine_edge(radius_grid(window, 2), 0.5 * geometry.diameter, 3.0)
    ft = scipy.fft.rfftn(crop_about_points(residual, centres, window, workers) * disc, axes=(1, 2), workers=workers)
    power = shell_mean(ft.real**2 + ft.imag**2, window, 2) * (n**2 / float((disc**2).sum()))
    weights = np.stack(
        [np.interp(np.arange(n // 2 + 1) * ratio, np.arange(power.shape[1]), row) for row in np.eye(power.shape[1])]
    )
    return power @ weights


def crop_about_points(spectra: Complex64, points: Float64, size: int, workers: int = 1) -> Float32:
    """Return the size × size pixels about a point of each image, given by its FT. Overwrites the spectra.

    points: (B, 2), (x, y) in pixels from n // 2. Each axis is cropped before the next one is transformed.
    """
    n = spectra.shape[1]
    start = 2j * np.pi / n * (points - size // 2)
    spectra *= np.exp(start[:, 1:] * np.fft.fftfreq(n, 1.0 / n)).astype(np.complex64)[:, :, None]
    spectra *= np.exp(start[:, :1] * np.arange(n // 2 + 1)).astype(np.complex64)[:, None, :]
    rows = scipy.fft.ifft(spectra, axis=1, workers=workers, overwrite_x=True)[:, :size]
    return scipy.fft.irfft(rows, n, axis=2, workers=workers)[:, :, :size]


def noise_spectrum(power: Float64, group: npt.NDArray[np.integer], groups: int) -> Float64:
    """Return the noise (groups, shells) from the residual powers (m, shells) of images of the given groups (m,).

    The mean of each group is shrunk towards the mean of all by GROUP_SHRINKAGE_IMAGES images.
    """
    mean = power.mean(axis=0)
    out = np.empty((groups, power.shape[1]))
    for number in range(groups):
        own = power[group == number]
        out[number] = (own.sum(axis=0) + GROUP_SHRINKAGE_IMAGES * mean) / (len(own) + GROUP_SHRINKAGE_IMAGES)
    out[:, 0] = out[:, 1]
    return np.maximum(out, 1e-6 * out.max())


def pooled_noise_spectrum(residuals: Sequence[NoiseResiduals], particles: Particles) -> Float64:
    """Return the noise (groups, shells) from the residual powers and groups of several batches.

    Raises InputError when no image is valid.
    """
    power, groups = (np.concatenate(column) for column in zip(*residuals, strict=True))
    if len(power) == 0:
        raise InputError(
            f"{particles.path}: a half set has no valid image (all are constant, NaN or of an absurd amplitude): "
            "check the stacks (lrwidgets info STACK)"
        )
    return noise_spectrum(power, groups, len(particles.optics))


def apply_noise_model(noise: Float64, model: str) -> Float64:
    """Return the noise (2, groups, shells) of a noise model from the noise that was measured.

    coloured: as measured. symmetric: one spectrum for all groups. white: one number for all groups and shells.
    """
    if model == "coloured":
        return noise
    shared = np.broadcast_to(noise.mean(axis=1, keepdims=True), noise.shape)
    if model == "white":
        samples = np.arange(
            noise.shape[2]
        )  # the number of samples in a shell of an image is proportional to its radius
        shared = np.broadcast_to(np.average(shared, axis=2, weights=samples)[..., None], noise.shape)
    return shared.copy()
