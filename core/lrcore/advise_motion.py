"""Advice from the motion that the poses of a step tell: prior widths, fulcrum, and origins that are off."""

from collections.abc import Iterator

import numpy as np

from lrcore.aberrations import lens
from lrcore.advice import Advice
from lrcore.defects import skipped
from lrcore.estimate import Estimate
from lrcore.learn import LEAST_SHIFT_A, LEAST_TURN_DEG
from lrcore.motion import UNEVEN, motions, widths
from lrcore.records import Float64, Held, Poses, Step
from lrcore.reference import geometry
from lrcore.refine import Job
from lrcore.units import DEGREE

ROTATION_TIGHT, ROTATION_WIDE = 1.6, 0.45
SHIFT_TIGHT, SHIFT_WIDE = 1.8, 0.4
"""Width of the motion over that of the prior, beyond which the prior is too tight, below which it is too wide."""
FULCRUM_OFF = 0.25
"""Distance of the fulcrum from where the body turns, in diameters of the mask, that is called off,"""
FULCRUM_SURE = 25.0
"""if it is so many squares of its error: five SDs."""
ASIDE_PX = 0.15
"""Mean shift of all particles, px, from which on their origins or the map's middle are off,"""
ASIDE_SURE = 10.0
"""if it is so many standard errors."""
SPENT = 0.1
"""Share of particles at an extent from which on their poses say too little of the motion."""


def of_motion(job: Job, step: Step, found: Estimate | None) -> Iterator[Advice]:
    """Nothing where poses are re-centred, or stop at the extents: what they tell then is not the motion."""
    held, now = step.held, step.history[-1]
    if held is None or held.recentred or max(now.at_rotation_extent, now.at_shift_extent) > SPENT:
        return
    aside = [*_aside(job, step, held)]
    yield from aside
    if found is None:
        return
    off = [] if aside else [*_fulcrum(job, held, found)]
    yield from off
    yield from _priors(job, held, found, shifts=not (aside or off))
    yield from _shape(job, found)


def _aside(job: Job, step: Step, held: Held) -> Iterator[Advice]:
    """Of a shift that all images have in common, or all bodies."""
    particles, apix = job.particles, job.particles.pixel_size_A
    kept = np.nonzero(~skipped(step.expectation.flags))[0]
    given, found = (poses.select(kept) for poses in (particles.poses, step.expectation.poses))
    shift = motions(given, found, np.array(held.fulcrum_A), lens(particles, kept))[:, 3:]
    image, error = shift.mean(axis=0), shift.std(axis=0) / np.sqrt(len(shift))
    body, body_error = _in_body(given, shift)
    for what, mean, sd in (("image", image, error), ("map", body, body_error)):
        size, sure = float(np.linalg.norm(mean)), float(np.max(np.abs(mean) / np.maximum(sd, 1e-9)))
        if size > ASIDE_PX * apix and sure > ASIDE_SURE:
            place = ", ".join(f"{x:.1f}" for x in mean)
            yield Advice(
                "off_centre",
                f"all particles are shifted alike, by ({place}) Å in the {what} at least, {sure:.0f} times the error: "
                + ("the origins are off" if what == "image" else "particles and map are centred on different points"),
                "let the search follow: recenter_shifts on; better, correct the origins, or begin without half maps",
                size / apix,
                ASIDE_PX,
                {"recenter_shifts": True} if not job.spec.learns else {},
            )
            return


def _in_body(poses: Poses, shift: Float64) -> tuple[Float64, Float64]:
    """The one vector d in the map for which (A d)_xy is nearest to the shifts (n, 2) of all images, and its error."""
    seen = poses.rotation[:, :2]
    normal = np.einsum("nij,nik->jk", seen, seen)
    d = np.linalg.solve(normal, np.einsum("nij,ni->j", seen, shift))
    left = shift - seen @ d
    return d, np.sqrt(np.diag(np.linalg.inv(normal)) * left.var())


def _fulcrum(job: Job, held: Held, found: Estimate) -> Iterator[Advice]:
    if job.spec.fulcrum == "estimate":
        return
    off = found.all.fulcrum_A - np.array(held.fulcrum_A)
    away, sure = float(np.linalg.norm(off)), float(off @ np.linalg.solve(found.all.covariance_A2, off))
    diameter = geometry(job.mask, job.spec).diameter * job.mask.pixel_size_A
    if away > FULCRUM_OFF * diameter and sure > FULCRUM_SURE:
        corner = found.all.fulcrum_A + job.mask.box // 2 * job.mask.pixel_size_A
        place = ", ".join(f"{x:.1f}" for x in corner)
        shift = _rounded(found.all.shift_sd_A, LEAST_SHIFT_A)
        error = float(np.sqrt(np.trace(found.all.covariance_A2)))
        yield Advice(
            "fulcrum_off",
            f"the shifts are those of turns about another point: the body moves least at ({place}) Å, {away:.0f} ± "
            f"{error:.0f} Å from the fulcrum",
            f"turn about that point: fulcrum {place} A, shift_prior_sd_A {shift:g}",
            away / diameter,
            FULCRUM_OFF,
            {"fulcrum": f"{place} A", "shift_prior_sd_A": shift},
        )


def _priors(job: Job, held: Held, found: Estimate, shifts: bool) -> Iterator[Advice]:
    if job.spec.prior != "gaussian":
        return
    turn, shift = widths(found.motion, np.array(held.fulcrum_A))
    cases = [
        ("rotation", turn / DEGREE, held.rotation_sd_deg, ROTATION_TIGHT, ROTATION_WIDE, LEAST_TURN_DEG, "°", "deg")
    ]
    if shifts:
        cases.append(("shift", shift, held.shift_sd_A, SHIFT_TIGHT, SHIFT_WIDE, LEAST_SHIFT_A, " Å", "A"))
    for what, width, prior, tight, wide, least, unit, suffix in cases:
        ratio = width / prior
        if wide <= ratio <= tight:
            continue
        name, limit = ("tight", tight) if ratio > tight else ("wide", wide)
        wanted = _rounded(width, least)
        yield Advice(
            f"{what}_prior_{name}",
            f"the {what} prior is too {name}: the motion is {width:.2g}{unit} wide (SD per axis, errors of the poses "
            f"taken out), the prior {prior:.2g}{unit}",
            f"as wide as the motion: {what}_prior_sd_{suffix} {wanted:g}; or let the data say it: prior motion",
            ratio,
            limit,
            {f"{what}_prior_sd_{suffix}": wanted},
        )


def _shape(job: Job, found: Estimate) -> Iterator[Advice]:
    """Of a body that turns about one axis, or two, under a prior that is as wide about all."""
    if job.spec.prior != "gaussian" or not found.all.one_axis:
        return
    sds, axes = found.all.axes
    most, least = sds[0] / DEGREE, max(sds[-1] / DEGREE, LEAST_TURN_DEG)
    axis = ", ".join(f"{x:.2f}" for x in axes[0])
    yield Advice(
        "prior_uneven",
        f"the body turns by {most:.2g}° about ({axis}) and by {least:.2g}° about another axis (SD, errors of the poses "
        "taken out), and the prior is as wide about all",
        "let the prior follow the motion along each axis: prior motion",
        most / least,
        UNEVEN,
        {"prior": "motion"},
    )


def _rounded(width: float, least: float) -> float:
    """Two digits, and no narrower than a search can use."""
    return max(float(f"{width:.2g}"), least)
