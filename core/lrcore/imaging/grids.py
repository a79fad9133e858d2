"""Define Fourier grids once: the FFT centre, frequency grids, shells, crop and pad.

Arrays are `[..., z, y, x]`; the origin of an array of size n is voxel `n // 2`. The FT is Σ f(x) exp(−2πi k·x).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
import scipy.fft

from lrcore.arrays import Complex64, Float32, Float64, Int64


def ft(
    array: npt.NDArray[np.floating], ndim: int, workers: int = 1, fft: ModuleType = scipy.fft
) -> npt.NDArray[np.complexfloating]:
    """Return the half-complex FT over the last `ndim` axes with the origin at voxel n // 2, in FFT order.

    Parameters
    ----------
    array : (..., n, n) or (..., n, n, n)
        Real images or maps.
    ndim
        Number of axes to transform.
    workers
        Threads of SciPy's FFT.
    fft
        FFT module that matches the array, with the functions of `scipy.fft`.

    Returns
    -------
    (..., n, n // 2 + 1).
    """
    axes = tuple(range(-ndim, 0))
    n = array.shape[-1]
    if fft is scipy.fft and ndim == 2 and n % 2 == 0:
        # A shift by n / 2 is a factor of (−1)^k, which costs less than moving the images.
        spectrum = scipy.fft.rfftn(array, axes=axes, workers=workers)
        spectrum.view(spectrum.real.dtype)[...] *= _signs(n)
        return spectrum
    options = {"workers": workers} if fft is scipy.fft else {}
    return fft.rfftn(fft.ifftshift(array, axes=axes), axes=axes, **options)


@lru_cache(maxsize=4)
def _signs(n: int) -> Float32:
    """Return (−1)^(ky + kx) of a half-complex FT, for its real and imaginary parts: (n, 2 (n // 2 + 1))."""
    signs = np.where(sum(index_grid(n, 2)) % 2, -1, 1).astype(np.float32)
    return np.repeat(signs, 2, axis=1)


def ift(
    spectrum: npt.NDArray[np.complexfloating] | Float32, n: int, ndim: int, workers: int = 1
) -> npt.NDArray[np.floating]:
    """Invert `ft` for arrays whose last `ndim` axes have size n.

    Parameters
    ----------
    spectrum : (..., n, n // 2 + 1)
        Half-complex FT in FFT order.
    n
        Size of the axes in real space.
    ndim
        Number of axes to transform.
    workers
        Threads of the FFT.
    """
    axes = tuple(range(-ndim, 0))
    array = scipy.fft.irfftn(spectrum, s=(n,) * ndim, axes=axes, workers=workers)
    return scipy.fft.fftshift(array, axes=axes)


def index_grid(n: int, ndim: int) -> tuple[Int64, ...]:
    """Return the integer frequency indices of a half-complex FT, broadcastable, slowest axis first (kx last, ≥ 0).

    Parameters
    ----------
    n, ndim
        Box and number of axes.
    """
    full = np.fft.fftfreq(n, 1.0 / n).round().astype(np.int64)
    axes = [full] * (ndim - 1) + [np.arange(n // 2 + 1)]
    return tuple(a.reshape([-1 if i == j else 1 for j in range(ndim)]) for i, a in enumerate(axes))


@lru_cache(maxsize=4)
def shell_index(n: int, ndim: int) -> Int64:
    """Return the shell number round(|k|) of each sample of a half-complex FT: (n, ..., n // 2 + 1), read-only."""
    squares = sum(k.astype(np.float64) ** 2 for k in index_grid(n, ndim))
    shells = np.asarray(np.rint(np.sqrt(squares)), dtype=np.int64)
    shells.setflags(write=False)
    return shells


def radius_table(n: int) -> Float64:
    """Return |k| as a table indexed by |k|², for a half-complex 3D FT of size n; it avoids a grid of radii."""
    return np.sqrt(np.arange(3 * (n // 2) ** 2 + 1, dtype=np.float64))


def iterate_planes(n: int) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """Yield each plane z of a half-complex 3D FT of size n with |k|² of its samples: (n, n // 2 + 1)."""
    kz, ky, kx = (k.astype(np.int32) for k in index_grid(n, 3))
    flat = (ky**2 + kx**2)[0]
    for z in range(n):
        yield z, flat + kz[z, 0, 0] ** 2


def multiply_shells(spectrum: npt.NDArray[np.complexfloating], gains: npt.NDArray[np.floating], n: int) -> None:
    """Multiply a half-complex 3D FT by a gain per shell, in place.

    Parameters
    ----------
    spectrum : (n, n, n // 2 + 1)
        FT in FFT order.
    gains : (s,)
        Gain of the shells 0 … s − 1; linear between shells, 0 beyond the last.
    n
        Box in voxels.
    """
    table = np.interp(radius_table(n), np.arange(len(gains)), gains, right=0.0).astype(np.float32)
    for z, squares in iterate_planes(n):
        spectrum[z] *= table[squares]


def shell_frequency(n: int, pixel_size_A: float) -> Float64:
    """Return the frequency in 1/Å of the shells 0 … n // 2 of a box of n voxels: (n // 2 + 1,)."""
    return np.arange(n // 2 + 1) / (n * pixel_size_A)


def hermitian_weight(n: int, ndim: int) -> Float64:
    """Return how often each half-complex sample occurs in the full FT: 1 on the planes kx = 0 and kx = n/2, else 2."""
    weight: Float64 = np.full(n // 2 + 1, 2.0)
    weight[0] = 1.0
    if n % 2 == 0:
        weight[-1] = 1.0
    return np.expand_dims(weight, tuple(range(ndim - 1)))


def shell_sum(values: npt.NDArray[np.floating], n: int, ndim: int) -> Float64:
    """Return sums over the shells 0 … n // 2 of a half-complex array, both Friedel mates counted.

    Parameters
    ----------
    values : (..., n, n // 2 + 1)
        Half-complex array of `ndim` axes after the leading ones.
    n, ndim
        Box, and 2 for images or 3 for maps.

    Returns
    -------
    (..., n // 2 + 1) float64.
    """
    lead = values.shape[: values.ndim - ndim]
    if ndim == 3:
        out = _sum_by_plane(values.reshape(-1, n, n, n // 2 + 1), n)
    else:
        shells = shell_index(n, ndim).ravel()
        weighted = (values * hermitian_weight(n, ndim)).reshape(-1, shells.size)
        out = np.stack([np.bincount(shells, weights=row, minlength=n)[: n // 2 + 1] for row in weighted])
    return out.reshape(*lead, n // 2 + 1).astype(np.float64)


def _sum_by_plane(volumes: npt.NDArray[np.floating], n: int) -> Float64:
    """Return `shell_sum` of (m, n, n, n // 2 + 1) plane by plane, without a grid of the size of the volume."""
    shells = np.rint(radius_table(n)).astype(np.int64)
    weight = hermitian_weight(n, 2)
    out = np.zeros((len(volumes), int(shells[-1]) + 1))
    for z, squares in iterate_planes(n):
        shell = shells[squares].ravel()
        for total, volume in zip(out, volumes, strict=True):
            total += np.bincount(shell, weights=(volume[z] * weight).ravel(), minlength=len(total))
    return out[:, : n // 2 + 1]


def shell_products(
    first: npt.NDArray[np.complexfloating], second: npt.NDArray[np.complexfloating], n: int
) -> tuple[Float64, Float64, Float64]:
    """Return Σ Re(F₁ F₂*), Σ|F₁|² and Σ|F₂|² over the shells 0 … n // 2 of the half-complex FTs of two n³ maps.

    Each stored sample counts once, so that the plane kx = 0, which holds both Friedel mates, counts twice. RELION sums
    so for its FSC; `shell_sum` does not (docs/decisions/021).

    Parameters
    ----------
    first, second : (n, n, n // 2 + 1)
        FTs in FFT order.
    n
        Box in voxels.

    Returns
    -------
    Three arrays (n // 2 + 1,).
    """
    shells = np.rint(radius_table(n)).astype(np.int64)
    out = np.zeros((3, int(shells[-1]) + 1))
    for z, squares in iterate_planes(n):
        shell, a, b = shells[squares].ravel(), first[z], second[z]
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        for total, product in zip(out, products, strict=True):
            total += np.bincount(shell, weights=product.ravel(), minlength=len(total))
    cross, power_first, power_second = out[:, : n // 2 + 1]
    return cross, power_first, power_second


@lru_cache(maxsize=8)
def shell_count(n: int, ndim: int) -> Float64:
    """Return the number of samples of the full FT in each of the shells 0 … n // 2, read-only."""
    count = shell_sum(np.ones((n,) * (ndim - 1) + (n // 2 + 1,), np.float32), n, ndim)
    count.setflags(write=False)
    return count


def shell_mean(values: npt.NDArray[np.floating], n: int, ndim: int) -> Float64:
    """Return means over the shells 0 … n // 2 of a half-complex array, both Friedel mates counted.

    Parameters
    ----------
    values, n, ndim
        See `shell_sum`; the result has the same form.
    """
    return shell_sum(values, n, ndim) / shell_count(n, ndim)


def radius_grid(n: int, ndim: int, centre: tuple[float, ...] | None = None) -> Float32:
    """Return the distance in voxels of each voxel from a point: (n,) · ndim float32.

    Parameters
    ----------
    n, ndim
        Box and number of axes.
    centre
        The point, (z, y, x) voxels from the box centre n // 2; by default the box centre.
    """
    centre = centre or (0.0,) * ndim
    axes = [(np.arange(n) - n // 2 - c).astype(np.float32) ** 2 for c in centre]
    squares: Float32 = np.asarray(
        sum(a.reshape([-1 if i == j else 1 for j in range(ndim)]) for i, a in enumerate(axes))
    )
    return np.sqrt(squares, out=squares)


def resize(array: npt.NDArray[np.floating], n: int, ndim: int, fill: float = 0.0) -> npt.NDArray[np.floating]:
    """Crop or pad the last axes of an array, keeping the origin n // 2 on the origin.

    Parameters
    ----------
    array : (..., m, m) or (..., m, m, m)
        Images or maps.
    n
        New size of the axes.
    ndim
        Number of axes.
    fill
        Value outside the array.
    """
    return window_at(array, (array.shape[-1] // 2,) * ndim, n, fill)


def window_at(
    array: npt.NDArray[np.floating], centre: tuple[int, ...], n: int, fill: float = 0.0
) -> npt.NDArray[np.floating]:
    """Cut a window from the last axes of an array, with a given voxel at the new origin n // 2.

    Parameters
    ----------
    array : (..., m, m) or (..., m, m, m)
        Images or maps.
    centre
        The voxel, an index for each axis to cut.
    n
        Size of the window.
    fill
        Value outside the array.
    """
    lead = array.ndim - len(centre)
    out = np.full(array.shape[:lead] + (n,) * len(centre), fill, dtype=array.dtype)
    source, target = [slice(None)] * lead, [slice(None)] * lead
    for size, c in zip(array.shape[lead:], centre, strict=True):
        start = c - n // 2
        low, high = max(0, start), min(size, start + n)
        if high <= low:
            return out
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    out[tuple(target)] = array[tuple(source)]
    return out


def crop_ft(spectrum: npt.NDArray[np.complexfloating], n: int, m: int) -> npt.NDArray[np.complexfloating]:
    """Crop the half-complex FT of an n³ map to that of the same box in m³ ≤ n³ voxels.

    The origin of the FT stays in place: for FTs by `ft`, it is voxel n // 2 before and m // 2 after. The Nyquist lines
    of an even m are 0. The values are not rescaled: the map is (n / m)³ stronger.

    Parameters
    ----------
    spectrum : (n, n, n // 2 + 1)
        FT in FFT order.
    n, m
        Number of voxels per axis before and after.

    Returns
    -------
    (m, m, m // 2 + 1).
    """
    if m == n:
        return spectrum
    half = (m - 1) // 2
    rows = np.fft.fftfreq(m, 1.0 / m).round().astype(np.int64)
    inside = np.abs(rows) <= half
    out = np.zeros((m, m, m // 2 + 1), spectrum.dtype)
    out[np.ix_(inside, inside, np.arange(half + 1))] = spectrum[np.ix_(rows[inside], rows[inside], np.arange(half + 1))]
    return out


def interpolate_linear(grid: Float32, at: Float64) -> Float32:
    """Interpolate a grid (m, m, m) linearly to (n, n, n).

    Parameters
    ----------
    grid : (m, m, m)
        Values.
    at : (n,)
        Coordinates on each of the three axes, within [0, m − 1].
    """
    low = np.clip(at.astype(np.int64), 0, max(grid.shape[0] - 2, 0))
    high = np.minimum(low + 1, grid.shape[0] - 1)
    part = (at - low).astype(np.float32)
    for axis in (2, 1, 0):  # whole planes last, when the array is large
        weight = part.reshape([-1 if i == axis else 1 for i in range(3)])
        below, above = np.take(grid, low, axis), np.take(grid, high, axis)
        above -= below
        above *= weight
        above += below
        grid = above
    return grid


BLOCK = 24
"""Planes of kx that are transformed together, so that a whole padded volume is never in memory."""


def ft_of_padded(array: npt.NDArray[np.floating], size: int, reach: int, workers: int = 1) -> Iterator[Complex64]:
    """Yield the FT of a map padded to `size`, for |index| ≤ reach per axis and kx ≥ 0, in blocks of kx.

    Only the samples that are needed are transformed: along x, then y, then z.

    Parameters
    ----------
    array : (n, n, n)
        The map to pad, its origin at voxel n // 2.
    size
        Padded box in voxels.
    reach
        Largest index per axis.
    workers
        Threads of the FFT.

    Yields
    ------
    (2 reach + 1, 2 reach + 1, ≤ BLOCK) complex64, z and y centred on 0.
    """
    n, rows = array.shape[-1], np.arange(-reach, reach + 1)
    # The map lies in the corner of the padded array, its origin at voxel n // 2: a phase moves the origin to 0.
    turn = np.exp(2j * np.pi / size * (n // 2) * rows).astype(np.complex64)
    flat = scipy.fft.rfft(array, size, axis=2, workers=workers)[:, :, : reach + 1] * turn[reach:]
    negative, positive = slice(size - reach, size), slice(0, reach + 1)
    for first in range(0, reach + 1, BLOCK):
        block = scipy.fft.fft(flat[:, :, first : first + BLOCK], size, axis=1, workers=workers)
        wide = np.empty((n, len(rows), block.shape[2]), np.complex64)
        np.multiply(block[:, negative], turn[:reach, None], out=wide[:, :reach])
        np.multiply(block[:, positive], turn[reach:, None], out=wide[:, reach:])
        block = scipy.fft.fft(wide, size, axis=0, workers=workers)
        out = np.empty((len(rows), *wide.shape[1:]), np.complex64)
        np.multiply(block[negative], turn[:reach, None, None], out=out[:reach])
        np.multiply(block[positive], turn[reach:, None, None], out=out[reach:])
        yield out


def ift_cropped(spectrum: Complex64, size: int, n: int, workers: int = 1) -> Float32:
    """Return the middle (n, n, n) of a map of `size` voxels from its FT in the layout of `ft_of_padded`, in one block.

    Each axis is cropped right after it is transformed, so that few samples are transformed unnecessarily.

    Parameters
    ----------
    spectrum : (2 r + 1, 2 r + 1, r + 1)
        The FT; it is 0 beyond r.
    size
        Padded box in voxels.
    n
        Box of the result in voxels.
    workers
        Threads of the FFT.
    """
    reach = spectrum.shape[2] - 1
    rows, kept = np.arange(-reach, reach + 1), np.arange(n) - n // 2
    middle = np.empty((n, n, reach + 1), np.complex64)
    for first in range(0, reach + 1, BLOCK):
        block = spectrum[:, :, first : first + BLOCK]
        tall = np.zeros((size, *block.shape[1:]), np.complex64)
        tall[rows] = block
        tall = scipy.fft.ifft(tall, axis=0, workers=workers, overwrite_x=True)[kept]
        wide = np.zeros((n, size, block.shape[2]), np.complex64)
        wide[:, rows] = tall
        middle[:, :, first : first + BLOCK] = scipy.fft.ifft(wide, axis=1, workers=workers, overwrite_x=True)[:, kept]
    out = np.empty((n, n, n), np.float32)
    for first in range(0, n, BLOCK):
        lines = scipy.fft.irfft(middle[first : first + BLOCK], size, axis=2, workers=workers)
        out[first : first + BLOCK] = lines[:, :, kept]
    return out


@dataclass(frozen=True)
class FourierSamples:
    """Fourier samples of a half plane up to a radius, sorted by band, so that each band is a prefix.

    Attributes
    ----------
    kx, ky : (S,) int32
        Indices of a D × D image FT, one of each Friedel pair, without k = 0.
    ends
        Number of samples up to the end of each band, increasing; ends[-1] = S.
    size
        D, the box of the image in pixels.
    """

    kx: npt.NDArray[np.int32]
    ky: npt.NDArray[np.int32]
    ends: tuple[int, ...]
    size: int

    @property
    def shell(self) -> Int64:
        """Shell number round(|k|) of each sample: (S,)."""
        return np.asarray(np.rint(np.hypot(self.kx, self.ky)), dtype=np.int64)


@lru_cache(maxsize=8)
def half_plane(size: int, radii: tuple[float, ...]) -> FourierSamples:
    """Return the samples of a size × size image FT with 0 < |k| ≤ radii[-1], in bands that end at `radii` (indices)."""
    limit = min(radii[-1], (size - 1) // 2)
    span = int(limit)
    ky, kx = np.mgrid[-span : span + 1, 0 : span + 1]
    radius = np.hypot(kx, ky)
    keep = (radius <= limit) & ((kx > 0) | (ky > 0))
    kx, ky, radius = kx[keep], ky[keep], radius[keep]
    band = np.searchsorted(np.asarray(radii[:-1]), radius, side="left")
    order = np.lexsort((kx, ky, band))
    ends = tuple(int(e) for e in np.cumsum(np.bincount(band, minlength=len(radii))))
    return FourierSamples(kx[order].astype(np.int32), ky[order].astype(np.int32), ends, size)
