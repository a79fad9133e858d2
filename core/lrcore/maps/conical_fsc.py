"""Compute the conical FSC: the FSC by direction, and the anisotropy of the resolution."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import xarray as xr

from lrcore.arrays import Float64
from lrcore.imaging.grids import hermitian_weight, iterate_planes, radius_table, shell_frequency
from lrcore.records import Fsc, Volume

HALF_ANGLE_DEG = 20.0
"""Half angle of the cones."""
DIRECTIONS = 96
"""Number of cones."""
CELL_DEG = 2.0
"""Size of the cells of the sphere in which samples are summed first; a cone is the cells whose centre is in it."""
MIN_SAMPLES = 16
"""Samples of a shell, Friedel mates counted, that a cone needs at least for a meaningful FSC."""


@dataclass(frozen=True)
class ConicalFsc:
    """FSC in double cones about directions of a half sphere.

    Attributes
    ----------
    direction : (d, 3)
        Unit vectors (x, y, z), z ≥ 0, of the axes.
    frequency : (shells,)
        1/Å.
    value : (d, shells)
        FSC in each cone; that of the whole shell where a cone has fewer than MIN_SAMPLES of its samples.
    resolution_A : (d,)
        Resolution in Å at which each curve crosses 0.143.
    area : (d,)
        Area in 1/Å below each curve up to its first fall below 0.143.
    """

    direction: Float64
    frequency: Float64
    value: Float64
    resolution_A: Float64
    area: Float64

    @property
    def ratio(self) -> float:
        """Ratio of the smallest to the largest area: 1 for an isotropic map, below about 0.5 for strong anisotropy."""
        largest = float(self.area.max())
        return float(self.area.min()) / largest if largest > 0 else 0.0


def compute_conical_fsc(
    first: Volume,
    second: Volume,
    mask: Volume | None = None,
    half_angle_deg: float = HALF_ANGLE_DEG,
    directions: int = DIRECTIONS,
    workers: int = 1,
) -> ConicalFsc:
    """Compute the FSC of two half maps in double cones about evenly spread directions.

    FSC(k, cone) = Σ Re(F₁ F₂*) / √(Σ|F₁|² Σ|F₂|²) over the samples of a shell in a double cone.

    Parameters
    ----------
    first, second : Volume
        Half maps.
    mask : Volume, optional
        Multiplied with both half maps.
    half_angle_deg
        Half angle of the cones in degrees.
    directions
        Number of cones.
    workers
        Threads of the FFT.

    Returns
    -------
    The curves with their resolutions and areas.

    References
    ----------
    Baldwin & Lyumkis 2020, Prog. Biophys. Mol. Biol. 150:160.
    """
    n = first.box
    data = [volume.data if mask is None else volume.data * mask.data for volume in (first, second)]
    cells, sums, count = _sums_by_cell([scipy.fft.rfftn(array, workers=workers) for array in data], n)
    direction = fibonacci_half_sphere(directions)
    in_cone = (np.abs(direction @ cells.T) >= np.cos(np.radians(half_angle_deg))).astype(np.float64)
    value = np.where((in_cone @ count) < MIN_SAMPLES, _ratio(sums.sum(axis=1)), _ratio(in_cone @ sums))
    value[:, 0] = 1.0
    frequency = shell_frequency(n, first.pixel_size_A)
    curves = [Fsc("conical", frequency, row) for row in value]
    resolution = np.array([curve.resolution_A() for curve in curves])
    area = np.array([_area(curve) for curve in curves])
    return ConicalFsc(direction, frequency, value, resolution, area)


def conical_fsc_dataset(found: ConicalFsc) -> xr.Dataset:
    """Return a conical FSC as an xarray dataset of curves (direction, shell), with resolutions, areas and units."""
    data = xr.Dataset(
        {
            "fsc": (("direction", "shell"), found.value, _attributes("FSC in a cone", "1")),
            "resolution": ("direction", found.resolution_A, _attributes("Resolution at FSC 0.143", "angstrom")),
            "area": ("direction", found.area, _attributes("Area below the curve up to FSC 0.143", "1/angstrom")),
        },
        {
            "frequency": ("shell", found.frequency, _attributes("Spatial frequency", "1/angstrom")),
            "axis": (("direction", "map_axis"), found.direction, _attributes("Axis x, y, z of the cone", "1")),
        },
    )
    return data.assign_attrs(area_ratio=found.ratio)


def _attributes(long_name: str, units: str) -> dict[str, str]:
    """Return the attributes of a variable."""
    return {"long_name": long_name, "units": units}


def fibonacci_half_sphere(count: int) -> Float64:
    """Return unit vectors (x, y, z) spread evenly over the half sphere z ≥ 0 on a Fibonacci spiral: (count, 3)."""
    z = (np.arange(count) + 0.5) / count
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)


def _ratio(sums: Float64) -> Float64:
    """Return the FSC from the sums (3, …, shells) of `_sums_by_cell`; 0 where there is no power."""
    cross, power_first, power_second = sums
    power = power_first * power_second
    return np.divide(cross, np.sqrt(power), out=np.zeros_like(cross), where=power > 0)


def _area(curve: Fsc) -> float:
    """Return ∫ FSC dk from 0 to where the curve first falls below 0.143, linear between shells."""
    below = np.nonzero(curve.value[1:] < 0.143)[0]
    end = 1 / curve.resolution_A() if len(below) else curve.frequency[-1]
    whole = curve.frequency < end
    k = np.append(curve.frequency[whole], end)
    return float(np.trapezoid(np.interp(k, curve.frequency, curve.value), k))


def _sums_by_cell(spectra: list[npt.NDArray[np.complexfloating]], n: int) -> tuple[Float64, Float64, Float64]:
    """Sum the products of two half-complex FTs over cells of the half sphere and shells.

    The cells are rings of equal width in the angle from x, each cut into pieces as long as the ring is wide. A
    half-complex FT has x ≥ 0 alone, which is a half sphere.

    Returns the axes (c, 3) of the cells; Σ Re(F₁ F₂*), Σ|F₁|² and Σ|F₂|² by cell and shell (3, c, shells); and the
    number of samples (c, shells).
    """
    rings = round(90 / CELL_DEG)
    middle = (np.arange(rings) + 0.5) * (np.pi / 2 / rings)
    pieces = np.maximum(1, np.rint(4 * rings * np.sin(middle))).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(pieces)])
    ring = np.repeat(np.arange(rings), pieces)
    turn = (np.arange(start[-1]) - start[ring] + 0.5) * (2 * np.pi / pieces[ring])
    tilt = middle[ring]
    cells = np.stack([np.cos(tilt), np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn)], axis=1)

    shells = n // 2 + 1
    shell_of = np.rint(radius_table(n)).astype(np.int64)
    weight = hermitian_weight(n, 2)
    kx = np.arange(n // 2 + 1, dtype=np.float32)
    ky = np.fft.fftfreq(n, 1.0 / n).astype(np.float32)
    out = np.zeros((4, start[-1] * shells))
    for z, squares in iterate_planes(n):
        shell = shell_of[squares]
        inside = (shell < shells) & (shell > 0)
        kz = ky[z]
        radius = np.sqrt(squares[inside].astype(np.float32))
        x, y = np.broadcast_to(kx, squares.shape)[inside], np.broadcast_to(ky[:, None], squares.shape)[inside]
        row = np.minimum((np.arccos(np.minimum(x / radius, 1)) * (rings / (np.pi / 2))).astype(np.int64), rings - 1)
        part = (np.arctan2(kz, y) / (2 * np.pi)) % 1.0
        column = np.minimum((part * pieces[row]).astype(np.int64), pieces[row] - 1)
        index = (start[row] + column) * shells + shell[inside]
        a, b = (spectrum[z][inside] for spectrum in spectra)
        double = np.broadcast_to(weight, squares.shape)[inside]
        products = (
            a.real * b.real + a.imag * b.imag,
            a.real**2 + a.imag**2,
            b.real**2 + b.imag**2,
            np.ones_like(double),
        )
        for total, product in zip(out, products, strict=True):
            total += np.bincount(index, weights=product * double, minlength=len(total))
    sums = out.reshape(4, start[-1], shells)
    return cells, sums[:3], sums[3]
