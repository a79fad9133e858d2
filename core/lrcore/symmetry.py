"""Point groups about the box centre: the operators that leave a symmetric map as it is."""

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation


def operators(group: str) -> npt.NDArray[np.float64]:
    """(m, 3, 3) rotations of Cn (n-fold along z) or Dn (2-fold along x too), the identity first."""
    return Rotation.create_group(group, axis="Z").as_matrix()
