"""Define the results of `subtract_model` and `correlate_with_model` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.imaging.grids import FourierSamples


def apply_shifts(planes: Complex64, shifts: Float64, samples: FourierSamples) -> npt.NDArray[np.complex128]:
    """Multiply slices (B, S) by e^{+2πi k·shift / n}: move them to the origins `shifts` (B, 2), pixels (x, y)."""
    k = np.stack([samples.kx, samples.ky])
    return planes * np.exp(2j * np.pi / samples.size * (shifts @ k))


def make_column_hermitian(spectra: npt.NDArray[np.complexfloating], samples: FourierSamples) -> None:
    """Make the column kx = 0 Hermitian again, in place, after its samples with ky > 0 were changed."""
    ky = samples.ky[samples.kx == 0]
    spectra[:, -ky, 0] = spectra[:, ky, 0].conj()


def subtract_model(
    spectra: Complex64, ctf: Float32, planes: Complex64, shifts: Float64, samples: FourierSamples
) -> None:
    """Subtract model images from spectra; see `lrcore.kernels.model_images`."""
    spectra[:, samples.ky, samples.kx] -= ctf[:, samples.ky, samples.kx] * apply_shifts(planes, shifts, samples)
    make_column_hermitian(spectra, samples)


def correlate_with_model(
    spectra: Complex64, ctf: Float32, planes: Complex64, shifts: Float64, samples: FourierSamples
) -> Float32:
    """Correlate images with their models by shell; see `lrcore.kernels.model_images`."""
    model = ctf[:, samples.ky, samples.kx] * apply_shifts(planes, shifts, samples)
    image = spectra[:, samples.ky, samples.kx]
    shell = samples.shell
    out = np.zeros((len(spectra), 3, samples.size // 2 + 1), np.float32)
    for i, values in enumerate(((image.conj() * model).real, np.abs(model) ** 2, np.abs(image) ** 2)):
        out[:, i] = [np.bincount(shell, weights=row, minlength=samples.size // 2 + 1) for row in values]
    return out
