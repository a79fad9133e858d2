"""Fourier volumes: the padded, band-limited half-space transform that slices are read from and inserted into."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.grids import Complex64, Float32, ft, ift, index_grid, resize

PADDING = 2
"""Oversampling of the Fourier volume: the box is padded this many times before its FT."""


@dataclass(frozen=True)
class FourierVolume:
    """The half x ≥ 0 of the FT of a map of `size` voxels padded to `PADDING · size`, up to a radius.

    data: (Z, Z, X) complex64; sample (kz, ky, kx) of the padded FT is data[c + kz, c + ky, 1 + kx] with c = Z // 2,
    kx from −1. It holds |k| ≤ PADDING · limit + 1, so a trilinear or quadratic read at radius ≤ limit (index units of
    the unpadded box) stays in.
    """

    data: Complex64
    size: int
    limit: int


def shape_for(limit: int) -> tuple[int, int, int]:
    """Shape of the data of a FourierVolume that can be read up to `limit` (index units of the unpadded box)."""
    reach = PADDING * limit + 1
    return (2 * reach + 1, 2 * reach + 1, reach + 2)


TRILINEAR, QUADRATIC = 2, 3
"""Powers of sinc that are the transforms of the linear and of the quadratic B-spline."""


def gridding_correction(size: int, kernel: int = TRILINEAR) -> tuple[Float32, Float32, Float32]:
    """The FT of the interpolation kernel in real space, sinc(x / (PADDING · size))^kernel, as three factors.

    Sampled on size voxels, broadcastable. A map is divided by it before it is read, and after an insertion.
    """
    axis = (np.sinc((np.arange(size) - size // 2) / (PADDING * size)) ** kernel).astype(np.float32)
    return axis[:, None, None], axis[None, :, None], axis[None, None, :]


def from_map(array: npt.NDArray[np.floating], limit: int, workers: int = 1, kernel: int = TRILINEAR) -> FourierVolume:
    """(n, n, n) real map → its FourierVolume, readable up to `limit` ≤ (n − 1) // 2 with the given kernel."""
    size = array.shape[-1]
    z, y, x = gridding_correction(size, kernel)
    padded = resize((array / z / y / x).astype(np.float32), PADDING * size, 3)
    spectrum = ft(padded, 3, workers)
    reach = PADDING * limit + 1
    rows = np.arange(-reach, reach + 1)
    data = np.empty(shape_for(limit), np.complex64)
    data[:, :, 1:] = spectrum[rows[:, None], rows[None, :], : reach + 1]
    data[:, :, 0] = data[::-1, ::-1, 2].conj()
    return FourierVolume(data, size, limit)


def to_map(volume: FourierVolume, workers: int = 1) -> Float32:
    """A FourierVolume that was built by insertion → the (n, n, n) real map, gridding-corrected."""
    size = PADDING * volume.size
    centre = volume.data.shape[0] // 2
    reach = min(centre, size // 2 - 1)
    spectrum = np.zeros((size, size, size // 2 + 1), np.complex64)
    rows = np.arange(-reach, reach + 1)
    spectrum[rows[:, None], rows[None, :], : reach + 1] = volume.data[
        centre + rows[:, None], centre + rows[None, :], 1 : reach + 2
    ]
    z, y, x = gridding_correction(volume.size)
    return (resize(ift(spectrum, size, 3, workers), volume.size, 3) / z / y / x).astype(np.float32)


def make_hermitian(data: npt.NDArray[np.inexact]) -> None:
    """Add to the plane x = 0 of a half-space accumulator what belongs there from x < 0: its Friedel mates. In place."""
    plane = data[:, :, 1]
    mate = plane[::-1, ::-1]
    data[:, :, 1] = plane + (np.conj(mate) if np.iscomplexobj(data) else mate)


def shell_radius(limit: int) -> npt.NDArray[np.float32]:
    """Radius, in index units of the unpadded box, of every sample of a FourierVolume: (Z, Z, X)."""
    reach = PADDING * limit + 1
    full = np.arange(-reach, reach + 1)
    squares = full[:, None, None] ** 2 + full[None, :, None] ** 2 + np.arange(-1, reach + 1)[None, None, :] ** 2
    return (np.sqrt(squares) / PADDING).astype(np.float32)


def filter_map(array: npt.NDArray[np.floating], gains: npt.NDArray[np.floating], workers: int = 1) -> Float32:
    """Multiply the FT of a map by a gain per shell 0 … n // 2, linear between shells, 0 beyond: (n, n, n)."""
    n = array.shape[-1]
    radius = np.sqrt(sum(k.astype(np.float32) ** 2 for k in index_grid(n, 3)))
    gain = np.interp(radius, np.arange(len(gains)), gains, right=0.0).astype(np.float32)
    return ift(ft(array, 3, workers) * gain, n, 3, workers).astype(np.float32)
