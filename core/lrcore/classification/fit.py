"""Fit the classes by expectation maximisation at fixed poses.

An image would always prefer the class that its own noise is in. So the particles are split at random into folds, two in
each half set, and an image is compared with references from the images of the other folds. For the same reason a
random start is forgotten: each iteration makes the differences between the classes grow in proportion to what
images that share no noise agree on, as in power iteration.

In the annealed iterations at first, the posteriors have a given perplexity, which falls from almost the number of
classes to 1 (`expectation.temperature_for`), and all classes have the same prior share.

References
----------
Rose (1998), Proc. IEEE 86:2210 (deterministic annealing).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from lrcore.arrays import Float32, Float64, IntArray, Rows
from lrcore.classification.expectation import (
    class_values,
    class_volumes,
    posterior_of,
    samples_to_classify,
    temperature_for,
)
from lrcore.classification.images import ClassificationImages
from lrcore.classification.maximisation import add_sums, class_maps, class_sums
from lrcore.classification.settings import ClassificationSettings
from lrcore.imaging.grids import FourierSamples
from lrcore.particles.image_stream import reading_order
from lrcore.records import Progress
from lrcore.refinement.reconstruction import Accumulator, collect_return_value

SOFTEST = 0.9
"""Perplexity of the first annealed iteration minus 1, over the number of classes minus 1."""
STAGE = "classify"


@dataclass(frozen=True)
class ClassAssignment:
    """Posterior over the classes after an iteration.

    Attributes
    ----------
    start : number of the start, from 1
    iteration : its number, from 1 for each start
    posterior : (n, K) of all particles; the last column is the empty class where there is one; 0 for particles that
        were left out
    shares : (K,) of the particles in each class
    temperature : T of the iteration, 1 without annealing
    log_likelihood : mean per image at T = 1, relative to no density, under references from the images of other folds
    switched : share of the particles whose most probable class changed
    converged : True if fewer switched than the settings ask for, after the annealing
    """

    start: int
    iteration: int
    posterior: Float64
    shares: Float64
    temperature: float
    log_likelihood: float
    switched: float
    converged: bool


@dataclass(frozen=True)
class FoldSums:
    """Sums of the classes for each fold.

    Attributes
    ----------
    of_fold : fold → sums of K classes
    particles : fold → number of particles
    """

    of_fold: dict[int, list[Accumulator]]
    particles: dict[int, int]

    def maps(self, images: ClassificationImages, without: int | None = None) -> Float32:
        """Return the references (K, D, D, D) of all folds, or of all folds but one."""
        chosen = [fold for fold in self.of_fold if fold != without]
        sums = [add_sums(parts) for parts in zip(*(self.of_fold[fold] for fold in chosen), strict=True)]
        return class_maps(images, sums, len(images.particles), sum(self.particles[fold] for fold in chosen))


@dataclass(frozen=True)
class ClassFit:
    """Classes fitted from one start.

    Attributes
    ----------
    history : assignment after each iteration
    sums : of the classes with the last assignment
    """

    history: tuple[ClassAssignment, ...]
    sums: FoldSums

    @property
    def assignment(self) -> ClassAssignment:
        """The last assignment."""
        return self.history[-1]


def folds_of(half: IntArray, seed: int) -> IntArray:
    """Return the fold (n,) of each particle: 0 or 1 in half set 1, 2 or 3 in half set 2, at random and balanced.

    Parameters
    ----------
    half : (n,) 1 or 2
    seed : of the random numbers
    """
    fold, rng = 2 * (np.asarray(half, np.int64) - 1), np.random.default_rng([seed, 0])
    for number in (1, 2):
        rows = np.nonzero(half == number)[0]
        fold[rows] += rng.permutation(len(rows)) % 2
    return fold


def random_posterior(fold: IntArray, classes: int, models: int, seed: Sequence[int]) -> Float64:
    """Return a posterior (n, models) that puts each particle into one of `classes` at random, equally many into each.

    Parameters
    ----------
    fold : (n,) within which the classes are balanced
    classes : number of classes with density
    models : number of columns
    seed : of the random numbers
    """
    rng, posterior = np.random.default_rng(seed), np.zeros((len(fold), models))
    for number in np.unique(fold):
        rows = np.nonzero(fold == number)[0]
        posterior[rows, rng.permutation(len(rows)) % classes] = 1
    return posterior


def fit_classes(
    images: ClassificationImages,
    settings: ClassificationSettings,
    resolution_A: float,
    halves: Sequence[int] = (1, 2),
    maps: Float32 | None = None,
) -> Generator[Progress | ClassAssignment, None, ClassFit]:
    """Fit the classes. Yields progress, and the assignment after each iteration; returns the best fit of all starts.

    Parameters
    ----------
    images : of all particles
    settings : of the classification
    resolution_A : finest resolution used to classify, Å
    halves : half sets whose particles are used
    maps : (K, D, D, D) to start from, on the scale of the images; None for random subsets
    """
    best: ClassFit | None = None
    starts = settings.starts if maps is None and settings.models > 1 else 1
    for number in range(1, starts + 1):
        fit = yield from _fit_from_start(images, settings, resolution_A, halves, maps, number)
        if best is None or fit.assignment.log_likelihood > best.assignment.log_likelihood:
            best = fit
    assert best is not None
    return best


def _fit_from_start(
    images: ClassificationImages,
    settings: ClassificationSettings,
    resolution_A: float,
    halves: Sequence[int],
    maps: Float32 | None,
    number: int,
) -> Generator[Progress | ClassAssignment, None, ClassFit]:
    """Fit the classes from one start. number: of the start, from 1. See `fit_classes`."""
    fold = folds_of(images.particles.half, settings.seed)
    rows = {half: reading_order(images.particles, half) for half in halves}
    parts = {n: rows[half][fold[rows[half]] == n] for half in halves for n in (2 * half - 2, 2 * half - 1)}
    samples = samples_to_classify(images, resolution_A)
    limit = min(int(samples.shell.max()) + 1, (images.window.size - 1) // 2)
    used = np.concatenate(list(parts.values()))
    shares = even = np.full(settings.models, 1 / settings.models)
    posterior, label = np.zeros((len(fold), settings.models)), np.full(len(used), -1)
    sums: FoldSums | None = None
    history: list[ClassAssignment] = []
    if maps is None:
        begin = random_posterior(fold, settings.classes, settings.models, [settings.seed, number])
        sums = yield from _sums_of_folds(images, begin, parts, limit, 0, settings)
    for iteration in range(1, settings.max_iterations + 1):
        values = yield from _values_of_folds(images, sums, maps, parts, samples, iteration, settings)
        temperature = _temperature(values[used], settings, iteration)
        prior = shares if temperature == 1 else even
        log_likelihood = posterior_of(values[used], prior)[1]
        posterior[used], _ = posterior_of(values[used], prior, temperature)
        shares, last, label = posterior[used].mean(axis=0), label, posterior[used].argmax(axis=1)
        switched = float(np.mean(label != last))
        converged = iteration > settings.annealing * (settings.models > 1) and switched < settings.switching
        sums = yield from _sums_of_folds(images, posterior, parts, limit, iteration, settings)
        history.append(
            ClassAssignment(
                number, iteration, posterior.copy(), shares, temperature, float(log_likelihood.mean()), switched,
                converged,
            )
        )  # fmt: skip
        yield history[-1]
        if converged:
            break
    assert sums is not None
    return ClassFit(tuple(history), sums)


def _temperature(values: Float64, settings: ClassificationSettings, iteration: int) -> float:
    """Return the temperature of an iteration."""
    left = 1 - (iteration - 1) / max(settings.annealing, 1)
    if left <= 0 or settings.annealing == 0 or settings.models == 1:
        return 1.0
    even = np.full(settings.models, 1 / settings.models)
    return temperature_for(values, even, 1 + SOFTEST * left * (settings.models - 1))


def _values_of_folds(
    images: ClassificationImages,
    sums: FoldSums | None,
    maps: Float32 | None,
    parts: dict[int, Rows],
    samples: FourierSamples,
    iteration: int,
    settings: ClassificationSettings,
) -> Generator[Progress, None, Float64]:
    """Evaluate the particles of each fold under the references of the others, or under `maps`; (n, K). Yields progress.

    sums: of the folds, None for `maps`. Rows of particles that are left out are 0.
    """
    values, done = np.zeros((len(images.particles), settings.models)), 0
    total = 2 * sum(map(len, parts.values()))
    for number, rows in parts.items():
        references = maps if sums is None else sums.maps(images, number)
        assert references is not None
        volumes = class_volumes(images, references, samples)
        found: list[Float64] = []
        for count in collect_return_value(found, class_values(images, volumes, samples, rows, settings.empty_class)):
            done += count
            yield Progress(iteration, STAGE, done, total)
        values[rows] = found.pop()
    return values


def _sums_of_folds(
    images: ClassificationImages,
    posterior: Float64,
    parts: dict[int, Rows],
    limit: int,
    iteration: int,
    settings: ClassificationSettings,
) -> Generator[Progress, None, FoldSums]:
    """Return the sums of each fold. Yields progress of the second half of an iteration."""
    done = total = sum(len(rows) for rows in parts.values())
    sums: dict[int, list[Accumulator]] = {}
    for number, rows in parts.items():
        found: list[list[Accumulator]] = []
        work = class_sums(images, posterior[rows][:, : settings.classes], rows, limit)
        for count in collect_return_value(found, work):
            done += count
            yield Progress(iteration, STAGE, done, 2 * total)
        sums[number] = found.pop()
    return FoldSums(sums, {number: len(rows) for number, rows in parts.items()})
