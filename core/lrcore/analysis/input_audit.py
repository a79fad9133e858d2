"""Audit the input of a run: test half sets for shared images, and half maps for wrong hand or scale.

Half maps that share images, or half sets that share particles, correlate in the solvent, where independent half maps
do not. Half maps of the wrong hand or scale fit the images at their input poses less well than their mirror image or a
rescaled map does. No such map is computed: the rotation matrices of the samples are multiplied by a mirror or a scale.
"""

from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.imaging.fourier_volume import FourierVolume, filter_map, map_to_fourier_volume
from lrcore.imaging.grids import FourierSamples, half_plane, radius_grid
from lrcore.maps.body_maps import half_maps_of_body
from lrcore.maps.fsc import band_correlation, masked_fsc, wiener_gain
from lrcore.maps.solvent_mask import coarse_mean, density_tails, outline_distance_A
from lrcore.masks import inscribed_sphere
from lrcore.particles.image_stream import Batch, map_batches, reading_order
from lrcore.particles.pose_checks import find_shared_pose
from lrcore.records import HalfMaps, Particles, Step
from lrcore.refinement.input_pose_slices import correlate_at_input_poses, slices_at_input_poses
from lrcore.refinement.job import Job
from lrcore.refinement.region_sums import MIRRORS

SOLVENT_DISTANCE_A = 20.0
"""Distance from the outline, Å, where solvent begins, and the coarsest resolution used: coarser density leaks out."""
SOLVENT_RADIUS = 0.48
"""Radius of the sphere in which solvent is evaluated, as a share of the box."""
IMAGES_PER_HALF_SET = 300
"""Number of images of each half set that hand and scale are tested with."""
SCALES = np.arange(0.92, 1.0801, 0.01)
"""Scales of the map that are tested."""


@dataclass(frozen=True)
class HandAndScaleTest:
    """Gain in log-likelihood of the tested images when the half maps are mirrored or rescaled.

    Attributes
    ----------
    given_log_likelihood : log-likelihood of the half maps as they are, relative to no map
    mirror : name of the best reflection, a key of `MIRRORS`
    mirror_gain : its gain over the half maps as they are
    scale : most likely size of the given maps relative to the correct one, one of `SCALES`
    scale_gain : gain of maps corrected for that scale
    """

    given_log_likelihood: float
    mirror: str
    mirror_gain: float
    scale: float
    scale_gain: float


@dataclass(frozen=True)
class InputAudit:
    """Audit of the input of a run.

    Attributes
    ----------
    solvent_correlation : correlation of the half maps of step 0 in the solvent
    solvent_correlation_iteration_1 : the same of the half maps of iteration 1; None before there is one
    hand_and_scale : test of the given half maps; None if they were reconstructed from the images
    unaligned : number of particles that share one pose
    contrast_ratio
        Density of the map of step 0 below that of the solvent over the density above it; above 1 for a dark particle.
    """

    solvent_correlation: float
    solvent_correlation_iteration_1: float | None
    hand_and_scale: HandAndScaleTest | None
    unaligned: int = 0
    contrast_ratio: float = 0.0

    def with_first_iteration(self, second: Step, workers: int = 1) -> "InputAudit":
        """Return the audit with the solvent correlation of the half maps of iteration 1.

        Parameters
        ----------
        second : step 1 of the run
        workers : number of threads
        """
        maps = half_maps_of_body(second)
        correlation = solvent_correlation(maps, workers, outline_of=second.half_maps)
        return replace(self, solvent_correlation_iteration_1=correlation)


def audit_input(job: Job, first: Step, backend: Backend) -> InputAudit:
    """Audit the input of a run.

    Parameters
    ----------
    job : inputs of the run
    first : step 0 of the run
    backend : backend to compute with

    Returns
    -------
    InputAudit
        Without `solvent_correlation_iteration_1`, which iteration 1 adds.

    Raises
    ------
    InputError
        If an image stack cannot be read.
    """
    fit = None if job.half_maps is None else _test_hand_and_scale(job.particles, job.half_maps, backend)
    shared, maps = find_shared_pose(job.particles.poses), first.half_maps
    below, above = density_tails(
        coarse_mean(maps.first.data, maps.second.data, maps.first.pixel_size_A, backend.threads)
    )
    return InputAudit(
        solvent_correlation(maps, backend.threads),
        None,
        fit,
        unaligned=0 if shared is None else len(shared.rows),
        contrast_ratio=below / max(above, 1e-30),
    )


