"""Bring the half maps to the scale of the images, and measure the intensity of each optics group.

Images X of one half set are compared with slices S of the Wiener-filtered map of the *other* half set at the input
poses, so that they have no noise in common. Per shell, by least squares, the amplitude of the images' signal is

    scale = Σ Re X* C S / Σ C² |S|²

smoothed over shells, and held constant beyond the resolution at which the FSC falls below 0.5. Per optics group, the
intensity is the amplitude of its signal over that of all, drawn towards 1 (`intensities`).

Done once, before the first iteration. Differs from RELION, which makes its first iteration independent of the scale
(`--firstiter_cc`) and estimates the scale of each group of micrographs in every iteration.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float32, Float64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.resampling import resample_mask
from lrcore.maps.fsc import wiener_gain
from lrcore.maps.half_map_spectra import HalfMapSpectra
from lrcore.maps.solvent_mask import LOOSE_A, cosine_falloff
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.records import Particles, Progress, Volume
from lrcore.refinement.density_in_zone import density_in_zone, particle_outline
from lrcore.refinement.density_projector import DensityProjector, DensityWindow
from lrcore.refinement.input_pose_slices import correlate_at_input_poses
from lrcore.refinement.noise import GROUP_SHRINKAGE_IMAGES, MAX_SAMPLED_IMAGES
from lrcore.refinement.outside_fraction import IMAGES, measure_outside_fraction
from lrcore.refinement.reconstruction import collect_return_value

ANTICORRELATION_SIGMAS = 5.0
"""Anticorrelation of images and map, in SDs of chance, from which on they are taken for opposite contrast."""
SMOOTHING_SHELLS = 9
"""Number of shells over which the scale is averaged: for a small body, single shells hold too little."""
INTENSITY_SD = 0.3
"""SD of the prior of an optics group's intensity about 1, and of the amplitudes of its images about their mean."""
MIN_INTENSITY = 0.05
"""Least intensity: a group with none would have no weight."""


@dataclass(frozen=True)
class Calibration:
    """Factors that bring half maps to the scale of the images.

    Attributes
    ----------
    scale : (n // 2 + 1,) factor of the half maps in each shell
    intensity : (groups,) amplitude of each optics group's signal, about 1; empty for a single group
    outside_fraction : by half set, fraction of the density outside the mask that the images contain
    """

    scale: Float64
    intensity: tuple[float, ...]
    outside_fraction: tuple[float, float] = (1.0, 1.0)


def sample_rows(particles: Particles, half: int, seed: int) -> npt.NDArray[np.int64]:
    """Return up to SAMPLE rows of a half set, drawn by the seed, in the order in which they are read."""
    rows = reading_order(particles, half)
    if len(rows) <= MAX_SAMPLED_IMAGES:
        return rows
    chosen = np.random.default_rng([seed, half]).choice(len(rows), MAX_SAMPLED_IMAGES, replace=False)
    return rows[np.sort(chosen)]


