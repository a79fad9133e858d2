"""Principal motions of a body: independent ways in which it moves about its fulcrum, and each particle's place on them.

About the fulcrum f a motion is (ω, d + ω × (f − c)), covariance Ψ_f. Turns and shifts are brought to one measure, how
far they move matter: a turn by ω moves a point at the distance R by R ω, R the body's radius of gyration about f. The
eigenvectors of the covariance of (R ω, d_f) are the principal motions. A particle's coordinate is its posterior mean on
one of them, in units of the motion's SD, with the SD of its error; as a mean it is drawn towards 0, so that its
correlation with the truth is √(1 − mean square error).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from lrcore.arrays import Float64
from lrcore.motion.model import FulcrumEstimate, Motion, lever_arm_transform
from lrcore.units import DEGREE

MODES = 6


@dataclass(frozen=True)
class PrincipalMotions:
    """Principal motions, the largest first.

    fulcrum_A: (3,), covariance_A2: (3, 3) of its error. displacement_A: (6,) root mean square displacement of the
    body's matter along each. turn: (6, 3) rad and shift_A: (6, 3), at the fulcrum, of one SD. coordinates, error:
    (n, 6), in SD. member: (n,) probability that the particle is no outlier. widths, widths_error: (2,), rad and Å, the
    motion's SDs per axis about the fulcrum.
    """

    fulcrum_A: Float64
    covariance_A2: Float64
    displacement_A: Float64
    turn: Float64
    shift_A: Float64
    coordinates: Float64
    error: Float64
    inlier_probability: Float64
    widths: Float64
    widths_error: Float64


def decompose_motion(motion: Motion, hinge: FulcrumEstimate, radius_A: float) -> PrincipalMotions:
    """The principal motions about a fulcrum. radius_A: of gyration of the body about it, R."""
    to = lever_arm_transform(hinge.fulcrum_A - motion.reference_A)
    measure = np.repeat([radius_A, 1.0], 3)
    moved = measure[:, None] * to
    values, vectors = np.linalg.eigh(moved @ motion.covariance @ moved.T)
    order = np.argsort(values)[::-1]
    sd, axes = np.sqrt(np.maximum(values[order], 0.0)), vectors[:, order].T
    axes *= np.where(axes[np.arange(MODES), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    rows = (axes / np.maximum(sd, 1e-12)[:, None]) @ moved
    one = sd[:, None] * axes / measure
    return PrincipalMotions(
        hinge.fulcrum_A,
        hinge.covariance_A2,
        sd,
        one[:, :3],
        one[:, 3:],
        (motion.coordinates - motion.mean) @ rows.T,
        np.sqrt(np.einsum("ki,nij,kj->nk", rows, motion.coordinate_covariance, rows)),
        motion.inlier_probability,
        np.array([hinge.rotation_sd, hinge.shift_sd_A]),
        np.array([hinge.rotation_sd_error, hinge.shift_sd_error_A]),
    )


def radius_of_gyration_A(mask: npt.NDArray[np.float32], pixel_size_A: float, fulcrum_A: Float64) -> float:
    """Radius of gyration in Å of a mask (n, n, n) about a point (x, y, z) in Å from the box centre."""
    n = mask.shape[-1]
    at = (np.arange(n) - n // 2) * pixel_size_A
    total = float(mask.sum(dtype=np.float64))
    squares = 0.0
    for axis, place in zip((2, 1, 0), fulcrum_A, strict=True):
        others = tuple(a for a in range(3) if a != axis)
        squares += float((mask.sum(axis=others, dtype=np.float64) * (at - place) ** 2).sum())
    return float(np.sqrt(squares / total))


def to_dataset(found: PrincipalMotions, uid: npt.NDArray[np.uint64], half: npt.NDArray[np.int8]) -> xr.Dataset:
    """The principal motions as xarray. uid, half: (n,) of the particles that were looked at."""
    share = found.displacement_A**2 / max(float((found.displacement_A**2).sum()), 1e-30)
    (turn, shift), (turn_error, shift_error) = found.widths, found.widths_error
    data = {
        "rotation_sd": ((), turn / DEGREE, "Standard deviation of the turns per axis", "degree"),
        "rotation_sd_error": ((), turn_error / DEGREE, "Standard deviation of its error", "degree"),
        "shift_sd": ((), shift, "Standard deviation of the fulcrum's shifts per axis", "angstrom"),
        "shift_sd_error": ((), shift_error, "Standard deviation of its error", "angstrom"),
        "displacement": (("motion",), found.displacement_A, "Root mean square displacement of the body", "angstrom"),
        "share": (("motion",), share, "Share of the mean square displacement", "1"),
        "turn": (("motion", "map_axis"), found.turn / DEGREE, "Rotation vector of one standard deviation", "degree"),
        "shift": (("motion", "map_axis"), found.shift_A, "Shift of the fulcrum of one standard deviation", "angstrom"),
        "coordinate": (("particle", "motion"), found.coordinates, "Place on the motion, posterior mean", "1"),
        "coordinate_sd": (("particle", "motion"), found.error, "Standard deviation of its error", "1"),
        "member": (("particle",), found.inlier_probability, "Probability that the particle is no outlier", "1"),
        "fulcrum": (("map_axis",), found.fulcrum_A, "Fulcrum from the box centre", "angstrom"),
        "fulcrum_covariance": (
            ("map_axis", "map_axis_"),
            found.covariance_A2,
            "Covariance of the fulcrum's error",
            "angstrom2",
        ),
    }
    coords = {
        "motion": (("motion",), np.arange(1, MODES + 1), "Number, the largest first", "1"),
        "map_axis": (("map_axis",), list("xyz"), "Axis of the map", "1"),
        "map_axis_": (("map_axis_",), list("xyz"), "Axis of the map", "1"),
        "uid": (("particle",), uid, "Unique identifier of the particle", "1"),
        "half": (("particle",), half, "Half set, 1 or 2", "1"),
    }
    return xr.Dataset({k: _variable(*v) for k, v in data.items()}, {k: _variable(*v) for k, v in coords.items()})


def _variable(dims: tuple[str, ...], data: object, name: str, unit: str) -> xr.Variable:
    return xr.Variable(dims, data, {"long_name": name, "units": unit})
