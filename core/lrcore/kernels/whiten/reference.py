"""Define the results of `whiten_images` and `whiten_windows` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64, IntArray
from lrcore.imaging.grids import FourierSamples, ft, ift, shell_index


def expand_shells(values: Float64, n: int) -> Float64:
    """Return values (..., N) of shells at every sample of a half-complex FT: (..., n, n // 2 + 1)."""
    return values[..., np.minimum(shell_index(n, 2), values.shape[-1] - 1)]


def whiten_images(spectrum: Complex64, ctf: Float32, noise: Float64, group: IntArray) -> tuple[Complex64, Float32]:
    """Divide images by their noise; see `lrcore.kernels.whiten`."""
    weight = ctf / expand_shells(noise, spectrum.shape[1])[group]
    return (weight * spectrum).astype(np.complex64), (weight * ctf).astype(np.float32)


def whiten_windows(
    spectrum: Complex64,
    ctf: Float32,
    noise: Float64,
    group: IntArray,
    variance: Float64,
    points: Float64,
    samples: FourierSamples,
) -> tuple[Complex64, Float32]:
    """Divide images by their noise and crop them to a window; see `lrcore.kernels.whiten`."""
    n, size = spectrum.shape[1], samples.size
    weight = ctf / (expand_shells(noise, n)[group] + ctf.astype(np.float64) ** 2 * expand_shells(variance, n))
    ky, kx = np.fft.fftfreq(n, 1.0 / n)[:, None], np.arange(n // 2 + 1)
    turn = np.exp(2j * np.pi / n * (points[:, :1, None] * kx + points[:, 1:, None] * ky))
    both = (weight * spectrum * turn, (weight * ctf).astype(np.complex128))
    W, w = ((n / size) ** 2 * ft(crop_symmetric(ift(v, n, 2), size), 2)[:, samples.ky, samples.kx] for v in both)
    return W.astype(np.complex64), w.real.astype(np.float32)


def crop_symmetric(images: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.floating]:
    """Crop images (B, n, n) to their middle (B, size, size), symmetrically as in the contract."""
    n = images.shape[-1]
    for axis in (1, 2):
        cropped = np.take(images, np.arange(size) + n // 2 - size // 2, axis=axis)
        if size % 2 == 0 and size < n:
            beyond = np.take(images, n // 2 + size // 2, axis=axis)
            edge = cropped[:, 0] if axis == 1 else cropped[:, :, 0]
            edge[...] = 0.5 * (edge + beyond)
        images = cropped
    return images
