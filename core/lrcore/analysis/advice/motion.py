"""Compare the motion estimated from the poses of a step with its settings: prior widths, fulcrum and origins."""

from collections.abc import Iterator

import numpy as np

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.motion_estimate import MotionEstimate
from lrcore.arrays import Float64
from lrcore.imaging.aberrations import magnification_in_3d
from lrcore.motion.model import ANISOTROPY_RATIO, motion_between_poses, prior_widths
from lrcore.particles.bad_images import bad_image_mask
from lrcore.records import Poses, SearchSettings, Step
from lrcore.refinement.geometry import search_geometry
from lrcore.refinement.job import Job
from lrcore.refinement.motion_prior import MIN_ROTATION_SD_DEG, MIN_SHIFT_SD_A
from lrcore.units import DEGREE

ROTATION_TIGHT, ROTATION_WIDE = 1.6, 0.45
"""SD of the rotations over that of their prior: above the first the prior is too tight, below the second too wide."""
SHIFT_TIGHT, SHIFT_WIDE = 1.8, 0.4
"""The same ratios for the shifts."""
MAX_FULCRUM_OFFSET = 0.25
"""Distance of the fulcrum from the estimated one, in diameters of the mask, from which it is misplaced."""
FULCRUM_CHI2 = 25.0
"""Squared distance of the two, in units of the estimate's covariance, that is required in addition: 5 SD."""
MAX_MEAN_SHIFT_PX = 0.15
"""Mean shift of all particles, px, from which the origins or the centre of the map are wrong."""
OFF_CENTRE_SIGMAS = 10.0
"""Mean shift in standard errors that is required in addition."""
MAX_SHARE_AT_EXTENT = 0.1
"""Share of particles at an extent above which the poses do not show the motion."""


def motion_findings(job: Job, step: Step, estimate: MotionEstimate | None) -> Iterator[Finding]:
    """Yield the findings about priors, fulcrum and origins.

    There are none if the poses are re-centred or stopped at the extents, because they do not show the motion then.

    Parameters
    ----------
    job : the job that the step was run with
    step : the step to judge
    estimate : motion estimated from the poses of the step; None skips the checks that need it
    """
    search, now = step.search, step.history[-1]
    if search is None or search.recentred or max(now.at_rotation_extent, now.at_shift_extent) > MAX_SHARE_AT_EXTENT:
        return
    off_centre = [*_off_centre(job, step, search)]
    yield from off_centre
    if estimate is None:
        return
    fulcrum_off = [] if off_centre else [*_fulcrum(job, search, estimate)]
    yield from fulcrum_off
    yield from _priors(job, search, estimate, shifts=not (off_centre or fulcrum_off))
    yield from _anisotropy(job, estimate)


def _off_centre(job: Job, step: Step, search: SearchSettings) -> Iterator[Finding]:
    """Yield a finding if all images share a shift, in the image or in the frame of the map."""
    particles, apix = job.particles, job.particles.pixel_size_A
    kept = np.nonzero(~bad_image_mask(step.expectation.flags))[0]
    given, found = (poses.select(kept) for poses in (particles.poses, step.expectation.poses))
    shift = motion_between_poses(given, found, np.array(search.fulcrum_A), magnification_in_3d(particles, kept))[:, 3:]
    image, error = shift.mean(axis=0), shift.std(axis=0) / np.sqrt(len(shift))
    body, body_error = _common_shift_in_map(given, shift)
    for what, mean, sd in (("image", image, error), ("map", body, body_error)):
        size, sigmas = float(np.linalg.norm(mean)), float(np.max(np.abs(mean) / np.maximum(sd, 1e-9)))
        if size > MAX_MEAN_SHIFT_PX * apix and sigmas > OFF_CENTRE_SIGMAS:
            place = ", ".join(f"{x:.1f}" for x in mean)
            yield Finding(
                "off_centre",
                f"all particles share a shift of at least ({place}) Å in the {what}, {sigmas:.0f} times its standard "
                "error: "
                + ("the origins are wrong" if what == "image" else "particles and map have different centres"),
                "follow the shift: recenter_shifts on; better: correct the origins, or start without half maps",
                size / apix,
                MAX_MEAN_SHIFT_PX,
                {"recenter_shifts": True} if not job.spec.uses_estimated_motion else {},
            )
            return


