"""Subsets of particles that keep the half sets balanced, and what a step says of them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.records import Step


def draw_balanced_subset(half: npt.NDArray[np.int8], n: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows, in order, of `n` particles drawn at random with as many from half set 1 as from 2 (or one more).

    half: (particles,) 1 or 2. A half set that has fewer gives all it has. Raises InputError for n < 2.
    """
    if n < 2:
        raise InputError(f"subset of {n} particles: give at least 2, one for each half set")
    random = np.random.default_rng(seed)
    wanted = {1: n - n // 2, 2: n // 2}
    chosen = [random.permutation(np.nonzero(half == number)[0])[:count] for number, count in wanted.items()]
    return np.sort(np.concatenate(chosen))


def select_step_particles(step: Step, rows: npt.NDArray[np.int64]) -> Step:
    """The step with the expectation of the given particles only; maps, curves and noise stay those of all."""
    return replace(step, expectation=step.expectation.select(rows))
