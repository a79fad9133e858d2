"""What a step says about its settings: findings, each with its evidence and, where a spec can mend it, the change."""

from collections.abc import Iterator

from lrcore.advice import Advice
from lrcore.advise_input import SHARED, of_input
from lrcore.advise_mask import of_mask
from lrcore.advise_motion import of_motion
from lrcore.advise_silence import news
from lrcore.audit import Audit
from lrcore.estimate import Estimate
from lrcore.heldout import WORTH, HeldOut
from lrcore.records import Step, Summary
from lrcore.refine import Job
from lrcore.spec import RefineSpec

AT_EXTENT = 0.05
"""Share of particles at an extent above which it holds back more than outliers,"""
BY_THE_PRIOR = 0.1
"""and where the extent follows the prior, which holds them before."""
WIDER = 1.5
"""By how much an extent or a prior is widened."""
DRIFT = 0.02
"""Re-centred poses drift when their median distance from the input grows by more than this share of an extent,"""
DRIFT_THAT_PAYS = 0.1
"""or this one while the map is better than at the start by"""
PAYS = 0.15
"""this share of the resolution: then they may be on their way to where they belong."""
RESTLESS = 1.0
"""Median change of the poses in SD above which an iteration has moved them more than the data can tell."""
FINER = 0.01
"""Share of the resolution that counts as a gain."""
WORSE = 1.1
"""The resolution over that of the start from which on a refinement has made the map worse."""
FITTED = 0.2
"""Share of particles at an extent by which that is overfitting: noise is matched best by the widest search."""


LETS_FOLLOW = {"mask_small", "rotation_prior_wide", "shift_prior_wide"}
"""Findings that say, where a prior holds the poses, why they follow the noise."""


def advise(
    job: Job,
    first: Step,
    step: Step,
    motion: Estimate | None = None,
    seen: Audit | None = None,
    worth: HeldOut | None = None,
) -> tuple[Advice, ...]:
    """What is found in a step: at least one, which may be that all is well.

    job: the one that made the step. first: the start of its run. motion: what the step's poses tell, for what rests on
    it. seen: the audit of the input, for what rests on that. worth: the step against the start by held-out images.
    """
    spec = job.spec
    begun = [*of_input(first, step, spec, seen)]
    if step.iteration == 0:
        return (*begun,) or (_well_begun(seen),)
    moved, masked = [*of_motion(job, step, motion)], [*of_mask(first, step, job.mask, spec)]
    fitted = [*_fitted(step, spec)]
    because = spec.prior != "none" and {one.name for one in (*moved, *masked)} & LETS_FOLLOW
    if not fitted and not because:
        fitted = [*_outrun(step, spec, worth)]
    extents, drift, unsettled = _extents(step, spec), _drift(step, spec), _unsettled(step, spec)
    return news([*begun, *fitted, *extents, *drift, *moved, *masked, *unsettled]) or (_well(step),)


