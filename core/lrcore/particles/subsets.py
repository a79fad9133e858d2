"""Draw subsets of particles with balanced half sets, and restrict steps to them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lrcore.errors import InputError
from lrcore.records import Step


def draw_balanced_subset(half: npt.NDArray[np.int8], n: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw particles at random, as many from half set 1 as from 2 (or one more).

    Parameters
    ----------
    half : (particles,) 1 or 2
    n : number of particles to draw; a half set that has fewer contributes all it has
    seed : of the random numbers

    Returns
    -------
    (n,) int64
        Rows of the drawn particles, in order.

    Raises
    ------
    InputError
        If n < 2.
    """
    if n < 2:
        raise InputError(f"subset of {n} particles: give at least 2, one for each half set")
    random = np.random.default_rng(seed)
    wanted = {1: n - n // 2, 2: n // 2}
    chosen = [random.permutation(np.nonzero(half == number)[0])[:count] for number, count in wanted.items()]
    return np.sort(np.concatenate(chosen))


def spread_rows(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return every k-th row, so that at most `most` are left.

    Parameters
    ----------
    rows : (n,) rows in any order
    most : largest number of rows
    """
    return rows[:: max(1, -(-len(rows) // most))]


def select_step_particles(step: Step, rows: npt.NDArray[np.int64]) -> Step:
    """Restrict the expectation of a step to some particles; maps, curves and noise stay those of all.

    Parameters
    ----------
    step : step of a run
    rows : (m,) rows to keep

    Returns
    -------
    Step
    """
    return replace(step, expectation=step.expectation.select(rows))
