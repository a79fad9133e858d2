"""Before the first iteration: bring the half maps to the scale of the images, whose groups differ in intensity."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrcore.aberrations import lens, stretch
from lrcore.backend import Backend
from lrcore.errors import InputError
from lrcore.fourier import FourierVolume, filter_map, from_map
from lrcore.fsc import masked_correlation, wiener_gain
from lrcore.grids import Samples, half_plane
from lrcore.images import Batch, reading_order, worked
from lrcore.masks import inscribed_sphere
from lrcore.noise import SAMPLE, SHRINK
from lrcore.poses import seen_through
from lrcore.records import HalfMaps, Particles, Progress, Volume

Float64 = npt.NDArray[np.float64]

OPPOSED = 5.0
"""Anticorrelation of images and map, in SDs of chance, that is called opposite contrast."""
SMOOTH = 9
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
    curve = masked_correlation(maps.first.data, maps.second.data, region, backend.threads)
    gain = wiener_gain(curve)
    samples = half_plane(n, ((n - 1) // 2 / stretch(particles),))
    sums = np.zeros((len(particles.optics), 4, n // 2 + 1))
    rows = {half: sample_rows(particles, half, seed) for half in (1, 2)}
    done, total = 0, len(rows[1]) + len(rows[2])
    images = np.bincount(particles.group[np.concatenate(list(rows.values()))], minlength=len(particles.optics))
    for half in (1, 2):
        other = filter_map(maps.half(3 - half).data * region, gain, backend.threads)
        volume = backend.place(from_map(other, (n - 1) // 2, backend.threads))

        def work(batch: Batch, volume: FourierVolume = volume) -> int:
            _accumulate(sums, batch, particles, volume, samples, backend)
            return len(batch.rows)

        for count in worked(particles, rows[half], backend, work):
            done += count
            yield Progress(0, "start", done, total)
    scale = _scale(sums.sum(axis=0), curve)
    if _opposed(sums.sum(axis=0)):
        raise InputError(
            f"{particles.path}: images and map have opposite contrast; invert one of them (particles white on black), "
            "or, if both are right, the map is of another hand or of other poses"
        )
    scaled = HalfMaps(*(_scaled(m, scale, backend.threads) for m in (maps.first, maps.second)))
    yield Calibration(scaled, tuple(intensities(sums, scale, images).tolist()) if len(sums) > 1 else ())


def _accumulate(
    sums: Float64, batch: Batch, particles: Particles, volume: FourierVolume, samples: Samples, backend: Backend
) -> None:
    """Add each image's Re X* C S, C² |S|², |X|² and count per shell to its group; sums: (groups, 4, shells)."""
    poses, kernels = particles.poses.select(batch.rows), backend.kernels
    turns = seen_through(poses.rotation, lens(particles, batch.rows))
    planes = kernels.slices(volume, backend.to_device(turns), samples)
    shifts = poses.origin_A / particles.pixel_size_A
    found = kernels.compare(batch.spectrum, batch.ctf, planes, shifts, samples).astype(np.float64)
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
    smooth_dot, smooth_power = (_smoothed(values[1 : last + 1]) for values in (dot, power))
    scale = np.divide(smooth_dot, smooth_power, out=np.ones(last), where=smooth_power > 0)
    return np.maximum(np.concatenate([scale[:1], scale, np.full(len(curve) - last - 1, scale[-1])]), 0.0)


def _smoothed(values: Float64) -> Float64:
    """Sums over SMOOTH neighbours, fewer at the ends; as many as the values."""
    return np.convolve(values, np.ones(SMOOTH))[SMOOTH // 2 :][: len(values)]


def intensities(sums: Float64, scale: Float64, images: npt.NDArray[np.integer]) -> Float64:
    """(groups,) amplitude of each group's signal over what is common to all; 1 for a single group.

    f = Σ s Re X* C S / σ² / Σ s² C² |S|² / σ², s the common scale, σ² what it leaves of the group, has the variance
    ½ / Σ s² C² |S|² / σ² of its noise and INTENSITY_SD² / images of the images that were drawn; by it, f is drawn
    towards 1 ± INTENSITY_SD. sums: (groups, 4, shells) as `_accumulate` makes them. images: (groups,) that are in them.
    """
    if len(sums) == 1:
        return np.ones(1)
    left = _left(sums, scale)
    dot, power = (scale * sums[:, 0] / left).sum(axis=1), (scale**2 * sums[:, 1] / left).sum(axis=1)
    known = power > 0
    found = np.divide(dot, power, out=np.ones(len(sums)), where=known)
    spread = np.divide(0.5, power, out=np.full(len(sums), np.inf), where=known)
    spread = spread + INTENSITY_SD**2 / np.maximum(images, 1)
    trust = INTENSITY_SD**2 / (INTENSITY_SD**2 + spread)
    return np.maximum(1 + trust * (found - 1), LEAST_INTENSITY)


def _left(sums: Float64, scale: Float64) -> Float64:
    """(groups, shells) power per coefficient that the scaled map leaves, drawn to the mean of all groups."""
    residual = sums[:, 2] - 2 * scale * sums[:, 0] + scale**2 * sums[:, 1]
    count = sums[:, 3]
    mean = residual.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    per_image = np.maximum(count.max(axis=1, keepdims=True), 1) / np.maximum(count.max(), 1)
    prior = SHRINK / np.maximum(per_image * SAMPLE, 1)
    left = np.where(count > 0, (residual + prior * count * mean) / np.maximum(count * (1 + prior), 1), mean)
    return np.maximum(left, 1e-6 * left.max())


def _opposed(sums: Float64) -> bool:
    """Whether images and map are anticorrelated, by more than chance: Re X* M has variance ½ |X|² |M|²."""
    dot, power, images, count = sums
    chance = np.sqrt(0.5 * (power * images / np.maximum(count, 1)).sum())
    return bool(dot.sum() < -OPPOSED * chance)


def _scaled(volume: Volume, scale: Float64, workers: int) -> Volume:
    return Volume(filter_map(volume.data, scale, workers), volume.pixel_size_A, volume.header_origin_A, volume.path)
