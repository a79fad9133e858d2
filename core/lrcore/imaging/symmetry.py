"""Provide the operators of point groups about the box centre, in RELION's settings."""

import re
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.errors import InputError

PATTERN = re.compile(r"[CD][1-9][0-9]?|T|O|I[1-4]?")
ADVICE = "write Cn, Dn, T, O, I or I1 to I4, such as C1, C4 or D2 (groups of rotations, without mirrors)"


def canonical_group_name(name: str) -> str:
    """Return the name of a point group in capitals, as in tables and files.

    Raises
    ------
    InputError
        If there is no such group.
    """
    if PATTERN.fullmatch(name.strip().upper()):
        return name.strip().upper()
    raise InputError(f"symmetry {name}: {ADVICE}")


@lru_cache(maxsize=8)
def symmetry_operators(name: str) -> Float64:
    """Return the rotations (m, 3, 3) of a point group, the identity first, read-only.

    The settings are those of `relion_refine --print_symmetry_ops`:

    * Cn: n-fold along z.
    * Dn: also a 2-fold along x.
    * T: 3-fold along z, a 2-fold in the plane x = 0 with y z > 0.
    * O: 4-folds along x, y and z.
    * I1 and I2: 2-folds along x, y and z, the 5-folds next to z at x = 0 (I1) or y = 0 (I2).
    * I3 and I4: 5-fold along z, the 2-fold next to it at x < 0 (I3) or x > 0 (I4).
    * I: I2.

    Parameters
    ----------
    name
        Name of the group, such as C4, D2 or I1.

    Raises
    ------
    InputError
        If there is no such group.
    """
    from scipy.spatial.transform import Rotation

    group = canonical_group_name(name)
    plain = Rotation.create_group(group[:1] if group[0] == "I" else group).as_matrix()
    frame = _setting_rotation(group)
    turned = frame @ plain @ frame.T
    first = np.argsort(np.trace(turned, axis1=1, axis2=2) < 3 - 1e-9, kind="stable")
    out: Float64 = np.ascontiguousarray(turned[first])
    out.setflags(write=False)
    return out


def largest_subgroup(operators: Float64, scores: npt.NDArray[np.floating]) -> Float64:
    """Return the operators of a group with a score above 0, less those without which they form a group.

    While a product of two of them is missing, that of these two which has the lower score is dropped.

    Parameters
    ----------
    operators : (m, 3, 3), a group, the identity first
    scores : (m,), at least 0; the identity is always kept

    Returns
    -------
    (k, 3, 3), in the same order.
    """
    flat = operators.reshape(len(operators), 9)
    kept = [0, *(int(k) for k in np.nonzero(scores[1:] > 0)[0] + 1)]
    while len(kept) < len(operators):
        chosen = operators[kept]
        products = np.einsum("aij,bjk->abik", chosen, chosen).reshape(len(kept), len(kept), 9)
        # The Frobenius product of two rotations by the angle α from each other is 1 + 2 cos α.
        is_missing = (products @ flat[kept].T).max(axis=2) < 3 - 1e-6
        if not is_missing.any():
            break
        involved = {kept[k] for k in np.argwhere(is_missing).ravel()}
        kept.remove(min(involved, key=lambda k: (scores[k], -k)))
    return operators[kept]


def off_axis_A(name: str, point_A: npt.ArrayLike) -> float:
    """Return the distance in Å of a point (x, y, z) from what a group leaves in place: its axis or the box centre."""
    point = np.asarray(point_A, dtype=np.float64)
    return float(np.linalg.norm(point - (symmetry_operators(name) @ point).mean(axis=0)))


def symmetry_warnings(name: str, points_A: Mapping[str, npt.ArrayLike], tolerance_A: float) -> tuple[str, ...]:
    """Return a warning for each named point that lies off the symmetry axis (or the centre) of a point group.

    A pose describes one part of the particle. When images are averaged over a group that moves this part, the pose is
    also applied to its symmetry mates, which need not have moved in the same way.

    Parameters
    ----------
    name
        Name of the group.
    points_A
        Points (x, y, z) in Å from the box centre, by what they are ("mask", "fulcrum").
    tolerance_A
        Distance in Å up to which a point counts as on the axis.
    """
    centre = "its axis" if canonical_group_name(name)[0] == "C" else "the box centre"
    distances = {label: off_axis_A(name, point) for label, point in points_A.items()}
    return tuple(
        f"symmetry {name} acts about {centre}, but the {label} lies {distance:.0f} A off it: "
        "a part that moves independently needs symmetry C1 and expanded particles (lrwidgets expand)"
        for label, distance in distances.items()
        if distance > tolerance_A
    )


def _setting_rotation(group: str) -> Float64:
    """Return the rotation (3, 3) to RELION's setting of a group from SciPy's (2- or 4-folds on the axes; I as I1)."""
    if group == "T":
        return np.array([[-1, 1, 0], [-1, -1, 2], [1, 1, 1]]) / np.sqrt([[2.0], [6.0], [3.0]])
    if group in ("I", "I2", "I3", "I4"):
        quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        golden = (1 + np.sqrt(5)) / 2
        c, s = np.array([golden, 1.0]) / np.hypot(golden, 1.0)
        tilt = {"I3": -s, "I4": s}.get(group)
        return quarter if tilt is None else np.array([[c, 0, tilt], [0, 1, 0], [-tilt, 0, c]]) @ quarter
    return np.eye(3)
