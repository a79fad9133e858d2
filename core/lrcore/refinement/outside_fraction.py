"""Measure how much of the density outside the mask is in the images, which may have been subtracted from them before.

Images X of one half set are compared at their input poses with slices of the *other* half map inside the mask, S_in,
and outside of it, S_out, each filtered by the FSC of its region. With a free amplitude s per shell,

    X = s C (S_in + f S_out) + noise,   log-likelihood gain = Σ_k max(a, 0)² / (b σ²),
    a = Re X* C (S_in + f S_out),  b = C² |S_in + f S_out|²

The fraction f of the highest likelihood is 1 for whole images, 0 where another program has subtracted the density
outside the mask, and infinite where it has subtracted the density inside. Coarse shells suffice: there the signal is
strongest, and there the bodies have moved least. Programs mark subtracted images differently, or not at all, so that
what is measured decides.
"""

import warnings
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.aberrations import largest_magnification
from lrcore.imaging.fourier_volume import FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.records import HalfMaps, Particles, Volume
from lrcore.refinement.input_pose_slices import correlate_at_input_poses, slices_at_input_poses

IMAGES = 200
"""Images of each half set that are measured, at most."""
RESOLUTION_A = 10.0
"""Finest resolution that is compared, Å."""
FIRST_SHELL = 2
"""First shell that is compared: the mean of an image and its slopes belong to the background."""
ANGLES = np.radians(np.arange(-20.0, 90.1, 0.5))
"""Values of arctan f that are tried."""
MIN_GAIN = 50.0
"""Log-likelihood by which f = 0 or f = 1 must be worse than the best f; below it the images do not tell, and f is 1."""
MIN_POWER = 0.03
"""Least power of the density outside the mask, over that inside; below it is solvent, and f is 1."""
WHOLE_ABOVE, ABSENT_BELOW = 0.85, 0.1
"""Fractions that are taken for 1 and for 0: half maps differ from the images by their filters as much."""
INVERTED_ABOVE = 4.0
"""Fraction above which the images are without the density *inside* the mask."""
MIXED_SHARE = 0.1
"""Share of images from which on a second kind of image is reported."""
MAX_ERROR = 0.25
"""Error of the fraction of a single image, above which it is not assigned to a kind."""


@dataclass(frozen=True)
class RegionSums:
    """Sums per image and shell: (m, K) each, of valid images.

    Attributes
    ----------
    inside, outside : Re X* C S
    inside_power, outside_power : C² |S|²
    cross : C² Re S_in* S_out
    image_power : |X|²
    samples : (K,) Fourier samples of one image
    """

    inside: Float64
    outside: Float64
    inside_power: Float64
    outside_power: Float64
    cross: Float64
    image_power: Float64
    samples: Float64

    def fit(self, inside: float, outside: float) -> tuple[Float64, Float64]:
        """Return a and b of the model inside · S_in + outside · S_out, summed over images: (K,) each."""
        dot = inside * self.inside + outside * self.outside
        power = inside**2 * self.inside_power + outside**2 * self.outside_power + 2 * inside * outside * self.cross
        return dot.sum(axis=0), power.sum(axis=0)


def measure_outside_fraction(
    particles: Particles, maps: HalfMaps, mask: Volume, backend: Backend
) -> Generator[int, None, tuple[float, float]]:
    """Measure the fraction of the density outside the mask that the images of each half set contain.

    Parameters
    ----------
    particles : n particles, at their input poses
    maps : half maps, on any scale
    mask : (n, n, n), 1 where density is kept
    backend : where the kernels run

    Yields
    ------
    int
        Number of images of each batch.

    Returns
    -------
    (float, float)
        By half set: 0 where nothing of it is left, 1 where all is there or the images do not tell.

    Raises
    ------
    InputError
        When the images contain the density outside the mask, but not the one inside: the mask is the wrong way round.
    """
    fractions, mixed = [], []
    for half in (1, 2):
        sums = yield from _region_sums(particles, maps, mask, half, backend)
        fraction = likeliest_fraction(sums)
        if fraction > INVERTED_ABOVE:
            raise InputError(
                f"{mask.path or 'mask'}: the images contain the density outside the mask, but not the density inside: "
                "the mask must be 1 on the body to refine and 0 elsewhere; this one is the wrong way round for these "
                "subtracted images"
            )
        mixed.append(second_kind(sums, fraction))
        fractions.append(1.0 if fraction > WHOLE_ABOVE else 0.0 if fraction < ABSENT_BELOW else fraction)
    if min(mixed) > MIXED_SHARE:
        warnings.warn(
            f"{particles.path}: from about {100 * np.mean(mixed):.0f} % of the images the density outside the mask has "
            "been subtracted, from the others not: refine them apart, or use images of one kind",
            stacklevel=2,
        )
    return fractions[0], fractions[1]


def likeliest_fraction(sums: RegionSums) -> float:
    """Return the fraction f of the highest likelihood, at least 0; 1 where images or map do not tell."""
    if sums.outside_power.sum() < MIN_POWER * sums.inside_power.sum():
        return 1.0
    noise = _noise(sums)
    gain = np.array([_gain(sums, angle, noise) for angle in ANGLES])
    if gain.max() - min(_gain(sums, 0.0, noise), _gain(sums, np.pi / 4, noise)) < MIN_GAIN:
        return 1.0
    return max(float(np.tan(ANGLES[int(gain.argmax())])), 0.0)


