"""What an iteration learns from the motion that the last one found: where to turn, and how wide the prior should be.

Either half set tells its own motion from its own images; what both use is the mean of the two. So much alone passes
between the half sets: a point and a covariance, as they share the mask and the resolution.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.masks import centre_of_mass
from lrcore.motion.anisotropy import interpolate_covariance, mean_widths, shrink_anisotropy, transform_error
from lrcore.motion.fit import MIN_IMAGES
from lrcore.motion.model import (
    FulcrumEstimate,
    Motion,
    MotionEvidence,
    fit_about_fulcrum,
    lever_arm_transform,
    motion_evidence,
    second_moment_at,
)
from lrcore.particles.bad_images import bad_image_mask
from lrcore.particles.image_stream import reading_order
from lrcore.records import Expectation, Particles, Poses, SearchSettings, Step, Volume
from lrcore.refinement.geometry import (
    MotionPrior,
    SearchGeometry,
    motion_prior_covariance,
    search_geometry,
    search_limits,
    search_settings,
)
from lrcore.refinement.parameters import RefineSpec
from lrcore.units import DEGREE

MAX_PARTICLES = 4000
"""Particles of a half set that are asked; more would say hardly more of 21 numbers."""
MIN_ROTATION_SD_DEG = 0.25
MIN_SHIFT_SD_A = 0.25
"""A prior is not made narrower than these: it would hold every pose where it is, and find no motion ever after."""


def rows_to_learn_from(particles: Particles, last: Step, spec: RefineSpec) -> list[npt.NDArray[np.int64]]:
    """Rows of the particles of either half set that `spec` wants to learn from; empty where nothing can be learned.

    Nothing can at the start, when the search of the step was re-centred, or from fewer than `motion_fit.ENOUGH`.
    """
    if not spec.uses_estimated_motion or last.search is None or last.search.recentred:
        return []
    fine = ~bad_image_mask(last.expectation.flags)
    rows = [order[fine[order]] for order in (reading_order(particles, half) for half in (1, 2))]
    if min(len(some) for some in rows) < MIN_IMAGES:
        return []
    return [some[:: -(-len(some) // MAX_PARTICLES)] for some in rows]


def estimate_motion_prior(
    halves: Sequence[MotionEvidence], search: SearchSettings, mask: Volume, spec: RefineSpec
) -> MotionPrior:
    """What the sights of both half sets say, on the way from what the search held that they are of."""
    shape = search_geometry(mask, spec)
    locate = fulcrum_fitter(mask, spec, shape)
    return _average_with_last(
        _combine_half_sets([locate(half) for half in halves], spec, shape), search, search_settings(shape, spec)
    )


def evidence_from_search(
    particles: Particles, found: Expectation, centres: Poses, search: SearchSettings
) -> tuple[MotionEvidence, npt.NDArray[np.int64]]:
    """What the images say of the motion, and their rows: `motion.sights` of what a search found that held this."""
    return motion_evidence(particles, found, centres, search_limits(search), search.fulcrum_A)


def split_by_half_set(seen: MotionEvidence, half: npt.NDArray[np.int8]) -> tuple[MotionEvidence, MotionEvidence]:
    """The sights of half set 1 and of half set 2. half: (n,) of each."""
    return seen.select(np.nonzero(half == 1)[0]), seen.select(np.nonzero(half == 2)[0])


def fulcrum_fitter(
    mask: Volume, spec: RefineSpec, shape: SearchGeometry
) -> Callable[[MotionEvidence], tuple[Motion, FulcrumEstimate]]:
    """`motion.located` for the body in a mask: begun at the spec's widths, held to the mask's centre by its radius."""
    home = np.asarray(centre_of_mass(mask.data) * mask.pixel_size_A, dtype=np.float64)
    begin = (spec.rotation_prior_sd_deg * DEGREE, spec.shift_prior_sd_A)
    return partial(fit_about_fulcrum, prior_sd=begin, reach_A=0.5 * shape.diameter * shape.pixel_size_A, home_A=home)


def _average_with_last(now: MotionPrior, before: SearchSettings, given: SearchSettings) -> MotionPrior:
    """Half-way from what was held before, if that was learned and not given.

    A prior that is too narrow is followed by a motion that is too wide, and the other way round: each iteration would
    swing past the one before. Half-way is the geometric mean, which of widths and of covariances is the same thing.
    """
    if replace(before, rotation_extent_deg=0, shift_extent_A=0) == replace(
        given, rotation_extent_deg=0, shift_extent_A=0
    ):
        return now
    x, y, z = ((a + b) / 2 for a, b in zip(now.fulcrum_A, before.fulcrum_A, strict=True))
    covariance = _covariance_about((x, y, z), now.fulcrum_A, _prior_covariance(now))
    if np.isfinite([before.rotation_sd_deg, before.shift_sd_A]).all():
        covariance = interpolate_covariance(
            covariance, _covariance_about((x, y, z), before.fulcrum_A, _prior_covariance(before)), 0.5
        )
    return _limited_prior((x, y, z), covariance)


def _combine_half_sets(
    found: list[tuple[Motion, FulcrumEstimate]], spec: RefineSpec, shape: SearchGeometry
) -> MotionPrior:
    """The mean of the half sets: of the fulcra by their precision, and of the motions' second moments.

    What may be chance of how these differ by axis is left out.
    """
    precision = [np.linalg.inv(hinge.covariance_A2) for _, hinge in found]
    pulls: list[Float64] = [p @ hinge.fulcrum_A for p, (_, hinge) in zip(precision, found, strict=True)]
    fulcrum = np.asarray(np.linalg.solve(precision[0] + precision[1], pulls[0] + pulls[1]), dtype=np.float64)
    moment = np.mean([second_moment_at(motion, fulcrum) for motion, _ in found], axis=0)
    error = np.mean([transform_error(m.error, lever_arm_transform(fulcrum - m.reference_A)) for m, _ in found], axis=0)
    covariance = shrink_anisotropy(moment, error / len(found))
    point = fulcrum if spec.fulcrum == "estimate" else np.array(shape.fulcrum_A, dtype=np.float64)
    x, y, z = (float(p) for p in point)
    return _limited_prior((x, y, z), _covariance_about(point, fulcrum, covariance))


def _limited_prior(point_A: tuple[float, float, float], covariance: Float64) -> MotionPrior:
    """A prior about this point, neither narrower nor wider along any axis than is good for a search."""
    least = np.repeat([MIN_ROTATION_SD_DEG * DEGREE, MIN_SHIFT_SD_A], 3)
    values, vectors = np.linalg.eigh(covariance / np.outer(least, least))
    covariance = (vectors * np.maximum(values, 1.0)) @ vectors.T * np.outer(least, least)
    turn, shift = mean_widths(covariance)
    most = np.minimum(1.0, np.repeat([90.0 * DEGREE / turn, 200.0 / shift], 3))
    covariance = covariance * np.outer(most, most)
    return MotionPrior(
        point_A, float(turn * most[0] / DEGREE), float(shift * most[3]), tuple(covariance.ravel().tolist())
    )


def _prior_covariance(of: MotionPrior | SearchSettings) -> Float64:
    """(6, 6) of the motion that a prior is for, about its fulcrum, rad and Å."""
    covariance = motion_prior_covariance(of)
    return (
        np.diag(np.repeat([of.rotation_sd_deg * DEGREE, of.shift_sd_A], 3) ** 2) if covariance is None else covariance
    )


def _covariance_about(point_A: npt.ArrayLike, fulcrum_A: npt.ArrayLike, covariance: Float64) -> Float64:
    to = lever_arm_transform(np.subtract(point_A, fulcrum_A))
    return np.asarray(to @ covariance @ to.T, dtype=np.float64)
