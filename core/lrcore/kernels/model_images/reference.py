"""The definitions of `subtract` and `compare` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.imaging.grids import FourierSamples


def apply_shifts(planes: Complex64, shifts: Float64, samples: FourierSamples) -> npt.NDArray[np.complex128]:
    """Slices (B, S) times e^{+2πi k·shift / n}: as they are seen at origins `shifts` (B, 2), pixels (x, y)."""
    k = np.stack([samples.kx, samples.ky])
    return planes * np.exp(2j * np.pi / samples.size * (shifts @ k))


def make_column_hermitian(spectra: npt.NDArray[np.complexfloating], samples: FourierSamples) -> None:
    """After the samples (kx = 0, ky > 0) were written: make the column kx = 0 Hermitian again. In place."""
    ky = samples.ky[samples.kx == 0]
    spectra[:, -ky, 0] = spectra[:, ky, 0].conj()


def subtract_model(
    spectra: Complex64, ctf: Float32, planes: Complex64, shifts: Float64, samples: FourierSamples
) -> None:
    """See the contract."""
    spectra[:, samples.ky, samples.kx] -= ctf[:, samples.ky, samples.kx] * apply_shifts(planes, shifts, samples)
    make_column_hermitian(spectra, samples)


def correlate_with_model(
    spectra: Complex64, ctf: Float32, planes: Complex64, shifts: Float64, samples: FourierSamples
) -> Float32:
    """See the contract."""
    model = ctf[:, samples.ky, samples.kx] * apply_shifts(planes, shifts, samples)
    image = spectra[:, samples.ky, samples.kx]
    shell = np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64)
    out = np.zeros((len(spectra), 3, samples.size // 2 + 1), np.float32)
    for i, values in enumerate(((image.conj() * model).real, np.abs(model) ** 2, np.abs(image) ** 2)):
        out[:, i] = [np.bincount(shell, weights=row, minlength=samples.size // 2 + 1) for row in values]
    return out
