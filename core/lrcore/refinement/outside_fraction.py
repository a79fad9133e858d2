"""Measure how much of the density outside the mask is in the images, which may have been subtracted from them before.

Images X of one half set are compared at their input poses with slices of the *other* half map inside the mask, S_in,
and outside of it, S_out, each filtered by the FSC of its region. With a free amplitude s per shell,

    X = s C M + noise,  M = S_in + f exp(−B k²) S_out,   log-likelihood gain = Σ_k max(a, 0)² / (b σ²),
    a = Re X* C M,  b = C² |M|²

The fraction f of the highest likelihood is 1 for whole images, 0 where another program has subtracted the density
outside the mask, and infinite where it has subtracted the density inside. Where the poses follow the body inside the
mask, the density outside is blurred, not subtracted: it is missing at high frequencies only, which B accounts for.
Coarse shells suffice: there the signal is strongest. Programs mark subtracted images differently, or not at all, so
that what is measured decides.
"""

import warnings
from collections.abc import Generator

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.resampling import resample_mask
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import reading_order
from lrcore.particles.subsets import spread_rows
from lrcore.records import Particles, Volume
from lrcore.refinement.image_map_agreement import find_disagreement
from lrcore.refinement.region_sums import AS_GIVEN, FIRST_SHELL, RegionSums, finest_shell, region_sums

IMAGES = 200
"""Images of each half set that are measured, at most."""
ANGLES = np.radians(np.arange(-20.0, 90.1, 0.5))
"""Values of arctan f that are tried."""
BLURS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Values of B k² at the finest shell that are tried."""
MIN_GAIN = 50.0
"""Log-likelihood by which f = 0 or f = 1 must be worse than the best f; below it the images do not tell, and f is 1."""
MIN_POWER = 0.03
"""Least power of the density outside the mask, over that inside; below it is solvent, and f is 1."""
BLURRED_ABOVE = 0.6
"""Fraction from which on density that is missing at high frequencies is blurred, not subtracted."""
WHOLE_ABOVE, ABSENT_BELOW = 0.85, 0.1
"""Fractions that are taken for 1 and for 0: half maps differ from the images by their filters as much."""
INVERTED_ABOVE = 4.0
"""Fraction above which the images are without the density *inside* the mask."""
MIXED_SHARE = 0.1
"""Share of images from which on a second kind of image is reported."""
MAX_ERROR = 0.25
"""Error of the fraction of a single image, above which it is not assigned to a kind."""


def measure_outside_fraction(
    particles: Particles, spectra: HalfMapSpectra, mask: Volume, curve: Float64, backend: Backend
) -> Generator[int, None, tuple[float, float]]:
    """Measure the fraction of the density outside the mask that the images of each half set contain.

    Warns if images, poses and half maps do not belong together (`find_disagreement`).

    Parameters
    ----------
    particles : n particles, at their input poses
    spectra : FTs of the half maps, on any scale
    mask : (n, n, n), 1 where density is kept
    curve : (n // 2 + 1,) FSC of the half maps of the particle
    backend : where the kernels run

    Yields
    ------
    int
        Number of images of each batch.

    Returns
    -------
    (float, float)
        By half set: 0 where nothing of it is left, or the images are marked as subtracted, 1 where all is there or the
        images do not tell.

    Raises
    ------
    InputError
        When the images contain the density outside the mask, but not the one inside: the mask is the wrong way round.
    """
    n = particles.box
    coarse = spectra.cropped(finest_shell(particles))
    maps, m = coarse.to_maps(backend.threads), coarse.first.size
    inside = resample_mask(mask.data, m, n / m)
    regions = [region * inscribed_sphere(n, m) for region in (inside, 1 - inside)]
    gains = [wiener_gain(masked_fsc(*maps, region, backend.threads)) for region in regions]
    models = []
    for half in (1, 2):
        other, rows = maps[2 - half], spread_rows(reading_order(particles, half), IMAGES)
        volumes = [_filtered(other * region, gain, backend) for region, gain in zip(regions, gains, strict=True)]
        models.append((yield from region_sums(particles, volumes, rows, backend)))
    if fault := find_disagreement(models, curve, len(particles)):
        warnings.warn(f"{particles.path}: {fault}", stacklevel=2)
    if particles.subtracted or fault:
        return (0.0, 0.0) if particles.subtracted else (1.0, 1.0)
    return _fractions(particles, mask, [sums[AS_GIVEN] for sums in models])


def _fractions(particles: Particles, mask: Volume, both: list[RegionSums]) -> tuple[float, float]:
    """Return the fraction of each half set, and warn of images of two kinds. Raises as `measure_outside_fraction`."""
    fractions, mixed = [], []
    for sums in both:
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
    noise, total = sums.noise(), sums.total()
    gain = np.array([[_gain(total, angle, noise, blur) for blur in BLURS] for angle in ANGLES])
    if gain.max() - min(_gain(total, 0.0, noise), _gain(total, np.pi / 4, noise)) < MIN_GAIN:
        return 1.0
    angle, blur = np.unravel_index(int(gain.argmax()), gain.shape)
    fraction = max(float(np.tan(ANGLES[angle])), 0.0)
    return 1.0 if blur > 0 and fraction > BLURRED_ABOVE else fraction


def second_kind(sums: RegionSums, fraction: float) -> float:
    """Return the share of images without the density outside the mask among images that differ in that.

    The amplitude of S_out is fitted to each image that shows S_in. 0 if all images are of one kind, or if the error of
    a single image is too large to tell.
    """
    dot, power = sums.fit(1.0, fraction)
    scale, noise = np.divide(dot, power, out=np.zeros_like(dot), where=power > 0), sums.noise()
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


def _gain(sums: RegionSums, angle: float, noise: Float64, blur: float = 0.0) -> float:
    """Return the log-likelihood of f = tan(angle) and of B k² = blur at the finest shell over that of no density."""
    shell = FIRST_SHELL + np.arange(len(sums.samples))
    envelope = np.exp(-blur * (shell / shell[-1]) ** 2)
    dot, power = sums.fit(float(np.cos(angle)), float(np.sin(angle)) * envelope)
    scaled = power * noise
    return float(np.divide(np.maximum(dot, 0.0) ** 2, scaled, out=np.zeros_like(dot), where=scaled > 0).sum())


def _filtered(density: Float32, gain: Float64, backend: Backend) -> FourierVolume:
    """Return the FT of density, filtered."""
    array = filter_map(density, gain, backend.threads)
    return backend.volume_to_device(map_to_fourier_volume(array, (len(array) - 1) // 2, backend.threads))
