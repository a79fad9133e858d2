"""Point groups about the box centre: the operators that leave a symmetric map as it is, in RELION's settings."""

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
    """The name in capitals, as every table and file has it. Raises InputError if there is no such group."""
    if PATTERN.fullmatch(name.strip().upper()):
        return name.strip().upper()
    raise InputError(f"symmetry {name}: {ADVICE}")


@lru_cache(maxsize=8)
def symmetry_operators(name: str) -> Float64:
    """(m, 3, 3) rotations of a point group, the identity first, read-only. Raises InputError if there is no such group.

    Cn: n-fold along z. Dn: 2-fold along x too. T: 3-fold along z, a 2-fold in the plane x = 0 with y z > 0. O: 4-folds
    along x, y and z. I1 and I2: 2-folds along x, y and z, the 5-folds beside z at x = 0 (I1) or y = 0 (I2). I3 and I4:
    5-fold along z, the 2-fold next to it at x < 0 (I3) or x > 0 (I4). I is I2. As `relion_refine --print_symmetry_ops`
    has them.
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


def off_axis_A(name: str, point_A: npt.ArrayLike) -> float:
    """Distance in Å of a point (x, y, z) from all that the group leaves where it is: its axis, or the box centre."""
    point = np.asarray(point_A, dtype=np.float64)
    return float(np.linalg.norm(point - (symmetry_operators(name) @ point).mean(axis=0)))


def symmetry_warnings(name: str, points_A: Mapping[str, npt.ArrayLike], tolerance_A: float) -> tuple[str, ...]:
    """What is suspicious in refining under a symmetry: a sentence for each named point, in Å, that lies off its axes.

    A pose says where one part of the particle is. Averaged over a group that moves this part away, it is also taken
    for the pose of other parts, which need not have moved with it.
    """
    where = "its axis" if canonical_group_name(name)[0] == "C" else "the box centre"
    away = {what: off_axis_A(name, point) for what, point in points_A.items()}
    return tuple(
        f"symmetry {name} acts about {where}, but the {what} lies {distance:.0f} A off it: a part that moves by itself "
        "needs symmetry C1 and expanded particles (lrwidgets expand)"
        for what, distance in away.items()
        if distance > tolerance_A
    )


def _setting_rotation(group: str) -> Float64:
    """(3, 3) rotation from SciPy's setting of a group (2- or 4-folds along the axes; I: that of I1) to RELION's."""
    if group == "T":
        return np.array([[-1, 1, 0], [-1, -1, 2], [1, 1, 1]]) / np.sqrt([[2.0], [6.0], [3.0]])
    if group in ("I", "I2", "I3", "I4"):
        quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        golden = (1 + np.sqrt(5)) / 2
        c, s = np.array([golden, 1.0]) / np.hypot(golden, 1.0)
        tilt = {"I3": -s, "I4": s}.get(group)
        return quarter if tilt is None else np.array([[c, 0, tilt], [0, 1, 0], [-tilt, 0, c]]) @ quarter
    return np.eye(3)
