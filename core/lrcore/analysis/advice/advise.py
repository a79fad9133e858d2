"""What a step says about its settings: findings, each with its evidence and, where a spec can mend it, the change."""

from collections.abc import Iterator

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.advice.input import SHARED_SOLVENT_CORRELATION, input_findings
from lrcore.analysis.advice.mask import mask_findings
from lrcore.analysis.advice.motion import motion_findings
from lrcore.analysis.advice.redundancy import drop_redundant
from lrcore.analysis.held_out_likelihood import MIN_GAIN, HeldOut
from lrcore.analysis.input_audit import InputAudit
from lrcore.analysis.motion_estimate import MotionEstimate
from lrcore.records import IterationSummary, Step
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec

AT_EXTENT = 0.05
"""Share of particles at an extent above which it holds back more than outliers,"""
AT_PRIOR_EXTENT = 0.1
"""and where the extent follows the prior, which holds them before."""
WIDENING_FACTOR = 1.5
"""By how much an extent or a prior is widened."""
DRIFT = 0.02
"""Re-centred poses drift when their median distance from the input grows by more than this share of an extent,"""
DRIFT_WITH_GAIN = 0.1
"""or this one while the map is better than at the start by"""
RESOLUTION_GAIN_FOR_DRIFT = 0.15
"""this share of the resolution: then they may be on their way to where they belong."""
MAX_CHANGE_IN_SD = 1.0
"""Median change of the poses in SD above which an iteration has moved them more than the data can tell."""
MIN_RESOLUTION_GAIN = 0.01
"""Share of the resolution that counts as a gain."""
OVERFIT_RESOLUTION_RATIO = 1.1
"""The resolution over that of the start from which on a refinement has made the map worse."""
OVERFIT_AT_EXTENT = 0.2
"""Share of particles at an extent by which that is overfitting: noise is matched best by the widest search."""


CAUSES_OF_OVERFITTING = {"mask_small", "rotation_prior_wide", "shift_prior_wide"}
"""Findings that say, where a prior holds the poses, why they follow the noise."""


def advise_on_step(
    job: Job,
    first: Step,
    step: Step,
    motion: MotionEstimate | None = None,
    seen: InputAudit | None = None,
    worth: HeldOut | None = None,
) -> tuple[Finding, ...]:
    """What is found in a step: at least one, which may be that all is well.

    job: the one that made the step. first: the start of its run. motion: what the step's poses tell, for what rests on
    it. seen: the audit of the input, for what rests on that. worth: the step against the start by held-out images.
    """
    spec = job.spec
    begun = [*input_findings(first, step, spec, seen)]
    if step.iteration == 0:
        return (*begun,) or (_nothing_wrong_with_input(seen),)
    moved, masked = [*motion_findings(job, step, motion)], [*mask_findings(first, step, job.mask, spec)]
    fitted = [*_overfitting_at_extents(step, spec)]
    because = spec.prior != "none" and {one.name for one in (*moved, *masked)} & CAUSES_OF_OVERFITTING
    if not fitted and not because:
        fitted = [*_overfitting_on_held_out(step, spec, worth)]
    extents, drift, unsettled = _extents(step, spec), _drift(step, spec), _unconverged(step, spec)
    return drop_redundant([*begun, *fitted, *extents, *drift, *moved, *masked, *unsettled]) or (_nothing_wrong(step),)


