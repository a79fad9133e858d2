"""Convert between maps and Fourier volumes: the padded, band-limited half-space FT for reading and inserting slices."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Complex64, Float32
from lrcore.imaging.grids import ft_of_padded, ift_cropped, multiply_shells

PADDING = 2
"""Oversampling of the Fourier volume: factor by which the box is padded before the FT."""


@dataclass(frozen=True)
class FourierVolume:
    """The half x ≥ 0 of the FT of a map of `size` voxels padded to `PADDING · size`, up to a radius.

    Sample (kz, ky, kx) of the padded FT is data[c + kz, c + ky, 1 + kx] with c = Z // 2 and kx from −1. Samples with
    |k| ≤ PADDING · limit + 1 are stored, so that a trilinear or quadratic read at a radius ≤ limit stays inside.

    Attributes
    ----------
    data : (Z, Z, X) complex64
        The samples.
    size
        Box of the map in voxels.
    limit
        Largest radius that can be read, in index units of the unpadded box.
    """

    data: Complex64
    size: int
    limit: int


def fourier_volume_shape(limit: int) -> tuple[int, int, int]:
    """Return the shape of a FourierVolume that can be read up to `limit` (index units of the unpadded box)."""
    reach = PADDING * limit + 1
    return (2 * reach + 1, 2 * reach + 1, reach + 2)


TRILINEAR, QUADRATIC = 2, 3
"""Powers of sinc that are the FTs of the linear and the quadratic B-spline."""


def gridding_correction(size: int, kernel: int = TRILINEAR) -> tuple[Float32, Float32, Float32]:
    """Return the FT of the interpolation kernel in real space as three broadcastable factors (z, y, x).

    sinc(x / (PADDING · size))^kernel on `size` voxels per axis. A map is divided by it before slices are read, and
    after an insertion.
    """
    axis = (np.sinc((np.arange(size) - size // 2) / (PADDING * size)) ** kernel).astype(np.float32)
    return axis[:, None, None], axis[None, :, None], axis[None, None, :]


def map_to_fourier_volume(
    array: npt.NDArray[np.floating], limit: int, workers: int = 1, kernel: int = TRILINEAR
) -> FourierVolume:
    """Transform a map to a FourierVolume.

    Parameters
    ----------
    array : (n, n, n)
        The map.
    limit
        Largest radius to be read, at most (n − 1) // 2.
    workers
        Threads of the FFT.
    kernel
        Interpolation with which it will be read: TRILINEAR or QUADRATIC.
    """
    size = array.shape[-1]
    corrected = array.astype(np.float32)
    for factor in gridding_correction(size, kernel):
        corrected /= factor
    data = np.empty(fourier_volume_shape(limit), np.complex64)
    first = 1
    for block in ft_of_padded(corrected, PADDING * size, PADDING * limit + 1, workers):
        data[:, :, first : first + block.shape[2]] = block
        first += block.shape[2]
    data[:, :, 0] = data[::-1, ::-1, 2].conj()
    return FourierVolume(data, size, limit)


def fourier_volume_to_map(volume: FourierVolume, workers: int = 1) -> Float32:
    """Transform a FourierVolume that was built by insertion to a map (n, n, n), with gridding correction."""
    size = PADDING * volume.size
    centre = volume.data.shape[0] // 2
    reach = min(centre, size // 2 - 1)
    inside = slice(centre - reach, centre + reach + 1)
    array = ift_cropped(volume.data[inside, inside, 1 : reach + 2], size, volume.size, workers)
    for factor in gridding_correction(volume.size):
        array /= factor
    return array


def make_hermitian(data: npt.NDArray[np.inexact]) -> None:
    """Add the Friedel mates from x < 0 to the plane x = 0 of a half-space accumulator, in place."""
    plane = data[:, :, 1]
    mate = plane[::-1, ::-1]
    data[:, :, 1] = plane + (np.conj(mate) if np.iscomplexobj(data) else mate)


def squared_radii(limit: int) -> Iterator[npt.NDArray[np.int32]]:
    """Yield |k|² of the samples of each plane z of a FourierVolume, in steps of the padded box: (Z, X) each."""
    reach = PADDING * limit + 1
    full, half = np.arange(-reach, reach + 1, dtype=np.int32), np.arange(-1, reach + 1, dtype=np.int32)
    flat = full[:, None] ** 2 + half**2
    for z in full:
        yield flat + z**2


def filter_map(array: npt.NDArray[np.floating], gains: npt.NDArray[np.floating], workers: int = 1) -> Float32:
    """Multiply the FT of a map by a gain for each shell.

    Parameters
    ----------
    array : (n, n, n)
        The map.
    gains : (s,)
        Gain of the shells 0 … s − 1; linear between shells, 0 beyond the last.
    workers
        Threads of the FFT.

    Returns
    -------
    (n, n, n) float32.
    """
    spectrum = scipy.fft.rfftn(array.astype(np.float32, copy=False), workers=workers)
    multiply_shells(spectrum, gains, array.shape[-1])
    return scipy.fft.irfftn(spectrum, array.shape, workers=workers, overwrite_x=True)
