"""Decompose the motion of a body into principal motions about its fulcrum, with each particle's coordinates on them.

About the fulcrum f a motion is (ω, d_f), d_f = d + ω × (f − c), with the covariance Ψ_f. To measure rotations and
shifts in the same unit, Å of displacement of the body's mass, ω is multiplied by R, the radius of gyration of the body
about f. The eigenvectors of the covariance of (R ω, d_f) are the principal motions.

A particle's coordinate is its posterior mean on a principal motion, in units of the motion's SD, with the SD of its
error. As a posterior mean it is shrunk towards 0, so that its correlation with the truth is √(1 − mean square error).

Differs from RELION's `relion_flex_analyse`, whose principal components are not corrected for the errors of the poses.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from lrcore.arrays import Float64
from lrcore.motion.model import FulcrumEstimate, Motion, lever_arm_transform
from lrcore.units import DEGREE

PRINCIPAL_MOTION_COUNT = 6
"""Number of principal motions."""


@dataclass(frozen=True)
class PrincipalMotions:
    """Principal motions, the largest first.

    Attributes
    ----------
    fulcrum_A : (3,), (x, y, z) in Å from the box centre
    covariance_A2 : (3, 3) of its error
    displacement_A : (6,) root mean square displacement of the body's mass along each
    rotation : (6, 3), rotation vector of one SD, rad
    shift_A : (6, 3), shift of the fulcrum of one SD, Å
    coordinates : (n, 6), in SD
    coordinate_sd : (n, 6), SD of their errors, in SD
    inlier_probability : (n,) probability that the particle is not an outlier
    widths : (2,) SDs per axis of the motion about the fulcrum, rad and Å
    widths_error : (2,) SDs of their errors
    """

    fulcrum_A: Float64
    covariance_A2: Float64
    displacement_A: Float64
    rotation: Float64
    shift_A: Float64
    coordinates: Float64
    coordinate_sd: Float64
    inlier_probability: Float64
    widths: Float64
    widths_error: Float64


def decompose_motion(motion: Motion, fulcrum: FulcrumEstimate, radius_A: float) -> PrincipalMotions:
    """Decompose a motion into principal motions about its fulcrum.

    Parameters
    ----------
    motion : of the body
    fulcrum : its fulcrum
    radius_A : R, radius of gyration of the body about the fulcrum, Å

    Returns
    -------
    PrincipalMotions
        Of all particles of the motion.
    """
    transform = lever_arm_transform(fulcrum.fulcrum_A - motion.reference_A)
    units = np.repeat([radius_A, 1.0], 3)
    to_fulcrum = units[:, None] * transform
    values, vectors = np.linalg.eigh(to_fulcrum @ motion.covariance @ to_fulcrum.T)
    order = np.argsort(values)[::-1]
    sd, axes = np.sqrt(np.maximum(values[order], 0.0)), vectors[:, order].T
    axes *= np.where(axes[np.arange(PRINCIPAL_MOTION_COUNT), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    rows = (axes / np.maximum(sd, 1e-12)[:, None]) @ to_fulcrum
    one_sd = sd[:, None] * axes / units
    return PrincipalMotions(
        fulcrum.fulcrum_A,
        fulcrum.covariance_A2,
        sd,
        one_sd[:, :3],
        one_sd[:, 3:],
        (motion.coordinates - motion.mean) @ rows.T,
        np.sqrt(np.einsum("ki,nij,kj->nk", rows, motion.coordinate_covariance, rows)),
        motion.inlier_probability,
        np.array([fulcrum.rotation_sd, fulcrum.shift_sd_A]),
        np.array([fulcrum.rotation_sd_error, fulcrum.shift_sd_error_A]),
    )


def radius_of_gyration_A(mask: npt.NDArray[np.float32], pixel_size_A: float, fulcrum_A: Float64) -> float:
    """Return the radius of gyration of a mask about a point, in Å.

    Parameters
    ----------
    mask : (n, n, n)
    pixel_size_A : Å
    fulcrum_A : (3,), the point, (x, y, z) in Å from the box centre
    """
    n = mask.shape[-1]
    positions = (np.arange(n) - n // 2) * pixel_size_A
    total = float(mask.sum(dtype=np.float64))
    squares = 0.0
    for axis, centre in zip((2, 1, 0), fulcrum_A, strict=True):
        others = tuple(a for a in range(3) if a != axis)
        squares += float((mask.sum(axis=others, dtype=np.float64) * (positions - centre) ** 2).sum())
    return float(np.sqrt(squares / total))


def to_dataset(motions: PrincipalMotions, uid: npt.NDArray[np.uint64], half: npt.NDArray[np.int8]) -> xr.Dataset:
    """Return the principal motions as an xarray dataset.

    Parameters
    ----------
    motions : to convert
    uid : (n,) identifier of each particle
    half : (n,) half set of each particle, 1 or 2

    Returns
    -------
    xarray.Dataset
        With `long_name` and `units` of each variable.
    """
    share = motions.displacement_A**2 / max(float((motions.displacement_A**2).sum()), 1e-30)
    (rotation_sd, shift_sd), (rotation_sd_error, shift_sd_error) = motions.widths, motions.widths_error
    data = {
        "rotation_sd": ((), rotation_sd / DEGREE, "Standard deviation of the rotations per axis", "degree"),
        "rotation_sd_error": ((), rotation_sd_error / DEGREE, "Standard deviation of its error", "degree"),
        "shift_sd": ((), shift_sd, "Standard deviation of the fulcrum's shifts per axis", "angstrom"),
        "shift_sd_error": ((), shift_sd_error, "Standard deviation of its error", "angstrom"),
        "displacement": (("motion",), motions.displacement_A, "Root mean square displacement of the body", "angstrom"),
        "share": (("motion",), share, "Share of the mean square displacement", "1"),
        "turn": (
            ("motion", "map_axis"),
            motions.rotation / DEGREE,
            "Rotation vector of one standard deviation",
            "degree",
        ),
        "shift": (
            ("motion", "map_axis"),
            motions.shift_A,
            "Shift of the fulcrum of one standard deviation",
            "angstrom",
        ),
        "coordinate": (("particle", "motion"), motions.coordinates, "Coordinate on the motion, posterior mean", "1"),
        "coordinate_sd": (("particle", "motion"), motions.coordinate_sd, "Standard deviation of its error", "1"),
        "member": (("particle",), motions.inlier_probability, "Probability that the particle is not an outlier", "1"),
        "fulcrum": (("map_axis",), motions.fulcrum_A, "Fulcrum from the box centre", "angstrom"),
        "fulcrum_covariance": (
            ("map_axis", "map_axis_"),
            motions.covariance_A2,
            "Covariance of the fulcrum's error",
            "angstrom2",
        ),
    }
    coords = {
        "motion": (("motion",), np.arange(1, PRINCIPAL_MOTION_COUNT + 1), "Number, the largest first", "1"),
        "map_axis": (("map_axis",), list("xyz"), "Axis of the map", "1"),
        "map_axis_": (("map_axis_",), list("xyz"), "Axis of the map", "1"),
        "uid": (("particle",), uid, "Unique identifier of the particle", "1"),
        "half": (("particle",), half, "Half set, 1 or 2", "1"),
    }
    return xr.Dataset({k: _variable(*v) for k, v in data.items()}, {k: _variable(*v) for k, v in coords.items()})


def _variable(dims: tuple[str, ...], data: object, name: str, unit: str) -> xr.Variable:
    """Return a variable with its name and unit."""
    return xr.Variable(dims, data, {"long_name": name, "units": unit})
