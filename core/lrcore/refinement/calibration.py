"""Before the first iteration: bring the half maps to the scale of the images, whose groups differ in intensity."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.aberrations import largest_magnification, magnification_in_3d
from lrcore.imaging.fourier_volume import FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane
from lrcore.imaging.poses import magnified_rotation
from lrcore.maps.fsc import masked_fsc, wiener_gain
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.records import HalfMaps, Particles, Progress, Volume
from lrcore.refinement.noise import GROUP_SHRINKAGE_IMAGES, SAMPLE

ANTICORRELATION_SIGMAS = 5.0
"""Anticorrelation of images and map, in SDs of chance, that is called opposite contrast."""
SMOOTHING_SHELLS = 9
"""Shells over which the scale is averaged: of a small body alone, a few say too little."""
INTENSITY_SD = 0.3
"""Width of the prior of an optics group's intensity about 1, and of the images of a group about theirs."""
LEAST_INTENSITY = 0.05
"""An intensity below this is taken as this: the group would weigh nothing."""


@dataclass(frozen=True)
class Calibration:
    """half_maps: on the scale of the images.

    intensity: (groups,) amplitude of each optics group's signal, about 1; empty for a single group.
    """

    half_maps: HalfMaps
    intensity: tuple[float, ...]


def sample_rows(particles: Particles, half: int, seed: int) -> npt.NDArray[np.int64]:
    """Up to SAMPLE rows of a half set, drawn by the seed, in the order they are read."""
    rows = reading_order(particles, half)
    if len(rows) <= SAMPLE:
        return rows
    chosen = np.random.default_rng([seed, half]).choice(len(rows), SAMPLE, replace=False)
    return rows[np.sort(chosen)]


