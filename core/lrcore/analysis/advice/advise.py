"""Advise on a step: collect findings about its settings, each with its evidence and a change that may fix it.

Limits were set on simulated refinements with one known fault each (docs/validation.md).
"""

from collections.abc import Iterator

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.advice.input import SHARED_SOLVENT_CORRELATION, input_findings
from lrcore.analysis.advice.mask import mask_findings
from lrcore.analysis.advice.motion import motion_findings
from lrcore.analysis.advice.presence import presence_findings
from lrcore.analysis.advice.redundancy import drop_redundant
from lrcore.analysis.held_out_likelihood import MIN_GAIN, HeldOut
from lrcore.analysis.input_audit import InputAudit
from lrcore.analysis.motion_estimate import MotionEstimate
from lrcore.records import IterationSummary, Step
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec

MAX_SHARE_AT_EXPLICIT_EXTENT = 0.05
"""Share of particles at an explicit extent above which the extent is too small; outliers alone stay below it."""
MAX_SHARE_AT_PRIOR_EXTENT = 0.1
"""The same share where the extent is derived from the prior, which restrains the poses before the extent does."""
WIDENING_FACTOR = 1.5
"""Factor by which a remedy widens an extent or a prior."""
MAX_DRIFT = 0.02
"""Growth per iteration of the median distance from the input, as a share of the extent, above which poses drift."""
MAX_DRIFT_WITH_GAIN = 0.1
"""The same share where the resolution has improved by `RESOLUTION_GAIN_FOR_DRIFT`: the poses may be converging."""
RESOLUTION_GAIN_FOR_DRIFT = 0.15
"""Relative improvement of the resolution since the start for which `DRIFT_WITH_GAIN` replaces `DRIFT`."""
MAX_CHANGE_IN_SD = 1.0
"""Median pose change, in posterior SDs, above which poses move by more than their uncertainty."""
MIN_RESOLUTION_GAIN = 0.01
"""Relative improvement of the resolution that counts as a gain."""
OVERFIT_RESOLUTION_RATIO = 1.1
"""Ratio of the resolution in Å to that of the start from which the map has become worse."""
OVERFIT_AT_EXTENT = 0.2
"""Share of particles at an extent from which a worse map means overfitting: noise fits best in the widest search."""


CAUSES_OF_OVERFITTING = {"mask_small", "rotation_prior_wide", "shift_prior_wide"}
"""Names of findings that explain overfitting of poses that have a prior."""


def advise_on_step(
    job: Job,
    first: Step,
    step: Step,
    motion: MotionEstimate | None = None,
    audit: InputAudit | None = None,
    held_out: HeldOut | None = None,
) -> tuple[Finding, ...]:
    """Return the findings of a step, or the single finding "nothing" if there is none.

    Parameters
    ----------
    job : the job that the step was run with
    first : step 0 of the run
    step : the step to judge
    motion : motion estimated from the poses of the step; without it, the checks that need it are skipped
    audit : audit of the input; without it, the checks that need it are skipped
    held_out : held-out likelihood of the step (second) against step 0 (first); without it, that check is skipped

    Returns
    -------
    tuple of Finding
        At least one, without those that another one explains.
    """
    spec = job.spec
    on_input = [*input_findings(first, step, spec, audit)]
    if step.iteration == 0:
        return (*on_input,) or (_nothing_wrong_with_input(audit),)
    on_motion, on_mask = [*motion_findings(job, step, motion)], [*mask_findings(first, step, job.mask, spec)]
    cause = spec.prior != "none" and {finding.name for finding in (*on_motion, *on_mask)} & CAUSES_OF_OVERFITTING
    overfitting = list[Finding]()
    if not _is_cut_off(step, spec):
        overfitting = [*_overfitting_at_extents(step, spec)]
        if not overfitting and not cause:
            overfitting = [*_overfitting_on_held_out(step, spec, held_out)]
    extents, drift, unconverged = _extents(step, spec), _drift(step, spec), _unconverged(step, spec)
    findings = [*on_input, *presence_findings(step), *overfitting, *extents, *drift, *on_motion, *on_mask, *unconverged]
    return drop_redundant(findings) or (_nothing_wrong(step),)


