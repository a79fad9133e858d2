"""Before the first iteration: bring the half maps to the scale of the images, and measure the noise."""

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
from lrcore.images import Batch, batches, reading_order
from lrcore.masks import inscribed_sphere
from lrcore.noise import SAMPLE, SHRINK
from lrcore.poses import seen_through
from lrcore.records import HalfMaps, Particles, Progress, Volume

Float64 = npt.NDArray[np.float64]

OPPOSED = 5.0
"""Anticorrelation of images and map, in SDs of chance, that is called opposite contrast."""


@dataclass(frozen=True)
class Calibration:
    """half_maps: on the scale of the images. noise: (2, groups, shells), E|FT of the noise|² per coefficient."""

    half_maps: HalfMaps
    noise: Float64


def sample_rows(particles: Particles, half: int, seed: int) -> npt.NDArray[np.int64]:
    """Up to SAMPLE rows of a half set, drawn by the seed, in the order they are read."""
    rows = reading_order(particles, half)
    if len(rows) <= SAMPLE:
        return rows
    chosen = np.random.default_rng([seed, half]).choice(len(rows), SAMPLE, replace=False)
    return rows[np.sort(chosen)]


def calibrate(particles: Particles, maps: HalfMaps, seed: int, backend: Backend) -> Iterator[Progress | Calibration]:
    """Compare images with the *other* half set's map at the input poses: no noise in common.

    Per shell, scale = Σ Re X* C S / Σ C² |S|² with S a slice of the Wiener-filtered map, trusted where the FSC is
    above 0.5; noise = mean |X − scale · C S|². Raises InputError when map and images have opposite contrast.
    """
    n = particles.box
    sphere = inscribed_sphere(n)
    curve = masked_correlation(maps.first.data, maps.second.data, sphere, backend.threads)
    gain = wiener_gain(curve)
    samples = half_plane(n, ((n - 1) // 2 / stretch(particles),))
    sums = np.zeros((2, len(particles.optics), 4, n // 2 + 1))
    rows = {half: sample_rows(particles, half, seed) for half in (1, 2)}
    done, total = 0, len(rows[1]) + len(rows[2])
    for half in (1, 2):
        other = filter_map(maps.half(3 - half).data * sphere, gain, backend.threads)
        volume = backend.place(from_map(other, (n - 1) // 2, backend.threads))
        for batch in batches(particles, rows[half], backend):
            _accumulate(sums[half - 1], batch, particles, volume, samples, backend)
            done += len(batch.rows)
            yield Progress(0, "start", done, total)
    scale = _scale(sums.sum(axis=0), curve)
    if _opposed(sums.sum(axis=0)):
        raise InputError(
            f"{particles.path}: images and map have opposite contrast; invert one of them (particles white on black)"
        )
    scaled = HalfMaps(*(_scaled(m, scale, backend.threads) for m in (maps.first, maps.second)))
    yield Calibration(scaled, np.stack([_noise(half_sums, scale) for half_sums in sums]))


def _accumulate(
    sums: Float64, batch: Batch, particles: Particles, volume: FourierVolume, samples: Samples, backend: Backend
) -> None:
    """Add each image's Re X* C S, C² |S|², |X|² and count per shell to its group."""
    poses, kernels = particles.poses.select(batch.rows), backend.kernels
    turns = seen_through(poses.rotation, lens(particles, batch.rows))
    planes = kernels.slices(volume, backend.to_device(turns), samples)
    shifts = poses.origin_A / particles.pixel_size_A
    found = kernels.compare(batch.spectrum, batch.ctf, planes, shifts, samples).astype(np.float64)
    count = np.bincount(np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64), minlength=sums.shape[2])
    groups = particles.group[batch.rows]
    for number in np.unique(groups[~batch.bad]):
        mine = ~batch.bad & (groups == number)
        sums[number, :3] += found[mine].sum(axis=0)
        sums[number, 3] += count[: sums.shape[2]] * mine.sum()


def _scale(sums: Float64, curve: Float64) -> Float64:
    """Amplitude per shell: measured where the FSC is above 0.5, held beyond; smoothed over five shells.

    1 where the half maps have nothing in common, 0 where they have nothing in common with the images.
    """
    dot, power = sums[:, 0].sum(axis=0), sums[:, 1].sum(axis=0)
    below = np.nonzero(curve[1:] < 0.5)[0]
    last = max(5, int(below[0]) if len(below) else len(curve) - 1)
    kernel = np.ones(5)
    smooth_dot = np.convolve(dot[1 : last + 1], kernel, "same")
    smooth_power = np.convolve(power[1 : last + 1], kernel, "same")
    scale = np.divide(smooth_dot, smooth_power, out=np.ones(last), where=smooth_power > 0)
    return np.maximum(np.concatenate([scale[:1], scale, np.full(len(curve) - last - 1, scale[-1])]), 0.0)


def _opposed(sums: Float64) -> bool:
    """Whether images and map are anticorrelated, by more than chance: Re X* M has variance ½ |X|² |M|²."""
    dot, power, images, count = sums.sum(axis=0)
    chance = np.sqrt(0.5 * (power * images / np.maximum(count, 1)).sum())
    return bool(dot.sum() < -OPPOSED * chance)


def _noise(sums: Float64, scale: Float64) -> Float64:
    """Residual power per coefficient, shrunk to the mean of all groups; the outermost shells repeat the last."""
    residual = sums[:, 2] - 2 * scale * sums[:, 0] + scale**2 * sums[:, 1]
    count = sums[:, 3]
    mean = residual.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    per_image = np.maximum(count.max(axis=1, keepdims=True), 1) / np.maximum(count.max(), 1)
    prior = SHRINK / np.maximum(per_image * SAMPLE, 1)
    noise = (residual + prior * count * mean) / np.maximum(count * (1 + prior), 1)
    noise = np.where(count > 0, noise, mean)
    last = int(np.nonzero(count.sum(axis=0))[0].max())
    noise[:, 0] = noise[:, 1]
    noise[:, last + 1 :] = noise[:, last : last + 1]
    return np.maximum(noise, 1e-6 * noise.max())


def _scaled(volume: Volume, scale: Float64, workers: int) -> Volume:
    return Volume(filter_map(volume.data, scale, workers), volume.pixel_size_A, volume.header_origin_A, volume.path)
