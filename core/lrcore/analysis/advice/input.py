"""Advice on what a run began with: its half sets, its half maps, and settings that throw resolution away."""

from collections.abc import Iterator

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.input_audit import HandAndScaleTest, InputAudit
from lrcore.records import Step
from lrcore.refinement.parameters import RefineSpec

SHARED_SOLVENT_CORRELATION = 0.15
"""Correlation of two half maps in the solvent from which on they share images: without, it is below 0.05."""
SHARED_AFTER_ITERATION = 0.1
"""The same of the first iteration's half maps, which are made of the half sets: they share particles."""
MIN_LIKELIHOOD_GAIN = 50.0
"""Log-likelihood by which a changed map has to be better, and, of another size, also this share of it:"""
MIN_LIKELIHOOD_SHARE = 0.07
MIN_SCALE_DIFFERENCE = 0.015
"""Difference of the size that counts: less is told by no local refinement."""
LOWPASS_RATIO = 1.5
"""An initial low-pass so many times coarser than where the half maps agree begins the search needlessly blind."""
RESOLUTION_LIMIT_RATIO = 1.25
"""The same of a limit of the resolution of the poses, and the resolution reached."""


def input_findings(first: Step, step: Step, spec: RefineSpec, seen: InputAudit | None) -> Iterator[Finding]:
    """first: the start of the run. seen: the audit of its input, if it was looked at."""
    if seen is not None:
        other = [*_hand_and_scale_findings(seen.hand_and_scale)]
        yield from other
        if not any(one.name == "other_hand" for one in other):
            yield from _shared_image_findings(seen)
    yield from _lowpass(first, spec)
    yield from _limit(step, spec)


def _hand_and_scale_findings(fit: HandAndScaleTest | None) -> Iterator[Finding]:
    if fit is None:
        return
    instead = "begin without half maps, which are then made of the particles"
    if fit.mirror_gain > MIN_LIKELIHOOD_GAIN:
        yield Finding(
            "other_hand",
            f"the half maps have the other hand: mirrored {fit.mirror} they fit the images better by "
            f"{fit.mirror_gain:,.0f} in log-likelihood",
            f"mirror half maps and mask, or {instead}",
            fit.mirror_gain,
            MIN_LIKELIHOOD_GAIN,
        )
    elif abs(fit.scale - 1) > MIN_SCALE_DIFFERENCE and fit.scale_gain > max(
        MIN_LIKELIHOOD_GAIN, MIN_LIKELIHOOD_SHARE * fit.given
    ):
        yield Finding(
            "other_scale",
            f"the half maps are {100 * abs(fit.scale - 1):.0f} % too {'large' if fit.scale > 1 else 'small'} for the "
            f"images (log-likelihood {fit.scale_gain:,.0f} better at {fit.scale:.2f}): one of the pixel sizes is wrong",
            f"correct the pixel size of the maps by 1/{fit.scale:.2f} and resample them, or {instead}",
            abs(fit.scale - 1),
            MIN_SCALE_DIFFERENCE,
        )


def _shared_image_findings(seen: InputAudit) -> Iterator[Finding]:
    """Of half sets, or of half maps alone."""
    if seen.shared < SHARED_SOLVENT_CORRELATION:
        return
    told = f"the half maps of the start agree in the solvent (correlation {seen.shared:.2f}, where nothing is)"
    if seen.later is not None and seen.later < SHARED_AFTER_ITERATION:
        yield Finding(
            "half_maps_share",
            f"{told}, but those of the first iteration do not ({seen.later:.2f}): they were not made of these half "
            "sets, and the first FSC is too good",
            "begin without half maps, which are then made of the particles; or give those of this split",
            seen.shared,
            SHARED_SOLVENT_CORRELATION,
        )
    else:
        yield Finding(
            "halves_share",
            f"{told}: the half sets share particles, so every FSC is too good",
            "look for particles that were picked twice (lrwidgets duplicates --distance), and split the half sets anew "
            "(--resplit)",
            seen.shared,
            SHARED_SOLVENT_CORRELATION,
        )


def _lowpass(first: Step, spec: RefineSpec) -> Iterator[Finding]:
    agreed = first.fsc["corrected"].resolution_A(0.5)
    if spec.initial_lowpass_A is not None and spec.initial_lowpass_A > LOWPASS_RATIO * (agreed + 1.0):
        yield Finding(
            "initial_lowpass",
            f"the first iteration sees the reference at {spec.initial_lowpass_A:g} Å, though the half maps agree to "
            f"{agreed:.1f} Å (FSC 0.5): poses that are good already are thrown away",
            "begin again with an automatic low-pass: initial_lowpass_A empty",
            spec.initial_lowpass_A / (agreed + 1.0),
            LOWPASS_RATIO,
            {"initial_lowpass_A": None},
            from_start=True,
        )


def _limit(step: Step, spec: RefineSpec) -> Iterator[Finding]:
    reached, limit = step.history[-1].resolution_corrected_A, spec.max_align_resolution_A
    if limit is not None and limit > RESOLUTION_LIMIT_RATIO * reached:
        yield Finding(
            "resolution_limit",
            f"poses are searched with information up to {limit:g} Å alone, though the half maps agree to "
            f"{reached:.1f} Å",
            "use what is there: max_align_resolution_A empty",
            limit / reached,
            RESOLUTION_LIMIT_RATIO,
            {"max_align_resolution_A": None},
        )
