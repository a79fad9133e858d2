"""Before the first iteration: bring the half maps to the scale of the images."""

from collections.abc import Iterator

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
from lrcore.noise import SAMPLE
from lrcore.poses import seen_through
from lrcore.records import HalfMaps, Particles, Progress, Volume

Float64 = npt.NDArray[np.float64]

OPPOSED = 5.0
"""Anticorrelation of images and map, in SDs of chance, that is called opposite contrast."""
SMOOTH = 9
"""Shells over which the scale is averaged: of a small body alone, a few say too little."""


def sample_rows(particles: Particles, half: int, seed: int) -> npt.NDArray[np.int64]:
    """Up to SAMPLE rows of a half set, drawn by the seed, in the order they are read."""
    rows = reading_order(particles, half)
    if len(rows) <= SAMPLE:
        return rows
    chosen = np.random.default_rng([seed, half]).choice(len(rows), SAMPLE, replace=False)
    return rows[np.sort(chosen)]


def calibrate(
    particles: Particles, maps: HalfMaps, mask: Volume, seed: int, backend: Backend
) -> Iterator[Progress | HalfMaps]:
    """Compare images with the *other* half set's map at the input poses, no noise in common: the maps on their scale.

    Per shell, scale = Σ Re X* C S / Σ C² |S|² with S a slice of the Wiener-filtered map, trusted where the FSC is
    above 0.5. Images without what lies outside the mask are compared with what lies inside. Raises InputError when map
    and images have opposite contrast.
    """
    n = particles.box
    region = mask.data if particles.subtracted else inscribed_sphere(n)
    curve = masked_correlation(maps.first.data, maps.second.data, region, backend.threads)
    gain = wiener_gain(curve)
    samples = half_plane(n, ((n - 1) // 2 / stretch(particles),))
    sums = np.zeros((4, n // 2 + 1))
    rows = {half: sample_rows(particles, half, seed) for half in (1, 2)}
    done, total = 0, len(rows[1]) + len(rows[2])
    for half in (1, 2):
        other = filter_map(maps.half(3 - half).data * region, gain, backend.threads)
        volume = backend.place(from_map(other, (n - 1) // 2, backend.threads))
        for batch in batches(particles, rows[half], backend):
            sums += _compared(batch, particles, volume, samples, backend)
            done += len(batch.rows)
            yield Progress(0, "start", done, total)
    scale = _scale(sums, curve)
    if _opposed(sums):
        raise InputError(
            f"{particles.path}: images and map have opposite contrast; invert one of them (particles white on black)"
        )
    yield HalfMaps(*(_scaled(m, scale, backend.threads) for m in (maps.first, maps.second)))


def _compared(batch: Batch, particles: Particles, volume: FourierVolume, samples: Samples, backend: Backend) -> Float64:
    """Re X* C S, C² |S|², |X|² and count per shell, summed over the images: (4, shells)."""
    poses, kernels = particles.poses.select(batch.rows), backend.kernels
    turns = seen_through(poses.rotation, lens(particles, batch.rows))
    planes = kernels.slices(volume, backend.to_device(turns), samples)
    shifts = poses.origin_A / particles.pixel_size_A
    found = kernels.compare(batch.spectrum, batch.ctf, planes, shifts, samples).astype(np.float64)
    shell = np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64)
    count = np.bincount(shell, minlength=found.shape[2])[: found.shape[2]]
    good = ~batch.bad
    return np.concatenate([found[good].sum(axis=0), count[None] * good.sum()])


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


def _opposed(sums: Float64) -> bool:
    """Whether images and map are anticorrelated, by more than chance: Re X* M has variance ½ |X|² |M|²."""
    dot, power, images, count = sums
    chance = np.sqrt(0.5 * (power * images / np.maximum(count, 1)).sum())
    return bool(dot.sum() < -OPPOSED * chance)


def _scaled(volume: Volume, scale: Float64, workers: int) -> Volume:
    return Volume(filter_map(volume.data, scale, workers), volume.pixel_size_A, volume.header_origin_A, volume.path)
