"""Keep the FT of a map, and make from it what is needed of the map: filtered, in a window, or on a coarser grid.

A map is transformed once; a filter is then a factor, a window takes the part of the inverse transform that ends in it,
and what has no high frequencies is made on fewer voxels.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from lrcore.arrays import Complex64, Float32, Float64
from lrcore.imaging.grids import BLOCK, crop_ft, ft, ift, index_grid, iterate_planes, radius_table

CROP_MARGIN = 8
"""Shells that a coarser grid has beyond those that are wanted, for what a soft mask spreads."""


@dataclass(frozen=True)
class MapSpectrum:
    """FT of a map on an n³ grid.

    Attributes
    ----------
    data : (n, n, n // 2 + 1) complex64
        The FT by `ft`, in FFT order: its origin is voxel n // 2.
    size
        n.
    """

    data: Complex64
    size: int

    @classmethod
    def from_map(cls, array: Float32, workers: int = 1) -> "MapSpectrum":
        """Transform a map (n, n, n). workers: threads of the FFT."""
        return cls(ft(array, 3, workers).astype(np.complex64, copy=False), array.shape[-1])

    def shell_table(self, gains: Float64) -> Float32:
        """Return gains of the shells 0, 1, … as a factor for each |k|²: linear between shells, 0 beyond the last."""
        return np.interp(radius_table(self.size), np.arange(len(gains)), gains, right=0.0).astype(np.float32)

    def lowpass_table(self, end: int) -> Float32:
        """Return a factor for each |k|²: 1 for |k| < end, else 0."""
        return (radius_table(self.size) < end).astype(np.float32)

    def filtered(self, table: Float32) -> "MapSpectrum":
        """Return the FT of the map with a factor for each |k|²."""
        data = np.empty_like(self.data)
        for z, squares in iterate_planes(self.size):
            np.multiply(self.data[z], table[squares], out=data[z])
        return MapSpectrum(data, self.size)

    def to_map(self, workers: int = 1) -> Float32:
        """Transform back to the map (n, n, n)."""
        return ift(self.data, self.size, 3, workers).astype(np.float32, copy=False)

    def cropped(self, limit: int) -> "MapSpectrum":
        """Return the FT of the map on the smallest grid that holds the shells up to a limit, with a margin.

        The map has the same values on m³ voxels, its origin at voxel m // 2; m is even, and at most n.
        """
        m = coarse_size(self.size, limit)
        if m == self.size:
            return self
        data = crop_ft(self.data, self.size, m)
        data *= np.float32((m / self.size) ** 3)
        return MapSpectrum(data.astype(np.complex64, copy=False), m)

    def window(self, table: Float32, centre: tuple[int, ...], size: int, workers: int = 1) -> Float32:
        """Return a window of the map with a factor for each |k|².

        Parameters
        ----------
        table : (s,)
            The factor, `shell_table` or `lowpass_table`.
        centre
            Voxel (z, y, x) of the map at the origin size // 2 of the window. Beyond the box, the map is repeated.
        size
            Edge of the window.
        workers
            Threads of the FFT.

        Returns
        -------
        (size, size, size) float32.
        """
        n = self.size
        # The FT has its origin at voxel n // 2, the FFT at voxel 0.
        rows = [(np.arange(size) - size // 2 + c - n // 2) % n for c in centre]
        rows_squared, columns_squared = (np.asarray((k**2).squeeze(), np.int32) for k in index_grid(n, 2))
        flat_squares = (rows_squared[:, None] + rows_squared)[:, :, None]
        last = int(np.sqrt(np.nonzero(table)[0].max(initial=0)))
        middle = np.empty((size, n, min(last, n // 2) + 1), np.complex64)
        for first in range(0, middle.shape[2], BLOCK):
            part = slice(first, min(first + BLOCK, middle.shape[2]))
            block = self.data[:, :, part] * table[flat_squares + columns_squared[part]]
            middle[:, :, part] = scipy.fft.ifft(block, axis=0, workers=workers, overwrite_x=True)[rows[0]]
        flat = scipy.fft.ifft(middle, axis=1, workers=workers, overwrite_x=True)[:, rows[1]]
        return scipy.fft.irfft(flat, n, axis=2, workers=workers)[:, :, rows[2]].astype(np.float32, copy=False)


def coarse_size(n: int, limit: int) -> int:
    """Return the size of the grid, at most n, that holds the shells up to a limit of an n³ map, with a margin."""
    m = 2 * scipy.fft.next_fast_len(limit + CROP_MARGIN, real=True)
    return m if m < n else n
