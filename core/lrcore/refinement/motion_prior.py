"""Estimate the prior and the fulcrum of the next iteration from the motion that the last one found.

The motion of the body is fitted for each half set by itself (`motion.model`), to the likelihoods of its images under
the map of the other half set (`cross_half_likelihood`). Both half sets then use one prior, made of the two fits:

1. fulcrum: the mean of the two, weighted by their precision;
2. covariance: the mean of the second moments about that fulcrum, its anisotropy shrunk by what may be chance
   (`motion.anisotropy`);
3. from the second time on, half-way from the prior of the last iteration, as a geometric mean;
4. limits on the widths.

So a point and a covariance are all that passes between the half sets, as they share mask and resolution.

Differs from RELION and CryoSPARC, where prior and fulcrum are given.
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
"""Largest number of particles of a half set that are used; more would hardly improve 21 numbers."""
MIN_ROTATION_SD_DEG = 0.25
MIN_SHIFT_SD_A = 0.25
"""Least widths of a prior: with a narrower one poses could not move, and no later iteration would find a motion."""


def rows_for_motion_estimate(particles: Particles, last: Step, spec: RefineSpec) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each half set from which to estimate the motion; an empty list if that is impossible.

    It is impossible at the start, when the last search was re-centred, and with fewer than `fit.MIN_IMAGES` images.
    """
    if not spec.uses_estimated_motion or last.search is None or last.search.recentred:
        return []
    valid = ~bad_image_mask(last.expectation.flags) & last.expectation.is_present
    rows = [order[valid[order]] for order in (reading_order(particles, half) for half in (1, 2))]
    if min(len(subset) for subset in rows) < MIN_IMAGES:
        return []
    return [subset[:: -(-len(subset) // MAX_PARTICLES)] for subset in rows]


def estimate_motion_prior(
    halves: Sequence[MotionEvidence], search: SearchSettings, mask: Volume, spec: RefineSpec
) -> MotionPrior:
    """Estimate the prior of the next iteration from the evidence of both half sets.

    halves: evidence of half set 1 and 2. search: settings of the search that found the poses.
    """
    geometry = search_geometry(mask, spec)
    fit = fulcrum_fitter(mask, spec, geometry)
    return _average_with_last(
        _combine_half_sets([fit(half) for half in halves], spec, geometry), search, search_settings(geometry, spec)
    )


def evidence_from_search(
    particles: Particles, expectation: Expectation, centres: Poses, search: SearchSettings
) -> tuple[MotionEvidence, npt.NDArray[np.int64]]:
    """Return what the images of a search say about the motion, and the rows of these images.

    Parameters
    ----------
    particles : at their input poses, from which motions are measured
    expectation : what the search found
    centres : centres of the search and of its prior
    search : settings of the search

    Returns
    -------
    MotionEvidence
        Of m images, about the fulcrum of the search.
    ndarray
        (m,) rows of the particles.
    """
    return motion_evidence(particles, expectation, centres, search_limits(search), search.fulcrum_A)


def split_by_half_set(evidence: MotionEvidence, half: npt.NDArray[np.int8]) -> tuple[MotionEvidence, MotionEvidence]:
    """Return the evidence of half set 1 and of half set 2.

    Parameters
    ----------
    evidence : of n images
    half : (n,) half set of each, 1 or 2
    """
    return evidence.select(np.nonzero(half == 1)[0]), evidence.select(np.nonzero(half == 2)[0])


def fulcrum_fitter(
    mask: Volume, spec: RefineSpec, geometry: SearchGeometry
) -> Callable[[MotionEvidence], tuple[Motion, FulcrumEstimate]]:
    """Return `motion.model.fit_about_fulcrum` with the arguments that fit the body in a mask.

    It starts at the prior SDs of the parameters, and draws the fulcrum to the centre of the mask by its radius.

    Parameters
    ----------
    mask : (n, n, n)
    spec : parameters of the refinement
    geometry : of the search

    Returns
    -------
    callable
        `MotionEvidence` → `Motion`, `FulcrumEstimate`.
    """
    mask_centre = np.asarray(centre_of_mass(mask.data) * mask.pixel_size_A, dtype=np.float64)
    prior_sd = (spec.rotation_prior_sd_deg * DEGREE, spec.shift_prior_sd_A)
    return partial(
        fit_about_fulcrum,
        prior_sd=prior_sd,
        fulcrum_sd_A=0.5 * geometry.diameter * geometry.pixel_size_A,
        fulcrum_prior_A=mask_centre,
    )


def _average_with_last(new: MotionPrior, last: SearchSettings, given: SearchSettings) -> MotionPrior:
    """Return the prior half-way from that of the last iteration, unless the last one was given and not estimated.

    A prior that is too narrow is followed by a motion that is too wide, and the other way round, so that each iteration
    would overshoot. Half-way is the geometric mean, which does not depend on the point about which the motion is taken.
    """
    if replace(last, rotation_extent_deg=0, shift_extent_A=0) == replace(
        given, rotation_extent_deg=0, shift_extent_A=0
    ):
        return new
    x, y, z = ((a + b) / 2 for a, b in zip(new.fulcrum_A, last.fulcrum_A, strict=True))
    covariance = _covariance_about((x, y, z), new.fulcrum_A, _prior_covariance(new))
    if np.isfinite([last.rotation_sd_deg, last.shift_sd_A]).all():
        covariance = interpolate_covariance(
            covariance, _covariance_about((x, y, z), last.fulcrum_A, _prior_covariance(last)), 0.5
        )
    return _limited_prior((x, y, z), covariance)


def _combine_half_sets(
    fits: list[tuple[Motion, FulcrumEstimate]], spec: RefineSpec, geometry: SearchGeometry
) -> MotionPrior:
    """Return the mean of both half sets: of the fulcra by their precision, and of the second moments of the motions.

    Differences by axis that may be chance are shrunk.
    """
    precision = [np.linalg.inv(estimate.covariance_A2) for _, estimate in fits]
    weighted: list[Float64] = [p @ estimate.fulcrum_A for p, (_, estimate) in zip(precision, fits, strict=True)]
    fulcrum = np.asarray(np.linalg.solve(precision[0] + precision[1], weighted[0] + weighted[1]), dtype=np.float64)
    moment = np.mean([second_moment_at(motion, fulcrum) for motion, _ in fits], axis=0)
    error = np.mean([transform_error(m.error, lever_arm_transform(fulcrum - m.reference_A)) for m, _ in fits], axis=0)
    covariance = shrink_anisotropy(moment, error / len(fits))
    point = fulcrum if spec.fulcrum == "estimate" else np.array(geometry.fulcrum_A, dtype=np.float64)
    x, y, z = (float(p) for p in point)
    return _limited_prior((x, y, z), _covariance_about(point, fulcrum, covariance))


def _limited_prior(point_A: tuple[float, float, float], covariance: Float64) -> MotionPrior:
    """Return a prior about a point whose width along each axis is within the limits of a search."""
    least = np.repeat([MIN_ROTATION_SD_DEG * DEGREE, MIN_SHIFT_SD_A], 3)
    values, vectors = np.linalg.eigh(covariance / np.outer(least, least))
    covariance = (vectors * np.maximum(values, 1.0)) @ vectors.T * np.outer(least, least)
    rotation, shift = mean_widths(covariance)
    most = np.minimum(1.0, np.repeat([90.0 * DEGREE / rotation, 200.0 / shift], 3))
    covariance = covariance * np.outer(most, most)
    return MotionPrior(
        point_A, float(rotation * most[0] / DEGREE), float(shift * most[3]), tuple(covariance.ravel().tolist())
    )


def _prior_covariance(prior: MotionPrior | SearchSettings) -> Float64:
    """Return the (6, 6) covariance of the motion that a prior describes, about its fulcrum, rad and Å."""
    covariance = motion_prior_covariance(prior)
    return (
        np.diag(np.repeat([prior.rotation_sd_deg * DEGREE, prior.shift_sd_A], 3) ** 2)
        if covariance is None
        else covariance
    )


def _covariance_about(point_A: npt.ArrayLike, fulcrum_A: npt.ArrayLike, covariance: Float64) -> Float64:
    """Transform a covariance (6, 6) of the motion about `fulcrum_A` to that about another point."""
    transform = lever_arm_transform(np.subtract(point_A, fulcrum_A))
    return np.asarray(transform @ covariance @ transform.T, dtype=np.float64)
