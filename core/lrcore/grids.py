"""Grids: the FFT centre, frequency grids, shells, crop and pad, each defined once.

Arrays are `[..., z, y, x]`; the origin of an array of size n is voxel `n // 2`. `FT` means Σ f(x) exp(−2πi k·x).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Complex64 = npt.NDArray[np.complex64]
Int = npt.NDArray[np.int64]


def ft(array: npt.NDArray[np.floating], ndim: int, workers: int = 1) -> npt.NDArray[np.complexfloating]:
    """Half-complex FT over the last `ndim` axes with the origin at voxel n // 2; output in FFT order."""
    axes = tuple(range(-ndim, 0))
    return scipy.fft.rfftn(scipy.fft.ifftshift(array, axes=axes), axes=axes, workers=workers)


def ift(
    spectrum: npt.NDArray[np.complexfloating] | Float32, n: int, ndim: int, workers: int = 1
) -> npt.NDArray[np.floating]:
    """Inverse of `ft` for arrays whose last `ndim` axes have size n."""
    axes = tuple(range(-ndim, 0))
    array = scipy.fft.irfftn(spectrum, s=(n,) * ndim, axes=axes, workers=workers)
    return scipy.fft.fftshift(array, axes=axes)


def index_grid(n: int, ndim: int) -> tuple[Int, ...]:
    """Integer frequency indices of a half-complex FT, broadcastable, slowest axis first (kx last, ≥ 0)."""
    full = np.fft.fftfreq(n, 1.0 / n).round().astype(np.int64)
    axes = [full] * (ndim - 1) + [np.arange(n // 2 + 1)]
    return tuple(a.reshape([-1 if i == j else 1 for j in range(ndim)]) for i, a in enumerate(axes))


def shell_index(n: int, ndim: int) -> Int:
    """Shell number round(|k|) of every sample of a half-complex FT of size n: (n, ..., n // 2 + 1)."""
    squares = sum(k.astype(np.float64) ** 2 for k in index_grid(n, ndim))
    return np.asarray(np.rint(np.sqrt(squares)), dtype=np.int64)


def shell_frequency(n: int, pixel_size_A: float) -> Float64:
    """Frequency in 1/Å of the shells 0 … n // 2 of a box of n voxels: (n // 2 + 1,)."""
    return np.arange(n // 2 + 1) / (n * pixel_size_A)


def hermitian_weight(n: int, ndim: int) -> Float64:
    """How often each half-complex sample stands in the full FT: 1 on the planes kx = 0 and kx = n/2, else 2."""
    weight: Float64 = np.full(n // 2 + 1, 2.0)
    weight[0] = 1.0
    if n % 2 == 0:
        weight[-1] = 1.0
    return np.expand_dims(weight, tuple(range(ndim - 1)))


def shell_sum(values: npt.NDArray[np.floating], n: int, ndim: int) -> Float64:
    """Sum over shells 0 … n // 2 of a half-complex array (..., n, n // 2 + 1), each mate counted: (..., n // 2 + 1)."""
    shells = shell_index(n, ndim)
    weighted = (values * hermitian_weight(n, ndim)).reshape(-1, shells.size)
    out = np.stack([np.bincount(shells.ravel(), weights=row, minlength=n)[: n // 2 + 1] for row in weighted])
    shape: tuple[int, ...] = (*values.shape[: values.ndim - ndim], n // 2 + 1)
    return out.reshape(shape).astype(np.float64)


def shell_mean(values: npt.NDArray[np.floating], n: int, ndim: int) -> Float64:
    """Mean over shells 0 … n // 2 of a half-complex array; every mate counted."""
    return shell_sum(values, n, ndim) / shell_sum(np.ones(values.shape[values.ndim - ndim :]), n, ndim)


def radius_grid(n: int, ndim: int, centre: tuple[float, ...] | None = None) -> Float32:
    """Distance in voxels of every voxel from `centre` (zyx voxels from the box centre n // 2)."""
    centre = centre or (0.0,) * ndim
    axes = [np.arange(n) - n // 2 - c for c in centre]
    squares = sum(a.reshape([-1 if i == j else 1 for j in range(ndim)]) ** 2 for i, a in enumerate(axes))
    return np.sqrt(squares).astype(np.float32)


def resize(array: npt.NDArray[np.floating], n: int, ndim: int, fill: float = 0.0) -> npt.NDArray[np.floating]:
    """Crop or pad the last `ndim` axes to n, keeping the origin n // 2 on the origin."""
    return window_at(array, (array.shape[-1] // 2,) * ndim, n, fill)


def window_at(
    array: npt.NDArray[np.floating], centre: tuple[int, ...], n: int, fill: float = 0.0
) -> npt.NDArray[np.floating]:
    """Cut the last len(centre) axes to n voxels with voxel `centre` landing on the origin n // 2; `fill` outside."""
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


@dataclass(frozen=True)
class Samples:
    """The Fourier samples of a half plane up to a radius, ordered by band so that a band is a prefix.

    kx, ky: (S,) int32 indices of a D × D image FT, each complex conjugate pair once, k = 0 left out.
    ends: number of samples within each band, increasing; ends[-1] = S.
    size: D, the box of the image in pixels.
    """

    kx: npt.NDArray[np.int32]
    ky: npt.NDArray[np.int32]
    ends: tuple[int, ...]
    size: int


def half_plane(size: int, radii: tuple[float, ...]) -> Samples:
    """Samples of a size × size image FT with 0 < |k| ≤ radii[-1], in bands that end at `radii` (index units)."""
    limit = min(radii[-1], (size - 1) // 2)
    span = int(limit)
    ky, kx = np.mgrid[-span : span + 1, 0 : span + 1]
    radius = np.hypot(kx, ky)
    keep = (radius <= limit) & ((kx > 0) | (ky > 0))
    kx, ky, radius = kx[keep], ky[keep], radius[keep]
    band = np.searchsorted(np.asarray(radii[:-1]), radius, side="left")
    order = np.lexsort((kx, ky, band))
    ends = tuple(int(e) for e in np.cumsum(np.bincount(band, minlength=len(radii))))
    return Samples(kx[order].astype(np.int32), ky[order].astype(np.int32), ends, size)
