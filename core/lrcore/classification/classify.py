"""Classify the particles of a step at its poses, inside the mask of the job."""

import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from lrcore.arrays import Float32, Float64
from lrcore.classification.fit import ClassAssignment, fit_classes
from lrcore.classification.images import ClassificationImages, classification_images
from lrcore.classification.maximisation import add_sums, class_sums, with_start
from lrcore.classification.result import Classification, ClassMaps
from lrcore.classification.settings import ClassificationSettings, check_settings, classification_resolution_A
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.resampling import grid_mismatch
from lrcore.particles.image_stream import reading_order
from lrcore.records import BodyMaps, HalfMaps, Progress, Step, Volume
from lrcore.refinement.job import Job
from lrcore.refinement.reconstruction import (
    Accumulator,
    collect_return_value,
    regularisation_from_fsc,
    solve_map,
)
from lrcore.refinement.window import LEAST_SHARE


def classify(
    job: Job,
    first: Step,
    last: Step,
    settings: ClassificationSettings,
    backend: Backend,
    maps: Sequence[Volume] | None = None,
) -> Generator[Progress | ClassAssignment | Classification, None, None]:
    """Sort the particles of a step into classes of the density inside the mask, at the poses of the step.

    The classes are fitted to the particles of both half sets up to the resolution used to classify. Then half maps of
    each class are made of either half set. Since both half sets follow the same references, an FSC of small classes may
    be too high up to this resolution.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    last : step whose poses are used
    settings : of the classification
    backend : where the kernels run, and where windows of the images are kept
    maps
        Maps of the box to start from, one for each class, on one common scale; None to start from random subsets.

    Yields
    ------
    Progress, ClassAssignment or Classification
        `Progress` per batch of images, the assignment after each iteration, and the result at the end. The caller may
        stop after any of them; `class_half_maps` makes the maps of an assignment.

    Raises
    ------
    InputError
        When the particles do not allow the settings, a map does not fit, or an image cannot be read.

    References
    ----------
    Scheres (2012), J. Mol. Biol. 415:406 (classification by maximum a posteriori); Bai et al. (2015), eLife 4:e11182
    (focused classification without alignment, with signal subtraction).
    """
    check_settings(settings, job.particles)
    images, resolution_A = classification_images(job, first, last, backend), classification_resolution_A(settings, last)
    start = None if maps is None else start_maps(images, maps, settings, resolution_A)
    fit = yield from fit_classes(images, settings, resolution_A, maps=start)
    assignment = fit.assignment
    for found in class_half_maps(images, assignment.posterior[:, : settings.classes]):
        if isinstance(found, Progress):
            yield found
            continue
        yield Classification(
            settings,
            resolution_A,
            assignment.posterior,
            assignment.shares,
            found,
            tuple(replace(entry, posterior=np.empty((0, settings.models))) for entry in fit.history),
            assignment.converged,
            job.particles.uid,
        )


def start_maps(
    images: ClassificationImages, maps: Sequence[Volume], settings: ClassificationSettings, resolution_A: float
) -> Float32:
    """Return given maps in the window, low-passed, on the scale of the images: (K, D, D, D).

    They get one common scale, that at which their mean fits the map of the start inside the mask best.

    Parameters
    ----------
    images : that are classified
    maps : one for each class, of the box
    settings : of the classification
    resolution_A : of the low-pass, Å

    Raises
    ------
    InputError
        When there are not as many maps as classes, a map is of another grid, or all are empty inside the mask.
    """
    if len(maps) != settings.classes:
        raise InputError(f"{len(maps)} maps to start from, but {settings.classes} classes: give one map for each class")
    for volume in maps:
        if mismatch := grid_mismatch(volume, images.job.mask.box, images.job.mask.pixel_size_A, "map", "the mask's"):
            raise InputError(mismatch)
    window, mask, threads = images.window, images.mask.data, images.backend.threads
    keep = (np.arange(window.size // 2 + 1) <= window.size * window.pixel_size_A / resolution_A).astype(np.float64)
    inside = np.stack([filter_map(window.crop(volume).data, keep, threads) for volume in maps])
    wanted, mean = filter_map(images.coarse.mean(axis=0), keep, threads) * mask, inside.mean(axis=0) * mask
    power = float(np.sum(mean**2, dtype=np.float64))
    if power == 0:
        raise InputError("the maps to start from have no density inside the mask: give maps of the same frame")
    return (inside * np.float32(np.sum(mean * wanted, dtype=np.float64) / power)).astype(np.float32)


def class_half_maps(
    images: ClassificationImages, posterior: Float64
) -> Iterator[Progress | tuple[ClassMaps | None, ...]]:
    """Reconstruct the half maps of every class, to the Nyquist frequency.

    Parameters
    ----------
    images : of all n particles
    posterior : (n, K) weights of the particles in the classes

    Yields
    ------
    Progress or tuple
        `Progress` per batch of images; at the end the maps of K classes, None for a class without particles in a half
        set, of which a warning is issued.
    """
    particles, limit = images.particles, images.window.size // 2
    done, sums = 0, []
    for half in (1, 2):
        rows, found = reading_order(particles, half), list[list[Accumulator]]()
        for count in collect_return_value(found, class_sums(images, posterior[rows], rows, limit)):
            done += count
            yield Progress(0, "class maps", done, len(particles))
        sums.append(found.pop())
    weight = np.stack([posterior[particles.half == half].sum(axis=0) for half in (1, 2)])
    total = weight.sum(axis=1, keepdims=True)
    out: list[ClassMaps | None] = []
    for number, (own, share) in enumerate(zip(zip(*sums, strict=True), (weight / total).T, strict=True)):
        if missing := [half for half in (1, 2) if weight[half - 1, number] < 1]:
            warnings.warn(
                f"class {number + 1} holds no particle of half set {' and '.join(map(str, missing))}: it gets no maps; "
                f"use {posterior.shape[1] - 1} classes",
                stacklevel=2,
            )
            out.append(None)
            continue
        out.append(_maps_of(images, own, share))
    yield tuple(out)


def _maps_of(images: ClassificationImages, own: tuple[Accumulator, ...], share: Float64) -> ClassMaps:
    """Return the maps of a class. own: its sums of either half set. share: (2,) of the class in the half sets."""
    window, threads = images.window, images.backend.threads
    rho, halves = regularisation_from_fsc(images.fsc.value), []
    for sums, part, coarse in zip(own, share, images.coarse, strict=True):
        copy = add_sums([sums])
        volume = solve_map(copy, window.pixel_size_A, np.minimum(rho / part, 1e3), threads, LEAST_SHARE)
        halves.append(replace(volume, data=with_start(images, volume.data, coarse)))
    maps = HalfMaps(*halves)
    fsc = window.fsc_of(maps, images.mask, threads)
    return ClassMaps(BodyMaps(maps, images.held, window.centre, fsc["corrected"]), fsc)
