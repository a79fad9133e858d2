"""Check the input of a run: half sets, half maps, and settings that discard usable resolution."""

from collections.abc import Iterator

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.input_audit import HandAndScaleTest, InputAudit
from lrcore.maps.half_map_checks import DARK_RATIO
from lrcore.records import Step
from lrcore.refinement.parameters import RefineSpec

SHARED_SOLVENT_CORRELATION = 0.15
"""Correlation in the solvent from which the half maps of the start share images; independent ones are below 0.05."""
SHARED_AFTER_ITERATION = 0.1
"""The same for the half maps of iteration 1, which are made from the half sets: from here these share particles."""
MIN_LIKELIHOOD_GAIN = 50.0
"""Gain in log-likelihood by which a mirrored or rescaled map has to fit the images better."""
MIN_LIKELIHOOD_SHARE = 0.07
"""The same gain as a share of the log-likelihood of the given maps, required of a rescaled map in addition."""
MIN_SCALE_DIFFERENCE = 0.015
"""Relative difference in scale that is reported; a local refinement cannot resolve a smaller one."""
LOWPASS_RATIO = 1.5
"""Ratio of the initial low-pass to the resolution of the half maps from which the low-pass discards information."""
RESOLUTION_LIMIT_RATIO = 1.25
"""Ratio of the alignment resolution limit to the resolution reached from which the limit discards information."""


def input_findings(first: Step, step: Step, spec: RefineSpec, audit: InputAudit | None) -> Iterator[Finding]:
    """Yield the findings about the input of a run.

    Parameters
    ----------
    first : step 0 of the run
    step : the step to judge
    spec : parameters that the step was run with
    audit : audit of the input; None skips the checks that need it
    """
    if audit is not None:
        yield from _unaligned_findings(audit, len(step.expectation.poses))
        yield from _contrast_findings(audit)
        findings = [*_hand_and_scale_findings(audit.hand_and_scale)]
        yield from findings
        if not any(finding.name == "other_hand" for finding in findings):
            yield from _shared_image_findings(audit)
    yield from _initial_lowpass_findings(first, spec)
    yield from _resolution_limit_findings(step, spec)


def _hand_and_scale_findings(fit: HandAndScaleTest | None) -> Iterator[Finding]:
    """Yield a finding if the half maps have the wrong hand, or else if they have the wrong scale."""
    if fit is None:
        return
    instead = "start without half maps: they are then reconstructed from the particles"
    if fit.mirror_gain > MIN_LIKELIHOOD_GAIN:
        yield Finding(
            "other_hand",
            f"the half maps have the wrong hand: mirrored {fit.mirror} they fit the images better by "
            f"{fit.mirror_gain:,.0f} in log-likelihood",
            f"mirror half maps and mask {fit.mirror}, or {instead}",
            fit.mirror_gain,
            MIN_LIKELIHOOD_GAIN,
        )
    elif abs(fit.scale - 1) > MIN_SCALE_DIFFERENCE and fit.scale_gain > max(
        MIN_LIKELIHOOD_GAIN, MIN_LIKELIHOOD_SHARE * fit.given_log_likelihood
    ):
        yield Finding(
            "other_scale",
            f"the half maps are {100 * abs(fit.scale - 1):.0f} % too {'large' if fit.scale > 1 else 'small'} for the "
            f"images: scaled by 1/{fit.scale:.2f} they fit better by {fit.scale_gain:,.0f} in log-likelihood, so one "
            "of the pixel sizes is wrong",
            f"divide the pixel size of the maps by {fit.scale:.2f} and resample them, or {instead}",
            abs(fit.scale - 1),
            MIN_SCALE_DIFFERENCE,
        )


def _unaligned_findings(audit: InputAudit, particles: int) -> Iterator[Finding]:
    """Yield a finding if particles share one pose, so that they have never been aligned."""
    if audit.unaligned:
        yield Finding(
            "unaligned",
            f"{audit.unaligned} of {particles} particles have one and the same input pose: they are not aligned, and a "
            "local search cannot align them",
            "remove these particles from the table, or align them first",
            audit.unaligned / particles,
            0.0,
        )


def _contrast_findings(audit: InputAudit) -> Iterator[Finding]:
    """Yield a finding if the particle is darker than the solvent."""
    if audit.contrast_ratio > DARK_RATIO:
        yield Finding(
            "contrast",
            "the particle is darker than the solvent: its contrast is inverted",
            "invert the images, and half maps if any are given, so that particles are white on black",
            audit.contrast_ratio,
            DARK_RATIO,
        )


def _shared_image_findings(audit: InputAudit) -> Iterator[Finding]:
    """Yield a finding if the half sets share particles, or if only the given half maps share images."""
    if audit.solvent_correlation < SHARED_SOLVENT_CORRELATION:
        return
    text = (
        f"the half maps of the start correlate in the solvent ({audit.solvent_correlation:.2f}; "
        "independent ones stay below 0.05)"
    )
    later = audit.solvent_correlation_iteration_1
    if later is not None and later < SHARED_AFTER_ITERATION:
        yield Finding(
            "half_maps_share",
            f"{text}, but those of iteration 1 do not ({later:.2f}): the given half maps were not made from "
            "these half sets, and the FSC of the start is too high",
            "start without half maps: they are then reconstructed from the particles; or give the half maps of these "
            "half sets",
            audit.solvent_correlation,
            SHARED_SOLVENT_CORRELATION,
        )
    else:
        yield Finding(
            "halves_share",
            f"{text}: the half sets share particles, so every FSC is too high",
            "remove particles that were picked twice (lrwidgets duplicates --distance), and make new half sets "
            "(--resplit)",
            audit.solvent_correlation,
            SHARED_SOLVENT_CORRELATION,
        )


def _initial_lowpass_findings(first: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Yield a finding if the initial low-pass is much coarser than the resolution of the half maps."""
    agreed = first.fsc["corrected"].resolution_A(0.5)
    if spec.initial_lowpass_A is not None and spec.initial_lowpass_A > LOWPASS_RATIO * (agreed + 1.0):
        yield Finding(
            "initial_lowpass",
            f"the reference of iteration 1 is low-passed to {spec.initial_lowpass_A:g} Å, but the half maps agree to "
            f"{agreed:.1f} Å (FSC 0.5): this discards the accuracy of the input poses",
            "restart from step 0 with the automatic low-pass: initial_lowpass_A empty (auto)",
            spec.initial_lowpass_A / (agreed + 1.0),
            LOWPASS_RATIO,
            {"initial_lowpass_A": None},
            from_start=True,
        )


def _resolution_limit_findings(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    """Yield a finding if the poses are limited to much coarser information than the half maps contain."""
    reached, limit = step.history[-1].resolution_corrected_A, spec.max_align_resolution_A
    if limit is not None and limit > RESOLUTION_LIMIT_RATIO * reached:
        yield Finding(
            "resolution_limit",
            f"the poses are searched with information to {limit:g} Å only, but the half maps agree to {reached:.1f} Å",
            "use the resolution of the half maps: max_align_resolution_A empty (auto)",
            limit / reached,
            RESOLUTION_LIMIT_RATIO,
            {"max_align_resolution_A": None},
        )
