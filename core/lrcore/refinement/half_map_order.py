"""Find half maps in the wrong order, or of other half sets, by the noise that a map has from its own images.

A half map holds the noise of the images that it was made from. The difference of two half maps holds no signal, so an
image correlates with (half map 1 − half map 2) at its pose if it was used for half map 1, and with the negative of that
if it was used for half map 2. An image that was used for neither correlates with neither.
"""

import numpy as np

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import largest_magnification
from lrcore.imaging.fourier_volume import FourierVolume, map_to_fourier_volume
from lrcore.imaging.grids import half_plane
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.records import HalfMaps, Particles
from lrcore.refinement.input_pose_slices import correlate_at_input_poses, slices_at_input_poses

IMAGES_PER_HALF_SET = 200
"""Number of images of each half set that are tested."""
MAX_SHELL = 100
"""Finest shell that is used: there are enough samples up to it."""
SWAPPED_SIGMAS = -8.0
"""Mean correlation with the own half map, in standard errors, below which half maps are swapped."""
CLEAR_SIGMAS = 3.0
"""Rms correlation of single images, in SDs of chance, from which the half map of each can be told."""
MAX_SHARE_IN_OTHER = 0.1
"""Share of images in the other half map from which the half maps were not made from these half sets."""


def half_map_order_warning(
    particles: Particles, maps: HalfMaps, spectra: HalfMapSpectra, backend: Backend
) -> str | None:
    """Return, in one line, that half maps are swapped or were made from other half sets; None if nothing shows that.

    Parameters
    ----------
    particles : n particles at the poses that the half maps were made with
    maps : half maps as given, whose names are told
    spectra : their FTs
    backend : where the kernels run
    """
    sigmas = own_noise_sigmas(particles, spectra, backend)
    if len(sigmas) < 2:
        return None
    mean, rms = float(sigmas.mean()), float(np.sqrt(np.mean(sigmas**2)))
    in_other = float(np.mean(sigmas < 0))
    first, second = maps.first.path or "half map 1", maps.second.path or "half map 2"
    is_clear = rms > CLEAR_SIGMAS
    if mean * np.sqrt(len(sigmas)) < SWAPPED_SIGMAS * sigmas.std() and not (is_clear and in_other < 0.9):
        return (
            f"{first} and {second}: are in the wrong order: each has the noise of the other half set's images "
            f"({-mean:.1f} times chance in each image), which the poses would follow: give them the other way round"
        )
    if is_clear and in_other > MAX_SHARE_IN_OTHER:
        return (
            f"{first} and {second}: were not made from these half sets: {in_other:.0%} of the images are in the half "
            "map of the other half set, so the poses would follow noise and every FSC is too high: leave the half maps "
            "out, or give those of these half sets"
        )
    return None


def own_noise_sigmas(particles: Particles, spectra: HalfMapSpectra, backend: Backend) -> Float64:
    """Return the correlation of single images with the noise of their own half map, in SDs of chance.

    For an image X with noise of power σ² in a shell, and the difference D of own and other half map at its pose, it is
    Σ Re X* C D / σ² over its SD √(Σ ½ |C D|² / σ²). Its mean over images is at most √(4 K³ / N) for N images in a half
    map that goes to shell K.

    Parameters
    ----------
    particles : n particles at the poses that the half maps were made with
    spectra : FTs of the half maps as given
    backend : where the kernels run

    Returns
    -------
    (m,) float64
        For a sample of valid images of both half sets.
    """
    n = particles.box
    limit = min(MAX_SHELL, (n - 1) // 2)
    samples = half_plane(n, (limit / largest_magnification(particles),))
    power = [float(np.vdot(spectrum.data, spectrum.data).real) for spectrum in spectra.both]
    first, second = spectra.cropped(limit).to_maps(backend.threads)
    difference = first - second * np.float32(np.sqrt(power[0] / max(power[1], 1e-300)))
    volume = backend.volume_to_device(map_to_fourier_volume(difference, limit, backend.threads))
    sums: list[Float64] = []
    for half, sign in ((1, 1.0), (2, -1.0)):
        rows = reading_order(particles, half)
        rows = rows[:: max(1, len(rows) // IMAGES_PER_HALF_SET)][:IMAGES_PER_HALF_SET]

        def work(batch: Batch, volume: FourierVolume = volume, sign: float = sign) -> Float64:
            planes = slices_at_input_poses(batch, particles, volume, samples, backend)
            each = correlate_at_input_poses(batch, particles, planes, samples, backend)
            return np.asarray(each[~batch.bad] * [[sign], [1.0], [1.0]], dtype=np.float64)

        sums += map_batches(particles, rows, backend, work)
    count = np.bincount(samples.shell)
    dot, power, images = np.moveaxis(np.concatenate(sums)[:, :, 2 : len(count)], 1, 0)
    noise = images.mean(axis=0) / count[2:]
    used = noise > 0
    chance = np.sqrt(0.5 * (power[:, used] / noise[used]).sum(axis=1))
    correlation = (dot[:, used] / noise[used]).sum(axis=1)
    return np.divide(correlation, chance, out=np.zeros_like(chance), where=chance > 0)