def _is_cut_off(step: Step, spec: RefineSpec) -> bool:
    """Return True if many poses stopped at an explicit extent narrower than one SD of their prior.

    Such a search ends before the noise could lead it astray: what the images miss lies beyond it.
    """
    now = step.history[-1]
    return spec.prior != "none" and any(
        extent is not None and extent < sd and share > MAX_SHARE_AT_EXPLICIT_EXTENT
        for extent, sd, share in (
            (spec.rotation_extent_deg, spec.rotation_prior_sd_deg, now.at_rotation_extent),
            (spec.shift_extent_A, spec.shift_prior_sd_A, now.at_shift_extent),
        )
    )


def _overfitting_at_extents(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Yield a finding if many poses stopped at an extent while the map became worse than at the start."""
    before, now = step.history[0].resolution_corrected_A, step.history[-1].resolution_corrected_A
    share = max(step.history[-1].at_rotation_extent, step.history[-1].at_shift_extent)
    if step.iteration > 1 and share >= OVERFIT_AT_EXTENT and now >= OVERFIT_RESOLUTION_RATIO * before:
        evidence = (
            f"{100 * share:.0f} % of the particles are at a search extent, and the map is worse than at the start "
            f"(corrected FSC resolution {before:.1f} → {now:.1f} Å)"
        )
        yield _overfitting_finding(evidence, share, OVERFIT_AT_EXTENT, spec)


def _overfitting_on_held_out(step: Step, spec: RefineSpec, held_out: HeldOut | None) -> Iterator[Finding]:
    """Yield a finding if held-out images fit the step less well than the start, even if the FSC has improved."""
    before, now = step.history[0].resolution_corrected_A, step.history[-1].resolution_corrected_A
    if step.iteration > 1 and held_out is not None and held_out.better == 0:
        evidence = (
            "the step predicts held-out images (of the other half set) less well than the start did (log-likelihood "
            f"{held_out.gain:+.1f} ± {held_out.error:.1f} per image); resolution by the half "
            f"maps {before:.1f} → {now:.1f} Å"
        )
        yield _overfitting_finding(evidence, held_out.gain, -MIN_GAIN, spec)


def _overfitting_finding(text: str, evidence: float, limit: float, spec: RefineSpec) -> Finding:
    """Return the finding of overfitting; its remedy is to restart with a prior, or with one half as wide."""
    changes: dict[str, object] = {"rotation_extent_deg": None, "shift_extent_A": None}
    if spec.prior == "none":
        changes["prior"] = "gaussian"
    else:
        changes["rotation_prior_sd_deg"] = round(spec.rotation_prior_sd_deg / 2, 3)
        changes["shift_prior_sd_A"] = round(spec.shift_prior_sd_A / 2, 3)
    return Finding(
        "overfitting",
        f"overfitting, the poses follow the noise: {text}",
        f"restart from step 0 with a {'' if spec.prior == 'none' else 'narrower '}prior: "
        + ", ".join(f"{name} {'empty (auto)' if value is None else value}" for name, value in changes.items())
        + "; also check that the mask contains enough density to align",
        evidence,
        limit,
        changes,
        from_start=True,
    )


def _extents(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Yield a finding for each extent, of rotation and shift, that too many poses have reached."""
    now = step.history[-1]
    for what, share, limit, unit, names in (
        ("rotation", now.at_rotation_extent, spec.rotation_limit_deg, "°", ("rotation_extent_deg", 90.0)),
        ("shift", now.at_shift_extent, spec.shift_limit_A, " Å", ("shift_extent_A", 200.0)),
    ):
        follows = getattr(spec, names[0]) is None and spec.prior != "none"
        most = MAX_SHARE_AT_PRIOR_EXTENT if follows else MAX_SHARE_AT_EXPLICIT_EXTENT
        if share > most:
            changes = _wider(spec, *names)
            words = " and ".join(f"{name} {value:g}" for name, value in changes.items())
            yield Finding(
                f"at_{what}_extent",
                f"{100 * share:.0f} % of the particles are at the {what} extent of {limit:g}{unit} (limit "
                f"{100 * most:.0f} %): the body moves further than the search allows, or the reference is still poor",
                f"widen the search: {words}" if changes else "the extent is at its maximum: check mask and fulcrum",
                share,
                most,
                changes,
            )


def _wider(spec: RefineSpec, extent: str, widest: float) -> dict[str, float]:
    """Return the change that widens the extent, or the prior it is derived from; {} if it is at its maximum."""
    prior = {"rotation_extent_deg": "rotation_prior_sd_deg", "shift_extent_A": "shift_prior_sd_A"}[extent]
    limit = {"rotation_extent_deg": spec.rotation_limit_deg, "shift_extent_A": spec.shift_limit_A}[extent]
    if limit >= widest:
        return {}
    if getattr(spec, extent) is None and spec.prior == "gaussian":
        return {prior: round(min(WIDENING_FACTOR * getattr(spec, prior), widest), 3)}
    return {extent: round(min(WIDENING_FACTOR * limit, widest), 3)}


def _drift(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Yield a finding for re-centred rotations or shifts that move away from the input poses."""
    if len(step.history) < 3:
        return
    before, now = step.history[-2:]
    has_prior = spec.prior != "none"
    improved = now.resolution_corrected_A < (1 - RESOLUTION_GAIN_FOR_DRIFT) * step.history[0].resolution_corrected_A
    most = MAX_DRIFT_WITH_GAIN if improved else MAX_DRIFT
    for what, on, distance, distance_before, limit, unit in (
        ("rotations", spec.recenter_rotations, now.angle_from_input_deg, before.angle_from_input_deg,
         spec.rotation_limit_deg, "°"),
        ("shifts", spec.recenter_shifts, now.shift_from_input_A, before.shift_from_input_A,
         spec.shift_limit_A, " Å"),
    ):  # fmt: skip
        share = (distance - distance_before) / limit if limit > 0 else 0.0
        if on and share > most:
            yield Finding(
                f"drift_of_{what}",
                f"the re-centred {what} drift: their median distance from the input grew from "
                f"{distance_before:.2g} to {distance:.2g}{unit} in one iteration, and re-centring leaves it unlimited",
                f"keep them near the input: recenter_{what} off" + ("" if has_prior else ", prior gaussian"),
                share,
                most,
                {f"recenter_{what}": False} | ({} if has_prior else {"prior": "gaussian"}),
            )


def _unconverged(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Yield a finding if the poses keep moving without gain, or if the last allowed iteration still gained."""
    if step.converged or len(step.history) < 4:
        return
    before, now = step.history[-2:]
    gained = 1 - now.resolution_corrected_A / before.resolution_corrected_A
    if now.change_in_sd > MAX_CHANGE_IN_SD and gained < MIN_RESOLUTION_GAIN and _keeps_moving(step.history):
        narrower = round(spec.rotation_prior_sd_deg / WIDENING_FACTOR, 3)
        gaussian = spec.prior == "gaussian"
        yield Finding(
            "not_converging",
            f"the refinement does not converge: in the last iteration the poses moved by {now.change_in_sd:.1f} SD "
            "(median), no less than in the one before, and the resolution did not improve "
            f"({before.resolution_corrected_A:.2f} → {now.resolution_corrected_A:.2f} Å)",
            f"narrow the prior: rotation_prior_sd_deg {narrower:g}" if gaussian else "add a prior: prior gaussian",
            now.change_in_sd,
            MAX_CHANGE_IN_SD,
            {"rotation_prior_sd_deg": narrower} if gaussian else {"prior": "gaussian"},
        )
    elif step.iteration - step.settings_since >= spec.max_iterations and gained >= MIN_RESOLUTION_GAIN:
        more = min(spec.max_iterations + 4, 200)
        yield Finding(
            "still_improving",
            f"the last iteration still improved the resolution by {100 * gained:.0f} %, and max_iterations "
            f"({spec.max_iterations}) is reached",
            f"continue: max_iterations {more}",
            gained,
            MIN_RESOLUTION_GAIN,
            {"max_iterations": more},
        )


def _keeps_moving(history: tuple[IterationSummary, ...]) -> bool:
    """Return True if the last iteration moved the poses, in SDs, no less than the one before."""
    return history[-1].change_in_sd >= history[-2].change_in_sd


def _nothing_wrong_with_input(audit: InputAudit | None) -> Finding:
    """Return the finding "nothing" for step 0."""
    shared = 0.0 if audit is None else audit.solvent_correlation
    return Finding(
        "nothing",
        "no problem found in the input: half sets, half maps and initial low-pass pass the checks",
        "",
        shared,
        SHARED_SOLVENT_CORRELATION,
    )


def _nothing_wrong(step: Step) -> Finding:
    """Return the finding "nothing" for a later step."""
    now = step.history[-1]
    share = max(now.at_rotation_extent, now.at_shift_extent)
    return Finding(
        "nothing",
        f"no problem found: {100 * share:.1f} % of the particles are at an extent, and mask, priors and drift pass the "
        "checks",
        "",
        share,
        MAX_SHARE_AT_EXPLICIT_EXTENT,
    )
