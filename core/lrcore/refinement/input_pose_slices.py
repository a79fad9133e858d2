"""Compare images with slices of a map at their input poses, as every measurement at the start of a run does."""

import numpy as np

from lrcore.arrays import Complex64, Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.fourier_volume import FourierVolume
from lrcore.imaging.grids import FourierSamples
from lrcore.imaging.poses import magnified_rotation
from lrcore.particles.image_stream import Batch
from lrcore.records import Particles


def slices_at_input_poses(
    batch: Batch,
    particles: Particles,
    volume: FourierVolume,
    samples: FourierSamples,
    backend: Backend,
    transform: Float64 | None = None,
) -> Complex64:
    """Return the slices (B, S) of a map at the input poses of a batch, not shifted.

    Parameters
    ----------
    batch : B images
    particles : all particles
    volume : FT of the map, on the device of the backend
    samples : S Fourier samples
    backend : where the kernels run
    transform : (3, 3) applied to the map's coordinates before the rotation, or None
    """
    turns = magnified_rotation(particles.poses.select(batch.rows).rotation, magnification_in_3d(particles, batch.rows))
    views = turns if transform is None else turns @ transform
    planes: Complex64 = backend.kernels.project_slices(volume, backend.to_device(views), samples)
    return planes


def correlate_at_input_poses(
    batch: Batch,
    particles: Particles,
    planes: Complex64,
    samples: FourierSamples,
    backend: Backend,
    shifts: Float64 | None = None,
) -> Float64:
    """Return Re X* C S, C² |S|² and |X|² of each image X and its slice S, by shell: (B, 3, shells).

    Parameters
    ----------
    batch : B images
    particles : all particles
    planes : (B, S) slices of `slices_at_input_poses`
    samples : S Fourier samples
    backend : where the kernels run
    shifts : (B, 2) of the slices, pixels; by default those of the input poses
    """
    if shifts is None:
        shifts = particles.poses.select(batch.rows).origin_A / particles.pixel_size_A
    products = backend.kernels.correlate_with_model(batch.spectrum, batch.ctf, planes, shifts, samples)
    return np.asarray(products, dtype=np.float64)
