"""Define the results of `search_lattice` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.arrays import FloatArray
from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.kernels.project.reference import project_slices


def search_lattice(
    volume: FourierVolume,
    W: npt.NDArray[np.complex64],
    w: npt.NDArray[np.float32],
    samples: FourierSamples,
    centres: FloatArray,
    lattice: FloatArray,
    lever: FloatArray,
    shifts: FloatArray,
    penalty_shift: FloatArray,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Evaluate the likelihood on a lattice of rotations; see `lrcore.kernels.lattice_search`."""
    count = samples.ends[0]
    band = FourierSamples(samples.kx[:count], samples.ky[:count], (count,), samples.size)
    W, w = W[:, :count].astype(np.complex128), w[:, :count].astype(np.float64)
    step = 2j * np.pi / samples.size
    phase_x = np.exp(-step * np.outer(shifts, band.kx))
    phase_y = np.exp(-step * np.outer(shifts, band.ky))
    best = np.empty((len(W), len(lattice)), np.float32)
    where = np.empty(best.shape, np.int32)
    for j, turn in enumerate(lattice):
        rotations = centres @ turn
        plane = project_slices(volume, rotations, band)
        shift = ((rotations - centres) @ lever)[:, :2]
        cross = W.conj() * plane * np.exp(-step * (shift[:, :1] * band.kx + shift[:, 1:] * band.ky))
        value = -2 * np.einsum("bs,ys,xs->byx", cross, phase_y, phase_x).real
        value += (w * np.abs(plane) ** 2).sum(axis=1)[:, None, None] + penalty_shift
        flat = value.reshape(len(W), -1)
        where[:, j] = flat.argmin(axis=1)
        best[:, j] = flat.min(axis=1)
    return best, where
