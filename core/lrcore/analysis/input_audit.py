"""The input looked at by itself: whether the half sets share noise, and whether half maps and images are of one kind.

Half maps that share images, or half sets that share particles, agree in the solvent, where there is nothing to agree
about. Half maps of the other hand, or of another magnification, fit the images at their input poses less well than
their mirror image or a map of another size does, which needs no map: only another matrix in front of the samples.
"""

from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.imaging.fourier_volume import FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane, radius_grid
from lrcore.imaging.poses import magnified_rotation
from lrcore.maps.fsc import band_correlation, masked_fsc, wiener_gain
from lrcore.maps.solvent_mask import outline_distance_A
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.records import HalfMaps, Particles, Step
from lrcore.refinement.job import Job

SOLVENT_DISTANCE_A = 20.0
"""Solvent begins so far from the outline, and what is coarser than this does not count: it leaks out of masks."""
SOLVENT_RADIUS = 0.48
"""Radius of the ball in which solvent is looked at, as a share of the box."""
IMAGES_PER_HALF_SET = 300
"""Images of a half set that hand and magnification are judged by."""
SCALES = np.arange(0.92, 1.0801, 0.01)
"""Sizes of the map that are tried."""
MIRRORS = {
    "along x": np.diag([-1.0, 1.0, 1.0]),
    "along y": np.diag([1.0, -1.0, 1.0]),
    "along z": np.diag([1.0, 1.0, -1.0]),
    "through the middle of the box": -np.eye(3),
}
"""Reflections of the map that are tried."""


@dataclass(frozen=True)
class HandAndScaleTest:
    """How much better the half maps fit the images when they are changed, in log-likelihood of the images looked at.

    given: of the maps as they are, over none. mirror: which of MIRRORS is best, by `mirror_gain`. scale: the size of
    the given maps over the right one that is likeliest, by `scale_gain`.
    """

    given: float
    mirror: str
    mirror_gain: float
    scale: float
    scale_gain: float


@dataclass(frozen=True)
class InputAudit:
    """What the input says of itself.

    shared: correlation of the half maps of the start in the solvent; later: the same of the first iteration's, if there
    was one. fit: of half maps that were given; None of those that were made of the images.
    """

    shared: float
    later: float | None
    hand_and_scale: HandAndScaleTest | None

    def with_first_iteration(self, second: Step, workers: int = 1) -> "InputAudit":
        """The same with what the first iteration adds to it."""
        return replace(self, later=solvent_correlation(second.half_maps, workers))


def audit_input(job: Job, first: Step, backend: Backend) -> InputAudit:
    """Look at the input of a run. first: its start."""
    fit = None if job.half_maps is None else _test_hand_and_scale(job.particles, job.half_maps, backend)
    return InputAudit(solvent_correlation(first.half_maps, backend.threads), None, fit)


def solvent_correlation(maps: HalfMaps, workers: int = 1) -> float:
    """Correlation of two half maps in the solvent, of what is finer than AWAY_A; 0 without solvent."""
    first, second = maps.first.data, maps.second.data
    n, apix = maps.first.box, maps.first.pixel_size_A
    solvent = outline_distance_A(first, second, apix, workers) > SOLVENT_DISTANCE_A
    solvent &= radius_grid(n, 3) < SOLVENT_RADIUS * n
    return band_correlation(maps, solvent, SOLVENT_DISTANCE_A, workers=workers)


def _test_hand_and_scale(particles: Particles, maps: HalfMaps, backend: Backend) -> HandAndScaleTest:
    """Each half map against images of the other half set, at the input poses, in all the ways of `_ways`."""
    n = particles.box
    region = inscribed_sphere(n)
    gain = wiener_gain(masked_fsc(maps.first.data, maps.second.data, region, backend.threads))
    last = max(int(np.nonzero(gain)[0].max(initial=2)), 2)
    samples = half_plane(n, (min(last, (n - 1) // 2 / SCALES.max()),))
    ways = _map_transforms()
    score = np.zeros(len(ways))
    for half in (1, 2):
        filtered = filter_map(maps.half(3 - half).data * region, gain, backend.threads)
        volume = backend.place(map_to_fourier_volume(filtered, (n - 1) // 2, backend.threads))
        score += _scores(particles, half, volume, samples, ways, backend)
    gained = score - score[0]
    mirrors, scales = gained[1 : 1 + len(MIRRORS)], gained[1 + len(MIRRORS) :]
    which, size = int(np.argmax(mirrors)), int(np.argmax(scales))
    return HandAndScaleTest(
        float(score[0]), list(MIRRORS)[which], float(mirrors[which]), float(SCALES[size]), float(scales[size])
    )


def _map_transforms() -> list[Float64]:
    """What turns are multiplied by: nothing; the mirrors; the scales."""
    return [np.eye(3), *MIRRORS.values(), *(np.eye(3) / scale for scale in SCALES)]


def _scores(
    particles: Particles,
    half: int,
    volume: FourierVolume,
    samples: FourierSamples,
    ways: list[Float64],
    backend: Backend,
) -> Float64:
    """Log-likelihood of images in each way, over that of no map: Σ dot² / 2 |C S|² σ², every shell at its own scale."""
    rows = reading_order(particles, half)
    rows = rows[:: max(1, len(rows) // IMAGES_PER_HALF_SET)][:IMAGES_PER_HALF_SET]
    shell = np.rint(np.hypot(samples.kx, samples.ky)).astype(np.int64)
    shells = int(shell.max()) + 1

    def work(batch: Batch) -> tuple[Float64, int]:
        poses, kernels = particles.poses.select(batch.rows), backend.kernels
        turns = magnified_rotation(poses.rotation, magnification_in_3d(particles, batch.rows))
        shifts, found = poses.origin_A / particles.pixel_size_A, np.zeros((len(ways), 3, shells))
        for number, way in enumerate(ways):
            planes = kernels.project_slices(volume, backend.to_device(turns @ way), samples)
            each = kernels.correlate_with_model(batch.spectrum, batch.ctf, planes, shifts, samples).astype(np.float64)
            found[number] = each[~batch.bad].sum(axis=0)[:, :shells]
        return found, int((~batch.bad).sum())

    every, counts = zip(*map_batches(particles, rows, backend, work), strict=True)
    sums, count = np.sum(every, axis=0), sum(counts)
    dot, power, images = sums.transpose(1, 0, 2)
    noise = images / np.maximum(count * np.bincount(shell, minlength=shells), 1)
    # |X|² of a coefficient is twice the variance of its real part.
    each = np.divide(np.maximum(dot, 0.0) ** 2, power * noise, out=np.zeros_like(dot), where=power * noise > 0)
    return np.asarray(each[:, 2:].sum(axis=1), dtype=np.float64)
