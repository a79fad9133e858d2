"""Define the results of `project_slices` in plain NumPy."""

import numpy as np
import numpy.typing as npt

from lrcore.imaging.fourier_volume import PADDING, FourierVolume
from lrcore.imaging.grids import FourierSamples


def trilinear_corners(
    rotations: npt.NDArray[np.floating], samples: FourierSamples, curvature: npt.NDArray[np.floating] | None = None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
    """Return the cell of each sample: lower corner (B, S, 3) xyz, fractions (B, S, 3), whether −q is used (B, S).

    curvature: (B,) of each slice, a paraboloid k_z = curvature · k²; None: flat slices.
    """
    k = np.stack([samples.kx, samples.ky], axis=-1).astype(np.float64)
    q = PADDING * np.einsum("bij,si->bsj", rotations[:, :2, :], k)
    if curvature is not None:
        depth = curvature[:, None] * (k**2).sum(axis=1)
        q += PADDING * depth[..., None] * rotations[:, None, 2, :]
    mate = q[..., 0] < 0
    q = np.where(mate[..., None], -q, q)
    low = np.floor(q).astype(np.intp)
    return low, q - low, mate


def project_slices(
    volume: FourierVolume,
    rotations: npt.NDArray[np.floating],
    samples: FourierSamples,
    curvature: npt.NDArray[np.floating] | None = None,
) -> npt.NDArray[np.complex64]:
    """Read central slices of a Fourier volume; see `lrcore.kernels.project`.

    curvature: (B,), as for `backproject_images`; only this implementation reads curved slices.
    """
    low, fraction, mate = trilinear_corners(rotations, samples, curvature)
    centre = volume.data.shape[0] // 2
    out = np.zeros(mate.shape, np.complex128)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (low[..., a] + corner[a] for a in range(3))
        weight = np.prod([np.abs(1 - corner[a] - fraction[..., a]) for a in range(3)], axis=0)
        out += weight * volume.data[z + centre, y + centre, x + 1]
    return np.where(mate, out.conj(), out).astype(np.complex64)
