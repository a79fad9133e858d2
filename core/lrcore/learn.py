"""What an iteration learns from the motion that the last one found: where to turn, and how wide the prior should be.

Either half set tells its own motion from its own images; what both use is the mean of the two. So much alone passes
between the half sets: a point and two widths, as they share the mask and the resolution.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from lrcore.masks import centre_of_mass
from lrcore.motion import Hinge, Motion, Sights, located, sights, widths
from lrcore.motion_fit import ENOUGH
from lrcore.records import Expectation, Float64, Held, Particles, Poses, Step, Volume
from lrcore.reference import Geometry, Learned, geometry, held
from lrcore.spec import RefineSpec
from lrcore.units import DEGREE

LEAST_TURN_DEG = 0.25
LEAST_SHIFT_A = 0.25
"""A prior is not made narrower than these: it would hold every pose where it is, and find no motion ever after."""


def learned(particles: Particles, last: Step, mask: Volume, spec: RefineSpec) -> Learned | None:
    """What `spec` wants learned from a step; None where it wants nothing, or the step cannot tell.

    It cannot at the start, when its search was re-centred, or when a half set has too few sights (`motion_fit.ENOUGH`).
    """
    if not spec.learns or last.held is None or last.held.recentred:
        return None
    shape = geometry(mask, spec)
    seen, rows = seen_under(particles, last.expectation, particles.poses, last.held)
    halves = by_half(seen, particles.half[rows])
    if min(len(half.plane) for half in halves) < ENOUGH:
        return None
    locate = locator(mask, spec, shape)
    return _damped(_both([locate(half) for half in halves], spec, shape), last.held, held(shape, spec))


def seen_under(
    particles: Particles, found: Expectation, centres: Poses, search: Held
) -> tuple[Sights, npt.NDArray[np.int64]]:
    """What the images say of the motion, and their rows: `motion.sights` of what a search found that held this."""
    sd = (search.rotation_sd_deg * DEGREE, search.shift_sd_A)
    extent = (search.rotation_extent_deg * DEGREE, search.shift_extent_A)
    return sights(particles, found, centres, sd, extent, search.fulcrum_A)


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
    swing past the one before.
    """
    if (before.fulcrum_A, before.rotation_sd_deg, before.shift_sd_A) == (
        given.fulcrum_A,
        given.rotation_sd_deg,
        given.shift_sd_A,
    ):
        return now
    x, y, z = ((a + b) / 2 for a, b in zip(now.fulcrum_A, before.fulcrum_A, strict=True))
    widths = (before.rotation_sd_deg, before.shift_sd_A)
    turn, shift = (
        float(np.sqrt(new * old)) if np.isfinite(old) else new
        for new, old in zip((now.rotation_sd_deg, now.shift_sd_A), widths, strict=True)
    )
    return Learned((x, y, z), turn, shift)


def _both(found: list[tuple[Motion, Hinge]], spec: RefineSpec, shape: Geometry) -> Learned:
    """The mean of the half sets: of the fulcra by their precision, of the widths of their squares."""
    precision = [np.linalg.inv(hinge.covariance_A2) for _, hinge in found]
    pulls: list[Float64] = [p @ hinge.fulcrum_A for p, (_, hinge) in zip(precision, found, strict=True)]
    fulcrum = np.asarray(np.linalg.solve(precision[0] + precision[1], pulls[0] + pulls[1]), dtype=np.float64)
    about = fulcrum if spec.fulcrum == "estimate" else np.array(shape.fulcrum_A, dtype=np.float64)
    each = np.array([widths(motion, about) for motion, _ in found])
    turn, shift = np.sqrt((each**2).mean(axis=0))
    x, y, z = (float(f) for f in fulcrum)
    turn_deg = float(np.clip(turn / DEGREE, LEAST_TURN_DEG, 90.0))
    return Learned((x, y, z), turn_deg, float(np.clip(shift, LEAST_SHIFT_A, 200.0)))
