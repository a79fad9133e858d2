"""Images at known poses for the tests of the search kernels."""

import numpy as np

from lrcore.imaging.fourier_volume import QUADRATIC, map_to_fourier_volume
from lrcore.imaging.grids import half_plane
from lrcore.imaging.rotations import from_euler, rotation_exp
from lrcore.kernels.local_search.reference import project_slices_quadratic
from lrcore.testing import smooth_map

SIZE = 24
LIMIT = 10
LEVER = np.array([3.0, -2.0, 4.0])


def noisy_images(count, weight=2e-4):
    """Of a smooth map, with weights about `weight`: volume, samples in three bands, W, w, centres, true θ."""
    rng = np.random.default_rng(3)
    volume = map_to_fourier_volume(smooth_map(SIZE, 1, 6.0), LIMIT, kernel=QUADRATIC)
    samples = half_plane(SIZE, (5.0, 8.0, float(LIMIT)))
    centres = from_euler(rng.uniform(-180, 180, (count, 3)))
    theta = np.concatenate([rng.normal(0, 0.06, (count, 3)), rng.normal(0, 0.7, (count, 2))], axis=1)
    rotations = centres @ rotation_exp(theta[:, :3])
    shift = ((rotations - centres) @ LEVER)[:, :2] + theta[:, 3:]
    k = np.stack([samples.kx, samples.ky])
    model = project_slices_quadratic(volume, rotations, samples)[0] * np.exp(-2j * np.pi / SIZE * shift @ k)
    w = rng.uniform(0.5, 1.5, model.shape) * weight
    noise = rng.normal(size=(*model.shape, 2)) @ [1, 1j] * np.sqrt(w / 2)
    return volume, samples, (w * model + noise).astype(np.complex64), w.astype(np.float32), centres, theta