def solvent_correlation(maps: HalfMaps, workers: int = 1, outline_of: HalfMaps | None = None) -> float:
    """Return the correlation of two half maps in the solvent, finer than `SOLVENT_DISTANCE_A`; 0 without solvent.

    outline_of: half maps that show where the particle is, where `maps` hold a part of it alone.
    """
    outlined = outline_of or maps
    first, second = outlined.first.data, outlined.second.data
    n, apix = maps.first.box, maps.first.pixel_size_A
    solvent = outline_distance_A(first, second, apix, workers) > SOLVENT_DISTANCE_A
    solvent &= radius_grid(n, 3) < SOLVENT_RADIUS * n
    return band_correlation(maps, solvent, SOLVENT_DISTANCE_A, workers=workers)


def _test_hand_and_scale(particles: Particles, maps: HalfMaps, backend: Backend) -> HandAndScaleTest:
    """Score images at their input poses with the other half map under all transforms of `_map_transforms`."""
    n = particles.box
    region = inscribed_sphere(n)
    wiener = wiener_gain(masked_fsc(maps.first.data, maps.second.data, region, backend.threads))
    last = max(int(np.nonzero(wiener)[0].max(initial=2)), 2)
    samples = half_plane(n, (min(last, (n - 1) // 2 / SCALES.max()),))
    transforms = _map_transforms()
    score = np.zeros(len(transforms))
    for half in (1, 2):
        filtered = filter_map(maps.half(3 - half).data * region, wiener, backend.threads)
        volume = backend.volume_to_device(map_to_fourier_volume(filtered, (n - 1) // 2, backend.threads))
        score += _scores(particles, half, volume, samples, transforms, backend)
    gain = score - score[0]
    mirrors, scales = gain[1 : 1 + len(MIRRORS)], gain[1 + len(MIRRORS) :]
    mirror, scale = int(np.argmax(mirrors)), int(np.argmax(scales))
    return HandAndScaleTest(
        float(score[0]), list(MIRRORS)[mirror], float(mirrors[mirror]), float(SCALES[scale]), float(scales[scale])
    )


def _map_transforms() -> list[Float64]:
    """Return the matrices that rotations are multiplied by: the identity, the mirrors, then the scales."""
    return [np.eye(3), *MIRRORS.values(), *(np.eye(3) / scale for scale in SCALES)]


def _scores(
    particles: Particles,
    half: int,
    volume: FourierVolume,
    samples: FourierSamples,
    transforms: list[Float64],
    backend: Backend,
) -> Float64:
    """Return the log-likelihood of images under each transform, relative to no map.

    It is Σ dot² / (2 |C S|² σ²) over shells, with the scale of the map fitted in every shell.
    """
    rows = reading_order(particles, half)
    rows = rows[:: max(1, len(rows) // IMAGES_PER_HALF_SET)][:IMAGES_PER_HALF_SET]
    shell = samples.shell
    shells = int(shell.max()) + 1

    def work(batch: Batch) -> tuple[Float64, int]:
        sums = np.zeros((len(transforms), 3, shells))
        for number, transform in enumerate(transforms):
            planes = slices_at_input_poses(batch, particles, volume, samples, backend, transform)
            each = correlate_at_input_poses(batch, particles, planes, samples, backend)
            sums[number] = each[~batch.bad].sum(axis=0)[:, :shells]
        return sums, int((~batch.bad).sum())

    every, counts = zip(*map_batches(particles, rows, backend, work), strict=True)
    total, count = np.sum(every, axis=0), sum(counts)
    dot, power, images = total.transpose(1, 0, 2)
    noise = images / np.maximum(count * np.bincount(shell, minlength=shells), 1)
    # |X|² of a coefficient is twice the variance of its real part.
    each = np.divide(np.maximum(dot, 0.0) ** 2, power * noise, out=np.zeros_like(dot), where=power * noise > 0)
    return np.asarray(each[:, 2:].sum(axis=1), dtype=np.float64)