def calibrate(
    particles: Particles,
    spectra: HalfMapSpectra,
    mask: Volume,
    seed: int,
    backend: Backend,
    finest: int | None = None,
) -> Iterator[Progress | Calibration]:
    """Yield progress, then the scale that brings half maps to that of the images.

    spectra: FTs of the half maps. finest: shell to which these probably agree, for speed. Images from which density
    outside the mask is already subtracted, as they are marked or as is measured, are compared with what is left of it.
    Raises InputError when images and map have opposite contrast, and as `measure_outside_fraction`.
    """
    outline = particle_outline(spectra, mask.pixel_size_A, backend.threads)

    @cache
    def density_of(fraction: float) -> tuple[DensityWindow | None, Float64]:
        """Return the filtered density that images with this fraction of the density outside show, and its FSC."""
        return density_in_zone(spectra, partial(_zone, mask, outline, fraction), wiener_gain, finest, backend.threads)

    n, measured = particles.box, min(2 * IMAGES, len(particles))
    rows = {half: sample_rows(particles, half, seed) for half in (1, 2)}
    done, total = 0, measured + len(rows[1]) + len(rows[2])
    found: list[tuple[float, float]] = []
    _, whole = density_of(1.0)
    for count in collect_return_value(found, measure_outside_fraction(particles, spectra, mask, whole, backend)):
        done += count
        yield Progress(0, "start", done, total)
    (fraction,) = found
    densities, curves = zip(*(density_of(f) for f in fraction), strict=True)
    sums = np.zeros((len(particles.optics), 4, n // 2 + 1))
    images = np.bincount(particles.group[np.concatenate(list(rows.values()))], minlength=len(particles.optics))
    for half in (1, 2):
        density = densities[half - 1]
        if density is None:  # the half maps agree on nothing, so that there is nothing to compare
            continue
        projector = density.projector(3 - half, n, backend.threads).to_device(backend)

        def work(batch: Batch, projector: DensityProjector = projector) -> int:
            _accumulate(sums, batch, particles, projector, backend)
            return len(batch.rows)

        for count in map_batches(particles, rows[half], backend, work):
            done += count
            yield Progress(0, "start", done, total)
    scale = _scale(sums.sum(axis=0), np.mean(curves, axis=0))
    if _is_anticorrelated(sums.sum(axis=0)):
        raise InputError(
            f"{particles.path}: images and map have opposite contrast: invert one of them (particles white on black); "
            "if both are right, the map has the other handedness or does not belong to these poses"
        )
    yield Calibration(scale, tuple(intensities(sums, scale, images).tolist()) if len(sums) > 1 else (), fraction)


def _zone(mask: Volume, outline: Callable[[int], Float32], fraction: float, m: int) -> Float32:
    """Return the weight (m, m, m) of the density that images with this fraction of the density outside show.

    It ends where the particle does: further out there is noise.
    """
    inside = resample_mask(mask.data, m, mask.box / m)
    if fraction == 0:
        return inside
    around = np.maximum(cosine_falloff(outline(m), LOOSE_A) * inscribed_sphere(mask.box, m), inside)
    return around if fraction == 1 else (inside + fraction * (1 - inside)) * around


def _accumulate(
    sums: Float64, batch: Batch, particles: Particles, projector: DensityProjector, backend: Backend
) -> None:
    """Add Re X* C S, C² |S|², |X|² and the count per shell of each image to its group: (groups, 4, shells)."""
    samples = projector.samples(particles)
    planes, shifts = projector.project(batch, particles, samples, backend)
    products = correlate_at_input_poses(batch, particles, planes, samples, backend, shifts)
    shell = samples.shell
    count = np.bincount(shell, minlength=products.shape[2])[: products.shape[2]]
    groups = particles.group[batch.rows]
    for number in np.unique(groups[~batch.bad]):
        own = ~batch.bad & (groups == number)
        sums[number, :3] += products[own].sum(axis=0)
        sums[number, 3] += count * own.sum()


def _scale(sums: Float64, curve: Float64) -> Float64:
    """Return the amplitude per shell: measured where the FSC is above 0.5, smoothed, and held constant beyond."""
    dot, power = sums[:2]
    below = np.nonzero(curve[1:] < 0.5)[0]
    last = max(5, int(below[0]) if len(below) else len(curve) - 1)
    smooth_dot, smooth_power = (_smooth(values[1 : last + 1]) for values in (dot, power))
    scale = np.divide(smooth_dot, smooth_power, out=np.ones(last), where=smooth_power > 0)
    least = 1e-6 * np.sqrt(sums[2].sum() / power.sum()) if power.sum() > 0 else 0.0  # a shell of zeros has no FSC
    return np.maximum(np.concatenate([scale[:1], scale, np.full(len(curve) - last - 1, scale[-1])]), least)


def _smooth(values: Float64) -> Float64:
    """Return sums over SMOOTHING_SHELLS neighbours, fewer at the ends; as many as the values."""
    return np.convolve(values, np.ones(SMOOTHING_SHELLS))[SMOOTHING_SHELLS // 2 :][: len(values)]


def intensities(sums: Float64, scale: Float64, images: npt.NDArray[np.integer]) -> Float64:
    """Return the amplitude of each optics group's signal over the common one, about 1: (groups,); 1 for a single group.

    With s the common scale per shell and σ² the residual power that it leaves of the group, the least-squares amplitude

        f = Σ s Re X* C S / σ² / Σ s² C² |S|² / σ²

    has the variance ½ / Σ s² C² |S|² / σ² from the noise, and INTENSITY_SD² / images from the images that were drawn.
    With both it is shrunk towards the prior 1 ± INTENSITY_SD.

    sums: (groups, 4, shells) of `_accumulate`. scale: (shells,). images: (groups,) number of images in the sums.
    """
    if len(sums) == 1:
        return np.ones(1)
    residual = _residual_power(sums, scale)
    dot, power = (scale * sums[:, 0] / residual).sum(axis=1), (scale**2 * sums[:, 1] / residual).sum(axis=1)
    has_signal = power > 0
    amplitude = np.divide(dot, power, out=np.ones(len(sums)), where=has_signal)
    variance = np.divide(0.5, power, out=np.full(len(sums), np.inf), where=has_signal)
    variance = variance + INTENSITY_SD**2 / np.maximum(images, 1)
    trust = INTENSITY_SD**2 / (INTENSITY_SD**2 + variance)
    return np.maximum(1 + trust * (amplitude - 1), MIN_INTENSITY)


def _residual_power(sums: Float64, scale: Float64) -> Float64:
    """Return the power (groups, shells) that the scaled map leaves, shrunk towards the mean of all groups."""
    residual = sums[:, 2] - 2 * scale * sums[:, 0] + scale**2 * sums[:, 1]
    count = sums[:, 3]
    mean = residual.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    per_image = np.maximum(count.max(axis=1, keepdims=True), 1) / np.maximum(count.max(), 1)
    prior = GROUP_SHRINKAGE_IMAGES / np.maximum(per_image * MAX_SAMPLED_IMAGES, 1)
    power = np.where(count > 0, (residual + prior * count * mean) / np.maximum(count * (1 + prior), 1), mean)
    return np.maximum(power, 1e-6 * power.max())


def _is_anticorrelated(sums: Float64) -> bool:
    """Return True for anticorrelation beyond chance, by which Re X* M has the variance ½ |X|² |M|²."""
    dot, power, images, count = sums
    chance = np.sqrt(0.5 * (power * images / np.maximum(count, 1)).sum())
    return bool(dot.sum() < -ANTICORRELATION_SIGMAS * chance)