def second_kind(sums: RegionSums, fraction: float) -> float:
    """Return the share of images without the density outside the mask among images that differ in that.

    The amplitude of S_out is fitted to each image that shows S_in. 0 if all images are of one kind, or if the error of
    a single image is too large to tell.
    """
    dot, power = sums.fit(1.0, fraction)
    scale, noise = np.divide(dot, power, out=np.zeros_like(dot), where=power > 0), _noise(sums)
    weight = np.divide(scale, noise, out=np.zeros_like(scale), where=noise > 0)
    matrix = np.empty((len(sums.inside), 2, 2))
    matrix[:, 0, 0] = sums.inside_power @ (weight * scale)
    matrix[:, 1, 1] = sums.outside_power @ (weight * scale)
    matrix[:, 0, 1] = matrix[:, 1, 0] = sums.cross @ (weight * scale)
    vector = np.stack([sums.inside @ weight, sums.outside @ weight], axis=1)
    usable = np.linalg.det(matrix) > 1e-6 * matrix[:, 0, 0] * matrix[:, 1, 1]
    if not usable.any():
        return 0.0
    amplitude = np.linalg.solve(matrix[usable], vector[usable][..., None])[..., 0]
    error = np.sqrt(0.5 * np.linalg.inv(matrix[usable])[:, 1, 1])
    seen = amplitude[(amplitude[:, 0] > 0.5) & (error < MAX_ERROR), 1]
    absent, present = seen[seen < 0.5], seen[seen >= 0.5]
    if min(len(absent), len(present)) < max(MIXED_SHARE * len(seen), 1):
        return 0.0
    return len(absent) / len(seen) if absent.mean() < 0.25 and present.mean() > 0.75 else 0.0


def _gain(sums: RegionSums, angle: float, noise: Float64) -> float:
    """Return the log-likelihood of f = tan(angle) over that of no density."""
    dot, power = sums.fit(float(np.cos(angle)), float(np.sin(angle)))
    scaled = power * noise
    return float(np.divide(np.maximum(dot, 0.0) ** 2, scaled, out=np.zeros_like(dot), where=scaled > 0).sum())


def _noise(sums: RegionSums) -> Float64:
    """Return the power per sample that S_in and S_out leave, each with its own amplitude: (K,)."""
    count = len(sums.inside) * sums.samples
    a, b, c = sums.inside_power.sum(axis=0), sums.outside_power.sum(axis=0), sums.cross.sum(axis=0)
    x, y, total = sums.inside.sum(axis=0), sums.outside.sum(axis=0), sums.image_power.sum(axis=0)
    determinant = a * b - c**2
    explained = np.divide(
        b * x**2 + a * y**2 - 2 * c * x * y,
        determinant,
        out=np.zeros_like(total),
        where=determinant > 1e-6 * np.maximum(a * b, 1e-300),
    )
    return np.maximum(total - explained, 1e-3 * total) / np.maximum(count, 1)


def _region_sums(
    particles: Particles, maps: HalfMaps, mask: Volume, half: int, backend: Backend
) -> Generator[int, None, RegionSums]:
    """Return the sums of images of a half set. Yields the number of images of each batch."""
    n = particles.box
    limit = min(int(n * particles.pixel_size_A / RESOLUTION_A), int((n - 1) // 2 / largest_magnification(particles)))
    samples = half_plane(n, (max(limit, FIRST_SHELL + 1),))
    sphere = inscribed_sphere(n)
    volumes = [_filtered(maps, region * sphere, 3 - half, backend) for region in (mask.data, 1 - mask.data)]
    rows = reading_order(particles, half)
    rows = rows[:: max(1, -(-len(rows) // IMAGES))]

    def work(batch: Batch) -> tuple[int, Float64]:
        return len(batch.rows), _batch_sums(batch, particles, volumes, samples, backend)

    parts = []
    for count, part in map_batches(particles, rows, backend, work):
        parts.append(part)
        yield count
    total = np.concatenate(parts, axis=1)[:, :, FIRST_SHELL:]
    cross = 0.5 * (total[5] - total[3] - total[4])
    shell = np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64)
    number = np.bincount(shell, minlength=FIRST_SHELL + total.shape[2])[FIRST_SHELL:].astype(np.float64)
    return RegionSums(total[0], total[1], total[3], total[4], cross, total[2], number[: total.shape[2]])


def _filtered(maps: HalfMaps, region: Float32, half: int, backend: Backend) -> FourierVolume:
    """Return the FT of a half map in a region, filtered by the FSC of that region."""
    gain = wiener_gain(masked_fsc(maps.first.data, maps.second.data, region, backend.threads))
    array = filter_map(maps.half(half).data * region, gain, backend.threads)
    return backend.volume_to_device(map_to_fourier_volume(array, (len(array) - 1) // 2, backend.threads))


def _batch_sums(
    batch: Batch, particles: Particles, volumes: list[FourierVolume], samples: FourierSamples, backend: Backend
) -> Float64:
    """Return the sums of the valid images of a batch, in the order of `RegionSums`: (6, m, shells).

    The last one is the power of S_in + S_out, in place of the cross term.
    """
    inside, outside = (slices_at_input_poses(batch, particles, volume, samples, backend) for volume in volumes)
    a, b, both = (
        correlate_at_input_poses(batch, particles, planes, samples, backend)[~batch.bad]
        for planes in (inside, outside, inside + outside)
    )
    return np.stack([a[:, 0], b[:, 0], a[:, 2], a[:, 1], b[:, 1], both[:, 1]])
