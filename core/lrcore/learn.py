"""What an iteration learns from the motion that the last one found: where to turn, and how wide the prior should be.

Either half set tells its own motion from its own images; what both use is the mean of the two. So much alone passes
between the half sets: a point and a covariance, as they share the mask and the resolution.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from lrcore.defects import skipped
from lrcore.images import reading_order
from lrcore.masks import centre_of_mass
from lrcore.motion import Hinge, Motion, Sights, about, carried, located, sights
from lrcore.motion_fit import ENOUGH
from lrcore.motion_shape import between, mean_widths, seen_from_there, steadied
from lrcore.records import Expectation, Float64, Held, Particles, Poses, Step, Volume
from lrcore.reference import Geometry, Learned, geometry, held, limits_of, motion_prior
from lrcore.spec import RefineSpec
from lrcore.units import DEGREE

AT_MOST = 4000
"""Particles of a half set that are asked; more would say hardly more of 21 numbers."""
LEAST_TURN_DEG = 0.25
LEAST_SHIFT_A = 0.25
"""A prior is not made narrower than these: it would hold every pose where it is, and find no motion ever after."""


def lessons(particles: Particles, last: Step, spec: RefineSpec) -> list[npt.NDArray[np.int64]]:
    """Rows of the particles of either half set that `spec` wants to learn from; empty where nothing can be learned.

    Nothing can at the start, when the search of the step was re-centred, or from fewer than `motion_fit.ENOUGH`.
    """
    if not spec.learns or last.held is None or last.held.recentred:
        return []
    fine = ~skipped(last.expectation.flags)
    rows = [order[fine[order]] for order in (reading_order(particles, half) for half in (1, 2))]
    if min(len(some) for some in rows) < ENOUGH:
        return []
    return [some[:: -(-len(some) // AT_MOST)] for some in rows]


def learned(halves: Sequence[Sights], search: Held, mask: Volume, spec: RefineSpec) -> Learned:
    """What the sights of both half sets say, on the way from what the search held that they are of."""
    shape = geometry(mask, spec)
    locate = locator(mask, spec, shape)
    return _damped(_both([locate(half) for half in halves], spec, shape), search, held(shape, spec))


def seen_under(
    particles: Particles, found: Expectation, centres: Poses, search: Held
) -> tuple[Sights, npt.NDArray[np.int64]]:
    """What the images say of the motion, and their rows: `motion.sights` of what a search found that held this."""
    return sights(particles, found, centres, limits_of(search), search.fulcrum_A)


def by_half(seen: Sights, half: npt.NDArray[np.int8]) -> tuple[Sights, Sights]:
    """The sights of half set 1 and of half set 2. half: (n,) of each."""
    return seen.select(np.nonzero(half == 1)[0]), seen.select(np.nonzero(half == 2)[0])


def locator(mask: Volume, spec: RefineSpec, shape: Geometry) -> Callable[[Sights], tuple[Motion, Hinge]]:
    """`motion.located` for the body in a mask: begun at the spec's widths, held to the mask's centre by its radius."""
    home = np.asarray(centre_of_mass(mask.data) * mask.pixel_size_A, dtype=np.float64)
    begin = (spec.rotation_prior_sd_deg * DEGREE, spec.shift_prior_sd_A)
    return partial(located, prior_sd=begin, reach_A=0.5 * shape.diameter * shape.pixel_size_A, home_A=home)


def _damped(now: Learned, before: Held, given: Held) -> Learned:
    """Half-way from what was held before, if that was learned and not given.

    A prior that is too narrow is followed by a motion that is too wide, and the other way round: each iteration would
    swing past the one before. Half-way is the geometric mean, which of widths and of covariances is the same thing.
    """
    if replace(before, rotation_extent_deg=0, shift_extent_A=0) == replace(
        given, rotation_extent_deg=0, shift_extent_A=0
    ):
        return now
    x, y, z = ((a + b) / 2 for a, b in zip(now.fulcrum_A, before.fulcrum_A, strict=True))
    covariance = _seen_from((x, y, z), now.fulcrum_A, _covariance(now))
    if np.isfinite([before.rotation_sd_deg, before.shift_sd_A]).all():
        covariance = between(covariance, _seen_from((x, y, z), before.fulcrum_A, _covariance(before)), 0.5)
    return _learned((x, y, z), covariance)


def _both(found: list[tuple[Motion, Hinge]], spec: RefineSpec, shape: Geometry) -> Learned:
    """The mean of the half sets: of the fulcra by their precision, and of the motions' second moments.

    What may be chance of how these differ by axis is left out.
    """
    precision = [np.linalg.inv(hinge.covariance_A2) for _, hinge in found]
    pulls: list[Float64] = [p @ hinge.fulcrum_A for p, (_, hinge) in zip(precision, found, strict=True)]
    fulcrum = np.asarray(np.linalg.solve(precision[0] + precision[1], pulls[0] + pulls[1]), dtype=np.float64)
    moment = np.mean([about(motion, fulcrum) for motion, _ in found], axis=0)
    error = np.mean([seen_from_there(m.error, carried(fulcrum - m.reference_A)) for m, _ in found], axis=0)
    covariance = steadied(moment, error / len(found))
    point = fulcrum if spec.fulcrum == "estimate" else np.array(shape.fulcrum_A, dtype=np.float64)
    x, y, z = (float(p) for p in point)
    return _learned((x, y, z), _seen_from(point, fulcrum, covariance))


def _learned(point_A: tuple[float, float, float], covariance: Float64) -> Learned:
    """A prior about this point, neither narrower nor wider along any axis than is good for a search."""
    least = np.repeat([LEAST_TURN_DEG * DEGREE, LEAST_SHIFT_A], 3)
    values, vectors = np.linalg.eigh(covariance / np.outer(least, least))
    covariance = (vectors * np.maximum(values, 1.0)) @ vectors.T * np.outer(least, least)
    turn, shift = mean_widths(covariance)
    most = np.minimum(1.0, np.repeat([90.0 * DEGREE / turn, 200.0 / shift], 3))
    covariance = covariance * np.outer(most, most)
    return Learned(point_A, float(turn * most[0] / DEGREE), float(shift * most[3]), tuple(covariance.ravel().tolist()))


def _covariance(of: Learned | Held) -> Float64:
    """(6, 6) of the motion that a prior is for, about its fulcrum, rad and Å."""
    covariance = motion_prior(of)
    return (
        np.diag(np.repeat([of.rotation_sd_deg * DEGREE, of.shift_sd_A], 3) ** 2) if covariance is None else covariance
    )


def _seen_from(point_A: npt.ArrayLike, fulcrum_A: npt.ArrayLike, covariance: Float64) -> Float64:
    to = carried(np.subtract(point_A, fulcrum_A))
    return np.asarray(to @ covariance @ to.T, dtype=np.float64)
