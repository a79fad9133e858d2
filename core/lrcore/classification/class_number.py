"""Choose the number of classes by held-out images: classes fitted to one half set, scored on the images of the other.

The score of an image is its log-likelihood relative to no density, log Σ_k share_k p(X | k), under the references of
all images of the other half set. Scores with different numbers of classes belong to the same images, so that
differences between images cancel. The number chosen is the smallest whose mean score is not below the best one by more
than `ERRORS` standard errors of their difference, or by more than LEAST_GAIN: with less, an image says next to nothing
about its class, and a mixture may only make up for an amplitude or an error of the reference that is a little off.

References
----------
Smyth (2000), Stat. Comput. 10:63 (number of clusters by cross-validated likelihood).
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrcore.arrays import Float64, Int64
from lrcore.classification.expectation import class_values, class_volumes, posterior_of, samples_to_classify
from lrcore.classification.fit import ClassFit, fit_classes
from lrcore.classification.images import ClassificationImages, classification_images
from lrcore.classification.settings import ClassificationSettings, check_settings, classification_resolution_A
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.particles.image_stream import reading_order
from lrcore.records import Progress, Step
from lrcore.refinement.job import Job
from lrcore.refinement.reconstruction import collect_return_value

ERRORS = 2.0
"""Standard errors by which a smaller number of classes may be worse than the best one."""
LEAST_GAIN = 0.2
"""Smallest mean difference of the log-likelihood per image that counts."""


@dataclass(frozen=True)
class ClassNumberCurve:
    """Held-out log-likelihood over the number of classes.

    Attributes
    ----------
    classes : (m,) numbers of classes, increasing
    gain : (m,) mean log-likelihood per held-out image, relative to the smallest number of classes
    error : (m,) standard error of `gain`
    chosen : number of classes that the held-out images support
    score : (m, n) log-likelihood of each particle, relative to no density
    """

    classes: Int64
    gain: Float64
    error: Float64
    chosen: int
    score: Float64

    @property
    def sentence(self) -> str:
        """The choice in one sentence."""
        at = int(np.nonzero(self.classes == self.chosen)[0][0])
        if at == 0:
            return f"held-out images support {self.chosen} {'class' if self.chosen == 1 else 'classes'}, not more"
        return (
            f"held-out images support {self.chosen} classes: a gain of {self.gain[at]:.2f} ± {self.error[at]:.2f} in "
            f"log-likelihood per image over {self.classes[0]}"
        )


def held_out_class_number(
    job: Job,
    first: Step,
    last: Step,
    numbers: Sequence[int],
    settings: ClassificationSettings,
    backend: Backend,
) -> Iterator[Progress | ClassNumberCurve]:
    """Score numbers of classes by held-out images.

    Parameters
    ----------
    job : input of the refinement
    first : step 0 of the run
    last : step whose poses are used
    numbers : numbers of classes to try
    settings : of each classification, but for the number of classes
    backend : where the kernels run

    Yields
    ------
    Progress or ClassNumberCurve
        `Progress` per batch of images, then the curve.

    Raises
    ------
    InputError
        When no number is given, or the particles do not allow one.
    """
    numbers = sorted(set(numbers))
    if not numbers:
        raise InputError("no number of classes to try: give at least one")
    for number in numbers:
        check_settings(replace(settings, classes=number), job.particles)
    images, resolution_A = classification_images(job, first, last, backend), classification_resolution_A(settings, last)
    score = np.zeros((len(numbers), len(job.particles)))
    for at, number in enumerate(numbers):
        for half in (1, 2):
            rows = reading_order(job.particles, 3 - half)
            score[at, rows] = yield from _scores(images, replace(settings, classes=number), resolution_A, half)
    yield choose_class_number(np.array(numbers), score)


def choose_class_number(classes: Int64, score: Float64) -> ClassNumberCurve:
    """Choose the number of classes from the scores of held-out images.

    Parameters
    ----------
    classes : (m,) numbers of classes, increasing
    score : (m, n) log-likelihood of each image
    """

    def difference(one: int, other: int) -> tuple[float, float]:
        change = score[one] - score[other]
        return float(change.mean()), float(change.std(ddof=1) / np.sqrt(len(change)))

    gain, error = (np.array(column) for column in zip(*(difference(at, 0) for at in range(len(classes))), strict=True))
    best = int(gain.argmax())
    lacking = [difference(best, at) for at in range(len(classes))]
    chosen = next(at for at, (mean, sd) in enumerate(lacking) if mean <= max(ERRORS * sd, LEAST_GAIN))
    return ClassNumberCurve(classes, gain, error, int(classes[chosen]), score)


def _scores(
    images: ClassificationImages, settings: ClassificationSettings, resolution_A: float, half: int
) -> Generator[Progress, None, Float64]:
    """Fit classes to a half set; return the log-likelihoods of the images of the other one, in reading order."""
    fitting = fit_classes(images, settings, resolution_A, (half,))
    while True:
        try:
            event = next(fitting)
        except StopIteration as stop:
            fit: ClassFit = stop.value
            break
        if isinstance(event, Progress):
            yield replace(event, stage=f"{settings.classes} classes, half set {half}")
    samples = samples_to_classify(images, resolution_A)
    rows, found = reading_order(images.particles, 3 - half), list[Float64]()
    work = class_values(
        images, class_volumes(images, fit.sums.maps(images), samples), samples, rows, settings.empty_class
    )
    for _ in collect_return_value(found, work):
        pass
    return posterior_of(found[0], fit.assignment.shares)[1]