def _common_shift_in_map(poses: Poses, shift: Float64) -> tuple[Float64, Float64]:
    """Fit d (3,), in the map, so that (A d)_xy is nearest to the shifts (n, 2) of all images; return d and its SD."""
    projection = poses.rotation[:, :2]
    normal = np.einsum("nij,nik->jk", projection, projection)
    inverse = np.linalg.pinv(normal, hermitian=True)  # from one direction of view, d along it cannot be seen
    d = inverse @ np.einsum("nij,ni->j", projection, shift)
    residual = shift - projection @ d
    return d, np.sqrt(np.diag(inverse) * residual.var())


def _fulcrum(job: Job, search: SearchSettings, estimate: MotionEstimate) -> Iterator[Finding]:
    """Yield a finding if the fulcrum is far from the point that the body turns about."""
    if job.spec.fulcrum == "estimate":
        return
    offset = estimate.overall.fulcrum_A - np.array(search.fulcrum_A)
    distance = float(np.linalg.norm(offset))
    chi2 = float(offset @ np.linalg.solve(estimate.overall.covariance_A2, offset))
    diameter = search_geometry(job.mask, job.spec).diameter * job.mask.pixel_size_A
    if distance > MAX_FULCRUM_OFFSET * diameter and chi2 > FULCRUM_CHI2:
        corner = estimate.overall.fulcrum_A + job.mask.box // 2 * job.mask.pixel_size_A
        place = ", ".join(f"{x:.1f}" for x in corner)
        shift = _rounded(estimate.overall.shift_sd_A, MIN_SHIFT_SD_A)
        error = float(np.sqrt(np.trace(estimate.overall.covariance_A2)))
        yield Finding(
            "fulcrum_off",
            f"the body turns about another point than the fulcrum: it moves least at ({place}) Å, {distance:.0f} ± "
            f"{error:.0f} Å from the fulcrum",
            f"move the fulcrum to that point: fulcrum {place} A, shift_prior_sd_A {shift:g}",
            distance / diameter,
            MAX_FULCRUM_OFFSET,
            {"fulcrum": f"{place} A", "shift_prior_sd_A": shift},
        )


def _priors(job: Job, search: SearchSettings, estimate: MotionEstimate, shifts: bool) -> Iterator[Finding]:
    """Yield a finding for each prior, of rotation and (if `shifts`) of shift, that is too tight or too wide."""
    if job.spec.prior != "gaussian":
        return
    turn, shift = prior_widths(estimate.motion, np.array(search.fulcrum_A))
    cases = [
        (
            "rotation",
            turn / DEGREE,
            search.rotation_sd_deg,
            ROTATION_TIGHT,
            ROTATION_WIDE,
            MIN_ROTATION_SD_DEG,
            "°",
            "deg",
        )
    ]
    if shifts:
        cases.append(("shift", shift, search.shift_sd_A, SHIFT_TIGHT, SHIFT_WIDE, MIN_SHIFT_SD_A, " Å", "A"))
    for what, width, prior, tight, wide, least, unit, suffix in cases:
        ratio = width / prior
        if wide <= ratio <= tight:
            continue
        name, limit = ("tight", tight) if ratio > tight else ("wide", wide)
        wanted = _rounded(width, least)
        yield Finding(
            f"{what}_prior_{name}",
            f"the {what} prior is too {name}: the motion has an SD of {width:.2g}{unit} per axis (corrected for pose "
            f"errors), the prior one of {prior:.2g}{unit}",
            f"match the motion: {what}_prior_sd_{suffix} {wanted:g}; or estimate the prior from the data: prior motion",
            ratio,
            limit,
            {f"{what}_prior_sd_{suffix}": wanted},
        )


def _anisotropy(job: Job, estimate: MotionEstimate) -> Iterator[Finding]:
    """Yield a finding if the body turns mostly about one or two axes while the prior is isotropic."""
    if job.spec.prior != "gaussian" or not estimate.overall.has_dominant_axis:
        return
    sds, axes = estimate.overall.axes
    most, least = sds[0] / DEGREE, max(sds[-1] / DEGREE, MIN_ROTATION_SD_DEG)
    axis = ", ".join(f"{x:.2f}" for x in axes[0])
    yield Finding(
        "prior_uneven",
        f"the rotation is anisotropic: its SD is {most:.2g}° about the axis ({axis}) but only {least:.2g}° about "
        "another one (corrected for pose errors), while the prior is isotropic",
        "use a prior with a width for each axis, estimated from the data: prior motion",
        most / least,
        ANISOTROPY_RATIO,
        {"prior": "motion"},
    )


def _rounded(width: float, least: float) -> float:
    """Return the width with two significant digits, at least `least`."""
    return max(float(f"{width:.2g}"), least)