def calibrate(
    particles: Particles, maps: HalfMaps, mask: Volume, seed: int, backend: Backend
) -> Iterator[Progress | Calibration]:
    """Compare images with the *other* half set's map at the input poses: no noise in common.

    Per shell, scale = Σ Re X* C S / Σ C² |S|² with S a slice of the Wiener-filtered map, trusted where the FSC is
    above 0.5. Images without what lies outside the mask are compared with what lies inside. Raises InputError when map
    and images have opposite contrast.
    """
    n = particles.box
    region = mask.data if particles.subtracted else inscribed_sphere(n)
    curve = masked_fsc(maps.first.data, maps.second.data, region, backend.threads)
    gain = wiener_gain(curve)
    samples = half_plane(n, ((n - 1) // 2 / largest_magnification(particles),))
    sums = np.zeros((len(particles.optics), 4, n // 2 + 1))
    rows = {half: sample_rows(particles, half, seed) for half in (1, 2)}
    done, total = 0, len(rows[1]) + len(rows[2])
    images = np.bincount(particles.group[np.concatenate(list(rows.values()))], minlength=len(particles.optics))
    for half in (1, 2):
        other = filter_map(maps.half(3 - half).data * region, gain, backend.threads)
        volume = backend.place(map_to_fourier_volume(other, (n - 1) // 2, backend.threads))

        def work(batch: Batch, volume: FourierVolume = volume) -> int:
            _accumulate(sums, batch, particles, volume, samples, backend)
            return len(batch.rows)

        for count in map_batches(particles, rows[half], backend, work):
            done += count
            yield Progress(0, "start", done, total)
    scale = _scale(sums.sum(axis=0), curve)
    if _is_anticorrelated(sums.sum(axis=0)):
        raise InputError(
            f"{particles.path}: images and map have opposite contrast; invert one of them (particles white on black), "
            "or, if both are right, the map is of another hand or of other poses"
        )
    scaled = HalfMaps(*(_scale_map(m, scale, backend.threads) for m in (maps.first, maps.second)))
    yield Calibration(scaled, tuple(intensities(sums, scale, images).tolist()) if len(sums) > 1 else ())


def _accumulate(
    sums: Float64, batch: Batch, particles: Particles, volume: FourierVolume, samples: FourierSamples, backend: Backend
) -> None:
    """Add each image's Re X* C S, C² |S|², |X|² and count per shell to its group; sums: (groups, 4, shells)."""
    poses, kernels = particles.poses.select(batch.rows), backend.kernels
    turns = magnified_rotation(poses.rotation, magnification_in_3d(particles, batch.rows))
    planes = kernels.project_slices(volume, backend.to_device(turns), samples)
    shifts = poses.origin_A / particles.pixel_size_A
    found = kernels.correlate_with_model(batch.spectrum, batch.ctf, planes, shifts, samples).astype(np.float64)
    shell = np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64)
    count = np.bincount(shell, minlength=found.shape[2])[: found.shape[2]]
    groups = particles.group[batch.rows]
    for number in np.unique(groups[~batch.bad]):
        mine = ~batch.bad & (groups == number)
        sums[number, :3] += found[mine].sum(axis=0)
        sums[number, 3] += count * mine.sum()


def _scale(sums: Float64, curve: Float64) -> Float64:
    """Amplitude per shell: measured where the FSC is above 0.5, held beyond; over SMOOTH shells.

    1 where the half maps have nothing in common, 0 where they have nothing in common with the images.
    """
    dot, power = sums[:2]
    below = np.nonzero(curve[1:] < 0.5)[0]
    last = max(5, int(below[0]) if len(below) else len(curve) - 1)
    smooth_dot, smooth_power = (_smooth(values[1 : last + 1]) for values in (dot, power))
    scale = np.divide(smooth_dot, smooth_power, out=np.ones(last), where=smooth_power > 0)
    return np.maximum(np.concatenate([scale[:1], scale, np.full(len(curve) - last - 1, scale[-1])]), 0.0)


def _smooth(values: Float64) -> Float64:
    """Sums over SMOOTH neighbours, fewer at the ends; as many as the values."""
    return np.convolve(values, np.ones(SMOOTHING_SHELLS))[SMOOTHING_SHELLS // 2 :][: len(values)]


def intensities(sums: Float64, scale: Float64, images: npt.NDArray[np.integer]) -> Float64:
    """(groups,) amplitude of each group's signal over what is common to all; 1 for a single group.

    f = Σ s Re X* C S / σ² / Σ s² C² |S|² / σ², s the common scale, σ² what it leaves of the group, has the variance
    ½ / Σ s² C² |S|² / σ² of its noise and INTENSITY_SD² / images of the images that were drawn; by it, f is drawn
    towards 1 ± INTENSITY_SD. sums: (groups, 4, shells) as `_accumulate` makes them. images: (groups,) that are in them.
    """
    if len(sums) == 1:
        return np.ones(1)
    left = _residual_power(sums, scale)
    dot, power = (scale * sums[:, 0] / left).sum(axis=1), (scale**2 * sums[:, 1] / left).sum(axis=1)
    known = power > 0
    found = np.divide(dot, power, out=np.ones(len(sums)), where=known)
    spread = np.divide(0.5, power, out=np.full(len(sums), np.inf), where=known)
    spread = spread + INTENSITY_SD**2 / np.maximum(images, 1)
    trust = INTENSITY_SD**2 / (INTENSITY_SD**2 + spread)
    return np.maximum(1 + trust * (found - 1), LEAST_INTENSITY)


def _residual_power(sums: Float64, scale: Float64) -> Float64:
    """(groups, shells) power per coefficient that the scaled map leaves, drawn to the mean of all groups."""
    residual = sums[:, 2] - 2 * scale * sums[:, 0] + scale**2 * sums[:, 1]
    count = sums[:, 3]
    mean = residual.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    per_image = np.maximum(count.max(axis=1, keepdims=True), 1) / np.maximum(count.max(), 1)
    prior = GROUP_SHRINKAGE_IMAGES / np.maximum(per_image * SAMPLE, 1)
    left = np.where(count > 0, (residual + prior * count * mean) / np.maximum(count * (1 + prior), 1), mean)
    return np.maximum(left, 1e-6 * left.max())


def _is_anticorrelated(sums: Float64) -> bool:
    """Whether images and map are anticorrelated, by more than chance: Re X* M has variance ½ |X|² |M|²."""
    dot, power, images, count = sums
    chance = np.sqrt(0.5 * (power * images / np.maximum(count, 1)).sum())
    return bool(dot.sum() < -ANTICORRELATION_SIGMAS * chance)


def _scale_map(volume: Volume, scale: Float64, workers: int) -> Volume:
    return Volume(filter_map(volume.data, scale, workers), volume.pixel_size_A, volume.header_origin_A, volume.path)