def _fitted(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    """Of poses that follow the noise as far as they may, while the map gets worse."""
    before, now = step.history[0].resolution_corrected_A, step.history[-1].resolution_corrected_A
    share = max(step.history[-1].at_rotation_extent, step.history[-1].at_shift_extent)
    if step.iteration > 1 and share >= FITTED and now >= WORSE * before:
        told = (
            f"{100 * share:.0f} % of the particles stopped at an extent, and the map is worse than at the start "
            f"({before:.1f} → {now:.1f} Å)"
        )
        yield _held_anew(told, share, FITTED, spec)


def _outrun(step: Step, spec: RefineSpec, worth: HeldOut | None) -> Iterator[Advice]:
    """Of poses that follow the noise, by images that the maps have not seen; the half maps may agree better."""
    before, now = step.history[0].resolution_corrected_A, step.history[-1].resolution_corrected_A
    if step.iteration > 1 and worth is not None and worth.better == 0:
        told = (
            "images that their map has not seen are less probable than at the start (log-likelihood "
            f"{worth.gain:.1f} ± {worth.error:.1f} an image), whatever the half maps say ({before:.1f} → {now:.1f} Å)"
        )
        yield _held_anew(told, worth.gain, -WORTH, spec)


def _held_anew(told: str, evidence: float, limit: float, spec: RefineSpec) -> Advice:
    """Of overfitting: a branch of the start with a prior, or a narrower one."""
    changes: dict[str, object] = {"rotation_extent_deg": None, "shift_extent_A": None}
    if spec.prior == "none":
        changes["prior"] = "gaussian"
    else:
        changes["rotation_prior_sd_deg"] = round(spec.rotation_prior_sd_deg / 2, 3)
        changes["shift_prior_sd_A"] = round(spec.shift_prior_sd_A / 2, 3)
    return Advice(
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


def _extents(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    now = step.history[-1]
    for what, share, limit, unit, names in (
        ("rotation", now.at_rotation_extent, spec.rotation_limit_deg, "°", ("rotation_extent_deg", 90.0)),
        ("shift", now.at_shift_extent, spec.shift_limit_A, " Å", ("shift_extent_A", 200.0)),
    ):
        follows = getattr(spec, names[0]) is None and spec.prior != "none"
        most = BY_THE_PRIOR if follows else AT_EXTENT
        if share > most:
            changes = _wider(spec, *names)
            words = " and ".join(f"{name} {value:g}" for name, value in changes.items())
            yield Advice(
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
        return {prior: round(min(WIDER * getattr(spec, prior), widest), 3)}
    return {extent: round(min(WIDER * limit, widest), 3)}


def _drift(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    """Of re-centred poses, away from the input."""
    if len(step.history) < 3:
        return
    before, now = step.history[-2:]
    held = spec.prior != "none"
    pays = now.resolution_corrected_A < (1 - PAYS) * step.history[0].resolution_corrected_A
    most = DRIFT_THAT_PAYS if pays else DRIFT
    for what, on, here, there, limit, unit in (
        ("rotations", spec.recenter_rotations, now.angle_from_input_deg, before.angle_from_input_deg,
         spec.rotation_limit_deg, "°"),
        ("shifts", spec.recenter_shifts, now.shift_from_input_A, before.shift_from_input_A,
         spec.shift_limit_A, " Å"),
    ):  # fmt: skip
        share = (here - there) / limit if limit > 0 else 0.0
        if on and share > most:
            yield Advice(
                f"drift_of_{what}",
                f"re-centred {what} drift: {there:.2g} → {here:.2g}{unit} from the input (median), "
                "which no extent about the input holds",
                f"hold them to the input: recenter_{what} off" + ("" if held else ", prior gaussian"),
                share,
                most,
                {f"recenter_{what}": False} | ({} if held else {"prior": "gaussian"}),
            )


def _unsettled(step: Step, spec: RefineSpec) -> Iterator[Advice]:
    """Of a run that has come to its last iteration without an end in sight, or moves without gain."""
    if step.converged or len(step.history) < 4:
        return
    before, now = step.history[-2:]
    gained = 1 - now.resolution_corrected_A / before.resolution_corrected_A
    if now.change_in_sd > RESTLESS and gained < FINER and _does_not_calm(step.history):
        narrower = round(spec.rotation_prior_sd_deg / WIDER, 3)
        held = spec.prior == "gaussian"
        yield Advice(
            "not_converging",
            f"the poses still move by {now.change_in_sd:.1f} of their SD (median), no less than before, and the "
            f"resolution gains nothing ({before.resolution_corrected_A:.2f} → {now.resolution_corrected_A:.2f} Å)",
            f"hold them tighter: rotation_prior_sd_deg {narrower:g}" if held else "hold them: prior gaussian",
            now.change_in_sd,
            RESTLESS,
            {"rotation_prior_sd_deg": narrower} if held else {"prior": "gaussian"},
        )
    elif step.iteration >= spec.max_iterations and gained >= FINER:
        more = min(spec.max_iterations + 4, 200)
        yield Advice(
            "still_improving",
            f"the last iteration still gained {100 * gained:.0f} % in resolution, and it was the last one allowed",
            f"go on: max_iterations {more}",
            gained,
            FINER,
            {"max_iterations": more},
        )


def _does_not_calm(history: tuple[Summary, ...]) -> bool:
    return history[-1].change_in_sd >= history[-2].change_in_sd


def _well_begun(seen: Audit | None) -> Advice:
    shared = 0.0 if seen is None else seen.shared
    return Advice(
        "nothing",
        "nothing is wrong with the input that these checks see: half sets, half maps, where the first search begins",
        "",
        shared,
        SHARED,
    )


def _well(step: Step) -> Advice:
    now = step.history[-1]
    share = max(now.at_rotation_extent, now.at_shift_extent)
    return Advice(
        "nothing",
        f"nothing is wrong that these checks see: {100 * share:.1f} % at an extent, edge of the mask and drift are in "
        "order",
        "",
        share,
        AT_EXTENT,
    )
