"""Advice from the motion that the poses of a step tell: prior widths, fulcrum, and origins that are off."""

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
SHIFT_TIGHT, SHIFT_WIDE = 1.8, 0.4
"""Width of the motion over that of the prior, beyond which the prior is too tight, below which it is too wide."""
FULCRUM_OFF = 0.25
"""Distance of the fulcrum from where the body turns, in diameters of the mask, that is called off,"""
FULCRUM_CHI2 = 25.0
"""if it is so many squares of its error: five SDs."""
OFF_CENTRE_PX = 0.15
"""Mean shift of all particles, px, from which on their origins or the map's middle are off,"""
OFF_CENTRE_SIGMAS = 10.0
"""if it is so many standard errors."""
MAX_SHARE_AT_EXTENT = 0.1
"""Share of particles at an extent from which on their poses say too little of the motion."""


def motion_findings(job: Job, step: Step, found: MotionEstimate | None) -> Iterator[Finding]:
    """Nothing where poses are re-centred, or stop at the extents: what they tell then is not the motion."""
    held, now = step.search, step.history[-1]
    if held is None or held.recentred or max(now.at_rotation_extent, now.at_shift_extent) > MAX_SHARE_AT_EXTENT:
        return
    aside = [*_off_centre(job, step, held)]
    yield from aside
    if found is None:
        return
    off = [] if aside else [*_fulcrum(job, held, found)]
    yield from off
    yield from _priors(job, held, found, shifts=not (aside or off))
    yield from _anisotropy(job, found)


def _off_centre(job: Job, step: Step, held: SearchSettings) -> Iterator[Finding]:
    """Of a shift that all images have in common, or all bodies."""
    particles, apix = job.particles, job.particles.pixel_size_A
    kept = np.nonzero(~bad_image_mask(step.expectation.flags))[0]
    given, found = (poses.select(kept) for poses in (particles.poses, step.expectation.poses))
    shift = motion_between_poses(given, found, np.array(held.fulcrum_A), magnification_in_3d(particles, kept))[:, 3:]
    image, error = shift.mean(axis=0), shift.std(axis=0) / np.sqrt(len(shift))
    body, body_error = _common_shift_in_map(given, shift)
    for what, mean, sd in (("image", image, error), ("map", body, body_error)):
        size, sure = float(np.linalg.norm(mean)), float(np.max(np.abs(mean) / np.maximum(sd, 1e-9)))
        if size > OFF_CENTRE_PX * apix and sure > OFF_CENTRE_SIGMAS:
            place = ", ".join(f"{x:.1f}" for x in mean)
            yield Finding(
                "off_centre",
                f"all particles are shifted alike, by ({place}) Å in the {what} at least, {sure:.0f} times the error: "
                + ("the origins are off" if what == "image" else "particles and map are centred on different points"),
                "let the search follow: recenter_shifts on; better, correct the origins, or begin without half maps",
                size / apix,
                OFF_CENTRE_PX,
                {"recenter_shifts": True} if not job.spec.uses_estimated_motion else {},
            )
            return


def _common_shift_in_map(poses: Poses, shift: Float64) -> tuple[Float64, Float64]:
    """The one vector d in the map for which (A d)_xy is nearest to the shifts (n, 2) of all images, and its error."""
    seen = poses.rotation[:, :2]
    normal = np.einsum("nij,nik->jk", seen, seen)
    d = np.linalg.solve(normal, np.einsum("nij,ni->j", seen, shift))
    left = shift - seen @ d
    return d, np.sqrt(np.diag(np.linalg.inv(normal)) * left.var())


def _fulcrum(job: Job, held: SearchSettings, found: MotionEstimate) -> Iterator[Finding]:
    if job.spec.fulcrum == "estimate":
        return
    off = found.overall.fulcrum_A - np.array(held.fulcrum_A)
    away, sure = float(np.linalg.norm(off)), float(off @ np.linalg.solve(found.overall.covariance_A2, off))
    diameter = search_geometry(job.mask, job.spec).diameter * job.mask.pixel_size_A
    if away > FULCRUM_OFF * diameter and sure > FULCRUM_CHI2:
        corner = found.overall.fulcrum_A + job.mask.box // 2 * job.mask.pixel_size_A
        place = ", ".join(f"{x:.1f}" for x in corner)
        shift = _rounded(found.overall.shift_sd_A, MIN_SHIFT_SD_A)
        error = float(np.sqrt(np.trace(found.overall.covariance_A2)))
        yield Finding(
            "fulcrum_off",
            f"the shifts are those of turns about another point: the body moves least at ({place}) Å, {away:.0f} ± "
            f"{error:.0f} Å from the fulcrum",
            f"turn about that point: fulcrum {place} A, shift_prior_sd_A {shift:g}",
            away / diameter,
            FULCRUM_OFF,
            {"fulcrum": f"{place} A", "shift_prior_sd_A": shift},
        )


def _priors(job: Job, held: SearchSettings, found: MotionEstimate, shifts: bool) -> Iterator[Finding]:
    if job.spec.prior != "gaussian":
        return
    turn, shift = prior_widths(found.motion, np.array(held.fulcrum_A))
    cases = [
        (
            "rotation",
            turn / DEGREE,
            held.rotation_sd_deg,
            ROTATION_TIGHT,
            ROTATION_WIDE,
            MIN_ROTATION_SD_DEG,
            "°",
            "deg",
        )
    ]
    if shifts:
        cases.append(("shift", shift, held.shift_sd_A, SHIFT_TIGHT, SHIFT_WIDE, MIN_SHIFT_SD_A, " Å", "A"))
    for what, width, prior, tight, wide, least, unit, suffix in cases:
        ratio = width / prior
        if wide <= ratio <= tight:
            continue
        name, limit = ("tight", tight) if ratio > tight else ("wide", wide)
        wanted = _rounded(width, least)
        yield Finding(
            f"{what}_prior_{name}",
            f"the {what} prior is too {name}: the motion is {width:.2g}{unit} wide (SD per axis, errors of the poses "
            f"taken out), the prior {prior:.2g}{unit}",
            f"as wide as the motion: {what}_prior_sd_{suffix} {wanted:g}; or let the data say it: prior motion",
            ratio,
            limit,
            {f"{what}_prior_sd_{suffix}": wanted},
        )


def _anisotropy(job: Job, found: MotionEstimate) -> Iterator[Finding]:
    """Of a body that turns about one axis, or two, under a prior that is as wide about all."""
    if job.spec.prior != "gaussian" or not found.overall.has_dominant_axis:
        return
    sds, axes = found.overall.axes
    most, least = sds[0] / DEGREE, max(sds[-1] / DEGREE, MIN_ROTATION_SD_DEG)
    axis = ", ".join(f"{x:.2f}" for x in axes[0])
    yield Finding(
        "prior_uneven",
        f"the body turns by {most:.2g}° about ({axis}) and by {least:.2g}° about another axis (SD, errors of the poses "
        "taken out), and the prior is as wide about all",
        "let the prior follow the motion along each axis: prior motion",
        most / least,
        ANISOTROPY_RATIO,
        {"prior": "motion"},
    )


def _rounded(width: float, least: float) -> float:
    """Two digits, and no narrower than a search can use."""
    return max(float(f"{width:.2g}"), least)