def _overfitting_at_extents(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Of poses that follow the noise as far as they may, while the map gets worse."""
    before, now = step.history[0].resolution_corrected_A, step.history[-1].resolution_corrected_A
    share = max(step.history[-1].at_rotation_extent, step.history[-1].at_shift_extent)
    if step.iteration > 1 and share >= OVERFIT_AT_EXTENT and now >= OVERFIT_RESOLUTION_RATIO * before:
        told = (
            f"{100 * share:.0f} % of the particles stopped at an extent, and the map is worse than at the start "
            f"({before:.1f} → {now:.1f} Å)"
        )
        yield _overfitting_finding(told, share, OVERFIT_AT_EXTENT, spec)


def _overfitting_on_held_out(step: Step, spec: RefineSpec, worth: HeldOut | None) -> Iterator[Finding]:
    """Of poses that follow the noise, by images that the maps have not seen; the half maps may agree better."""
    before, now = step.history[0].resolution_corrected_A, step.history[-1].resolution_corrected_A
    if step.iteration > 1 and worth is not None and worth.better == 0:
        told = (
            "images that their map has not seen are less probable than at the start (log-likelihood "
            f"{worth.gain:.1f} ± {worth.error:.1f} an image), whatever the half maps say ({before:.1f} → {now:.1f} Å)"
        )
        yield _overfitting_finding(told, worth.gain, -MIN_GAIN, spec)


def _overfitting_finding(told: str, evidence: float, limit: float, spec: RefineSpec) -> Finding:
    """Of overfitting: a branch of the start with a prior, or a narrower one."""
    changes: dict[str, object] = {"rotation_extent_deg": None, "shift_extent_A": None}
    if spec.prior == "none":
        changes["prior"] = "gaussian"
    else:
        changes["rotation_prior_sd_deg"] = round(spec.rotation_prior_sd_deg / 2, 3)
        changes["shift_prior_sd_A"] = round(spec.shift_prior_sd_A / 2, 3)
    return Finding(
        "overfitting",
        f"the poses follow the noise: {told}",
        "begin again, held by a prior: "
        + " ".join(f"{name} {'empty' if value is None else value}" for name, value in changes.items())
        + "; and look whether the mask holds enough to be aligned",
        evidence,
        limit,
        changes,
        from_start=True,
    )


def _extents(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    now = step.history[-1]
    for what, share, limit, unit, names in (
        ("rotation", now.at_rotation_extent, spec.rotation_limit_deg, "°", ("rotation_extent_deg", 90.0)),
        ("shift", now.at_shift_extent, spec.shift_limit_A, " Å", ("shift_extent_A", 200.0)),
    ):
        follows = getattr(spec, names[0]) is None and spec.prior != "none"
        most = AT_PRIOR_EXTENT if follows else AT_EXTENT
        if share > most:
            changes = _wider(spec, *names)
            words = " and ".join(f"{name} {value:g}" for name, value in changes.items())
            yield Finding(
                f"at_{what}_extent",
                f"{100 * share:.0f} % of the particles stopped at the {what} extent of {limit:g}{unit}: "
                "the part moves further than the search, or its reference is not good enough yet",
                f"search further: {words}" if changes else "the extent is at its widest: look at mask and fulcrum",
                share,
                most,
                changes,
            )


def _wider(spec: RefineSpec, extent: str, widest: float) -> dict[str, float]:
    """The prior where the extent follows it, else the extent, made wider; nothing where it cannot be."""
    prior = {"rotation_extent_deg": "rotation_prior_sd_deg", "shift_extent_A": "shift_prior_sd_A"}[extent]
    limit = {"rotation_extent_deg": spec.rotation_limit_deg, "shift_extent_A": spec.shift_limit_A}[extent]
    if limit >= widest:
        return {}
    if getattr(spec, extent) is None and spec.prior == "gaussian":
        return {prior: round(min(WIDENING_FACTOR * getattr(spec, prior), widest), 3)}
    return {extent: round(min(WIDENING_FACTOR * limit, widest), 3)}


def _drift(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Of re-centred poses, away from the input."""
    if len(step.history) < 3:
        return
    before, now = step.history[-2:]
    held = spec.prior != "none"
    pays = now.resolution_corrected_A < (1 - RESOLUTION_GAIN_FOR_DRIFT) * step.history[0].resolution_corrected_A
    most = DRIFT_WITH_GAIN if pays else DRIFT
    for what, on, here, there, limit, unit in (
        ("rotations", spec.recenter_rotations, now.angle_from_input_deg, before.angle_from_input_deg,
         spec.rotation_limit_deg, "°"),
        ("shifts", spec.recenter_shifts, now.shift_from_input_A, before.shift_from_input_A,
         spec.shift_limit_A, " Å"),
    ):  # fmt: skip
        share = (here - there) / limit if limit > 0 else 0.0
        if on and share > most:
            yield Finding(
                f"drift_of_{what}",
                f"re-centred {what} drift: {there:.2g} → {here:.2g}{unit} from the input (median), "
                "which no extent about the input holds",
                f"hold them to the input: recenter_{what} off" + ("" if held else ", prior gaussian"),
                share,
                most,
                {f"recenter_{what}": False} | ({} if held else {"prior": "gaussian"}),
            )


def _unconverged(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Of a run that has come to its last iteration without an end in sight, or moves without gain."""
    if step.converged or len(step.history) < 4:
        return
    before, now = step.history[-2:]
    gained = 1 - now.resolution_corrected_A / before.resolution_corrected_A
    if now.change_in_sd > MAX_CHANGE_IN_SD and gained < MIN_RESOLUTION_GAIN and _is_still_restless(step.history):
        narrower = round(spec.rotation_prior_sd_deg / WIDENING_FACTOR, 3)
        held = spec.prior == "gaussian"
        yield Finding(
            "not_converging",
            f"the poses still move by {now.change_in_sd:.1f} of their SD (median), no less than before, and the "
            f"resolution gains nothing ({before.resolution_corrected_A:.2f} → {now.resolution_corrected_A:.2f} Å)",
            f"hold them tighter: rotation_prior_sd_deg {narrower:g}" if held else "hold them: prior gaussian",
            now.change_in_sd,
            MAX_CHANGE_IN_SD,
            {"rotation_prior_sd_deg": narrower} if held else {"prior": "gaussian"},
        )
    elif step.iteration >= spec.max_iterations and gained >= MIN_RESOLUTION_GAIN:
        more = min(spec.max_iterations + 4, 200)
        yield Finding(
            "still_improving",
            f"the last iteration still gained {100 * gained:.0f} % in resolution, and it was the last one allowed",
            f"go on: max_iterations {more}",
            gained,
            MIN_RESOLUTION_GAIN,
            {"max_iterations": more},
        )


def _is_still_restless(history: tuple[IterationSummary, ...]) -> bool:
    return history[-1].change_in_sd >= history[-2].change_in_sd


def _nothing_wrong_with_input(seen: InputAudit | None) -> Finding:
    shared = 0.0 if seen is None else seen.shared
    return Finding(
        "nothing",
        "nothing is wrong with the input that these checks see: half sets, half maps, where the first search begins",
        "",
        shared,
        SHARED_SOLVENT_CORRELATION,
    )


def _nothing_wrong(step: Step) -> Finding:
    now = step.history[-1]
    share = max(now.at_rotation_extent, now.at_shift_extent)
    return Finding(
        "nothing",
        f"nothing is wrong that these checks see: {100 * share:.1f} % at an extent, edge of the mask and drift are in "
        "order",
        "",
        share,
        AT_EXTENT,
    )
