"""Settings of a classification, and whether the particles allow it."""

from dataclasses import dataclass

import numpy as np

from lrcore.errors import InputError
from lrcore.records import Particles, Step

LEAST_PARTICLES = 10
"""Least number of particles for each class and half set."""
FINEST_A = 6.0
"""Finest resolution that is used to classify by default, Å."""


@dataclass(frozen=True)
class ClassificationSettings:
    """Settings of a classification.

    Attributes
    ----------
    classes : number of classes with density
    resolution_A : finest resolution used to classify, Å; None for that of the step, but not finer than FINEST_A
    empty_class : True to add a class without density, for particles that do not hold the body
    annealing : number of iterations at first in which the assignment is soft, less so in each; 0 for none
    max_iterations : largest number of iterations from each start
    starts : number of random starts, of which the one with the highest log-likelihood is kept
    switching : share of particles that change their class below which the classification has converged
    seed : of the random starts and of the folds
    """

    classes: int = 2
    resolution_A: float | None = None
    empty_class: bool = False
    annealing: int = 25
    max_iterations: int = 60
    starts: int = 3
    switching: float = 0.01
    seed: int = 0

    @property
    def models(self) -> int:
        """Number of classes, counting the empty one."""
        return self.classes + self.empty_class


def check_settings(settings: ClassificationSettings, particles: Particles) -> None:
    """Check that the settings make sense for these particles.

    Parameters
    ----------
    settings : of the classification
    particles : n of them

    Raises
    ------
    InputError
        When a setting is out of range, or a half set holds too few particles for the classes.
    """
    at_least = {"classes": 1, "annealing": 0, "max_iterations": 1, "starts": 1, "seed": 0}
    for name, least in at_least.items():
        if (value := getattr(settings, name)) < least:
            raise InputError(f"{name}={value}: must be at least {least}")
    if not 0 < settings.switching < 1:
        raise InputError(f"switching={settings.switching:g}: must be a share between 0 and 1")
    if settings.resolution_A is not None and not settings.resolution_A > 2 * particles.pixel_size_A:
        raise InputError(
            f"resolution_A={settings.resolution_A:g}: must be coarser than the Nyquist limit of the images, "
            f"{2 * particles.pixel_size_A:g} A"
        )
    fewest = min(int(np.sum(particles.half == half)) for half in (1, 2))
    if settings.classes * LEAST_PARTICLES > fewest:
        raise InputError(
            f"{particles.path}: {settings.classes} classes need at least {settings.classes * LEAST_PARTICLES} "
            f"particles in each half set, the smaller one has {fewest}: "
            f"use {max(fewest // LEAST_PARTICLES, 1)} classes at most"
        )


def classification_resolution_A(settings: ClassificationSettings, step: Step) -> float:
    """Return the finest resolution in Å that is used to classify.

    Parameters
    ----------
    settings : of the classification
    step : whose poses are used; its FSC inside the mask is the limit by default
    """
    if settings.resolution_A is not None:
        return settings.resolution_A
    return max(step.corrected.resolution_A(), step.initial_lowpass_A, FINEST_A)
