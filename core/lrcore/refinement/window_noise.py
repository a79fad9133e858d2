"""Estimate the noise spectra inside the window: power of the residual in the projection of the mask.

With W and w the windows of an image and its weights for the noise σ² that is assumed, S the slice of the reference at
the pose that was found, and d a soft disc of the mask's diameter about the mask's centre, the residual W − w S has a
power per shell, and noise of the spectrum σ² would give the power FT(K A), K the inverse FT of w and A the
autocorrelation of d:

    σ²_new(|k|) = σ²(|k|) · ⟨|FT(d · FT⁻¹(W − w S))|²⟩ / FT(K A)

which is `noise.residual_power` as a ratio: the CTF, in W and in w, cancels.
"""

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification
from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples, half_plane, radius_grid, shell_mean
from lrcore.imaging.poses import magnified_rotation
from lrcore.masks import cosine_edge
from lrcore.records import Expectation
from lrcore.refinement.half_set_pass import HalfSetContext, ParticleRange
from lrcore.refinement.noise import NoiseResiduals, crop_about_points
from lrcore.refinement.reference import Reference
from lrcore.refinement.window import Window
from lrcore.refinement.window_batch import WindowBatch

LEAST_POWER = 1e-4
"""Power that noise has at least in a shell, relative to that of the strongest shell."""


def measure_window_residuals(
    context: HalfSetContext,
    part: ParticleRange,
    batch: WindowBatch,
    found: Expectation,
    reference: Reference,
    backend: Backend,
) -> NoiseResiduals:
    """Return the noise σ² (m, n // 2 + 1) that the residuals of the sampled images of a batch have, and their groups.

    Parameters
    ----------
    context : of the half set, with `cutting`
    part : particles of the half set, of which those to measure are marked
    batch : B of their windows
    found : (B,) poses, and which images hold the body: of the others nothing is subtracted
    reference : of the half set, on the device
    backend : where the kernels run
    """
    cutting = context.cutting
    assert cutting is not None
    chosen = np.nonzero(part.measure_noise[batch.rows] & ~batch.bad)[0]
    group = part.particles.group[batch.rows[chosen]].astype(np.int32)
    if len(chosen) == 0:
        return np.empty((0, context.noise.shape[1])), group
    window, volume = cutting.window, reference.frame.volume
    disc = cosine_edge(radius_grid(window.size, 2), 0.5 * context.geometry.diameter, 3.0)
    reach = min(volume.limit / largest_magnification(part.particles), (window.size - 1) // 2)
    samples = half_plane(window.size, (reach,))
    images = disc * _residual_images(batch, chosen, found.select(chosen), volume, samples, window, backend)
    ft = scipy.fft.rfft2(images, axes=(1, 2), workers=backend.threads)
    weight = backend.to_host(batch.weight[backend.to_device(chosen)])
    expected = _never_zero(_power_of_noise(weight, disc, backend.threads))
    ratio = shell_mean(ft.real**2 + ft.imag**2, window.size, 2) / expected
    return context.noise[group] * window.shells_of_box(ratio), group


def _residual_images(
    batch: WindowBatch,
    chosen: npt.NDArray[np.int64],
    found: Expectation,
    volume: FourierVolume,
    samples: FourierSamples,
    window: Window,
    backend: Backend,
) -> Float32:
    """Return the residuals W − w S of some windows as images about the mask's centre: (m, D, D).

    found: (m,) poses and presence. volume: reference, on the device. samples: of its slices S.
    """
    behind = None if batch.magnification is None else batch.magnification[chosen]
    poses = found.poses
    at = window.seen_at(poses.rotation, poses.origin_A, behind) - batch.points[chosen]
    index = backend.to_device(chosen)
    residual = batch.data[index]
    planes = backend.kernels.project_slices(volume, magnified_rotation(poses.rotation, behind), samples)
    weight = batch.weight[index] * backend.to_device(found.is_present.astype(np.float32))[:, None, None]
    backend.kernels.subtract_model(residual, weight, planes, -at, samples)
    return crop_about_points(backend.to_host(residual), at, window.size, backend.threads)


def _power_of_noise(weight: Float32, disc: Float32, workers: int) -> Float64:
    """Return the power per shell, in a disc (D, D), of noise with the weights (m, D, D // 2 + 1): (m, D // 2 + 1)."""
    size = len(disc)
    autocorrelation = scipy.fft.irfft2(np.abs(scipy.fft.rfft2(disc)) ** 2, s=disc.shape).astype(np.float32)
    kernel = scipy.fft.irfft2(weight, s=disc.shape, axes=(1, 2), workers=workers) / np.float32(size**2)
    return shell_mean(scipy.fft.rfft2(kernel * autocorrelation, axes=(1, 2), workers=workers).real, size, 2)


def _never_zero(values: Float64) -> Float64:
    """Return values (m, shells) with those next to nothing raised to LEAST_POWER of the largest of their row."""
    least = LEAST_POWER * values.max(axis=1, keepdims=True)
    return np.maximum(values, np.maximum(least, np.finfo(np.float64).tiny))
